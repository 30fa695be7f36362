"""DOCX: the paragraphs of text, headers, footers and notes; all other parts of the package keep every byte.

A package is a ZIP archive of XML. Formatting lies between the texts of a paragraph, in runs: what stands between two
texts is a code of the segment, and runs that are formatted alike (a spell checker cuts them) are one text.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import ClassVar
from xml.sax.saxutils import escape

from lingraft.core.errors import DataError
from lingraft.data.packed import INFLATION_FROM, MAX_INFLATION
from lingraft.documents.base import Decoded, Document, DocumentFormat, Filled, Segment
from lingraft.documents.inline import Piece, Slot, slot_of
from lingraft.documents.slots import SlotDocument
from lingraft.documents.xml_tree import Element, Text, read_xml

_PARTS = re.compile(r"word/(?:document|header\d*|footer\d*|footnotes|endnotes|comments)\.xml")
_SILENT = frozenset(("proofErr", "lastRenderedPageBreak"))
"""Elements that say nothing of the text."""
_RUN = frozenset(("r", "t", "rPr", *_SILENT))


class _Part(SlotDocument):
    """A part of the package that has texts. `root`: of its XML."""

    def __init__(self, source: Decoded, slots: Sequence[Slot], fixed: Sequence[tuple[int, int, str]], root: Element):
        super().__init__(source, slots, fixed)
        self._root = root

    def escape(self, text: str) -> str:
        """Return text as XML has it."""
        return escape(text)

    def shape(self) -> Sequence[Hashable]:
        """Return all elements but runs and texts."""
        found, waiting = list[Hashable](), [self._root]
        while waiting:
            one = waiting.pop()
            if one.name not in _RUN:
                found.append((one.name, str(one.attributes)))
            if one.name != "rPr":
                waiting += [child for child in reversed(one.content) if isinstance(child, Element)]
        return found


class DocxDocument(Document):
    """A package. `data`: what was read; `parts`: name -> what has texts."""

    def __init__(self, data: bytes, parts: Mapping[str, _Part]) -> None:
        self._data, self._parts = data, parts
        self._of = {segment.id: name for name, part in parts.items() for segment in part.segments}
        self.segments: Sequence[Segment] = [segment for part in parts.values() for segment in part.segments]

    def written(self, filled: Mapping[str, Filled]) -> bytes:
        """Return the file; see `Document.written`. Parts without translations are packed as they were."""
        changed: dict[str, dict[str, Filled]] = {}
        for key, one in filled.items():
            if one.state != "lost":
                changed.setdefault(self._of[key], {})[key] = one
        if not changed:
            return self._data
        out = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(self._data)) as old, zipfile.ZipFile(out, "w") as new:
            for info in old.infolist():
                own = changed.get(info.filename)
                new.writestr(info, self._parts[info.filename].written(own) if own else old.read(info))
        return out.getvalue()

    def shape(self) -> Sequence[Hashable]:
        """Return the names of all parts, and the elements of those with texts."""
        with zipfile.ZipFile(io.BytesIO(self._data)) as package:
            names = [(one.filename, one.CRC if one.filename not in self._parts else 0) for one in package.infolist()]
        return [*names, *((name, *part.shape()) for name, part in self._parts.items())]


class Docx(DocumentFormat):
    """Word's documents."""

    name: ClassVar[str] = "docx"
    summary: ClassVar[str] = "Word: paragraphs of text, tables, headers, footers, notes; formatting is kept"
    suffixes: ClassVar[tuple[str, ...]] = (".docx",)

    def parse(self, data: bytes, shown: str, source: str, target: str) -> DocxDocument:
        """Read a file; see `DocumentFormat.parse`."""
        parts: dict[str, _Part] = {}
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as package:
                infos = package.infolist()
                if len({one.filename for one in infos}) < len(infos):
                    raise DataError(f"{shown}: has two parts of one name; save it again")
                if sum(one.file_size for one in infos) > max(INFLATION_FROM, MAX_INFLATION * len(data)):
                    raise DataError(f"{shown}: holds more than {MAX_INFLATION} times its size, as no text does")
                if broken := package.testzip():
                    raise DataError(f"{shown}: its part {broken!r:.80} is damaged; save it again")
                for info in infos:
                    if _PARTS.fullmatch(info.filename):
                        parts[info.filename] = _part(package.read(info), f"{shown}: {info.filename}", info.filename)
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            NotImplementedError,
            RuntimeError,
            OSError,
            ValueError,
        ) as error:
            raise DataError(
                f"{shown}: is no whole DOCX file ({' '.join(str(error).split())[:80]}); save it again"
            ) from error
        if "word/document.xml" not in parts:
            raise DataError(f"{shown}: holds no text of Word (word/document.xml); is it a DOCX file?")
        return DocxDocument(data, parts)


def _part(data: bytes, shown: str, name: str) -> _Part:
    file, root = read_xml(data, shown)
    slots, fixed = list[Slot](), list[tuple[int, int, str]]()
    label = "" if name == "word/document.xml" else f"{name.removeprefix('word/').removesuffix('.xml')}, "
    for number, paragraph in enumerate((one for one in root.walk() if one.name == "p"), start=1):
        texts = list(_texts(paragraph))
        if slot := slot_of(file.text, list(_pieces(texts)), f"{label}paragraph {number}", paragraph.line):
            slots.append(slot)
            for one in texts:  # else Word takes white space at the edges away
                if "xml:space" not in one.attributes:
                    fixed.append((one.open_end - 1, one.open_end - 1, ' xml:space="preserve"'))
    return _Part(file, slots, fixed, root)


def _texts(paragraph: Element) -> Iterator[Element]:
    """Yield the texts of a paragraph, those of paragraphs within it (text boxes) left out."""
    waiting = list(reversed(paragraph.content))
    while waiting:
        one = waiting.pop()
        if isinstance(one, Text) or one.name == "p":
            continue
        if one.name == "t" and not one.empty:
            yield one
        else:
            waiting += reversed(one.content)


def _pieces(texts: Sequence[Element]) -> Iterator[Piece]:
    """Yield texts and what is between them; neighbours that are formatted alike are one text."""
    groups, places = list[list[Element]](), dict[int, dict[int, int]]()
    for text in texts:
        if groups and _alike(groups[-1][-1], text, places):
            groups[-1].append(text)
        else:
            groups.append([text])
    at = -1
    for group in groups:
        start, end = group[0].open_end, group[-1].close
        if at >= 0:
            yield Piece("alone", at, start)
        said = "".join(one.text for one in group)
        yield Piece("text" if said.strip() else "alone", start, end, said if said.strip() else "")
        at = end


def _alike(first: Element, second: Element, places: dict[int, dict[int, int]]) -> bool:
    """Say whether two texts are in neighbouring runs of the same formatting, with nothing between them.

    Args:
        first: text.
        second: the one behind it.
        places: by the id of an element, and that of what is in it, where it stands; filled here.
    """
    one, other = first.parent, second.parent
    if one is None or other is None or one is other or one.parent is None or one.parent is not other.parent:
        return False
    inside = one.parent.content
    known = places.setdefault(id(one.parent), {})
    if not known:
        known.update({id(child): place for place, child in enumerate(inside)})
    between = [child for child in inside[known[id(one)] + 1 : known[id(other)]] if isinstance(child, Element)]
    own = [child.name for child in one.content if isinstance(child, Element)]
    others = [child.name for child in other.content if isinstance(child, Element)]
    plain = own[-1:] == ["t"] and others in (["t"], ["rPr", "t"])
    return plain and all(child.name in _SILENT for child in between) and _formatting(one) == _formatting(other)


def _formatting(run: Element) -> list[str]:
    properties = run.child("rPr")
    return [] if properties is None else [f"{one.name} {one.attributes}" for one in properties.walk()]
