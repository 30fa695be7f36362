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

from lingraft.errors import DataError
from lingraft.evaluation.items import Items
from lingraft.evaluation.paired_tests import approximate_randomisation, exact_mcnemar, is_binary
from lingraft.evaluation.scorecard import Delta, Interval, TranslationScore
from lingraft.evaluation.significance import (
    difference_of_draws,
    percentile_interval,
    ratio_of_draws,
    resample_totals,
    score,
)

BASE = "base"
Test = Literal["bootstrap", "randomisation"]


@dataclass(frozen=True)
class Resampling:
    """How intervals and p-values are made.

    Attributes:
        n: resamples, or trials of a randomisation test. seed: of both.
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

    @property
    def ci95(self) -> Interval:
        """The 95 % interval of the score."""
        return percentile_interval(self.draws)

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
        return Delta(value=found.value, ci95=found.ci95, p=p, test=test)

    def kept_of(self, base: Scored) -> tuple[float, np.ndarray] | None:
        """Return the share of the base's score that is kept, in percent, and its resampled values, shape (n,).

        None where the base has nothing to lose, see `lingraft.evaluation.significance.bootstrap_ratio`.
        """
        of = self.items
        chance, inverted = of.scale * of.chance, of.better == "lower"
        return ratio_of_draws((self.score, self.draws), (base.score, base.draws), chance=chance, invert=inverted)

    def _tested(self, other: Scored, bootstrapped: float) -> tuple[float, str]:
        own, theirs = self.items.statistics, other.items.statistics
        clustered = ", whole clusters" if self.items.clusters else ""
        if self.items.aggregation == "mean":
            plain = bool((own[:, 1] == 1).all() and (theirs[:, 1] == 1).all())
            right = max(own[:, 0].max(), theirs[:, 0].max()) or 1.0  # 1, or 100 where shares are kept in percent
            first, second = own[:, 0] / right, theirs[:, 0] / right
            if plain and not clustered and is_binary(first) and is_binary(second):
                return exact_mcnemar(first, second), "exact McNemar"
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
                better=of.better,
                signature=of.signature,
                n=len(of.ids),
                score=one.score,
                ci95=one.ci95,
                delta=deltas.pop(BASE, None),
                versus=deltas,
            )
        )
    return rows
