"""What was kept: suite values -> scorecard rows.

Retention is the score kept in percent of the base's: 100 x (score - chance) / (base - chance), or 100 x base / score
for error-like metrics. Its interval resamples the items of both systems jointly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lingraft.core.errors import DataError
from lingraft.evaluation.changed import changed_items
from lingraft.evaluation.row_facts import carried
from lingraft.evaluation.scorecard import GeneralScore, Retention
from lingraft.evaluation.scoring import BASE, Resampling, Scored, differences
from lingraft.statistics.bootstrap import percentile_interval
from lingraft.statistics.items import Items, usable_clusters
from lingraft.suites.base import ItemScores


def general_scores(
    system: str,
    suite: str,
    scores: Sequence[ItemScores],
    base_scores: Sequence[ItemScores],
    *,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> list[GeneralScore]:
    """Return the scorecard rows of one suite's values of one system: `suite_rows` of its items and the base's.

    Args:
        system: name of the system, "base" for the base itself.
        suite: name of the suite.
        scores: what the suite's `score` returned for the system.
        base_scores: the same for the base.
        seed: of the resamples.
        n_bootstrap: how many.
    """
    own = [suite_items(system, suite, item) for item in scores]
    base = [suite_items(BASE, suite, item) for item in base_scores] if system != BASE else []
    return [row for row in suite_rows([*base, *own], Resampling(n_bootstrap, seed)) if row.system == system]


def suite_rows(items: Sequence[Items], how: Resampling) -> list[GeneralScore]:
    """Return the scorecard rows of a run's suite items, in their order.

    `retention` is absent for diagnostics (`retains` False) and where the base has nothing to lose: its score is not
    above chance in at least 39 of 40 resamples; the signature then says `retention:none`. `delta` is the paired
    difference from the base and `versus` that from each other system, where they were scored on the same items.

    Raises:
        DataError: a metric that is retained, whose items differ between the system and the base.
    """
    scored = [Scored(one, how) for one in items]
    peers: dict[tuple[str, str], dict[str, Scored]] = {}
    for one in scored:
        peers.setdefault((one.items.where, one.items.metric), {})[one.items.system] = one
    return [_row(one, peers[one.items.where, one.items.metric], how) for one in scored]


def _row(own: Scored, peers: Mapping[str, Scored], how: Resampling) -> GeneralScore:
    of = own.items
    signature = [own.signature, f"bs:{how.n}", f"seed:{how.seed}"]
    if of.chance:
        signature.append(f"chance:{of.scale * of.chance:g}")
    retention = None
    if of.retains:
        drawn = kept_share(own, peers.get(BASE))
        if drawn is not None:
            ci95, ci90 = percentile_interval(drawn[1]), percentile_interval(drawn[1], 90)
            retention = Retention(percent=drawn[0], ci95=ci95, ci90=ci90)
        kind = "none" if drawn is None else "inverted" if of.better == "lower" else "ratio"
        signature.append(f"retention:{kind}")
    comparable = {name: other for name, other in peers.items() if other.items.ids == of.ids}
    deltas = differences(own, comparable)
    return GeneralScore(
        system=of.system,
        suite=of.where,
        metric=of.metric,
        **carried(of.facts),
        n=len(of.ids),
        score=own.score,
        ci95=own.ci95,
        ci90=own.interval(90),
        retention=retention,
        changed=changed_items(own, comparable.get(BASE)),
        signature="|".join(part for part in signature if part),
        delta=deltas.pop(BASE, None),
        versus=deltas,
    )


def kept_share(own: Scored, base: Scored | None) -> tuple[float, np.ndarray] | None:
    """Return the share of the base's score that is kept, in percent, and its resampled values, shape (n,).

    None where the base has nothing to lose.

    Raises:
        DataError: the base was not scored on the same items.
    """
    of = own.items
    if base is None or base.items.ids != of.ids:
        raise DataError(
            f"suite {of.where!r}, metric {of.metric!r}, system {of.system!r}: the base was not scored on the same "
            f"items; run the suite for both"
        )
    return own.kept_of(base)


def suite_items(system: str, suite: str, scores: ItemScores, content: str = "") -> Items:
    """Return a suite's values as statistics [weight x value, weight], in the order of the sorted ids.

    Args:
        system: name of the system.
        suite: name of the suite.
        scores: one metric of the suite.
        content: hash of what was asked; "" where it is not known.

    Raises:
        DataError: no items, or an item without a weight or a cluster.
    """
    place = f"suite {suite!r}, metric {scores.metric!r}, system {system!r}"
    if not scores.values:
        raise DataError(f"{place}: no items were scored; give the suite at least one prompt")
    ids = tuple(sorted(scores.values))
    weights = scores.weights or dict.fromkeys(ids, 1.0)
    for name, known in (("weight", weights), ("cluster", scores.clusters)):
        missing = [] if known is None else [id_ for id_ in ids if id_ not in known]
        if missing:
            raise DataError(f"{place}: item {missing[0]!r} has a value but no {name}; give every item one")
    clusters = usable_clusters([scores.clusters[id_] for id_ in ids]) if scores.clusters else None
    return Items(
        system,
        suite,
        "",
        scores.metric,
        ids,
        np.array([(weights[id_] * scores.values[id_], weights[id_]) for id_ in ids]),
        facts=scores.facts,
        scale=scores.scale,
        chance=scores.chance,
        clusters=clusters,
        signature="|".join(part for part in (scores.signature, "unit:cluster" if clusters else "") if part),
        content=content,
    )
