"""A text in pieces that a model trained on sentences can translate, and the text put together again.

Lines, indents, bullets, code and white space stay as they are; what is translated are sentences. Scripts written
without spaces between words (Thai) mark no ends of sentences but put a space between clauses: there a long stretch is
cut at spaces. Where sentences end says sentencex (MIT), with rules of our own on top.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import sentencex

from lingraft.language.characters import is_blank
from lingraft.language.codes import base_language

MAX_CHARACTERS = 300
"""Longer sentences are cut at white space: few translation examples are longer."""

# A letter with a full stop is an initial ("J. R. R. Tolkien") or an abbreviation ("z. B."), but for a small one alone.
_LONGEST_WORD = 20
_OPENING = re.compile(
    r"(?:[^\S\n]|[-*+•–>#]+[^\S\n]|\(?(?:\d{1,3}[.)]|[A-Za-z]\)|[a-z]\.(?![^\S\n]?[^\W\d_]\.))[^\S\n])*"
)
_FENCE = re.compile(r"\s*(?:```|~~~)")
_WITHIN_A_LINE = re.compile(r"\s*```.*`")  # "```x```" opens nothing that further lines belong to
# Marks of Tibetan and Khmer, which sentencex does not know.
_MORE_MARKS = re.compile(r"[།។]++\s*+")
_LAST_WORD = re.compile(r"[^\s(\"“‘«\[]*\Z")
_NUMBER_ALONE = re.compile(r"\s*\(?\d{1,3}[.)]\s*")
_SPACE = re.compile(r"\s+")
_HALF = re.compile(r"[\ud800-\udfff]")

_WINDOW = 10_000
"""Characters that sentencex is given at once: rows of opening quotation marks take it a square of their number."""

_ORDINALS = frozenset(
    [
        *("bs", "cs", "da", "de", "et", "eu", "fi", "fo", "hr", "hu", "is", "lb", "lv", "no"),
        *("nn", "pl", "sk", "sl", "sq", "sr", "tr"),
    ]
)
"""Languages that write ordinal numbers with a full stop ("am 3. Mai")."""

_ABBREVIATIONS = {
    "de": frozenset(["hr", "hrn", "nr", "bzw", "usw", "usf", "vgl", "ggf", "evtl", "inkl", "abs", "str"]),
    "en": frozenset(["vol", "vols", "nos", "approx", "dept", "ch"]),
}
"""By language, beside those that sentencex knows."""


@dataclass(frozen=True)
class TextPiece:
    """A part of a text; `translate`: whether it has words to translate, else it stays as it is."""

    text: str
    translate: bool


def split_text(text: str, longest: int = MAX_CHARACTERS, *, lang: str) -> list[TextPiece]:
    """Return the pieces of a text, which put together are the text.

    Where sentences end says the library sentencex, which knows the abbreviations of many languages; what it takes for
    an end within an ordinal number, after an initial or before a small letter is put together again.

    Args:
        text: of any number of lines; marks of lists, line ends and blocks of code become pieces that are not
            translated.
        longest: characters of a piece, if it has white space to be cut at.
        lang: language code of the text; one that sentencex does not know is read by the rules of English.

    Example:
        >>> [piece.text for piece in split_text("- Yes. It is 3.5 km.", lang="en") if piece.translate]
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
        for sentence in _sentences(line[begin:], lang):
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


def _sentences(line: str, lang: str) -> Iterator[str]:
    """Yield the sentences of a line, each with the white space behind it."""
    kept = ""
    for found in _ended(line, lang):
        sentence = found.lstrip() if kept else found  # behind "[2]" the white space comes with what follows
        kept += found[: len(found) - len(sentence)]
        if kept and sentence and not _goes_on(kept, sentence, lang):
            yield kept
            kept = ""
        kept += sentence
    if kept:
        yield kept


def _ended(line: str, lang: str) -> Iterator[str]:
    """Yield what sentencex takes for sentences; a long line is read in windows, each from where a sentence begins."""
    code, begin = base_language(lang), 0
    while begin < len(line):
        window = line[begin : begin + _WINDOW]
        read = _HALF.sub("\ufffd", window)  # half a character cannot be handed to the library
        known = sentencex.segment(code, read)
        if "".join(known) != read:  # never seen; nothing may be lost, whatever the library does
            known = [read]
        ends = [0, *accumulate(map(len, known))]
        wholes = (window[one:other] for one, other in pairwise(ends))
        found = [part for whole in wholes for part in _cut_behind(_MORE_MARKS, whole)]
        last = begin + len(window) == len(line)
        for sentence in found if last or len(found) == 1 else found[:-1]:
            yield sentence
            begin += len(sentence)


def _cut_behind(marks: re.Pattern[str], text: str) -> Iterator[str]:
    begin = 0
    for mark in marks.finditer(text):
        yield text[begin : mark.end()]
        begin = mark.end()
    if begin < len(text):
        yield text[begin:]


def _goes_on(sentence: str, after: str, lang: str) -> bool:
    """Whether what follows belongs to the sentence before: a small letter, or what follows a number or an initial."""
    if after[:1].islower() or _NUMBER_ALONE.fullmatch(sentence):
        return True
    body = sentence.rstrip()
    if not body.endswith("."):
        return False
    match = _LAST_WORD.search(body[-_LONGEST_WORD:-1])
    word = match.group().casefold() if match else ""
    code = base_language(lang)
    ordinal = word.isdigit() and len(word) <= 2 and code in _ORDINALS
    return ordinal or (len(word) == 1 and word.isalpha()) or word in _ABBREVIATIONS.get(code, ())


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
