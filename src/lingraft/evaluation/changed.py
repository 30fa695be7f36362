"""Items that changed, of suites whose items are right or wrong: right to wrong and wrong to right, net of chance."""

from __future__ import annotations

import numpy as np

from lingraft.evaluation.scorecard import Changed, Forgotten, GeneralScore
from lingraft.evaluation.scoring import BASE, Scored
from lingraft.statistics.changed import Flips, clustered_ends
from lingraft.statistics.paired_tests import is_binary

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
    if base is None or of.system == BASE or of.better is None or base.items.ids != of.ids:
        return None
    before, now = _right(base), _right(own)
    if before is None or now is None:
        return None
    chance = 0.0 if of.better == "lower" else of.chance
    if not 0 <= chance < 1:
        return None
    flips = Flips.of(before, now, chance)
    forgotten = None
    if flips.forgotten is not None:
        clusters, how, levels = of.clusters, own.how, (95, 90)
        if clusters is None:
            ends = flips.ends(levels, how.seed)
        else:
            ends = clustered_ends(before, now, clusters, chance=chance, levels=levels, n=how.n, seed=how.seed)
        if ends is not None:
            forgotten = Forgotten(percent=flips.forgotten, ci95=ends[0], ci90=ends[1])
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
