"""Items that changed: those that one system has right and another wrong, and the other way round, net of chance.

An average hides both: losing ten items and learning ten others leaves the score where it was. Counting items, net of
what guessing flips, is from Harmon et al. 2025, arXiv 2510.17776, and so is the model of an answer: known, or guessed,
which is right with probability c (1 / k with k choices; 0 where answers are free). Of items that neither system knows,
guesses are right-wrong with c (1 - c), wrong-right as often, wrong-wrong with (1 - c)^2. With n00 items wrong in both,
guessing is thus expected to flip

    g = n00 c / (1 - c)        each way, and no more than min(n10, n01)

items. The bound is for two systems that guess alike, as a base and its adapter do: flips by guessing are as frequent
both ways, however the guesses depend on each other, so that the rarer kind of flip bounds them. Where (a n - c n) items
of n are the base's net of chance (a: its accuracy), as for retention,

    forgotten = 100 (n10 - g) / (a n - c n)        learnt = 100 (n01 - g) / (a n - c n)

percent, and retention = 100 - forgotten + learnt.

Several trainings of one system answer the same items, which are no further items: what they forgot is the mean over
trainings, and its interval draws items, each with the answers of all trainings (`pooled_forgotten`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.core.errors import DataError
from lingraft.statistics.bootstrap import Interval, percentile_interval, resample_totals, same_items
from lingraft.statistics.paired_tests import by_cluster, is_binary

_DRAWS = 10_000


@dataclass(frozen=True)
class Flips:
    """How often two systems are right and wrong on the same items; counts of items.

    Attributes:
        lost: n10, the base right and the system wrong.
        gained: n01, the other way round.
        both_wrong: n00.
        both_right: n11.
        chance: probability that a guess is right.
    """

    lost: int
    gained: int
    both_wrong: int
    both_right: int
    chance: float = 0.0

    @classmethod
    def of(cls, base: np.ndarray, system: np.ndarray, chance: float = 0.0) -> Flips:
        """Count items that are right (1) or wrong (0), shape (items,), for a base and a system.

        Raises:
            DataError: not the same items, a value that is neither 0 nor 1, or a chance outside [0, 1).
        """
        same_items(base, system)
        if not (is_binary(base) and is_binary(system)):
            raise DataError("items change from right to wrong only where every one is right (1) or wrong (0)")
        if not 0 <= chance < 1:
            raise DataError(f"a guess cannot be right with probability {chance:g}; give one from 0 to below 1")
        lost, gained, both_wrong, both_right = (int(n) for n in _cells(base, system).sum(axis=0))
        return cls(lost, gained, both_wrong, both_right, chance)

    @property
    def by_chance(self) -> float:
        """Items that guessing is expected to have flipped each way."""
        return float(_by_chance(self._counts, self.chance)[0])

    @property
    def forgotten(self) -> float | None:
        """Percent of what the base knew that the system has wrong, net of chance; None: the base knew nothing."""
        share = float(_forgotten(self._counts, self.chance)[0])
        return share if np.isfinite(share) else None

    @property
    def learnt(self) -> float | None:
        """Percent that the system has right and the base had not, net of chance, of what the base knew."""
        share = float(_forgotten(self._counts[:, [1, 0, 2, 3]], self.chance, self._counts)[0])
        return share if np.isfinite(share) else None

    def ends(self, levels: Sequence[int] = (95,), seed: int = 0) -> list[Interval] | None:
        """Return the intervals of `forgotten` at two-sided levels; None where it has none.

        Without chance they are the exact ones of Clopper & Pearson 1934 for `lost` of the items that the base had right
        (quantiles of Beta(lost, right - lost + 1) and of Beta(lost + 1, right - lost)): they have a width where nothing
        was lost, which resampling cannot have. With chance the same is done for the table of four counts: its shares
        are drawn from the two Dirichlet distributions that have these as margins, one item more lost in the one, kept
        in the other. There is none where the base is above chance in fewer than 39 of 40 draws.

        Args:
            levels: in percent; each end of that of 90 is a one-sided bound of 95 %.
            seed: of the draws.
        """
        if self.forgotten is None:
            return None
        if not self.chance:
            return [exact_interval(self.lost, self.lost + self.both_right, level) for level in levels]
        ends = []
        for lost, right in ((0, 1), (1, 0)):
            weights = self._counts[0] + np.array([lost, 0, 0, right])
            # Gamma draws divided by their sum would be Dirichlet's; the ratio does not change by it.
            shares = np.random.default_rng(seed).standard_gamma(weights, size=(_DRAWS, 4))
            found = _filled(_forgotten(shares, self.chance))
            if found is None:
                return None
            ends.append([percentile_interval(found, level) for level in levels])
        return [(below[0], above[1]) for below, above in zip(*ends, strict=True)]

    @property
    def _counts(self) -> np.ndarray:
        return np.array([[self.lost, self.gained, self.both_wrong, self.both_right]], np.float64)


def exact_interval(part: int, whole: int, level: int = 95) -> Interval:
    """Return the exact interval of a share in percent (Clopper & Pearson 1934).

    Args:
        part: items that count.
        whole: of all, at least one.
        level: two-sided, in percent.
    """
    tail = 0.5 - level / 200
    low = _share_with(part - 1, whole, 1 - tail) if part else 0.0
    high = _share_with(part, whole, tail) if part < whole else 1.0
    return 100 * low, 100 * high


def _share_with(most: int, n: int, probability: float) -> float:
    """Return the share for which at most `most` of `n` items count with the probability, by bisection."""
    k = np.arange(most + 1)
    ways = np.array([math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(most + 1)])
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        share = (low + high) / 2
        if np.exp(ways + k * math.log(share) + (n - k) * math.log1p(-share)).sum() > probability:
            low = share
        else:
            high = share
    return (low + high) / 2


def clustered_ends(
    base: np.ndarray,
    system: np.ndarray,
    clusters: Sequence[str],
    *,
    chance: float = 0.0,
    levels: Sequence[int] = (95,),
    n: int = 1000,
    seed: int = 0,
) -> list[Interval] | None:
    """Return the intervals of `Flips.forgotten` where items belong together: whole clusters are resampled.

    They are never narrower than those of `Flips.ends`, since resampling has no width where nothing was lost.

    Args:
        base: 1 or 0 for each item, shape (items,).
        system: of the same items.
        clusters: name of each item's cluster.
        chance: probability that a guess is right.
        levels: two-sided, in percent.
        n: resamples.
        seed: of these.
    """
    apart = Flips.of(base, system, chance).ends(levels, seed)
    found = _filled(_forgotten(resample_totals(by_cluster(_cells(base, system), clusters), n, seed), chance))
    if apart is None or found is None:
        return None
    together = [percentile_interval(found, level) for level in levels]
    return [(min(one[0], other[0]), max(one[1], other[1])) for one, other in zip(apart, together, strict=True)]


def pooled_forgotten(
    base: np.ndarray,
    systems: np.ndarray,
    clusters: Sequence[str] | None = None,
    *,
    chance: float = 0.0,
    levels: Sequence[int] = (95,),
    n: int = 1000,
    seed: int = 0,
) -> tuple[float, list[Interval]] | None:
    """Return what several trainings of a system forgot, in percent, with its intervals: the mean over trainings.

    Of one training, value and ends are those of `Flips.ends` and `clustered_ends`. Of several, items are drawn with
    what all trainings answered: their weights from the two Dirichlet distributions that have one more item, forgotten
    by all trainings in the one and kept by all in the other, as in `Flips.ends`, so that ends have a width where
    nothing was lost. Where items belong together, clusters are resampled as well, and the wider of both ends counts.
    What another training would give is not in the interval.

    Args:
        base: 1 or 0 for each item, shape (items,).
        systems: of the same items, shape (trainings, items).
        clusters: name of each item's cluster; None: each stands for itself.
        chance: probability that a guess is right.
        levels: two-sided, in percent.
        n: resamples of clusters.
        seed: of all draws.

    Returns:
        None where the base is not above chance, or not in 39 of 40 draws.
    """
    values = [Flips.of(base, system, chance).forgotten for system in systems]
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return None
    if len(systems) == 1:
        alone = (
            Flips.of(base, systems[0], chance).ends(levels, seed)
            if clusters is None
            else clustered_ends(base, systems[0], clusters, chance=chance, levels=levels, n=n, seed=seed)
        )
        return None if alone is None else (known[0], alone)
    drawn = _pooled_draws(base, systems, chance, seed)
    if drawn is None:
        return None
    below, above = drawn
    found = [(percentile_interval(below, level)[0], percentile_interval(above, level)[1]) for level in levels]
    if clusters is not None:
        cells = np.concatenate([_cells(base, system) for system in systems], axis=1)
        together = _mean_forgotten(resample_totals(by_cluster(cells, clusters), n, seed), chance)
        if together is None:
            return None
        wider = [percentile_interval(together, level) for level in levels]
        found = [(min(one[0], other[0]), max(one[1], other[1])) for one, other in zip(found, wider, strict=True)]
    return sum(known) / len(known), found


def _pooled_draws(
    base: np.ndarray, systems: np.ndarray, chance: float, seed: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Return draws of the mean with one more item kept by all trainings, and with one more forgotten by all.

    Items with the same outcomes are drawn together: a sum of exponential weights is a gamma variable.
    """
    patterns, counts = np.unique(np.vstack([base, systems]), axis=1, return_counts=True)
    cells = np.concatenate([_cells(patterns[0], system) for system in patterns[1:]], axis=1)
    draws = []
    for now in (1.0, 0.0):
        added = np.concatenate([_cells(np.ones(1), np.full(1, now))] * len(systems), axis=1)
        shape = np.concatenate([counts, [1]]).astype(np.float64)
        weights = np.random.default_rng(seed).standard_gamma(shape, size=(_DRAWS, len(shape)))
        found = _mean_forgotten(weights @ np.concatenate([cells, added]), chance)
        if found is None:
            return None
        draws.append(found)
    return draws[0], draws[1]


def _mean_forgotten(counts: np.ndarray, chance: float) -> np.ndarray | None:
    """Return the mean over trainings of what was forgotten, from (m, 4 x trainings) counts; None as `_filled`."""
    parts = [_filled(_forgotten(part, chance)) for part in np.split(counts, counts.shape[1] // 4, axis=1)]
    known = [part for part in parts if part is not None]
    return None if len(known) < len(parts) else np.mean(known, axis=0)


def _filled(draws: np.ndarray) -> np.ndarray | None:
    """Return draws with everything forgotten where the base knew nothing; None where that is more than 1 in 40."""
    undefined = np.isnan(draws)
    return None if np.count_nonzero(undefined) > len(draws) // 40 else np.where(undefined, 100.0, draws)


def _cells(base: np.ndarray, system: np.ndarray) -> np.ndarray:
    """Return indicators of n10, n01, n00 and n11, shape (items, 4)."""
    kinds = [(1, 0), (0, 1), (0, 0), (1, 1)]
    return np.stack([(base == was) & (system == now) for was, now in kinds], axis=1).astype(np.float64)


def _by_chance(counts: np.ndarray, chance: float) -> np.ndarray:
    bound = np.minimum(counts[:, 0], counts[:, 1])
    return np.minimum(counts[:, 2] * chance / (1 - chance), bound)


def _forgotten(counts: np.ndarray, chance: float, of: np.ndarray | None = None) -> np.ndarray:
    """Return the percent of (m, 4) counts, shape (m,), at most 100; nan where the base is not above chance.

    Args:
        counts: n10, n01, n00, n11; for what was learnt, the first two the other way round.
        chance: probability that a guess is right.
        of: those by which the base is judged, where they are others.
    """
    base = counts if of is None else of
    known = base[:, 0] + base[:, 3] - chance * base.sum(axis=1)
    share = np.divide(
        counts[:, 0] - _by_chance(counts, chance), known, out=np.full(len(counts), np.nan), where=known > 0
    )
    return 100.0 * (share if of is not None else np.minimum(share, 1.0))
