"""Tests of a paired difference beside the bootstrap, clusters of items, and the correction for many comparisons.

Sources: Riezler & Maxwell 2005, "On Some Pitfalls in Automatic Evaluation and Significance Testing for MT"
(approximate randomisation); McNemar 1947, "Note on the sampling error of the difference between correlated
proportions", in its exact form; Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure"; Miller 2024,
arXiv 2411.00640 (items that belong together).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lingraft.core.errors import DataError
from lingraft.statistics.bootstrap import Aggregate, Statistics, same_items, score

_CELLS = 4_000_000  # of one matrix product
_TIE = 1e-9
"""Differences that differ by less are equal: sums in another order differ in the last bits."""


def approximate_randomisation(
    statistics_a: Statistics, statistics_b: Statistics, aggregate: Aggregate, n: int = 1000, seed: int = 0
) -> float:
    """Return the two-sided p-value of score(a) - score(b) when each item may as well have come from the other system.

    In each of `n` trials every item changes sides with probability 1/2. p is (c + 1) / (n + 1), c trials having a
    difference at least as large as the observed one. The trials are those of `sacrebleu --paired-ar`, which counts
    only larger differences: its p is smaller where differences tie, and 1 / (n + 1) for two equal systems.

    Args:
        statistics_a: shape (items, k).
        statistics_b: the same items in the same order, shape (items, k).
        aggregate: (m, k) summed statistics -> (m,) scores.
        n: number of trials.
        seed: of the trials.

    Raises:
        DataError: the two do not have the same number of items, or none.
    """
    same_items(statistics_a, statistics_b)
    items = len(statistics_a)
    if items == 0:
        raise DataError("there is nothing to compare: no items were scored; check that the set is not empty")
    own, other = np.asarray(statistics_a, np.float64), np.asarray(statistics_b, np.float64)
    observed = abs(score(own, aggregate) - score(other, aggregate))
    stays = np.random.default_rng(seed).integers(2, size=(n, items), dtype=bool)
    rows = max(1, _CELLS // items)
    extreme = 0
    for start in range(0, n, rows):
        kept = stays[start : start + rows].astype(np.float64)
        moved = 1.0 - kept
        gaps = np.abs(aggregate(kept @ own + moved @ other) - aggregate(kept @ other + moved @ own))
        extreme += int(np.sum(gaps >= observed - _TIE * max(1.0, observed)))
    return (extreme + 1) / (n + 1)


def exact_mcnemar(values_a: Sequence[float] | np.ndarray, values_b: Sequence[float] | np.ndarray) -> float:
    """Return the two-sided exact p-value for two systems that are right (1) or wrong (0) on the same items.

    Of the items on which they differ, half should favour each: the binomial probability of a split at least as
    uneven as the observed one.

    Raises:
        DataError: the two do not have the same number of items, or a value is neither 0 nor 1.
    """
    own, other = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    same_items(own, other)
    if not (is_binary(own) and is_binary(other)):
        raise DataError("McNemar's test is for items that are right (1) or wrong (0); use the paired bootstrap")
    differ = int(np.sum(own != other))
    fewer = min(int(np.sum(own > other)), int(np.sum(own < other)))
    term = tail = 1
    for k in range(fewer):  # binomial coefficients in whole numbers: exact for any number of items
        term = term * (differ - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / 2**differ)


def is_binary(values: np.ndarray) -> bool:
    """Return whether every value is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of one family of comparisons, corrected by Holm's step-down method, in the same order.

    Rejecting where the corrected p is below 0.05 makes any false rejection in the family less likely than 5 %,
    however the comparisons depend on each other.
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def by_cluster(statistics: Statistics, clusters: Sequence[str]) -> np.ndarray:
    """Return the statistics summed over each cluster, shape (clusters, k), in order of first appearance.

    Resampling or swapping these rows instead of the items' keeps together what belongs together.

    Args:
        statistics: shape (items, k).
        clusters: name of each item's cluster.
    """
    same_items(statistics, np.asarray(clusters))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    out = np.zeros((len(numbers), *np.shape(statistics)[1:]))
    np.add.at(out, [numbers[name] for name in clusters], statistics)
    return out
