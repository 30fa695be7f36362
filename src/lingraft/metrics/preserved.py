"""Numbers, addresses and placeholders that a translation must keep as they are."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

from lingraft.data.records import Pair
from lingraft.language.numerals import Numerals, mentions
from lingraft.language.placeholders import ADDRESSES, TAGS, VARIABLES
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric

_URL = re.compile(ADDRESSES, re.IGNORECASE)
_PLACEHOLDER = re.compile(f"{VARIABLES}|{TAGS}")


def urls(text: str) -> list[str]:
    """Return the web and mail addresses of `text`, without the punctuation that follows them."""
    return [found.rstrip(".,;:!?。、，") for found in _URL.findall(text)]


def placeholders(text: str) -> list[str]:
    """Return the placeholders and tags of `text`."""
    return _PLACEHOLDER.findall(text)


class _Preserved(Metric):
    """Share of the items, in %, that the hypothesis has as well.

    Asked for are the items that the source and at least one reference have in common, counted as often as in the
    source and the most generous reference: a translator may write a number out, or localise an address. Segments
    without any are not measured.
    """

    paper: ClassVar[str] = "none: recall of items"
    decimals: int | None = 1
    unit: str = "%"
    match: ClassVar[str] = "exact"

    @staticmethod
    @abstractmethod
    def find(text: str, lang: str) -> Sequence[Hashable]:
        """Return the items of a text in a language."""

    @classmethod
    def counted(cls, text: str) -> Callable[[Any], int]:
        """Return what says how often a text has an item."""
        found = Counter(cls.find(text, ""))
        return lambda item: found[item]

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        find, counted = self.find, self.counted

        def wanted(pair: Pair) -> Counter[Any]:
            source, shared = Counter[Any](find(pair.source, pair.source_lang)), Counter[Any]()
            for reference in (pair.target, *pair.references) if source else ():
                count = counted(reference)
                shared |= Counter({item: min(times, count(item)) for item, times in source.items()})
            return shared

        def values(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
            rows = []
            for text, pair in zip(texts, pairs, strict=True):
                needed, count = wanted(pair), counted(text)
                kept = sum(min(times, count(item)) for item, times in needed.items())
                rows.append((100.0 * kept / needed.total(), float(needed.total())))
            return rows

        signature = f"{self.name}|items:source&reference|match:{self.match}"
        return MeanMetric(values, signature, lambda pair: bool(wanted(pair)))


class Numbers(_Preserved):
    """Numbers, compared by their value (`lingraft.language.numerals`), however they are grouped, in whatever digits,
    with scales, as times of day or in Roman numerals."""

    name: ClassVar[str] = "numbers"
    summary: ClassVar[str] = "% of the numbers kept, by value, that source and reference share"
    label: str = "Numbers kept"
    match: ClassVar[str] = "value"
    find = staticmethod(mentions)

    @classmethod
    def counted(cls, text: str) -> Callable[[Any], int]:
        """Return what counts a number among all that the numbers of a text may mean."""
        return Numerals(text).count


class Urls(_Preserved):
    """Web and mail addresses, letter by letter."""

    name: ClassVar[str] = "urls"
    summary: ClassVar[str] = "% of the web and mail addresses kept that source and reference share"
    label: str = "Addresses kept"

    @staticmethod
    def find(text: str, lang: str) -> list[str]:
        """Return the addresses."""
        return urls(text)


class Placeholders(_Preserved):
    """Placeholders and tags, letter by letter."""

    name: ClassVar[str] = "placeholders"
    summary: ClassVar[str] = "% of placeholders ({name}, %s, <b>) kept that source and reference share"
    label: str = "Placeholders kept"

    @staticmethod
    def find(text: str, lang: str) -> list[str]:
        """Return the placeholders."""
        return placeholders(text)
