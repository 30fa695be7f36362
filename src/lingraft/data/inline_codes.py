"""Inline codes of TMX and XLIFF: markup of another format inside a segment (TMX 1.4b, "content markup").

`bpt` and `ept` are the two ends of a pair, `it` one end whose other is elsewhere, `ph` stands alone, `ut` is unknown;
their content is code of the other format, but for `sub`, text of another flow (a footnote, an alternative text).
`hi` delimits text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Literal
from xml.etree.ElementTree import Element

from lingraft.language.measures import without_spaces
from lingraft.language.placeholders import is_variable

Codes = Literal["drop", "keep", "placeholder"]

NATIVE = {"bpt", "ept", "ph", "it", "ut"}
_ALONE = {"x", "bx", "ex", "sc", "ec", "sm", "em", "cp"}  # of XLIFF; some are found in TMX of some tools
_BEGINS, _ENDS = {"bpt", "bx", "sc"}, {"ept", "ex", "ec"}
_SPACE_ATTRIBUTE = "{http://www.w3.org/XML/1998/namespace}space"

# Formatting that may begin or end within a word: a letter for a key ("<u>F</u>ile"), an initial.
_WITHIN_WORDS = re.compile(
    r"\s*(?:</?(?:a|abbr|acronym|b|big|cite|code|del|em|font|i|ins|kbd|mark|q|s|samp|small|span|strike|strong|sub|sup|tt|u|var)"
    r"\b[^<>]*>|\{?(?:\\(?:b|i|ul|ulnone|strike|super|sub|cf|f|fs)-?\d*\s?)+|\})\s*",
    re.IGNORECASE,
)
_CLOSING = frozenset(".,;:!?)]}»”’%…")
_OPENING = frozenset("([{«“„‘¿¡")
_LINE_BREAK = re.compile(r"[ \t]*[\r\n]\s*")
_PRETTY = re.compile(r"\A[ \t]*[\r\n]|[\r\n]\s*\Z|[\r\n][ \t]+")


class _Gap:
    """Where a code was dropped. `within_words`: words that meet here are one."""

    def __init__(self, within_words: bool) -> None:
        self.within_words = within_words


def name_of(element: Element) -> str:
    """Return the name of an element without its namespace."""
    return str(element.tag).rpartition("}")[2]


def segment_text(segment: Element, codes: Codes, counts: Counter[str], preserve: bool = False) -> str:
    """Return the text of a `seg`.

    Args:
        segment: the element.
        codes: "drop" leaves codes out, with a space where words or sentences would meet; what is a variable (`%s`,
            `{0}`) stays. "keep" has their content in the text. "placeholder" puts `<1>`, `</1>` and `<2/>`, numbered as
            the file numbers them, so that both sides agree; variables stay.
        counts: of codes by element, to which those of the segment are added.
        preserve: white space is kept (`xml:space`); else that of pretty-printed XML becomes one space.
    """
    text = _joined(_pieces(segment, codes, counts)) if len(segment) else segment.text or ""
    if preserve or segment.get(_SPACE_ATTRIBUTE) == "preserve" or not _PRETTY.search(text):
        return text
    text = text.strip(" \t\r\n")
    return _LINE_BREAK.sub(lambda found: "" if _spaceless(text, *found.span()) else " ", text)


def preserves_space(*elements: Element) -> bool:
    """Say whether the innermost element that says how white space is treated keeps it."""
    said = [value for element in elements if (value := element.get(_SPACE_ATTRIBUTE)) is not None]
    return bool(said) and said[-1] == "preserve"


def _pieces(segment: Element, codes: Codes, counts: Counter[str]) -> Iterator[str | _Gap]:
    numbers = _Numbers()
    waiting: list[Element | str | _Gap] = [segment]  # no recursion: markup may be nested deeply
    while waiting:
        item = waiting.pop()
        if not isinstance(item, Element):
            yield item
            continue
        inside: list[Element | str | _Gap] = [item.text or ""]
        for child in item:
            inside += [*_code(child, codes, counts, numbers), child.tail or ""]
        waiting += reversed(inside)


def _code(
    element: Element, codes: Codes, counts: Counter[str], numbers: Callable[[Element], str]
) -> list[Element | str | _Gap]:
    """Return what stands for an element within a segment."""
    name = name_of(element)
    counts[name] += 1
    if name in NATIVE or (name in _ALONE and not len(element)):
        content = "".join(element.itertext())
        if name in NATIVE:
            counts["sub"] += sum(name_of(part) == "sub" for part in element.iter())
        if codes == "keep" or is_variable(content):
            return [content if content or codes != "keep" else _Gap(False)]
        if codes == "placeholder":
            number = numbers(element)
            return [f"<{number}>" if name in _BEGINS else f"</{number}>" if name in _ENDS else f"<{number}/>"]
        return [_Gap(bool(content) and _WITHIN_WORDS.fullmatch(content) is not None)]
    if codes == "placeholder":
        number = numbers(element)
        return [f"<{number}>", element, f"</{number}>"]
    return [element]


class _Numbers:
    """Numbers of the codes of one segment: those that the file gives, so that both sides agree, else in order."""

    def __init__(self) -> None:
        self._pairs: dict[str, str] = {}
        self._last = 0

    def __call__(self, element: Element) -> str:
        self._last += 1
        pair = element.get("i") or element.get("rid") or element.get("startRef")
        number = element.get("x") or element.get("id") or (self._pairs.get(pair) if pair else None) or pair
        number = number if number and len(number) <= 20 and number.isalnum() else str(self._last)
        if pair:
            number = self._pairs.setdefault(pair, number)
        return number


def _joined(pieces: Iterable[str | _Gap]) -> str:
    """Return the text, with clean spaces where codes were dropped."""
    parts: list[str] = []
    gap: _Gap | None = None
    for piece in pieces:
        if isinstance(piece, _Gap):
            gap = piece if gap is None or gap.within_words else gap
        elif piece:
            if gap is not None:
                piece = _behind(parts, piece, gap)
                gap = None
            if piece:
                parts.append(piece)
    if gap is not None and parts:
        parts[-1] = parts[-1].rstrip(" ")
    return "".join(parts)


def _behind(parts: list[str], text: str, gap: _Gap) -> str:
    """Return a text as it follows others behind a dropped code; the last of the others may lose spaces."""
    if not parts or not parts[-1]:
        return text.lstrip(" ")
    before, after = parts[-1][-1], text[0]
    if before.isspace():
        if after in ".,;:!?)]}":
            parts[-1] = parts[-1].rstrip(" ")
        return text.lstrip(" ")
    if after.isspace() or gap.within_words or after in _CLOSING or before in _OPENING:
        return text
    return text if without_spaces(before) or without_spaces(after) else f" {text}"


def _spaceless(text: str, start: int, end: int) -> bool:
    """Say whether a line was broken between two letters that are written without spaces."""
    return start > 0 and end < len(text) and without_spaces(text[start - 1]) and without_spaces(text[end])
