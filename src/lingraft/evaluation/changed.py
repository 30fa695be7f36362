"""Items that changed, of suites whose items are right or wrong: right to wrong and wrong to right, net of chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.evaluation.scorecard import Changed, ChangedOverSeeds, Forgotten, GeneralScore, System
from lingraft.evaluation.scoring import BASE, Resampling, Scored
from lingraft.evaluation.trainings import trainings_of
from lingraft.statistics.changed import Flips, pooled_forgotten
from lingraft.statistics.items import Items
from lingraft.statistics.paired_tests import approximate_randomisation, by_cluster, is_binary

EXAMPLES = 5
"""Ids that a scorecard names of each kind."""


def changed_items(own: Scored, base: Scored | None) -> Changed | None:
    """Return how a system's items changed from the base's.

    None for the base itself, where the base did not answer the same items, where a metric has no better end, and where
    an item of one of the two is neither right nor wrong, or counts more than another.

    Args:
        own: the system's items of one metric.
        base: the base's.
    """
    of = own.items
    outcomes = _outcomes([own], base)
    if outcomes is None:
        return None
    before, (now,), chance = outcomes
    flips, how = Flips.of(before, now, chance), own.how
    found = pooled_forgotten(before, now[None], of.clusters, chance=chance, levels=(95, 90), n=how.n, seed=how.seed)
    forgotten = Forgotten(percent=found[0], ci95=found[1][0], ci90=found[1][1]) if found else None
    return Changed(
        base_right=flips.lost + flips.both_right,
        right_to_wrong=flips.lost,
        wrong_to_right=flips.gained,
        by_chance=flips.by_chance,
        forgotten=forgotten,
        learnt_percent=flips.learnt if forgotten else None,
        lost_ids=_first(of.ids, before > now),
        gained_ids=_first(of.ids, before < now),
    )


@dataclass(frozen=True)
class MeanChange:
    """Items of a suite that changed from the base's, over the trainings of one system: all but `p` are means.

    Attributes:
        suite: where.
        metric: of the suite.
        base_right: items.
        right_to_wrong: items.
        wrong_to_right: items.
        by_chance: items that guessing is expected to have flipped, each way.
        forgotten: in percent of what the base had right, net of chance; None where the base is not above chance.
        learnt_percent: likewise.
        p: of the difference in the number of right items.
        test: where `p` is from.
        trainings: how many.
    """

    suite: str
    metric: str
    base_right: int
    right_to_wrong: float
    wrong_to_right: float
    by_chance: float
    forgotten: Forgotten | None
    learnt_percent: float | None
    p: float
    test: str
    trainings: int = 1


def mean_change(owns: Sequence[Scored], base: Scored | None) -> MeanChange | None:
    """Return how the items of a system changed over its trainings; of one training what `changed_items` says.

    The interval is over items, each with the answers of all trainings, see `pooled_forgotten`. Of several trainings
    the test is an approximate randomisation that swaps whole items, or whole clusters.

    Args:
        owns: the items of one metric, of each training.
        base: the base's.

    Returns:
        None as for `changed_items`.
    """
    outcomes = _outcomes(owns, base)
    if outcomes is None or base is None:
        return None
    before, now, chance = outcomes
    of, how = owns[0].items, owns[0].how
    flips = [Flips.of(before, one, chance) for one in now]
    found = pooled_forgotten(before, now, of.clusters, chance=chance, levels=(95, 90), n=how.n, seed=how.seed)
    learnt = [one.learnt for one in flips if one.learnt is not None]
    if len(owns) == 1:
        delta = owns[0].minus(base)
        p, test = delta.p, delta.test
    else:
        sums = [np.stack([values, np.ones_like(values)], axis=1) for values in (now.sum(axis=0), len(now) * before)]
        own, other = (one if of.clusters is None else by_cluster(one, of.clusters) for one in sums)
        p = approximate_randomisation(own, other, of.aggregate, how.n, how.seed)
        test = f"approximate randomisation{', whole clusters' if of.clusters else ''}"
    return MeanChange(
        suite=of.where,
        metric=of.metric,
        base_right=int(before.sum()),
        right_to_wrong=float(np.mean([one.lost for one in flips])),
        wrong_to_right=float(np.mean([one.gained for one in flips])),
        by_chance=float(np.mean([one.by_chance for one in flips])),
        forgotten=Forgotten(percent=found[0], ci95=found[1][0], ci90=found[1][1]) if found else None,
        learnt_percent=sum(learnt) / len(learnt) if found and learnt else None,
        p=p,
        test=test,
        trainings=len(owns),
    )


def changed_over_seeds(systems: Sequence[System], items: Sequence[Items], how: Resampling) -> list[ChangedOverSeeds]:
    """Return how items changed over the trainings of each system that has several, in the order of `items`.

    Args:
        systems: of a run.
        items: of its suites.
        how: resamples and seed.
    """
    known: dict[tuple[str, str], dict[str, Items]] = {}
    for one in items:
        known.setdefault((one.where, one.metric), {})[one.system] = one
    found = []
    for by_system in known.values():
        for group in trainings_of(systems):
            owns = [Scored(by_system[one.name], how) for one in group if one.name in by_system]
            if len(owns) < 2 or BASE not in by_system:
                continue
            change = mean_change(owns, Scored(by_system[BASE], how))
            if change is not None:
                found.append(ChangedOverSeeds(system=group[0].name, **vars(change)))
    return found


def _outcomes(owns: Sequence[Scored], base: Scored | None) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Return what the base and each training has right, and the chance; None where items are not right or wrong."""
    of = owns[0].items
    if base is None or of.system == BASE or of.better is None or any(base.items.ids != own.items.ids for own in owns):
        return None
    before, now = _right(base), [right for own in owns if (right := _right(own)) is not None]
    chance = 0.0 if of.better == "lower" else of.chance
    if before is None or len(now) < len(owns) or not 0 <= chance < 1:
        return None
    return before, np.array(now), chance


def _right(scored: Scored) -> np.ndarray | None:
    """Return 1 where an item is right, else 0; None where one is neither."""
    of = scored.items
    values, weights = of.statistics[:, 0], of.statistics[:, -1]
    if of.aggregation not in ("mean", "percent") or not (weights == 1).all() or not is_binary(values):
        return None
    return 1.0 - values if of.better == "lower" else values


def _first(ids: tuple[str, ...], which: np.ndarray) -> list[str]:
    return [ids[position] for position in np.flatnonzero(which)[:EXAMPLES]]


def most_forgotten(rows: list[GeneralScore], system: str) -> GeneralScore | None:
    """Return the row of a system of which most was forgotten; None where none says. Diagnostics do not count."""
    found = [row for row in rows if row.system == system and row.changed and row.changed.forgotten]
    return max(
        (row for row in found if not row.diagnostic),
        key=lambda row: row.changed.forgotten.percent if row.changed and row.changed.forgotten else 0.0,
        default=None,
    )
