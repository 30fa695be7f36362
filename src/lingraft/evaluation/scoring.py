"""From per-item statistics to scores, intervals and paired differences: the same for translation and for suites.

All systems of a set are resampled with the same draws. Where items belong together (`Items.clusters`), whole clusters
are drawn, and swapped in a randomisation test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from lingraft.core.errors import DataError
from lingraft.evaluation.row_facts import carried
from lingraft.evaluation.scorecard import Delta, Interval, TranslationScore
from lingraft.statistics.bootstrap import (
    difference_of_draws,
    percentile_interval,
    ratio_of_draws,
    resample_totals,
    score,
    wilson_interval,
)
from lingraft.statistics.items import Items
from lingraft.statistics.paired_tests import approximate_randomisation, exact_mcnemar, is_binary

BASE = "base"
Test = Literal["bootstrap", "randomisation"]


@dataclass(frozen=True)
class Resampling:
    """How intervals and p-values are made.

    Attributes:
        n: resamples, or trials of a randomisation test.
        seed: of both.
        test: of differences of corpus metrics; items that are right or wrong have McNemar's exact test either way.
    """

    n: int = 1000
    seed: int = 0
    test: Test = "bootstrap"


@dataclass(frozen=True)
class Scored:
    """One system's items with their score and its resampled values."""

    items: Items
    how: Resampling

    @cached_property
    def units(self) -> np.ndarray:
        """Statistics of what is resampled."""
        return self.items.units

    @cached_property
    def score(self) -> float:
        """The score of all items, in the unit in which it is shown."""
        return self.items.scale * score(self.units, self.items.aggregate)

    @cached_property
    def draws(self) -> np.ndarray:
        """The score of each resample, shape (n,)."""
        return self.items.scale * self.items.aggregate(resample_totals(self.units, self.how.n, self.how.seed))

    @cached_property
    def outcomes(self) -> np.ndarray | None:
        """1 or 0 for each item, where items are right or wrong and each stands for itself; else None."""
        of = self.items
        if of.aggregation not in ("mean", "percent") or of.clusters or not (of.statistics[:, 1] == 1).all():
            return None
        return of.statistics[:, 0] if is_binary(of.statistics[:, 0]) else None

    @property
    def ci95(self) -> Interval:
        """The 95 % interval of the score: Wilson's where items are right or wrong, else from the resamples."""
        return self.interval(95)

    def interval(self, level: int) -> Interval:
        """Return the two-sided interval of the score at a level in percent, made as `ci95` is."""
        if self.outcomes is None:
            return percentile_interval(self.draws, level)
        low, high = wilson_interval(float(self.outcomes.sum()), len(self.outcomes), level)
        unit = self.items.scale * (100.0 if self.items.aggregation == "percent" else 1.0)
        return unit * low, unit * high

    @property
    def signature(self) -> str:
        """What defines the score, and how its interval is made if not by resampling."""
        return self.items.signature + ("" if self.outcomes is None else "|ci:wilson")

    def minus(self, other: Scored) -> Delta:
        """Return the paired difference from another system on the same items, with its interval and p-value.

        Raises:
            DataError: the items are not the same.
        """
        if self.items.ids != other.items.ids:
            raise DataError(
                f"{self.items.where}, {self.items.metric}: {self.items.system!r} and {other.items.system!r} were not "
                f"scored on the same items; score both on the same set"
            )
        found = difference_of_draws(self.score - other.score, self.draws, other.draws)
        p, test = self._tested(other, found.p)
        ci90 = percentile_interval(self.draws - other.draws, 90)
        return Delta(value=found.value, ci95=found.ci95, ci90=ci90, p=p, test=test)

    def kept_of(self, base: Scored) -> tuple[float, np.ndarray] | None:
        """Return the share of the base's score that is kept, in percent, and its resampled values, shape (n,).

        None where the base has nothing to lose, see `lingraft.statistics.bootstrap.bootstrap_ratio`.
        """
        of = self.items
        chance, inverted = of.scale * of.chance, of.better == "lower"
        return ratio_of_draws((self.score, self.draws), (base.score, base.draws), chance=chance, invert=inverted)

    def _tested(self, other: Scored, bootstrapped: float) -> tuple[float, str]:
        clustered = ", whole clusters" if self.items.clusters else ""
        if self.outcomes is not None and other.outcomes is not None:
            return exact_mcnemar(self.outcomes, other.outcomes), "exact McNemar"
        if self.how.test == "randomisation":
            p = approximate_randomisation(self.units, other.units, self.items.aggregate, self.how.n, self.how.seed)
            return p, f"approximate randomisation{clustered}"
        return bootstrapped, f"paired bootstrap{clustered}"


def differences(own: Scored, all_systems: Mapping[str, Scored]) -> dict[str, Delta]:
    """Return the differences of a system from each other one, the base included; the base itself has none."""
    if own.items.system == BASE:
        return {}
    return {name: own.minus(other) for name, other in all_systems.items() if name != own.items.system}


def translation_rows(items: Sequence[Items], how: Resampling) -> list[TranslationScore]:
    """Return the scorecard rows of a run's translation items, in their order.

    `delta` is the paired difference against "base" where "base" was measured; `versus` holds it against each other
    system that is not "base".
    """
    scored = [Scored(one, how) for one in items]
    peers: dict[tuple[str, str, str], dict[str, Scored]] = {}
    for one in scored:
        key = (one.items.where, one.items.direction, one.items.metric)
        peers.setdefault(key, {})[one.items.system] = one
    rows = []
    for one in scored:
        of = one.items
        deltas = differences(one, peers[of.where, of.direction, of.metric])
        rows.append(
            TranslationScore(
                system=of.system,
                test_set=of.where,
                direction=of.direction,
                metric=of.metric,
                task=of.task,
                **carried(of.facts),
                signature=one.signature,
                n=len(of.ids),
                score=one.score,
                ci95=one.ci95,
                ci90=one.interval(90),
                delta=deltas.pop(BASE, None),
                versus=deltas,
            )
        )
    return rows
