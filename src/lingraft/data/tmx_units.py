"""Translation units of a TMX file, one by one: what is broken costs the unit in which it stands, not those behind it.

A parser of XML may not go on behind an error. So the file is only searched for the ends of its units, and each is
parsed by itself; nothing outside of them is needed but encoding and name spaces.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from typing import BinaryIO

from lingraft.core.errors import DataError

MAX_UNIT_CHARACTERS = 8 * 1024**2
"""Most XML between the ends of two translation units: what has to be held at once."""

MAX_MARKS = 20_000
"""Most tags of a unit."""

CHUNK = 64 * 1024

_MARK = re.compile(r"<!--|<!\[CDATA\[|</?(?:[\w.-]+:)?tu(?=[\s/>])|</(?:[\w.-]+:)?tmx(?=[\s>])")
_ROOT = re.compile(r"<(?:[\w.-]+:)?tmx[\s/>]")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_DECLARED = re.compile(rb"""<\?xml[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_NAMESPACE = re.compile(r"""\bxmlns(?::[\w.-]+)?\s*=\s*(?:"[^"<>]*"|'[^'<>]*')""")
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NO_TEXT = {
    *("base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "utf_7"),
    *("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"),
}

BROKEN = "\udcff"
"""Stands for bytes that are no text in the file's encoding."""

codecs.register_error("lingraft-broken", lambda error: (BROKEN, error.end))  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Unit:
    """A translation unit as XML of its own, or what is wrong with it. `line`: of the file, where it begins."""

    line: int
    xml: str
    problem: str = ""


def units(stream: BinaryIO, shown: str) -> Iterator[Unit]:
    """Yield the translation units of a TMX file.

    Args:
        stream: the file.
        shown: its name, for messages.

    Raises:
        DataError: no TMX file; an encoding that is not known; entities, which are refused; more XML than
            `MAX_UNIT_CHARACTERS` without the end of a unit.
    """
    yield from _Reader(stream, shown).units()


class _Reader:
    """The text of a file, of which at most a unit and what was read ahead is held."""

    def __init__(self, stream: BinaryIO, shown: str) -> None:
        self._stream, self._shown = stream, shown
        start = stream.read(CHUNK)
        self._decode = codecs.getincrementaldecoder(_encoding(start, shown))("lingraft-broken").decode
        self._text = self._decode(start).removeprefix("\ufeff")
        self._ended = not start
        self._line, self._counted = 1, 0  # the line at a position of the text
        self._begin = ""  # of the XML of each unit

    def units(self) -> Iterator[Unit]:
        """Yield the units from the file's start to its end."""
        held = at = 0  # where the unit, or what is between two units, begins; where to search on
        inside = closed = False
        while (mark := self._next(at)) is not None:
            start, end, kind = mark
            if kind == "more":
                held, at = self._more(held, start)
                continue
            at = end
            if kind in ("begin", "empty", "end") and not self._begin:
                self._begin = self._root(self._text[:start])
            if kind == "begin":
                if inside:
                    yield self._broken(held, "it does not end before the next one begins (no </tu>)")
                held, inside = start, True
            elif kind == "empty" and not inside:
                yield self._unit(start, end)
                held = end
            elif kind == "end":
                yield self._unit(held, end) if inside else self._broken(held, "it has no beginning (no <tu>)")
                held, inside = end, False
            elif kind == "close":
                closed = True
        if not self._begin:
            self._root(self._text)
        if inside:
            yield self._broken(held, "the file ends within it")
        elif not closed:
            yield self._broken(len(self._text), "the file ends before </tmx>: it is cut off")

    def _next(self, at: int) -> tuple[int, int, str] | None:
        """Return beginning, end and kind of the next mark ("more": it is not wholly read), or None at the end."""
        found = _MARK.search(self._text, at)
        if found is None:
            return None if self._ended else (max(at, len(self._text) - 200), 0, "more")
        start, name = found.start(), found[0].rpartition(":")[2].lstrip("</")
        close = {"!--": "-->", "![CDATA[": "]]>"}.get(name, ">")
        end = self._text.find(close, found.end())
        if end < 0 and not self._ended:
            return start, 0, "more"
        end = len(self._text) if end < 0 else end + len(close)
        if close != ">":
            return start, end, "comment"
        if name == "tmx":
            return start, end, "close"
        if found[0].startswith("</"):
            return start, end, "end"
        return start, end, "empty" if self._text[end - 2] == "/" else "begin"

    def _more(self, held: int, at: int) -> tuple[int, int]:
        """Read on; returns the places of what is held, and of where to search on, in the new text."""
        inside = held < at and _MARK.match(self._text, held) is not None
        keep = held if inside or not self._begin else at
        self._line, self._counted = self._line_at(keep), 0
        self._text = self._text[keep:]
        if len(self._text) > MAX_UNIT_CHARACTERS:
            raise DataError(
                f"{self._shown}: more than {MAX_UNIT_CHARACTERS // 1024**2} MB of XML without the end of a translation "
                f"unit (<tu>); is it a TMX file?"
            )
        data = self._stream.read(max(CHUNK, len(self._text)))  # ever more, so that a long unit is copied a few times
        self._ended = not data
        self._text += self._decode(data, self._ended)
        return max(0, held - keep), at - keep

    def _line_at(self, position: int) -> int:
        """Return the line at a position, which is not in front of that of the call before."""
        self._line += self._text.count("\n", self._counted, position)
        self._counted = max(position, self._counted)
        return self._line

    def _broken(self, start: int, problem: str) -> Unit:
        start += len(self._text[start : start + 1000]) - len(self._text[start : start + 1000].lstrip())
        return Unit(self._line_at(start), "", problem)

    def _unit(self, start: int, end: int) -> Unit:
        line, text = self._line_at(start), self._text[start:end]
        if BROKEN in text:
            return Unit(line, "", BROKEN)
        if text.count("<") > MAX_MARKS:
            return Unit(line, "", f"it has more than {MAX_MARKS:,} tags")
        return Unit(line, f"{self._begin}{text}</tmx>")

    def _root(self, prolog: str) -> str:
        """Return the beginning of the root, of what is in front of the first unit.

        Raises:
            DataError: it declares entities, or there is no such root.
        """
        bare = _COMMENT.sub("", prolog)
        if "<!ENTITY" in bare:
            raise DataError(f"{self._shown}: declares XML entities, which is refused; export it without them")
        root = _ROOT.search(bare)
        if root is None:
            raise DataError(f"{self._shown}: is not a TMX file (no <tmx>); export the TMX file again")
        spaces = {found[0].partition("=")[0].strip(): found[0] for found in _NAMESPACE.finditer(bare, root.start())}
        return f"<tmx {' '.join(spaces.values())}>"


def _encoding(start: bytes, shown: str) -> str:
    """Return the codec of a file, from its byte order mark, its zero bytes or its declaration.

    Raises:
        DataError: it is declared to be in an encoding that is not known.
    """
    for mark, codec in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return codec
    if start[:4].count(0) == 2:
        return "utf-16-be" if start[0] == 0 else "utf-16-le"
    declared = _DECLARED.match(start.lstrip()[:400])
    name = declared[1].decode("ascii").lower() if declared else "utf-8"
    if re.match(r"utf.?16|utf.?32|ucs", name):  # not with one byte a letter
        return "utf-8"
    try:
        codec = codecs.lookup(name).name.replace("-", "_")
    except LookupError:
        codec = "unknown"
    if codec in _NO_TEXT or (codec not in aliases.values() and codec not in aliases):
        raise DataError(f"{shown}: is in an encoding that XML readers do not know ({name!r}); save it as UTF-8")
    return codec
