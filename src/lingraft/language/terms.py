"""Where a term stands in a text: by whole words, whatever their case, and inflected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache

from lingraft.language.codes import is_spaceless, script

_WORD = re.compile(r"(?:[^\W_]|[\u0300-\u036f])+")
_PLAIN = re.compile(r"[\w\s'’\-\u0300-\u036f]+")
_STEM = 4
"""Letters that an inflected word at least shares with its term."""
_ENDING = 3
"""Letters that either may have behind what they share."""

Place = tuple[int, int]
"""Where something begins and ends."""


def shown(text: str) -> str:
    """Return a text in the form in which terms are looked for; places count its characters."""
    return unicodedata.normalize("NFKC", text)


def find_term(term: str, text: str, code: str) -> Iterator[Place]:
    """Yield the places of a term in a text, which `shown` returned.

    In languages written without spaces, and for terms with signs in them ("C++", "node.js"), a place is the very
    characters, whatever their case; a term with signs does not begin or end within a word. In all others the words of
    the term follow each other, each of them

      - the same without case and accents,
      - or inflected: both begin with the same 4 letters or more, behind which neither has more than 3, and either one
        of them is the beginning of the other, with at most half as much behind it, or what they share is three quarters
        of the longer one ("Vertrag", "Verträgen"; not "station", "static"). It misses "cities" for "city", and takes
        "contractor" for "contract",
      - in Korean: the term with what is written on to it,
      - a term of up to 5 capitals ("IT"): the same capitals, with at most two small letters behind them.

    Args:
        term: to look for.
        text: as `shown` returns it.
        code: language of the text; "" where it is not known.
    """
    term = shown(term)
    if by_characters(term, code):
        edges = ("", "") if code and is_spaceless(code) else (r"(?<![^\W_])", r"(?![^\W_])")
        before, after = (edge if part.isalnum() else "" for edge, part in zip(edges, (term[0], term[-1]), strict=True))
        yield from (found.span() for found in re.finditer(before + re.escape(term) + after, text, re.IGNORECASE))
        return
    wanted, found = words_in(term), words_in(text)
    korean = bool(code) and script(code) == "Kore"
    for start in range(len(found) - len(wanted) + 1):
        if all(_same(one, found[start + n][0], korean) for n, (one, _) in enumerate(wanted)):
            yield found[start][1][0], found[start + len(wanted) - 1][1][1]


def by_characters(term: str, code: str) -> bool:
    """Say whether a term is looked for by its characters instead of its words."""
    return bool(code and is_spaceless(code)) or not _PLAIN.fullmatch(shown(term)) or not _WORD.search(term)


@lru_cache(maxsize=4096)
def words_in(text: str) -> tuple[tuple[str, Place], ...]:
    """Return the words of a text, as they stand there, with their places."""
    return tuple((found[0], found.span()) for found in _WORD.finditer(text))


@lru_cache(maxsize=65536)
def folded(word: str) -> str:
    """Return a word without case and accents."""
    apart = unicodedata.normalize("NFKD", word.casefold())
    return unicodedata.normalize("NFC", re.sub("[\u0300-\u036f]", "", apart))


def _same(term: str, word: str, korean: bool) -> bool:
    if 1 < len(term) <= 5 and term.isupper():
        rest = word[len(term) :]
        return word.startswith(term) and (not rest or (len(rest) <= 2 and rest.islower()))
    one, other = folded(term), folded(word)
    if one == other or (korean and other.startswith(one)):
        return True
    shared = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    short, long = sorted((len(one), len(other)))
    if shared < _STEM or long - shared > _ENDING:
        return False
    return (shared == short and 2 * (long - shared) <= shared) or 4 * shared >= 3 * long
