"""Bootstrap intervals and paired tests from per-item sufficient statistics.

Statistics are arrays of shape (items, k) that add up over items; an aggregate turns summed statistics of shape (m, k)
into m scores. Resampling items is then a matrix product of resample counts and statistics, exact for corpus metrics
such as BLEU, which are not means of sentence scores.

Every function draws the same resamples for the same number of items and the same seed, so that systems scored apart
are still paired. The draws are those of sacreBLEU (`numpy.random.default_rng(seed).choice`).

Sources: Koehn 2004, "Statistical Significance Tests for Machine Translation Evaluation"; Post 2018 (sacreBLEU);
Efron & Tibshirani 1993, "An Introduction to the Bootstrap" (percentile interval, shift method).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from lingraft.core.errors import DataError

Statistics = np.ndarray
Aggregate = Callable[[np.ndarray], np.ndarray]
Interval = tuple[float, float]

_CELLS = 4_000_000  # resample indices held at once


@dataclass(frozen=True)
class PairedDifference:
    """A paired difference a - b, its 95 % interval and the two-sided p-value."""

    value: float
    ci95: Interval
    p: float


@dataclass(frozen=True)
class Ratio:
    """A ratio in percent and its 95 % interval."""

    percent: float
    ci95: Interval


def resample_totals(statistics: Statistics, n: int, seed: int) -> np.ndarray:
    """Return the summed statistics of `n` resamples of the items, with replacement: shape (n, k), float64.

    Args:
        statistics: shape (items, k).
        n: number of resamples.
        seed: the same seed and number of items give the same resamples.

    Raises:
        DataError: no items.
    """
    items = len(statistics)
    if items == 0:
        raise DataError("there is nothing to resample: no items were scored; check that the set is not empty")
    values = np.asarray(statistics, dtype=np.float64)
    generator = np.random.default_rng(seed)
    rows = max(1, _CELLS // items)
    parts = []
    for start in range(0, n, rows):
        size = min(rows, n - start)
        drawn = generator.choice(items, size=(size, items), replace=True)
        flat = (drawn + np.arange(size)[:, None] * items).ravel()
        counts = np.bincount(flat, minlength=size * items).reshape(size, items)
        parts.append(counts.astype(np.float64) @ values)
    return np.concatenate(parts)


def percentile_interval(draws: np.ndarray, level: int = 95) -> Interval:
    """Return the percentile interval of resampled scores, taking order statistics as sacreBLEU does.

    Args:
        draws: the resampled scores, shape (n,).
        level: two-sided, in percent; each end of that of 90 is a one-sided bound of 95 %.
    """
    ordered = np.sort(draws)
    tail = len(ordered) * (100 - level) // 200
    return float(ordered[tail]), float(ordered[len(ordered) - tail - 1])


def wilson_interval(right: float, n: int, level: int = 95) -> Interval:
    """Return Wilson's score interval of the share `right / n` (Wilson 1927), as a share.

    Unlike resampling, it has a width where all items are right, or none.

    Args:
        right: items that are.
        n: of all.
        level: two-sided, in percent.
    """
    z2 = NormalDist().inv_cdf(0.5 + level / 200) ** 2
    p = right / n
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def score(statistics: Statistics, aggregate: Aggregate) -> float:
    """Return the score of all items together."""
    return float(aggregate(np.asarray(statistics, dtype=np.float64).sum(axis=0, keepdims=True))[0])


def bootstrap(statistics: Statistics, aggregate: Aggregate, n: int = 1000, seed: int = 0) -> Interval:
    """Return the 95 % bootstrap interval of a score.

    Args:
        statistics: shape (items, k).
        aggregate: (m, k) summed statistics -> (m,) scores.
        n: number of resamples.
        seed: of the resamples.
    """
    return percentile_interval(aggregate(resample_totals(statistics, n, seed)))


def paired_bootstrap(
    statistics_a: Statistics, statistics_b: Statistics, aggregate: Aggregate, n: int = 1000, seed: int = 0
) -> PairedDifference:
    """Return the difference score(a) - score(b) on the same items, as `difference_of_draws` does.

    Args:
        statistics_a: shape (items, k).
        statistics_b: the same items in the same order, shape (items, k).
        aggregate: (m, k) summed statistics -> (m,) scores.
        n: number of resamples.
        seed: of the resamples.

    Raises:
        DataError: the two do not have the same number of items.
    """
    same_items(statistics_a, statistics_b)
    return difference_of_draws(
        score(statistics_a, aggregate) - score(statistics_b, aggregate),
        aggregate(resample_totals(statistics_a, n, seed)),
        aggregate(resample_totals(statistics_b, n, seed)),
    )


def difference_of_draws(value: float, draws_a: np.ndarray, draws_b: np.ndarray) -> PairedDifference:
    """Return the difference with its interval and p-value from resampled scores of both systems.

    The p-value is two-sided, by the shift method: the share of resampled differences that lie at least as far from
    their own mean as the observed difference lies from zero, as (count + 1) / (n + 1). It departs from
    `sacrebleu --paired-bs`, which centres the absolute differences and so reports about half of it (a one-sided
    value) when one system is clearly better, and never much above 0.5 when the systems are alike.

    Args:
        value: the observed difference a - b.
        draws_a: scores of system a on n resamples, shape (n,).
        draws_b: scores of system b on the same resamples, shape (n,).
    """
    draws = draws_a - draws_b
    extreme = int(np.sum(np.abs(draws - draws.mean()) >= abs(value)))
    return PairedDifference(value, percentile_interval(draws), (extreme + 1) / (len(draws) + 1))


def weighted_mean(totals: np.ndarray) -> np.ndarray:
    """Aggregate of statistics [weight x value, weight]: their weighted mean (0 where the weights sum to 0)."""
    weights = totals[:, 1]
    return np.divide(totals[:, 0], weights, out=np.zeros(len(totals)), where=weights != 0)


def bootstrap_ratio(
    system: Statistics,
    base: Statistics,
    *,
    chance: float = 0.0,
    invert: bool = False,
    n: int = 1000,
    seed: int = 0,
) -> Ratio | None:
    """Return 100 x (mean(system) - chance) / (mean(base) - chance) with its interval, items resampled jointly.

    Args:
        system: shape (items, 2): [weight x value, weight].
        base: the same items in the same order, shape (items, 2).
        chance: score of guessing, in the unit of the values.
        invert: for error-like values: 100 x mean(base) / mean(system); `chance` is then not used.
        n: number of resamples.
        seed: of the resamples.

    Returns:
        None where the ratio says nothing: the base's mean is not above chance (for errors: zero), or the denominator
        is not in more than one resample of 40, so that the interval would have no upper end.

    Raises:
        DataError: the two do not have the same number of items.
    """
    same_items(system, base)
    drawn = ratio_of_draws(
        (score(system, weighted_mean), weighted_mean(resample_totals(system, n, seed))),
        (score(base, weighted_mean), weighted_mean(resample_totals(base, n, seed))),
        chance=chance,
        invert=invert,
    )
    return None if drawn is None else Ratio(drawn[0], percentile_interval(drawn[1]))


def ratio_of_draws(
    system: tuple[float, np.ndarray], base: tuple[float, np.ndarray], *, chance: float, invert: bool
) -> tuple[float, np.ndarray] | None:
    """Return the ratio of `bootstrap_ratio` in percent and its resampled values, shape (n,); None where it has none.

    A resample without a denominator counts as larger than any other (infinity); so few are allowed that they do not
    reach the upper end of the interval.

    Args:
        system: its score, and its scores on n resamples, shape (n,).
        base: the base's score, and its scores on the same resamples, shape (n,).
        chance: score of guessing, in the unit of the scores.
        invert: for error-like scores: the base's above the system's; `chance` is then not used.
    """
    chance = 0.0 if invert else chance
    above, below = (base, system) if invert else (system, base)
    top, bottom = above[0] - chance, below[0] - chance
    if bottom <= 0 or (invert and top <= 0):
        return None
    tops, bottoms = above[1] - chance, below[1] - chance
    undefined = bottoms <= 0
    if int(undefined.sum()) > len(bottoms) // 40:
        return None
    return 100 * top / bottom, 100 * np.divide(tops, bottoms, out=np.full(len(bottoms), np.inf), where=~undefined)


def same_items(one: Statistics, other: Statistics) -> None:
    """Raise DataError if two systems were not scored on the same number of items."""
    if len(one) != len(other):
        raise DataError(
            f"a paired comparison needs the same items on both sides, but there are {len(one)} and {len(other)}; "
            f"score both systems on the same set"
        )
