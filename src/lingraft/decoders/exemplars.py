"""Pairs of one direction, from which those are chosen that are shown with a text to translate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from heapq import nsmallest
from random import Random
from typing import Literal

import numpy as np

from lingraft.core.hashing import seed_of, stable_fraction
from lingraft.data.records import Pair
from lingraft.decoders.similarity import Bm25, Profile, chrf, profile
from lingraft.language.measures import normalise

Retriever = Literal["random", "bm25", "chrf", "embedding"]

COMPARED = 300
"""Pairs that are compared with a text by chrF: of more those with the greatest BM25 are."""


KEPT = 1000
"""Pairs of which the n-grams are kept, some 60 kB for a sentence."""


class Pool:
    """Pairs of one direction.

    Args:
        pairs: all of the same direction.
        most: so many at most are kept, drawn by their ids; 0: all.
        seed: of that draw.
    """

    def __init__(self, pairs: Iterable[Pair], most: int, seed: int) -> None:
        if most:
            pairs = nsmallest(most, pairs, key=lambda pair: (stable_fraction("exemplar", seed, pair.id), pair.id))
        self.pairs: Sequence[Pair] = sorted(pairs, key=lambda pair: pair.id)
        self._own: tuple[np.ndarray, np.ndarray] | None = None

    @cached_property
    def _bm25(self) -> Bm25:
        return Bm25([pair.source for pair in self.pairs])

    @cached_property
    def _profiles(self) -> dict[int, Profile]:
        return {}

    def _likeness(self, place: int, text: Profile) -> float:
        """Return the chrF of a pair's source against a text."""
        if place not in self._profiles:
            if len(self._profiles) >= KEPT:
                self._profiles.clear()
            self._profiles[place] = profile(self.pairs[place].source)
        return chrf(self._profiles[place], text)

    def nearness(self, texts: Sequence[str], embed: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
        """Return how near each pair's source is to each text, (texts, pairs).

        It is the cosine of embeddings from which the mean of all pairs' was taken: what all texts share by the hidden
        states of a language model is most of them, and tells nothing (Mu and Viswanath 2018, arXiv 1702.01417).

        Args:
            texts: to translate.
            embed: gives texts their embeddings (n, dimension).
        """
        if not self.pairs or not texts:
            return np.zeros((len(texts), len(self.pairs)), np.float32)
        if self._own is None:
            found = embed([pair.source for pair in self.pairs])
            self._own = found.mean(0), _of_length_1(found - found.mean(0))
        mean, own = self._own
        return _of_length_1(embed(texts) - mean) @ own.T

    def chosen(
        self,
        text: str,
        k: int,
        retriever: Retriever,
        draw: Sequence[object],
        *,
        at_least: float,
        below: float,
        near: np.ndarray | None = None,
    ) -> list[Pair]:
        """Return up to k pairs for a text, the most similar first.

        A pair whose source is the text, or is as near to it as `below`, is none of them; neither is one with a side
        that an earlier one has.

        Args:
            text: to translate.
            k: pairs at most.
            retriever: chooses: `random`, `bm25` (sources with words in common, the rest by id), `chrf` or `embedding`.
            draw: on which the choice of `random` depends, beside the pairs.
            at_least: chrF of the sources from which a pair is shown.
            below: chrF of the sources from which a pair is too near.
            near: of `embedding`: how near each pair's source is, a row of `nearness`.
        """
        found: list[Pair] = []
        own, sides = _profile(text), {normalise(text)}
        ranked = self._ranked(text, own, retriever, draw) if near is None else np.argsort(-near, kind="stable").tolist()
        for place in ranked if k else ():
            pair = self.pairs[place]
            source, target = normalise(pair.source), normalise(pair.target)
            likeness = self._likeness(place, own)
            if at_least <= likeness < below and source not in sides and target not in sides:
                sides |= {source, target}
                found.append(pair)
                if len(found) == k:
                    break
        return found

    def _ranked(self, text: str, own: Profile, retriever: Retriever, draw: Sequence[object]) -> Iterable[int]:
        if retriever == "random":
            return _drawn(len(self.pairs), Random(seed_of([str(part) for part in draw])))
        places: Sequence[int] = range(len(self.pairs))
        if retriever == "bm25" or len(places) > COMPARED:
            scores = self._bm25.scores(text)
            places = sorted(places, key=lambda place: -scores.get(place, 0.0))
        if retriever == "bm25":
            return places
        return sorted(places[:COMPARED], key=lambda place: -self._likeness(place, own))


def _of_length_1(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


@lru_cache(maxsize=8)
def _profile(text: str) -> Profile:
    return profile(text)


def _drawn(count: int, random: Random) -> Iterator[int]:
    """Yield the numbers below `count` in drawn order; only those that are taken cost something."""
    moved: dict[int, int] = {}
    for left in range(count - 1, -1, -1):
        at = random.randint(0, left)
        yield moved.get(at, at)
        moved[at] = moved.get(left, left)
