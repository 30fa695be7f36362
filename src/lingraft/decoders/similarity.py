"""How alike two texts are, for choosing pairs to show: BM25 by words, chrF by characters; no model is asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import log

from lingraft.data.contamination import units

K1, B = 1.5, 0.75
ORDER, BETA = 6, 2
"""chrF's: n-grams of up to so many characters, recall counting so many times as much as precision."""

Profile = tuple[tuple[Mapping[str, int], int], ...]
"""Of a text: for each length its n-grams of characters with their counts, and how many there are."""


class Bm25:
    """Texts that are looked up by words in common (Robertson and Zaragoza 2009).

    score(q, d) = sum over words w of q of idf(w) f(w, d) (k1 + 1) / (f(w, d) + k1 (1 - b + b |d| / avg)), with
    idf(w) = ln(1 + (N - n(w) + 0.5) / (n(w) + 0.5)), which is never negative, k1 1.5 and b 0.75. Words are lower-cased
    and without punctuation; in scripts without spaces every character is one.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._lengths: list[int] = []
        self._places: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for place, text in enumerate(texts):
            counts = Counter(units(text))
            self._lengths.append(counts.total())
            for word, count in counts.items():
                self._places[word].append((place, count))
        self._mean = sum(self._lengths) / max(1, len(texts)) or 1.0

    def scores(self, text: str) -> dict[int, float]:
        """Return the scores of the texts that have a word of this one, by their places."""
        found: defaultdict[int, float] = defaultdict(float)
        for word, times in Counter(units(text)).items():
            places = self._places.get(word, ())
            weight = times * log(1 + (len(self._lengths) - len(places) + 0.5) / (len(places) + 0.5))
            for place, count in places:
                long = 1 - B + B * self._lengths[place] / self._mean
                found[place] += weight * count * (K1 + 1) / (count + K1 * long)
        return dict(found)


def profile(text: str) -> Profile:
    """Return what `chrf` compares: n-grams of 1 to 6 characters, white space left out."""
    kept = "".join(text.split())
    return tuple(
        (Counter(kept[at : at + n] for at in range(len(kept) - n + 1)), max(0, len(kept) - n + 1))
        for n in range(1, ORDER + 1)
    )


def chrf(one: Profile, other: Profile) -> float:
    """Return chrF (0 to 100) of a text against another: what sacreBLEU gives by its defaults.

    Args:
        one: of the text that is compared.
        other: of the text that it is compared with.
    """
    precision = recall = 0.0
    orders = 0
    for (mine, i), (theirs, j) in zip(one, other, strict=True):
        if i and j:
            common = sum(min(count, theirs.get(gram, 0)) for gram, count in mine.items())
            precision, recall, orders = precision + common / i, recall + common / j, orders + 1
    if not precision:  # as no n-gram is common
        return 0.0
    precision, recall = precision / orders, recall / orders
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
