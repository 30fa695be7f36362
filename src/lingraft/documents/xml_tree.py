"""XML with the place of everything in it, read safely: no declared entities, nothing fetched, no recursion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from lingraft.core.errors import DataError
from lingraft.documents.base import Decoded, decoded

_DECLARED = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_TAG_END = re.compile(r"""(?:[^"'>]|"[^"]*"|'[^']*')*>""")
_KNOWN = ("utf-8", "utf8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252")
MOST_DEPTH = 200
"""Deepest nesting."""
MOST_ELEMENTS = 2_000_000
"""Most elements of a file."""


@dataclass(eq=False)
class Text:
    """Characters between two tags, comments and sections of CDATA. `text`: what they say; places as of `Element`."""

    start: int
    end: int
    text: str


@dataclass(eq=False)
class Element:
    """An element.

    Attributes:
        name: without a prefix of a namespace.
        attributes: by their names as they are written.
        start: place of its `<` in the file's text.
        open_end: behind its start tag.
        close: place of its end tag; as `open_end` where it has none (`<x/>`).
        end: behind the element.
        line: where it begins.
        content: what is in it, comments and instructions left out.
        parent: what it is in.
    """

    name: str
    attributes: dict[str, str]
    start: int
    open_end: int
    line: int
    parent: Element | None
    close: int = 0
    end: int = 0
    content: list[Element | Text] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether it is written as `<x/>`."""
        return self.close == self.end

    def children(self, name: str) -> Iterator[Element]:
        """Yield the elements of a name right in it."""
        return (one for one in self.content if isinstance(one, Element) and one.name == name)

    def child(self, name: str) -> Element | None:
        """Return the first element of a name right in it."""
        return next(self.children(name), None)

    def walk(self) -> Iterator[Element]:
        """Yield it and all elements in it, in the order of the file."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            yield one
            waiting += [child for child in reversed(one.content) if isinstance(child, Element)]

    @property
    def text(self) -> str:
        """All characters in it."""
        out = list[str]()
        waiting: list[Element | Text] = [self]
        while waiting:
            one = waiting.pop()
            if isinstance(one, Text):
                out.append(one.text)
            else:
                waiting += reversed(one.content)
        return "".join(out)


def read_xml(data: bytes, shown: str) -> tuple[Decoded, Element]:
    """Return the text of a file and its root.

    Args:
        data: what is in it.
        shown: its name, for messages.

    Raises:
        DataError: it is not well-formed, has a DOCTYPE or is too large; names the line.
    """
    declared = _DECLARED.match(data.lstrip()[:400])
    name = declared[1].decode("ascii").lower() if declared else "utf-8"
    if name not in _KNOWN and not name.startswith("utf-16"):
        raise DataError(f"{shown}: line 1: is in the encoding {name!r}; save it as UTF-8")
    file = decoded(data, shown, "utf-8" if name.startswith("utf") else name)
    try:
        return file, _Reader(file, shown).root
    except expat.ExpatError as error:
        what = expat.errors.messages.get(error.code, str(error))
        raise DataError(f"{shown}: is not well-formed XML (line {error.lineno}: {what}); correct it") from error


class _Reader:
    """Reads the text as UTF-8, whatever it declares, and turns places in bytes into places in the text."""

    def __init__(self, file: Decoded, shown: str) -> None:
        self._text, self._shown, self._file = file.text, shown, file
        raw = file.text.encode("utf-8")
        self._ascii = len(raw) == len(file.text)
        self._raw, self._byte, self._place = raw, 0, 0
        self._open = list[Element]()
        self._count, self._section = 0, -1
        self.root: Element = Element("", {}, 0, 0, 1, None)
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = False
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._data
        parser.CommentHandler = parser.ProcessingInstructionHandler = self._cut
        parser.StartCdataSectionHandler, parser.EndCdataSectionHandler = self._begin_section, self._end_section
        parser.Parse(raw, True)

    def _here(self) -> int:
        at = self._parser.CurrentByteIndex
        if self._ascii:
            return at
        if at < self._byte:
            self._byte = self._place = 0
        self._place += len(self._raw[self._byte : at].decode("utf-8", "ignore"))
        self._byte = at
        return self._place

    def _doctype(self, *_: object) -> None:
        line = self._parser.CurrentLineNumber
        raise DataError(
            f"{self._shown}: line {line}: has a DOCTYPE, which may declare entities and is refused; remove it"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        line = self._parser.CurrentLineNumber
        if len(self._open) >= MOST_DEPTH or self._count > MOST_ELEMENTS:
            raise DataError(f"{self._shown}: line {line}: has too many elements, or nests them too deeply")
        start = self._here()
        found = _TAG_END.match(self._text, start)
        end = found.end() if found else start
        parent = self._open[-1] if self._open else None
        element = Element(name.rpartition(":")[2], attributes, start, end, line, parent)
        if parent is None:
            self.root = element
        else:
            parent.content.append(element)
        self._open.append(element)

    def _end(self, _: str) -> None:
        element = self._open.pop()
        if self._text.startswith("/>", element.open_end - 2):
            element.close = element.end = element.open_end
            return
        element.close = self._here()
        element.end = self._text.index(">", element.close) + 1

    def _data(self, text: str) -> None:
        if not self._open:
            return
        inside, start = self._open[-1].content, self._here()
        if inside and isinstance(inside[-1], Text) and inside[-1].end < 0:
            inside[-1].text += text
        else:
            inside.append(Text(start if self._section < 0 else self._section, -1, text))

    def _cut(self, *_: object) -> None:
        """Let what follows a comment or a section begin anew."""
        self._ended(self._here())

    def _begin_section(self) -> None:
        self._cut()
        self._section = self._here()

    def _end_section(self) -> None:
        self._ended(self._here() + len("]]>"))
        self._section = -1

    def _ended(self, place: int) -> None:
        if self._open and self._open[-1].content and isinstance(last := self._open[-1].content[-1], Text):
            last.end = place if last.end < 0 else last.end
