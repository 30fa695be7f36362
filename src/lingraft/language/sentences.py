"""A text in pieces that a model trained on sentences can translate, and the text put together again.

Lines, indents, bullets, code and white space stay as they are; what is translated are sentences. Scripts written
without spaces between words (Thai) mark no ends of sentences but put a space between clauses: there a long stretch is
cut at spaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lingraft.language.characters import is_blank

MAX_CHARACTERS = 300
"""Longer sentences are cut at white space: few translation examples are longer."""

# A letter with a full stop is an initial ("J. R. R. Tolkien") or an abbreviation ("z. B."), but for a small one alone.
_OPENING = re.compile(
    r"(?:[^\S\n]|[-*+•–>#]+[^\S\n]|\(?(?:\d{1,3}[.)]|[A-Za-z]\)|[a-z]\.(?![^\S\n]?[^\W\d_]\.))[^\S\n])*"
)
_FENCE = re.compile(r"\s*(?:```|~~~)")
_WITHIN_A_LINE = re.compile(r"\s*```.*`")  # "```x```" opens nothing that further lines belong to
# Beside Latin ones the marks of Indic, Urdu and Arabic, Tibetan, Burmese, Ethiopic, Khmer and Armenian.
_MARKS = ".!?…।॥۔؟།။።។։"
# Possessive, and from the first mark on: a long row of them takes linear time.
_END = re.compile(rf"(?:(?<![{_MARKS}])[{_MARKS}]++[\"'”’»)\]]*+(?=\s)|[。！？]++[”’」』）]*+)\s*+")
_WORD_BEFORE = re.compile(r"[^\s(\"“‘«\[]*\Z")
_LONGEST_WORD = 20
_SPACE = re.compile(r"\s+")

# Written with a full stop, and something mostly follows; lower case. Single letters are told by their length.
_ABBREVIATIONS = frozenset(
    [
        "mr",
        "mrs",
        "ms",
        "dr",
        "prof",
        "st",
        "jr",
        "sr",
        "vs",
        "etc",
        "cf",
        "al",
        "ca",
        "nos",
        "vol",
        "fig",
        "pp",
        "approx",
        "dept",
        "est",
        "inc",
        "ltd",
        "co",
        "corp",
        "gen",
        "col",
        "sgt",
        "capt",
        "rev",
        "jan",
        "feb",
        "mar",
        "apr",
        "jun",
        "jul",
        "aug",
        "sep",
        "sept",
        "oct",
        "nov",
        "dec",
        "mt",
        "ave",
        "hr",
        "hrn",
        "fr",
        "nr",
        "bzw",
        "usw",
        "vgl",
        "bspw",
        "ggf",
        "evtl",
        "inkl",
        "abs",
        "art",
        "str",
        "e.g",
        "i.e",
        "a.m",
        "p.m",
        "u.s",
        "u.k",
        "z.b",
        "d.h",
        "u.a",
        "o.ä",
    ]
)


@dataclass(frozen=True)
class TextPiece:
    """A part of a text; `translate`: whether it has words to translate, else it stays as it is."""

    text: str
    translate: bool


def split_text(text: str, longest: int = MAX_CHARACTERS) -> list[TextPiece]:
    """Return the pieces of a text, which put together are the text.

    Args:
        text: of any number of lines; marks of lists, line ends and blocks of code become pieces that are not
            translated.
        longest: characters of a piece, if it has white space to be cut at.

    Example:
        >>> [piece.text for piece in split_text("- Yes. It is 3.5 km.") if piece.translate]
        ['Yes.', 'It is 3.5 km.']
    """
    pieces: list[TextPiece] = []
    code = False
    for line in text.splitlines(keepends=True):
        fence = _FENCE.match(line) is not None
        if code or fence:
            pieces.append(TextPiece(line, False))
            code = code != (fence and not _WITHIN_A_LINE.match(line))
            continue
        opening = _OPENING.match(line)
        begin = opening.end() if opening else 0
        if begin:
            pieces.append(TextPiece(line[:begin], False))
        for sentence in _sentences(line[begin:]):
            pieces += _parts(sentence, longest)
    return pieces


def fenced(lines: Sequence[str]) -> list[bool]:
    """Say of each line whether it belongs to fenced code, fences included; a fence that nothing closes opens none."""
    inside = [False] * len(lines)
    opened: int | None = None
    for number, line in enumerate(lines):
        if not _FENCE.match(line) or _WITHIN_A_LINE.match(line):
            continue
        if opened is None:
            opened = number
        else:
            inside[opened : number + 1] = [True] * (number + 1 - opened)
            opened = None
    return inside


def join_text(pieces: Sequence[TextPiece], translations: Sequence[str]) -> str:
    """Return the text with the pieces to translate replaced, in their order.

    Raises:
        ValueError: not as many translations as pieces to translate.
    """
    wanted = sum(piece.translate for piece in pieces)
    if wanted != len(translations):
        raise ValueError(f"{len(translations)} translations for {wanted} pieces")
    following = iter(translations)
    return "".join(next(following) if piece.translate else piece.text for piece in pieces)


def _sentences(line: str) -> Iterator[str]:
    """Yield the sentences of a line, each with the white space behind it."""
    begin = 0
    for end in _END.finditer(line):
        if end.end() < len(line) and _goes_on(line, begin, end):
            continue
        yield line[begin : end.end()]
        begin = end.end()
    if begin < len(line):
        yield line[begin:]


def _goes_on(line: str, begin: int, end: re.Match[str]) -> bool:
    """Whether a full stop is that of an abbreviation or an ordinal number, or lower case follows."""
    if end.group().strip() != ".":
        return line[end.end()].islower()
    word = _WORD_BEFORE.search(line[max(begin, end.start() - _LONGEST_WORD) : end.start()])
    before = word.group().casefold() if word else ""
    ordinal = before.isdigit() and len(before) <= 2
    return line[end.end()].islower() or len(before) == 1 or ordinal or before in _ABBREVIATIONS


def _parts(sentence: str, longest: int) -> Iterator[TextPiece]:
    """Yield a sentence in parts of about `longest` characters, and the white space after each by itself."""
    while sentence:
        body = sentence.rstrip()
        cut = len(body)
        if cut > longest:
            near = [space.start() for space in _SPACE.finditer(body, longest // 3, longest + 1)]
            space = _SPACE.search(body, longest)
            cut = near[-1] if near else space.start() if space else cut
        part, sentence = body[:cut], sentence[cut:]
        blank = sentence[: len(sentence) - len(sentence.lstrip())]
        sentence = sentence[len(blank) :]
        if part:
            yield TextPiece(part, any(map(str.isalpha, part)) and not is_blank(part))
        if blank:
            yield TextPiece(blank, False)
