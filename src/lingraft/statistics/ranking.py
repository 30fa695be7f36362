"""Measures of a ranking: average precision, nDCG, reciprocal rank; and what guessing gives of each.

As trec_eval has them (`map`, `ndcg_cut`, `recip_rank`), for relevance of 0 or 1; documents of equal score are ordered
by their name from the last one on, as there.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence


def ranked(scores: Mapping[str, float]) -> list[str]:
    """Return the names of documents from the best on.

    Args:
        scores: by the document's name; NaN is worse than all others.
    """
    named = ((-math.inf if math.isnan(score) else score, name) for name, score in scores.items())
    return [name for _, name in sorted(named, reverse=True)]


def average_precision(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """Return the mean, over the relevant documents, of the precision at the rank of each; 0 for those not ranked."""
    found, total = 0, 0.0
    for rank, name in enumerate(ranking, 1):
        if name in relevant:
            found += 1
            total += found / rank
    return total / len(relevant)


def ndcg(ranking: Sequence[str], relevant: Collection[str], depth: int) -> float:
    """Return the discounted cumulative gain of the first `depth` documents over that of the best ranking."""
    gained = sum(1 / math.log2(rank + 1) for rank, name in enumerate(ranking[:depth], 1) if name in relevant)
    return gained / _ideal(len(relevant), depth)


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str], depth: int) -> float:
    """Return 1 / rank of the first relevant document among the first `depth`; 0 if there is none."""
    return next((1 / rank for rank, name in enumerate(ranking[:depth], 1) if name in relevant), 0.0)


def _ideal(relevant: int, depth: int) -> float:
    return sum(1 / math.log2(rank + 1) for rank in range(1, min(relevant, depth) + 1))


def chance_average_precision(documents: int, relevant: int) -> float:
    """Return the mean of average precision over all orders of the documents (Bestgen 2015, closed form).

    The relevant document at rank k has, beside itself, (k - 1)(R - 1)/(n - 1) relevant ones before it on average.
    """
    harmonic = sum(1 / rank for rank in range(1, documents + 1))
    others = (relevant - 1) / (documents - 1) if documents > 1 else 0.0
    return (harmonic + others * (documents - harmonic)) / documents


def chance_ndcg(documents: int, relevant: int, depth: int) -> float:
    """Return the mean of nDCG over all orders: each rank holds a relevant document with probability R/n."""
    reached = sum(1 / math.log2(rank + 1) for rank in range(1, min(documents, depth) + 1))
    return relevant / documents * reached / _ideal(relevant, depth)


def chance_reciprocal_rank(documents: int, relevant: int, depth: int) -> float:
    """Return the mean of the reciprocal rank over all orders: the first relevant document is at rank k with probability
    C(n - k, R - 1) / C(n, R)."""
    ways = math.comb(documents, relevant)
    last = min(depth, documents - relevant + 1)
    return sum(math.comb(documents - rank, relevant - 1) / ways / rank for rank in range(1, last + 1))
