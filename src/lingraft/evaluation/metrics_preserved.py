"""Numbers, addresses and placeholders that a translation must keep as they are."""

from __future__ import annotations

import re
import unicodedata
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from lingraft.data.placeholders import VARIABLES
from lingraft.data.records import Pair
from lingraft.evaluation.metrics import CorpusMetric, MeanMetric, Metric

_NUMBER = re.compile(r"\d+(?:[.,'’٫٬\u00a0\u202f\u2009]\d+)*")
_URL = re.compile(r"(?:https?://|ftp://|www\.)[^\s<>\"'“”«»（）()\[\]{}]+|[\w.+-]+@[\w-]+(?:\.[\w-]+)+", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    VARIABLES + r"|</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>"  # <tag>, <a href="...">, </tag>
)


def numbers(text: str) -> list[str]:
    """Return the numbers of `text` by their digits: "1.200,50", "1,200.50" and "１２００．５０" are all "120050"."""
    found = _NUMBER.findall(text)
    return ["".join(str(unicodedata.digit(c)) for c in number if c.isdigit()) for number in found]


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

    paper: ClassVar[str] = "none: recall of items by exact match"

    @staticmethod
    @abstractmethod
    def find(text: str) -> list[str]:
        """Return the items of a text."""

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        find = self.find

        def wanted(pair: Pair) -> Counter[str]:
            source, shared = Counter(find(pair.source)), Counter[str]()
            for reference in (pair.target, *pair.references) if source else ():
                shared |= source & Counter(find(reference))
            return shared

        def values(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
            rows = []
            for text, pair in zip(texts, pairs, strict=True):
                needed = wanted(pair)
                kept = (needed & Counter(find(text))).total()
                rows.append((100.0 * kept / needed.total(), float(needed.total())))
            return rows

        return MeanMetric(values, f"{self.name}|items:source&reference|match:exact", lambda pair: bool(wanted(pair)))


class Numbers(_Preserved):
    """Numbers, compared by their digits."""

    name: ClassVar[str] = "numbers"
    summary: ClassVar[str] = "% of the numbers kept that source and reference share"
    find = staticmethod(numbers)


class Urls(_Preserved):
    """Web and mail addresses, letter by letter."""

    name: ClassVar[str] = "urls"
    summary: ClassVar[str] = "% of the web and mail addresses kept that source and reference share"
    find = staticmethod(urls)


class Placeholders(_Preserved):
    """Placeholders and tags, letter by letter."""

    name: ClassVar[str] = "placeholders"
    summary: ClassVar[str] = "% of placeholders ({name}, %s, <b>) kept that source and reference share"
    find = staticmethod(placeholders)
