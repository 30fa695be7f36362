"""What a reader looks at first: one summary row a system, and the spread between training seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.core.errors import DataError
from lingraft.core.tasks import TASKS
from lingraft.evaluation.row_facts import carried
from lingraft.evaluation.scorecard import (
    Delta,
    Gain,
    GeneralScore,
    Interval,
    SeedSpread,
    SummaryRow,
    System,
    TranslationAverage,
    TranslationScore,
)
from lingraft.evaluation.scoring import BASE, Resampling, Scored
from lingraft.statistics.bootstrap import percentile_interval
from lingraft.statistics.items import Items
from lingraft.statistics.metric_facts import MetricFacts


def mean_of_deltas(deltas: Sequence[Delta]) -> Delta:
    """Return the mean of paired differences measured on different test sets, with its interval.

    The sets are taken as independent: the lower and the upper half-widths each add in squares, so that one set keeps
    its own interval. Sets that share segments (both directions of one file) are positively correlated; their
    interval is then somewhat too narrow. `p` is the one of a single set, else from the normal approximation.

    Raises:
        DataError: no differences.
    """
    if not deltas:
        raise DataError("there is no difference to average; score at least one test set")
    if len(deltas) == 1:
        return deltas[0]
    count = len(deltas)
    value = sum(delta.value for delta in deltas) / count
    below = math.hypot(*(delta.value - delta.ci95[0] for delta in deltas)) / count
    above = math.hypot(*(delta.ci95[1] - delta.value for delta in deltas)) / count
    error = (below + above) / (2 * 1.959964)
    p = math.erfc(abs(value) / error / math.sqrt(2)) if error else float(value == 0)
    ci95, ci90 = (value - below, value + above), _mean_ends(value, [(delta.value, delta.ci90) for delta in deltas])
    return Delta(value=value, ci95=ci95, ci90=ci90, p=p, test="normal approximation")


def _mean_ends(value: float, parts: Sequence[tuple[float, Interval | None]]) -> Interval | None:
    ends = [(middle, ends) for middle, ends in parts if ends is not None]
    if len(ends) < len(parts):
        return None
    below = math.hypot(*(middle - low for middle, (low, _) in ends)) / len(ends)
    above = math.hypot(*(high - middle for middle, (_, high) in ends)) / len(ends)
    return value - below, value + above


def averages(translation: Sequence[TranslationScore]) -> list[TranslationAverage]:
    """Average each metric of each system over test sets and directions of one task, where there are several.

    The sets are taken as independent, see `mean_of_deltas`.
    """
    found: list[TranslationAverage] = []
    for system, task, metric in dict.fromkeys((row.system, row.task, row.metric) for row in translation):
        rows = [row for row in translation if (row.system, row.task, row.metric) == (system, task, metric)]
        if len(rows) < 2:
            continue
        mean = mean_of_deltas([Delta(value=row.score, ci95=row.ci95, p=1) for row in rows])
        deltas = [row.delta for row in rows if row.delta]
        found.append(
            TranslationAverage(
                system=system,
                task=task,
                metric=metric,
                **carried(rows[0].facts),
                rows=len(rows),
                score=mean.value,
                ci95=mean.ci95,
                delta=mean_of_deltas(deltas) if len(deltas) == len(rows) else None,
            )
        )
    return found


def improvement(delta: Delta, row: TranslationScore) -> Delta:
    """Return a difference in the row's metric with the sign that makes more better."""
    if row.facts.better != "lower":
        return delta
    low, high = delta.ci95
    one_sided = (-delta.ci90[1], -delta.ci90[0]) if delta.ci90 else None
    return delta.model_copy(update={"value": -delta.value, "ci95": (-high, -low), "ci90": one_sided})


@dataclass(frozen=True)
class Kept:
    """Mean and minimum of a system's retentions, in percent, with two-sided intervals of 95 and 90 %."""

    mean: float
    mean_ci95: Interval
    mean_ci90: Interval
    minimum: float
    minimum_ci95: Interval
    minimum_ci90: Interval


def retention_draws(own: Sequence[Scored], base: Sequence[Scored]) -> tuple[list[float], np.ndarray]:
    """Return the retentions in percent of all metrics in which the base has something to lose, and their resampled
    values, shape (metrics, n).

    All metrics are resampled together: those of one suite on the same items see the same draws, so that what they
    have in common stays in common, and so do the system and the base.

    Args:
        own: the system's scores.
        base: the base's.
    """
    reference = {(one.items.where, one.items.metric): one for one in base}
    values, draws = [], []
    for one in own:
        other = reference.get((one.items.where, one.items.metric))
        if not one.items.retains or other is None or other.items.ids != one.items.ids:
            continue
        found = one.kept_of(other)
        if found is not None:
            values.append(found[0])
            # A resample in which the base had nothing to lose would make the mean infinite.
            draws.append(np.minimum(found[1], np.max(found[1][np.isfinite(found[1])])))
    return values, np.array(draws)


def joint_retention(own: Sequence[Scored], base: Sequence[Scored]) -> Kept | None:
    """Return mean and minimum of `retention_draws`, None where there are none.

    Both are taken within each resample. The interval of the minimum therefore lies rather low (whichever metric happens
    to come out worst counts): a system that passes a lower bound on it passes with care.
    """
    values, together = retention_draws(own, base)
    if not values:
        return None
    mean, minimum = together.mean(axis=0), together.min(axis=0)
    return Kept(
        sum(values) / len(values),
        percentile_interval(mean),
        percentile_interval(mean, 90),
        min(values),
        percentile_interval(minimum),
        percentile_interval(minimum, 90),
    )


def headline_task(tasks: Iterable[str]) -> str:
    """Return the task that the summary is about: the first of `TASKS` that was measured, so that gains are those of
    translation where there is any."""
    measured = set(tasks)
    return next((task for task in TASKS if task in measured), TASKS[0])


def headline_metric(measured: Iterable[tuple[str, MetricFacts]]) -> str:
    """Return the metric of the gain: the one that says to be the headline, else the first that has a better end.

    Args:
        measured: translation metrics by name, with what they say about themselves.

    Returns:
        The first one where none has a better end; empty without any.
    """
    found = dict(measured)
    headlines = [metric for metric, facts in found.items() if facts.role == "headline"]
    directed = [metric for metric, facts in found.items() if facts.better]
    return next(iter((*headlines, *directed, *found)), "")


def _with_role(rows: Sequence[TranslationScore] | Sequence[GeneralScore], role: str) -> list[float]:
    """Return the scores of the first metric with a role."""
    found = [(row.metric, row.score) for row in rows if row.facts.role == role]
    return [score for metric, score in found if metric == found[0][0]]


def summarise(
    systems: Sequence[str],
    translation: Sequence[TranslationScore],
    general: Sequence[GeneralScore],
    *,
    metric: str = "",
    items: Sequence[Items] = (),
    how: Resampling | None = None,
    extraction_failure_percent: Mapping[str, float] | None = None,
    output_tokens_per_translation: Mapping[str, float] | None = None,
    calls_per_translation: Mapping[str, float] | None = None,
    seconds_per_translation: Mapping[str, float] | None = None,
) -> list[SummaryRow]:
    """Return one summary row a system, in the order given, about test sets of one task (`headline_task`).

    `gain` is the mean over test sets and directions of the difference from base in `metric` (negated for error-like
    metrics: a gain is an improvement), see `mean_of_deltas`. `retention_mean` and `retention_min` are over all rows
    that have a retention, `off_target_percent` is the mean over test sets of the first metric that says to be that, and
    `kl_from_base` the first metric of a suite that says to be the divergence from the base (`MetricFacts.role`).

    Args:
        systems: names; "base" has no gain.
        translation: all translation rows of the run.
        general: all general rows of the run.
        metric: the headline metric; empty: see `headline_metric`.
        items: of the suites, for the intervals of the retentions, see `joint_retention`.
        how: resamples and seed.
        extraction_failure_percent: system -> share of outputs from which no translation could be taken.
        output_tokens_per_translation: system -> mean number of tokens generated for a translation.
        calls_per_translation: system -> mean number of requests that were answered for one.
        seconds_per_translation: system -> mean wall time of one.
    """
    task = headline_task(row.task for row in translation)
    translation = [row for row in translation if row.task == task]
    metric = metric or headline_metric((row.metric, row.facts) for row in translation)
    scored: dict[str, list[Scored]] = {}
    for one in items:
        if not one.direction:
            scored.setdefault(one.system, []).append(Scored(one, how or Resampling()))
    rows = []
    for system in systems:
        measured = [row for row in translation if row.system == system and row.metric == metric]
        deltas = [row.delta for row in measured if row.delta]
        gain = None
        if deltas:
            mean = improvement(mean_of_deltas(deltas), measured[0])
            gain = Gain(metric=metric, value=mean.value, ci95=mean.ci95, ci90=mean.ci90)
        own = [row for row in general if row.system == system]
        kept = [row.retention.percent for row in own if row.retention]
        joint = joint_retention(scored.get(system, []), scored.get(BASE, []))
        divergence = _with_role(own, "divergence")
        off = _with_role([row for row in translation if row.system == system], "off_target")
        rows.append(
            SummaryRow(
                system=system,
                gain=gain,
                retention_mean=sum(kept) / len(kept) if kept else None,
                retention_mean_ci95=joint.mean_ci95 if joint else None,
                retention_mean_ci90=joint.mean_ci90 if joint else None,
                retention_min=min(kept) if kept else None,
                retention_min_ci95=joint.minimum_ci95 if joint else None,
                retention_min_ci90=joint.minimum_ci90 if joint else None,
                kl_from_base=divergence[0] if divergence else None,
                off_target_percent=sum(off) / len(off) if off else None,
                extraction_failure_percent=(extraction_failure_percent or {}).get(system),
                output_tokens_per_translation=(output_tokens_per_translation or {}).get(system),
                calls_per_translation=(calls_per_translation or {}).get(system),
                seconds_per_translation=(seconds_per_translation or {}).get(system),
            )
        )
    return rows


def seed_spread(
    systems: Sequence[System],
    run_seed: int,
    translation: Sequence[TranslationScore],
    general: Sequence[GeneralScore],
    summary: Sequence[SummaryRow],
) -> list[SeedSpread]:
    """Return each score of each system that was trained with several seeds, by seed, with its standard deviation.

    Beside the scores of test sets and suites: `gain`, `retention_mean` and `retention_min` of the summary.

    Args:
        systems: of the run; those with a `group` and without a `scale` are further seeds of that group.
        run_seed: of the system after which a group is named.
        translation: all translation rows of the run.
        general: all general rows of the run.
        summary: rows of `summarise`.
    """
    seeds: dict[str, dict[str, int]] = {}
    for system in systems:
        if system.group and system.scale is None and system.seed is not None:
            seeds.setdefault(system.group, {system.group: run_seed})[system.name] = system.seed
    scores: dict[tuple[str, str, str], dict[str, float]] = {}

    def add(name: str, where: str, metric: str, value: float | None) -> None:
        for group, members in seeds.items():
            if name in members and value is not None:
                scores.setdefault((group, where, metric), {})[str(members[name])] = value

    for row in summary:
        add(row.system, "summary", "gain", row.gain.value if row.gain else None)
        add(row.system, "summary", "retention_mean", row.retention_mean)
        add(row.system, "summary", "retention_min", row.retention_min)
    for translated in translation:
        where = f"{translated.test_set} {translated.direction}"
        add(translated.system, where, translated.metric, translated.score)
    for answered in general:
        add(answered.system, answered.suite, answered.metric, answered.score)
    return [
        SeedSpread(
            system=group, where=where, metric=metric, scores=by_seed, sd=float(np.std([*by_seed.values()], ddof=1))
        )
        for (group, where, metric), by_seed in scores.items()
        if len(by_seed) > 1
    ]
