"""What test items have in common with the training data: equal texts, and long runs of equal words.

The rule is that of GPT-3 (Brown et al. 2020, arXiv 2005.14165, appendix C): an item is contaminated if it shares a
run of 13 words with the training data, lower-cased and without punctuation. The items are held in memory as hashes;
training texts stream by once.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from lingraft.data.overlap import MIN_SIDE
from lingraft.language.measures import normalise, without_spaces, words

WORDS = 13
"""Length of a run, in words."""

SHORT_WORDS = 8
"""An item of so many words or more, but fewer than `WORDS`, is a run as a whole."""

CHARACTERS_A_WORD = 3
"""Characters that count as one word in scripts written without spaces (words there have two to four)."""

SIGNATURE = (
    f"words:{WORDS}|whole from words:{SHORT_WORDS}|without spaces:{CHARACTERS_A_WORD} characters a word"
    f"|case:lower|punctuation:no"
)
EXACT_SIGNATURE = f"whole text|case:lower|letters and digits|from characters:{MIN_SIDE}"

_ASCII_WORDS = re.compile(r"[a-z0-9]+")


class _Spaced(dict[int, int]):
    """Character -> itself if it is a letter, digit or mark, else a space; filled as characters occur."""

    def __missing__(self, code: int) -> int:
        value = code if unicodedata.category(chr(code))[0] in "LMN" else 32
        self[code] = value
        return value


_SPACED = _Spaced()


@dataclass(frozen=True)
class HeldOutItem:
    """A test item: its id in its set, and its texts, none of which should be in the training data."""

    id: str
    texts: tuple[str, ...]


@dataclass
class Overlap:
    """What one set has in common with the training data. `exact` and `ngram`: item id -> a training row's id."""

    name: str
    items: int
    exact: dict[str, str] = field(default_factory=dict)
    ngram: dict[str, str] = field(default_factory=dict)


def units(text: str) -> list[str]:
    """Return what a run is made of: words without punctuation, lower-cased; in scripts without spaces characters."""
    if text.isascii():
        return _ASCII_WORDS.findall(text.lower())
    return words(unicodedata.normalize("NFKC", text).casefold().translate(_SPACED))


def _runs(text: str) -> tuple[int, list[tuple[str, ...]]]:
    """Return the length of the runs of an item's text, and the runs."""
    found = units(text)
    factor = CHARACTERS_A_WORD if 2 * sum(map(without_spaces, found)) > len(found) else 1
    if len(found) < SHORT_WORDS * factor:
        return 0, []
    length = min(WORDS * factor, len(found))
    return length, [tuple(found[start : start + length]) for start in range(len(found) - length + 1)]


class ContaminationIndex:
    """Test items, to be looked up while training texts stream by.

    Memory: two hashes for each run of the items, whatever the training data's size.
    """

    def __init__(self) -> None:
        self._sets: list[tuple[str, Sequence[HeldOutItem]]] = []
        self._whole: set[int] = set()
        self._runs: set[int] = set()
        self._starts: set[int] = set()
        self._lengths: set[int] = set()
        self._found: dict[int, str] = {}

    def add(self, name: str, items: Sequence[HeldOutItem]) -> None:
        """Add a test set."""
        self._sets.append((name, items))
        for text in (text for item in items for text in item.texts):
            whole = normalise(text)
            if len(whole) >= MIN_SIDE:
                self._whole.add(hash(whole))
            length, runs = _runs(text)
            self._lengths.add(length)
            self._runs.update(map(hash, runs))
            self._starts.update(hash(run[:SHORT_WORDS]) for run in runs)

    def look_up(self, row_id: str, text: str) -> None:
        """Note what items have in common with a training text."""
        if len(text) >= MIN_SIDE and (whole := hash(normalise(text))) in self._whole:
            self._found.setdefault(whole, row_id)
        found = units(text)
        # Nearly all texts share no eight words with any item: this decides about them without a loop in Python.
        starts = zip(*(found[offset:] for offset in range(SHORT_WORDS)), strict=False)
        if self._starts.isdisjoint(map(hash, starts)):
            return
        for start in range(len(found) - SHORT_WORDS + 1):
            if hash(tuple(found[start : start + SHORT_WORDS])) in self._starts:
                for length in self._lengths:
                    run = hash(tuple(found[start : start + length]))
                    if start + length <= len(found) and run in self._runs:
                        self._found.setdefault(run, row_id)

    @property
    def found(self) -> bool:
        """Whether anything was found since it was last forgotten."""
        return bool(self._found)

    def forget(self) -> None:
        """Forget what was found, so that other training texts can be looked up."""
        self._found.clear()

    def result(self) -> list[Overlap]:
        """Return what was found, a set at a time in the order they were added."""
        overlaps = []
        for name, items in self._sets:
            overlap = Overlap(name, len(items))
            for item in items:
                for text in item.texts:
                    whole = normalise(text)
                    if len(whole) >= MIN_SIDE and (row := self._found.get(hash(whole))):
                        overlap.exact.setdefault(item.id, row)
                    shared = (self._found.get(hash(run)) for run in _runs(text)[1])
                    if row := next(filter(None, shared), None):
                        overlap.ngram.setdefault(item.id, row)
            overlaps.append(overlap)
        return overlaps
