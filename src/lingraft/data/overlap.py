"""Overlap of training pairs with test sets, on normalised text and in either direction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate

from lingraft.core.errors import DataError
from lingraft.core.hashing import text_hash
from lingraft.data.records import Pair
from lingraft.language.codes import base_language
from lingraft.language.measures import normalise

MIN_SIDE = 20
"""Normalised characters from which one equal side alone is an overlap; shorter ones recur by chance ("Thank you.")."""

MAX_OVERLAP_SHARE = 0.5
"""Share of training rows found in a test set above which the training set is taken to be the test set."""


class OverlapIndex:
    """Test pairs, to be looked up while training pairs stream by.

    Two pairs overlap if both sides are equal, or if one side is equal, in the same language, and has at least
    `MIN_SIDE` normalised characters. Direction does not matter. Regions do not either: "zh-CN" and "zh" are the same.
    Memory: a hash and a reference to the test pair's id for the pair and each long side, whatever their length.
    """

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._pairs: dict[int, str] = {}
        self._sides: dict[int, str] = {}
        self._lengths: set[int] = set()
        for pair in pairs:
            self.add(pair)

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, test_pair: Pair) -> None:
        """Add a test pair with all its references."""
        source_lang, target_lang = base_language(test_pair.source_lang), base_language(test_pair.target_lang)
        source = normalise(test_pair.source)
        self._add_side(source_lang, source, test_pair.id)
        for reference in (test_pair.target, *test_pair.references):
            target = normalise(reference)
            self._add_side(target_lang, target, test_pair.id)
            self._pairs.setdefault(_pair_hash(source_lang, source, target_lang, target), test_pair.id)

    def match(self, pair: Pair) -> str | None:
        """Return what `pair` has in common with which test pair ("source of 'wmt:12'"), or None."""
        if not self._pairs:
            return None
        source_lang, target_lang = base_language(pair.source_lang), base_language(pair.target_lang)
        source, target = normalise(pair.source), normalise(pair.target)
        found = self._pairs.get(_pair_hash(source_lang, source, target_lang, target))
        if found is not None:
            return f"both sides of {found!r}"
        for name, code, text in (("source", source_lang, source), ("target", target_lang, target)):
            if len(text) >= MIN_SIDE and (found := self._sides.get(text_hash(code, text))) is not None:
                return f"{name}, as in {found!r}"
        return None

    def match_text(self, text: str, lang: str) -> str | None:
        """Return the id of a test pair of which a long side is this text, or None."""
        normal = normalise(text) if self._sides else ""
        return self._sides.get(text_hash(base_language(lang), normal)) if len(normal) >= MIN_SIDE else None

    def match_within(self, parts: Sequence[str], lang: str) -> str | None:
        """Return the id of a test pair of which a long side is made of some of the parts, one after the other, or None.

        Args:
            parts: of a text, such as the clauses of a Thai one, which marks no ends of sentences.
            lang: language code of the text.
        """
        code, longest = base_language(lang), max(self._lengths, default=0)
        normal = [text if any(map(str.isalnum, text := normalise(part))) else "" for part in parts]
        bounds = list(accumulate(map(len, normal), initial=0))
        for begin in range(len(parts)):
            for end in range(begin + 1, len(bounds)):
                length = bounds[end] - bounds[begin]
                if length > longest:
                    break
                if length in self._lengths:
                    found = self._sides.get(text_hash(code, "".join(normal[begin:end])))
                    if found is not None:
                        return found
        return None

    def _add_side(self, code: str, text: str, test_id: str) -> None:
        if len(text) >= MIN_SIDE:
            self._lengths.add(len(text))
            self._sides.setdefault(text_hash(code, text), test_id)


def _pair_hash(source_lang: str, source: str, target_lang: str, target: str) -> int:
    first, second = sorted(((source_lang, source), (target_lang, target)))
    return text_hash(*first, *second)


def refuse_test_set(overlapping: int, rows: int, train: str, test: str) -> None:
    """Refuse a training set that is the test set.

    Args:
        overlapping: rows of the training set that overlap with a test set.
        rows: all rows of the training set.
        train: name of the training file.
        test: name of the test set or sets.

    Raises:
        DataError: more than half of the rows overlap.
    """
    if rows and overlapping / rows > MAX_OVERLAP_SHARE:
        raise DataError(
            f"the test set {test} seems to be the training set: {overlapping:,} of {rows:,} rows of {train} are in it; "
            f"give a test set that was held out"
        )
