"""Markdown (CommonMark with tables and strikethrough), read by markdown-it-py; what is no text keeps every byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from lingraft.core.errors import DataError
from lingraft.documents.base import Decoded, DocumentFormat, decoded
from lingraft.documents.inline import Piece, Slot, marked_up, slot_of
from lingraft.documents.markdown_inline import NotAligned, inline_pieces, plain_pieces
from lingraft.documents.slots import SlotDocument

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_FRONT = re.compile(r"(---|\+\+\+)[ \t]*\r?\n[\s\S]*?^\1[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
_LINE = re.compile(r"\r\n|\n|\r")
_SPECIAL = re.compile(r"([\\`*_\[\]<>&~|])")
_AT_START = re.compile(r"\A(\s*)([-+#=>|~]|\d+(?=[.)]))")
_CELLS = ("td_open", "th_open")
MOST_BLOCKS = 200_000
"""Most blocks of a file: what has to be held at once."""


def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).disable("text_join")


class MarkdownDocument(SlotDocument):
    """A text of Markdown. `md`: its parser."""

    def __init__(self, source: Decoded, slots: Sequence[Slot], md: MarkdownIt, front: int) -> None:
        super().__init__(source, slots)
        self._md, self._front = md, front

    def markup(self, slot: Slot, text: str, code: Callable[[str], str]) -> str:
        """Return a translation in Markdown; letters that would be markup are escaped where they would."""
        segment = slot.segment
        cell = ", column " in segment.id
        plain = marked_up(segment, text, code, _escaped_bars if cell else str)
        wanted = self._inline(marked_up(segment, segment.text, code, _escaped))
        if self._inline(plain) == wanted and not _AT_START.match(plain):
            return plain
        return _AT_START.sub(_escaped_start, marked_up(segment, text, code, _escaped))

    def _inline(self, text: str) -> list[Hashable]:
        """Return the codes that a text of one block has, as a set in order of their kind: they may move."""
        (token,) = self._md.parseInline(text)
        return sorted((_code(child) for child in token.children or [] if _code(child)), key=repr)

    def shape(self) -> Sequence[Hashable]:
        """Return blocks, codes, addresses and definitions."""
        env: dict[str, object] = {}
        found = list[Hashable]([self.source.text[: self._front]])
        for token in self._md.parse(self.source.text[self._front :], env):
            if token.type == "inline":
                codes = sorted((_code(child) for child in token.children or [] if _code(child)), key=repr)
                found.append(tuple(codes))
            else:
                content = token.content if token.type in ("code_block", "fence", "html_block") else ""
                found.append((token.type, token.tag, token.markup, token.info, content, str(token.attrs)))
        references = env.get("references") or {}
        assert isinstance(references, dict)
        return [*found, *sorted((str(key), str(one.get("href"))) for key, one in references.items())]


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _escaped_bars(text: str) -> str:
    return text.replace("|", "\\|")


def _escaped_start(found: re.Match[str]) -> str:
    number = found[2][0].isdigit()
    return f"{found[1]}{found[2]}\\" if number else f"{found[1]}\\{found[2]}"


def _code(token: Token) -> tuple[str, ...]:
    """Return what of an inline token must be kept; nothing of text and soft ends of lines."""
    if token.type in ("text", "text_special", "softbreak"):
        return ()
    content = token.content if token.type in ("code_inline", "html_inline") else ""
    return (token.type, token.tag, content, str(token.attrs.get("href", token.attrs.get("src", ""))))


class Markdown(DocumentFormat):
    """Markdown: paragraphs, titles, items, cells; code, addresses, HTML and front matter are kept."""

    name: ClassVar[str] = "markdown"
    summary: ClassVar[str] = "Markdown: paragraphs, titles, list items, table cells; code and front matter are kept"
    suffixes: ClassVar[tuple[str, ...]] = (".md", ".markdown", ".mdown", ".mkd")

    def parse(self, data: bytes, shown: str, source: str, target: str) -> MarkdownDocument:
        """Read a file; see `DocumentFormat.parse`."""
        file, md = decoded(data, shown), _parser()
        front = _FRONT.match(file.text)
        begin = front.end() if front else 0
        tokens = md.parse(file.text[begin:])
        if len(tokens) > MOST_BLOCKS:
            raise DataError(f"{shown}: has more than {MOST_BLOCKS:,} blocks; translate it in pieces")
        slots = list(_slots(file, begin, md, tokens))
        return MarkdownDocument(file, slots, md, begin)


def _slots(file: Decoded, begin: int, md: MarkdownIt, tokens: Sequence[Token]) -> Iterator[Slot]:
    starts = [begin, *(found.end() for found in _LINE.finditer(file.text, begin)), len(file.text)]
    title, row, at, column = "", -1, 0, 0
    for number, token in enumerate(tokens):
        if token.type in _CELLS:
            column += 1
        elif token.type == "tr_open":
            column = 0
        if token.type != "inline" or token.map is None:
            continue
        first, last = token.map
        in_cell = tokens[number - 1].type in _CELLS
        if first != row or not in_cell:
            at = starts[first]
        row = first
        places, at = _places(file.text, token.content, starts[first : last + 1], at)
        if places is None:
            continue
        try:
            parts = list(inline_pieces(md, token.content, token.children or []))
        except NotAligned:
            parts = [plain_pieces(token.content)]
        line = file.line_at(starts[first])
        for part in parts:
            moved = [_moved(piece, places) for piece in part]
            where = file.line_at(moved[0].start) if moved else line
            cell = f", column {column}" if in_cell else ""
            if slot := slot_of(file.text, moved, f"line {where}{cell}", where, title):
                yield slot
        if tokens[number - 1].type == "heading_open":
            title = token.content


def _places(text: str, content: str, starts: Sequence[int], at: int) -> tuple[list[int] | None, int]:
    """Return where each character of a block's content stands in the file, and behind it where the last ends.

    Args:
        text: of the file.
        content: lines without prefixes; in tables, without the backslash of `\\|`.
        starts: of the block's lines.
        at: where to search in the first line.
    """
    places = list[int]()
    for number, line in enumerate(content.split("\n")):
        if number:
            at = starts[number] if number < len(starts) else len(text)
        for written in (line, line.replace("|", "\\|")):
            end = starts[number + 1] if number + 1 < len(starts) else len(text)
            if (found := text.find(written, at, end)) >= 0:
                break
        else:
            return None, at
        for letter in line:
            found += text.startswith("\\|", found) and letter == "|"
            places.append(found)
            found += 1
        places.append(found)  # of the end of the line
        at = found
    return places, at


def _moved(piece: Piece, places: Sequence[int]) -> Piece:
    start, end = places[piece.start], places[piece.end - 1] + 1 if piece.end > piece.start else places[piece.end]
    if piece.kind == "break":
        end = places[piece.end]
    return Piece(piece.kind, start, end, piece.shown, piece.key, piece.word)
