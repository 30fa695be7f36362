"""Inline Markdown with places: what markdown-it found, laid along the text that it was found in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lingraft.documents.inline import Piece
from lingraft.language.measures import without_spaces

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

_BREAK = re.compile(r"[ \t]*(?:\\)?\n[ \t]*")
_TAG_NAME = re.compile(r"</?([A-Za-z][\w:-]*)")
_TASK = re.compile(r"\[[ xX]\][ \t]+")
_FOOTNOTE = re.compile(r"\[\^[^\]\s]+\]:?")


def plain_pieces(content: str) -> list[Piece]:
    """Return the pieces of a text whose codes cannot be told from it: its lines."""
    pieces, at = list[Piece](), 0
    for found in _BREAK.finditer(content):
        pieces += [
            Piece("text", at, found.start(), content[at : found.start()]),
            Piece("break", found.start(), found.end(), " "),
        ]
        at = found.end()
    return [*pieces, Piece("text", at, len(content), content[at:])]


class NotAligned(Exception):
    """Internal: the text does not go with what was found in it."""


def inline_pieces(md: MarkdownIt, content: str, children: Sequence[Token]) -> Iterator[list[Piece]]:
    """Yield the pieces between hard ends of lines, with places in `content`.

    Args:
        md: the parser.
        content: inline text, lines without their prefixes.
        children: the tokens that the parser found in it.

    Raises:
        NotAligned: they do not go together.
    """
    aligned = _Alignment(md, content)
    aligned.walk(children)
    if content[aligned.at :].strip():
        raise NotAligned(content[aligned.at :])
    part = list[Piece]()
    for piece in aligned.pieces:
        if piece.kind == "break" and piece.key == "hard":
            yield part
            part = []
        else:
            part.append(piece)
    yield part


class _Alignment:
    def __init__(self, md: MarkdownIt, content: str) -> None:
        self._md, self._text, self.at = md, content, 0
        self.pieces = list[Piece]()
        self._links = list[str]()

    def _take(self, kind: Any, end: int, shown: str = "", key: str = "", word: bool = False) -> None:
        if end > self.at:
            self.pieces.append(Piece(kind, self.at, end, shown, key, word))
            self.at = end

    def _code(self, kind: Any, markup: str, key: str = "", word: bool = False) -> None:
        if not self._text.startswith(markup, self.at):
            raise NotAligned(markup)
        self._take(kind, self.at + len(markup), key=key, word=word)

    def walk(self, children: Sequence[Token]) -> None:
        """Take what stands for each token."""
        for token in children:
            self._token(token)

    def _token(self, token: Token) -> None:
        kind = token.type
        if self._links and self._links[-1] == "auto" and kind != "link_close":
            return  # the text of a bare address is within what is taken already
        if kind == "text":
            self._plain(token.content)
        elif kind == "text_special":
            if not self._text.startswith(token.markup, self.at):
                raise NotAligned(token.markup)
            self._take("text", self.at + len(token.markup), shown=token.content)
        elif kind in ("softbreak", "hardbreak"):
            found = _BREAK.match(self._text, self.at)
            if found is None:
                raise NotAligned(kind)
            before, after = self._text[self.at - 1 : self.at], self._text[found.end() : found.end() + 1]
            shown = "" if without_spaces(before) and without_spaces(after) else " "
            self._take("break", found.end(), shown, key="hard" if kind == "hardbreak" else "")
        elif kind == "code_inline":
            self._code_span(token.markup)
        elif kind == "html_inline":
            name = _TAG_NAME.match(token.content)
            closes, alone = token.content.startswith("</"), token.content.endswith("/>")
            empty = name is None or alone or name[1].lower() in ("br", "img", "wbr", "hr", "input")
            side = "alone" if empty else "close" if closes else "open"
            self._code(side, token.content, key=f"<{name[1].lower()}" if name else "")
        elif kind == "image":
            self._image(token)
        elif kind == "link_open":
            self._link_open(token)
        elif kind == "link_close":
            self._link_close()
        elif kind.endswith(("_open", "_close")):
            self._code("open" if kind.endswith("_open") else "close", token.markup, key=token.tag)
        else:
            raise NotAligned(kind)

    def _plain(self, content: str) -> None:
        begin, end = self.at, self.at + len(content)
        if self._text[begin:end] != content:
            raise NotAligned(content)
        if begin == 0 and (task := _TASK.match(content)):
            self._take("alone", task.end())
        for found in _FOOTNOTE.finditer(content):
            self._take("text", begin + found.start(), self._text[self.at : begin + found.start()])
            self._take("alone", begin + found.end(), word=True)
        self._take("text", end, self._text[self.at : end])

    def _code_span(self, markup: str) -> None:
        found = re.compile(rf"{markup}(?!`)[\s\S]*?(?<!`){markup}(?!`)").match(self._text, self.at)
        if found is None:
            raise NotAligned(markup)
        self._take("alone", found.end(), word=True)

    def _link_open(self, token: Token) -> None:
        if token.info == "auto":
            if self._text[self.at : self.at + 1] == "<":
                self._take("alone", self._text.index(">", self.at) + 1, word=True)
                self._links.append("auto")
                return
            raise NotAligned("a bare link")
        self._code("open", "[", key="a")
        self._links.append("link")

    def _link_close(self) -> None:
        if self._links.pop() == "link":
            self._take("close", self._behind_label(), key="a")

    def _image(self, token: Token) -> None:
        self._code("open", "![", key="img")
        self.walk(token.children or [])
        self._take("close", self._behind_label(), key="img")

    def _behind_label(self) -> int:
        """Return where a link or an image ends whose label ends here."""
        text, at = self._text, self.at
        if text[at : at + 1] != "]":
            raise NotAligned("]")
        at += 1
        if text[at : at + 1] == "(" and (end := self._destination(at + 1)) is not None:
            return end
        last = text.find("]", at) if text[at : at + 1] == "[" else -1
        return last + 1 if last >= 0 else at

    def _destination(self, at: int) -> int | None:
        """Return where `(address "title")` ends, or None if there is none."""
        text, most, helpers = self._text, len(self._text), self._md.helpers
        at = _skip(text, at)
        found = helpers.parseLinkDestination(text, at, most)
        at = _skip(text, found.pos if found.ok else at)
        title: Any = helpers.parseLinkTitle(text, at, most)
        if title.ok:
            at = _skip(text, title.pos)
        return at + 1 if text[at : at + 1] == ")" else None


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n":
        at += 1
    return at
