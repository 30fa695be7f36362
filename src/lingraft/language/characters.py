"""What characters are by their Unicode properties: whether they show, and of which script they are."""

from __future__ import annotations

from functools import cache

import regex

# White space, controls, and what Unicode says to draw as nothing: zero-width spaces and joiners, the byte order mark,
# soft hyphens, marks of direction, fillers, variation selectors. Blank Braille and the marks of annotations are not in
# that list, but show nothing either.
_UNSEEN = regex.compile(r"[\s\p{Cc}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]*+")

_WIDE = regex.compile(r"[\p{East_Asian_Width=Wide}\p{East_Asian_Width=Fullwidth}]+")
_MARKS = regex.compile(r"\p{Mn}+")

_PARTS = {"Hans": "Hani", "Hant": "Hani", "Jpan": "Hani Hira Kana", "Hrkt": "Hira Kana", "Kore": "Hang Hani"}
"""ISO 15924 codes of writing systems, and of the scripts that they are made of."""


def is_blank(text: str) -> bool:
    """Say whether a text shows nothing: it is empty, or white space and invisible characters."""
    return _UNSEEN.fullmatch(text) is not None


def columns(text: str) -> int:
    """Return the width of a text in columns of a terminal: East Asian wide and full-width characters take two, which
    hold about as much as two Latin letters; marks above and below others (Mn) take none."""
    return len(text) + sum(map(len, _WIDE.findall(text))) - sum(map(len, _MARKS.findall(text)))


def letters_of(text: str, script: str) -> int | None:
    """Return how many letters (Unicode category L) of a text belong to a script, or None if it is not known.

    Args:
        text: any.
        script: ISO 15924 code ("Latn", "Jpan").
    """
    letters = _letters(script)
    return None if letters is None else sum(map(len, letters.findall(text)))


@cache
def _letters(script: str) -> regex.Pattern[str] | None:
    parts = "".join(rf"\p{{Script_Extensions={part}}}" for part in _PARTS.get(script, script).split())
    try:
        return regex.compile(rf"[[{parts}]&&\p{{L}}]+", regex.VERSION1)
    except regex.error:  # no script, or one that has no characters of its own
        return None
