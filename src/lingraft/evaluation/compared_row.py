"""One row of a comparison: what a system gained, kept and forgot on common questions; its trainings pooled or apart.

Trainings with several seeds answer the same items, which are no further items. Pooled, every figure is the mean over
trainings, and each resample of the items takes the answers of all of them. The interval says what other items would
give; what another training would give, the spread between trainings says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lingraft.evaluation.changed import MeanChange, mean_change
from lingraft.evaluation.compared_run import ComparedRun, question_name
from lingraft.evaluation.scorecard import Interval, System
from lingraft.evaluation.scoring import BASE, Resampling, Scored
from lingraft.evaluation.summary import retention_draws
from lingraft.statistics.bootstrap import percentile_interval
from lingraft.statistics.items import Items

GAIN, RETENTION = "gain", "retention"


@dataclass(frozen=True)
class Measured:
    """A mean over several scores, its interval, and its resampled values."""

    value: float
    draws: np.ndarray

    @property
    def ci95(self) -> Interval:
        """The 95 % interval."""
        return percentile_interval(self.draws)


@dataclass(frozen=True)
class ComparisonRow:
    """One system of the comparison.

    Attributes:
        gain: improvement on base, averaged over the common test sets.
        retention: mean over the common suites, in percent.
        lowest: the smallest of them.
        scores: every common score by its name.
        dominated_by: systems that gain and keep at least as much, and one of the two more.
        changed: items that changed from the base's, of each common suite whose items are right or wrong.
        trainings: systems whose mean it is: one a seed.
        spread: standard deviation of gain and retention between trainings (n - 1), where there are several.
    """

    name: str
    run: str
    system: System
    gain: Measured | None
    retention: Measured | None
    lowest: float | None
    scores: dict[str, float]
    dominated_by: list[str] = field(default_factory=list)
    changed: Sequence[MeanChange] = ()
    trainings: Sequence[str] = ()
    spread: dict[str, float] = field(default_factory=dict)

    def measure(self, name: str) -> Measured | None:
        """Return the gain or the retention."""
        return self.gain if name == GAIN else self.retention

    @property
    def most_forgotten(self) -> MeanChange | None:
        """The suite of which most was forgotten; None where none says."""
        found = [one for one in self.changed if one.forgotten]
        return max(found, key=lambda one: one.forgotten.percent if one.forgotten else 0.0, default=None)


@dataclass(frozen=True)
class Questions:
    """What all runs measured: all common scores, the test sets of the gain, the suites of the retention."""

    common: Sequence[Items]
    tests: Sequence[Items]
    suites: Sequence[Items]


class Bases:
    """The base's scores in each run, resampled once where the runs share its answers.

    Args:
        runs: that are compared.
        how: resamples and seed.
    """

    def __init__(self, runs: Sequence[ComparedRun], how: Resampling) -> None:
        self._first, self._how = runs[0], how
        self._known: dict[tuple[str, int], Scored] = {}

    def of(self, run: ComparedRun, question: Items) -> Scored:
        """Return the base's scores of a run.

        Raises:
            DataError: the run has none.
        """
        own, first = run.need(BASE, question), self._first.of(BASE, question)
        same = first is not None and np.array_equal(own.statistics, first.statistics)
        key = (self._first.label if same else run.label, id(question))
        if key not in self._known:
            self._known[key] = Scored(own, self._how)
        return self._known[key]


def row_of(
    run: ComparedRun, systems: Sequence[System], asked: Questions, bases: Bases, how: Resampling, name: str
) -> ComparisonRow:
    """Return the row of a system, or of several trainings of one.

    Args:
        run: in which they were measured.
        systems: the trainings, the one after which the row is named first.
        asked: common questions.
        bases: the base's scores.
        how: resamples and seed.
        name: of the row.

    Raises:
        DataError: items.jsonl lacks a question.
    """
    # Else only its translations are known.
    answering = {row.system for row in run.scorecard.general} | {one.system for one in run.items if not one.direction}
    answers = all(system.name in answering for system in systems)
    suites = asked.suites if answers else ()
    known = [{one.where for one in run.items if one.system == system.name} for system in systems]
    tests = asked.tests
    if any(one.where not in where for one in tests for where in known):  # a decoder that is for other tasks alone
        tests = ()
    scored: dict[tuple[str, int], Scored] = {}

    def own(system: System, question: Items) -> Scored:
        key = (system.name, id(question))
        if key not in scored:
            scored[key] = Scored(run.need(system.name, question), how)
        return scored[key]

    gains = [_gain([(own(system, one), bases.of(run, one)) for one in tests]) for system in systems]
    kept = [_kept([(own(system, one), bases.of(run, one)) for one in suites]) for system in systems]
    shares = [of for _, of in kept]
    lowest = [
        _mean([of[key] for of in shares if key in of]) for key in dict.fromkeys(key for of in shares for key in of)
    ]
    changed = [mean_change([own(system, one) for system in systems], bases.of(run, one)) for one in suites]
    means = {GAIN: gains, RETENTION: [mean for mean, _ in kept]}
    return ComparisonRow(
        name=name,
        run=run.label,
        system=systems[0],
        gain=_pooled(means[GAIN]),
        retention=_pooled(means[RETENTION]),
        lowest=min(lowest) if lowest else None,
        scores={
            question_name(one): _mean([own(system, one).score for system in systems])
            for one in asked.common
            if (answers or one.direction) and all(one.where in where for where in known)
        },
        changed=[one for one in changed if one],
        trainings=[system.name for system in systems],
        spread={
            measure: float(np.std([one.value for one in found if one], ddof=1))
            for measure, found in means.items()
            if len(found) > 1 and all(found)
        },
    )


def _gain(pairs: Sequence[tuple[Scored, Scored]]) -> Measured | None:
    gains = []
    for own, base in pairs:
        sign = -1.0 if own.items.better == "lower" else 1.0
        gains.append(Measured(sign * (own.score - base.score), sign * (own.draws - base.draws)))
    return _pooled(gains)


def _kept(pairs: Sequence[tuple[Scored, Scored]]) -> tuple[Measured | None, dict[str, float]]:
    """Return the mean retention, and each by the name of its question."""
    values: dict[str, float] = {}
    draws = []
    for own, base in pairs:
        found, drawn = retention_draws([own], [base])
        if found:
            values[question_name(own.items)] = found[0]
            draws.append(Measured(found[0], drawn[0]))
    return _pooled(draws), values


def _pooled(parts: Sequence[Measured | None]) -> Measured | None:
    """Return the mean, resample by resample; None where one is missing."""
    found = [part for part in parts if part]
    if not found or len(found) < len(parts):
        return None
    return Measured(_mean([one.value for one in found]), np.mean(np.stack([one.draws for one in found]), axis=0))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def with_dominance(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Return the rows, each with those among them that dominate it, by the values."""
    return [replace(row, dominated_by=_dominating(row, rows)) for row in rows]


def _dominating(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> list[str]:
    own, better = _point(row), []
    if own is None:
        return []
    for other in rows:
        point = _point(other)
        if point is not None and point != own and point[0] >= own[0] and point[1] >= own[1]:
            better.append(other.name)
    return better


def _point(row: ComparisonRow) -> tuple[float, float] | None:
    return (row.gain.value, row.retention.value) if row.gain and row.retention else None
