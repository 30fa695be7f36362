"""One frontier over several runs: what each system gained and kept on the items that all runs share.

Runs can be compared where they have the same base (by hash) and share test sets (by content). Every system is set
against its own run's base, all systems are resampled with the same draws, and each difference between two systems is
paired. p-values are corrected (Holm) for all pairs and both measures together.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from lingraft.core.errors import DataError, StoreError
from lingraft.evaluation.published import FinishedRun, open_run
from lingraft.evaluation.scorecard import Delta, GeneralScore, Interval, Scorecard, System, TranslationScore
from lingraft.evaluation.scoring import BASE, Resampling, Scored
from lingraft.evaluation.summary import headline_metric, headline_task, retention_draws
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.statistics.bootstrap import difference_of_draws, percentile_interval
from lingraft.statistics.items import Items, read_items, same_question
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.statistics.paired_tests import holm

LEVEL = 0.05
GAIN, RETENTION = "gain", "retention"


@dataclass(frozen=True)
class ComparedRun:
    """A finished run. `label` tells it from the others."""

    label: str
    folder: Path
    scorecard: Scorecard
    items: Sequence[Items]

    def facts(self, question: Items) -> MetricFacts:
        """Return what the metric of a question says about itself, by the run's scorecard."""
        rows: list[TranslationScore | GeneralScore] = []
        if question.direction:
            rows += [row for row in self.scorecard.translation if row.test_set == question.where]
        else:
            rows += [row for row in self.scorecard.general if row.suite == question.where]
        row = next((row for row in rows if row.metric == question.metric), None)
        return row.facts if row else replace(gain_facts(question.metric, ()), better=question.better)

    def of(self, system: str, question: Items) -> Items | None:
        """Return what a system of this run reached on a question."""
        return next((one for one in self.items if one.system == system and same_question(one, question)), None)


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
    """

    name: str
    run: str
    system: System
    gain: Measured | None
    retention: Measured | None
    lowest: float | None
    scores: dict[str, float]
    dominated_by: list[str] = field(default_factory=list)

    def measure(self, name: str) -> Measured | None:
        """Return the gain or the retention."""
        return self.gain if name == GAIN else self.retention


@dataclass(frozen=True)
class SystemPair:
    """A paired difference `first - second` in one measure."""

    first: str
    second: str
    measure: str
    delta: Delta

    @property
    def significant(self) -> bool:
        """Whether it is, after correction."""
        return self.delta.p_holm is not None and self.delta.p_holm < LEVEL


@dataclass(frozen=True)
class Frontier:
    """The whole table.

    Attributes:
        facts: what the metric of the gain says about itself.
        questions: common scores by their name, each with its place and what its metric says about itself.
        notes: what was left out, and what a reader has to know.
    """

    base: str
    metric: str
    facts: MetricFacts
    questions: Mapping[str, tuple[str, MetricFacts]]
    resamples: int
    rows: Sequence[ComparisonRow]
    pairs: Sequence[SystemPair]
    notes: Sequence[str]

    @property
    def pareto(self) -> list[str]:
        """The systems that no other dominates."""
        return [row.name for row in self.rows if row.gain and row.retention and not row.dominated_by]


def read_run(folder: Path, label: str) -> ComparedRun:
    """Read a finished run.

    Raises:
        StoreError: see `open_run`; or made by a version without per-item results.
    """
    found = open_run(folder)
    card = read_scorecard(found)
    base, items = read_items(found.file("items.jsonl"))
    if base != card.base.sha256:
        raise StoreError(f"{folder / 'items.jsonl'} belongs to another run than scorecard.json; run the recipe again")
    return ComparedRun(label, folder, card, items)


def read_scorecard(run: FinishedRun) -> Scorecard:
    """Return the scorecard of a finished run.

    Raises:
        StoreError: of another version.
    """
    path = run.file("scorecard.json")
    try:
        return Scorecard.read(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is of another version; run the recipe again to write it anew") from error


def read_runs(folders: Sequence[Path]) -> list[ComparedRun]:
    """Read runs, each under the name of its folder, made different where two are called the same.

    Raises:
        StoreError: see `read_run`.
        DataError: the same folder twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder in resolved:
        if resolved.count(folder) > 1:
            raise DataError(f"{folder} is given twice; name each run once")
    labels: list[str] = []
    for folder in resolved:
        label, number = folder.name, 2
        while label in labels:
            label, number = f"{folder.name}-{number}", number + 1
        labels.append(label)
    return [read_run(folder, label) for folder, label in zip(folders, labels, strict=True)]


def compare(runs: Sequence[ComparedRun], how: Resampling, metric: str = "") -> Frontier:
    """Compare the systems of runs on what all of them measured.

    Args:
        runs: finished ones, of one base; at least one.
        how: resamples and seed.
        metric: headline metric of the gain; empty: the headline (chrF++) where all runs have it, else the first common
            one that has a better end.

    Raises:
        DataError: other bases, no common test set or suite, or not the metric.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.scorecard.base.sha256 != first.scorecard.base.sha256:
            raise DataError(
                f"{run.label} and {first.label} have different bases ({run.scorecard.base.id} and "
                f"{first.scorecard.base.id}, by hash), so that gain and retention mean different things; compare runs "
                f"of one base"
            )
    asked = [one for one in first.items if one.system == BASE]
    common = [one for one in asked if all(run.of(BASE, one) for run in runs)]
    if not common:
        raise DataError(
            f"{', '.join(run.label for run in runs)} share no test set or suite; evaluate them on the same ones with "
            f"{_evaluating(runs)}"
        )
    notes = _left_out(runs, common)
    facts = {question_name(one): first.facts(one) for one in common}
    task = headline_task(one.task for one in common if one.direction)
    directed = [one for one in common if one.direction and one.better and one.task == task]
    metric = metric or headline_metric((one.metric, facts[question_name(one)]) for one in directed)
    tests = [one for one in common if one.direction and one.metric == metric and one.task == task]
    if metric and not tests:
        known = ", ".join(dict.fromkeys(one.metric for one in common if one.direction))
        raise DataError(f"the runs have no common test set with the metric {metric!r}; common: {known or 'none'}")
    suites = [one for one in common if not one.direction and all(_retained(run, one) for run in runs)]
    rows = [
        _row(run, system, common, tests, suites, how, alone=len(runs) == 1)
        for run in runs
        for system in run.scorecard.systems
        if system.name != BASE or run is first
    ]
    if not any(one.direction for one in common):
        notes.append(f"no test set is shared, so that there is no gain; measure one with {_evaluating(runs)}")
    notes += _unequal_bases(runs, common)
    rows = [_with_dominance(row, rows) for row in rows]
    pairs = _pairs(rows)
    if len(pairs) >= LEVEL * (how.n + 1):
        notes.append(
            f"{how.n:,} resamples cannot show any of {len(pairs):,} differences to be significant; take more of them"
        )
    own = next((first.facts(one) for one in tests), MetricFacts(label=metric, better=None))
    places = {question_name(one): " ".join(filter(None, (one.where, one.direction))) for one in common}
    questions = {name: (place, facts[name]) for name, place in places.items()}
    return Frontier(first.scorecard.base.id, metric, own, questions, how.n, rows, pairs, notes)


def _evaluating(runs: Sequence[ComparedRun]) -> str:
    """Return the commands that measure the grafts of all runs but the first on what the first one measured."""
    first = shlex.quote(str(runs[0].folder))
    commands = []
    for run in runs[1:]:
        graft = run.folder / "graft"
        name = shlex.quote(str(graft)) if graft.is_dir() else "GRAFT"
        out = shlex.quote(f"{run.folder}-on-{runs[0].folder.name}")
        commands.append(f"`lingraft evaluate --graft {name} --recipe {first} --out {out}`")
    return ", ".join(commands)


def _retained(run: ComparedRun, question: Items) -> bool:
    """Whether a run counts a question for retention; its recipe may say `retains: false`."""
    own = run.of(BASE, question)
    return own is not None and own.retains


def question_name(one: Items) -> str:
    """Return how a common score is called in tables."""
    return " ".join(part for part in (one.where, one.direction, one.metric) if part)


def _left_out(runs: Sequence[ComparedRun], common: Sequence[Items]) -> list[str]:
    notes = []
    for run in runs:
        own = [one for one in run.items if one.system == BASE]
        missing = [one for one in own if not any(same_question(one, shared) for shared in common)]
        if missing:
            names = ", ".join(dict.fromkeys(question_name(one) for one in missing))
            notes.append(f"{run.label}: left out, since not all runs measured the same: {names}")
    return notes


def _unequal_bases(runs: Sequence[ComparedRun], common: Sequence[Items]) -> list[str]:
    """Say where the same base scored differently: another engine, precision or device."""
    notes = []
    for run in runs[1:]:
        odd = [
            question_name(one)
            for one in common
            if not np.allclose(_of(run, BASE, one).statistics, one.statistics, rtol=1e-6, atol=1e-9)
        ]
        if odd:
            notes.append(
                f"{run.label}: the base answered differently than in {runs[0].label} ({', '.join(odd)}); each system "
                f"is set against the base of its own run"
            )
    return notes


def _of(run: ComparedRun, system: str, question: Items) -> Items:
    found = run.of(system, question)
    if found is None:
        name = question_name(question)
        raise DataError(f"{run.folder}: items.jsonl lacks {name} of {system!r}; run the recipe again")
    return found


def _row(
    run: ComparedRun,
    system: System,
    common: Sequence[Items],
    tests: Sequence[Items],
    suites: Sequence[Items],
    how: Resampling,
    alone: bool,
) -> ComparisonRow:
    # Else only its translations are known.
    asked = {row.system for row in run.scorecard.general} | {one.system for one in run.items if not one.direction}
    answers = system.name in asked
    suites = suites if answers else ()
    known = {one.where for one in run.items if one.system == system.name}
    if any(one.where not in known for one in tests):  # a decoder that is for other tasks alone
        tests = ()
    gains = []
    for question in tests:
        own, base = (Scored(_of(run, name, question), how) for name in (system.name, BASE))
        sign = -1.0 if question.better == "lower" else 1.0
        gains.append(Measured(sign * (own.score - base.score), sign * (own.draws - base.draws)))
    values, draws = retention_draws(
        [Scored(_of(run, system.name, one), how) for one in suites],
        [Scored(_of(run, BASE, one), how) for one in suites],
    )
    return ComparisonRow(
        name=system.name if alone or system.name == BASE else f"{run.label}:{system.name}",
        run=run.label,
        system=system,
        gain=Measured(_mean([one.value for one in gains]), _rows([one.draws for one in gains])) if gains else None,
        retention=Measured(_mean(values), draws.mean(axis=0)) if values else None,
        lowest=min(values) if values else None,
        scores={
            question_name(one): Scored(_of(run, system.name, one), how).score
            for one in common
            if (answers or one.direction) and one.where in known
        },
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _rows(draws: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean(np.stack(draws), axis=0)


def _with_dominance(row: ComparisonRow, rows: Sequence[ComparisonRow]) -> ComparisonRow:
    own = _point(row)
    if own is None:
        return row
    better = []
    for other in rows:
        point = _point(other)
        if point is not None and point != own and point[0] >= own[0] and point[1] >= own[1]:
            better.append(other.name)
    return replace(row, dominated_by=better)


def _point(row: ComparisonRow) -> tuple[float, float] | None:
    return (row.gain.value, row.retention.value) if row.gain and row.retention else None


def _pairs(rows: Sequence[ComparisonRow]) -> list[SystemPair]:
    pairs = []
    for one, other in combinations(rows, 2):
        for measure in (GAIN, RETENTION):
            first, second = one.measure(measure), other.measure(measure)
            if first and second:
                found = difference_of_draws(first.value - second.value, first.draws, second.draws)
                delta = Delta(value=found.value, ci95=found.ci95, p=found.p)
                pairs.append(SystemPair(one.name, other.name, measure, delta))
    corrected = holm([pair.delta.p for pair in pairs])
    return [
        replace(pair, delta=pair.delta.model_copy(update={"p_holm": p}))
        for pair, p in zip(pairs, corrected, strict=True)
    ]
