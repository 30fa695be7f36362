"""What filled sheets say: win rates with intervals, and how far the raters agree.

Sources: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability" (nominal and ordinal); Cohen 1960, "A
Coefficient of Agreement for Nominal Scales".
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lingraft.core.errors import DataError
from lingraft.evaluation.sheet import Filled, Key
from lingraft.statistics.bootstrap import Interval, bootstrap, score, weighted_mean


@dataclass(frozen=True)
class Share:
    """A share in percent with its 95 % interval: items resampled, each with all of its ratings."""

    percent: float
    ci95: Interval


@dataclass(frozen=True)
class RatedPair:
    """One pair of systems.

    Attributes:
        win: share of `system`'s wins, ties counted half.
        wins: share of the items on which `system` wins.
        ties: share of the items on which neither does.
        losses: share of the items on which `against` wins.
        rated: items with at least one rating.
        same: items on which both wrote the same, which count as ties.
    """

    system: str
    against: str
    win: Share
    wins: Share
    ties: Share
    losses: Share
    rated: int
    same: int


@dataclass(frozen=True)
class RaterAgreement:
    """How far raters agree beyond chance; 1 is perfect, 0 is chance, None where it is not defined.

    `alpha_nominal` is over three outcomes (A wins, tie, B wins), `alpha_ordinal` over the five-point scale, `kappa` for
    two raters over three outcomes. `items`: rated by two or more.
    """

    items: int
    alpha_nominal: float | None
    alpha_ordinal: float | None
    kappa: float | None


@dataclass(frozen=True)
class Findings:
    """Everything that an import says. `raters`: name -> items rated."""

    sheet: str
    comparisons: Sequence[RatedPair]
    agreement: RaterAgreement
    raters: Mapping[str, int]
    items: int
    seed: int
    resamples: int

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready dict."""
        return asdict(self)


def findings(key: Key, filled: Sequence[Filled], *, n: int = 1000, seed: int = 0) -> Findings:
    """Put the ratings of all raters together.

    An item's outcome is the mean over its raters, so that an item rated often weighs no more than another.

    Args:
        key: of the sheet: which side is which system.
        filled: sheets of different raters; at least one.
        n: bootstrap resamples.
        seed: of the resamples.

    Raises:
        DataError: no sheet, or two by the same rater.
    """
    if not filled:
        raise DataError("no filled sheet was given; name at least one file")
    files: dict[str, str] = {}
    for one in filled:
        if one.rater in files:
            raise DataError(
                f"{files[one.rater]} and {one.file} are both by the rater {one.rater!r}; give each rater a name of "
                f"their own, in a column `rater` or as the file's name"
            )
        files[one.rater] = one.file
    ratings = {item: [one.ratings[item] for one in filled if item in one.ratings] for item in key.sides}
    comparisons = []
    for other, system in itertools.combinations(key.systems, 2):
        outcomes = [
            np.array([_outcome(value, left == system) for value in ratings[item]], dtype=float)
            for item, (left, right) in key.sides.items()
            if {left, right} == {system, other} and ratings[item]
        ]
        same = key.same.get((other, system), 0)
        if outcomes:
            comparisons.append(_comparison(system, other, outcomes, same, n, seed))
    units = [values for values in ratings.values() if len(values) > 1]
    return Findings(
        key.sheet,
        comparisons,
        RaterAgreement(
            len(units),
            krippendorff_alpha([[np.sign(value) for value in unit] for unit in units], "nominal"),
            krippendorff_alpha(units, "ordinal"),
            _kappa_of(filled),
        ),
        {one.rater: len(one.ratings) for one in filled},
        len(key.sides),
        seed,
        n,
    )


def krippendorff_alpha(units: Sequence[Sequence[float]], level: Literal["nominal", "ordinal"]) -> float | None:
    """Return Krippendorff's alpha.

    Args:
        units: the values that each item was given, by any number of raters; those of one alone count for nothing.
        level: of measurement.

    Returns:
        None where no two values can be compared, or all values are the same.
    """
    pairable = [list(unit) for unit in units if len(unit) > 1]
    values = sorted({value for unit in pairable for value in unit})
    place = {value: index for index, value in enumerate(values)}
    coincidences = np.zeros((len(values), len(values)))
    for unit in pairable:
        for one, other in itertools.permutations(unit, 2):
            coincidences[place[one], place[other]] += 1 / (len(unit) - 1)
    totals = coincidences.sum(axis=1)
    if len(values) < 2:
        return None
    if level == "nominal":
        distance = 1.0 - np.eye(len(values))
    else:
        upto = np.cumsum(totals) - totals / 2
        distance = (upto[:, None] - upto[None, :]) ** 2
    expected = (np.outer(totals, totals) - np.diag(totals)) / (totals.sum() - 1)
    return float(1 - (coincidences * distance).sum() / (expected * distance).sum())


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float | None:
    """Return Cohen's kappa of two raters on the same items; None without items, or where chance alone agrees always."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} ratings against {len(other)}")
    if not one:
        return None
    observed = sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
    chance = sum(list(one).count(value) * list(other).count(value) for value in set(one)) / len(one) ** 2
    return None if chance == 1 else (observed - chance) / (1 - chance)


def _outcome(value: int, left: bool) -> tuple[float, float, float]:
    """Return (win, tie, loss) of the system on the given side."""
    for_left = -value
    wins = for_left if left else -for_left
    return float(wins > 0), float(wins == 0), float(wins < 0)


def _comparison(system: str, other: str, outcomes: Sequence[np.ndarray], same: int, n: int, seed: int) -> RatedPair:
    """Return the shares over items, `outcomes` holding (ratings, 3) for each rated one."""
    means = np.array([one.mean(axis=0) for one in outcomes] + [np.array([0.0, 1.0, 0.0])] * same)

    def share(values: np.ndarray) -> Share:
        statistics = np.stack([100 * values, np.ones(len(values))], axis=1)
        return Share(score(statistics, weighted_mean), bootstrap(statistics, weighted_mean, n, seed))

    wins, ties, losses = means.T
    shares = share(wins + ties / 2), share(wins), share(ties), share(losses)
    return RatedPair(system, other, *shares, rated=len(outcomes), same=same)


def _kappa_of(filled: Sequence[Filled]) -> float | None:
    if len(filled) != 2:
        return None
    one, other = (rater.ratings for rater in filled)
    both = [item for item in one if item in other]
    return cohen_kappa([int(np.sign(one[item])) for item in both], [int(np.sign(other[item])) for item in both])
