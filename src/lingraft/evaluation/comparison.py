"""One frontier over several runs: what each system gained and kept on the items that all runs share.

Runs can be compared where they have the same base (by hash) and share test sets (by content). Every system is set
against its own run's base, all systems are resampled with the same draws, and each difference between two systems is
paired. p-values are corrected (Holm) for all pairs and both measures together.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from lingraft.core.errors import DataError
from lingraft.evaluation.compared_row import (
    GAIN,
    RETENTION,
    Bases,
    ComparisonRow,
    Questions,
    row_of,
    with_dominance,
)
from lingraft.evaluation.compared_run import ComparedRun, question_name
from lingraft.evaluation.scorecard import Delta
from lingraft.evaluation.scoring import BASE, Resampling
from lingraft.evaluation.summary import headline_metric, headline_task
from lingraft.evaluation.trainings import trainings_of
from lingraft.statistics.bootstrap import difference_of_draws
from lingraft.statistics.items import Items, same_question
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.statistics.paired_tests import holm

LEVEL = 0.05


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


def compare(
    runs: Sequence[ComparedRun],
    how: Resampling,
    metric: str = "",
    *,
    against: Mapping[str, Sequence[str]] | None = None,
) -> Frontier:
    """Compare the systems of runs on what all of them measured.

    Args:
        runs: finished ones, of one base; at least one.
        how: resamples and seed.
        metric: headline metric of the gain; empty: the headline (chrF++) where all runs have it, else the first common
            one that has a better end.
        against: of a bench: label of a run -> what its systems are set against: "base", or the first system of the run
            of a label. The trainings of a system are then pooled, and its row is called as its run where that has no
            other. Default: all pairs, and all systems apart.

    Raises:
        DataError: other bases, no common test set or suite, or not the metric.
    """
    first = runs[0]
    refuse_other_bases(runs)
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
    shared, bases = Questions(common, tests, suites), Bases(runs, how)
    rows = [row_of(first, first.scorecard.systems[:1], shared, bases, how, BASE)]
    for run in runs:
        systems = [system for system in run.scorecard.systems if system.name != BASE]
        groups = [[system] for system in systems] if against is None else trainings_of(systems)
        for group in groups:
            name = group[0].name if len(runs) == 1 else f"{run.label}:{group[0].name}"
            if against is not None:
                name = _pooled_name(run.label, group[0].name, alone=len(groups) == 1)
            rows.append(row_of(run, group, shared, bases, how, name))
    if not any(one.direction for one in common):
        how_to = f"; measure one with {_evaluating(runs)}" if against is None else ""
        notes.append(f"no test set is shared, so that there is no gain{how_to}")
    notes += _unequal_bases(runs, common)
    rows = with_dominance(rows)
    pairs = _pairs(rows, against)
    if len(pairs) >= LEVEL * (how.n + 1):
        notes.append(
            f"{how.n:,} resamples cannot show any of {len(pairs):,} differences to be significant; take more of them"
        )
    own = next((first.facts(one) for one in tests), MetricFacts(label=metric, better=None))
    places = {question_name(one): " ".join(filter(None, (one.where, one.direction))) for one in common}
    questions = {name: (place, facts[name]) for name, place in places.items()}
    return Frontier(first.scorecard.base.id, metric, own, questions, how.n, rows, pairs, notes)


def refuse_other_bases(runs: Sequence[ComparedRun]) -> None:
    """Refuse runs that cannot be compared since their bases differ.

    Raises:
        DataError: they do, by hash.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.scorecard.base.sha256 != first.scorecard.base.sha256:
            raise DataError(
                f"{run.label} and {first.label} have different bases ({run.scorecard.base.id} and "
                f"{first.scorecard.base.id}, by hash), so that gain and retention mean different things; compare runs "
                f"of one base"
            )


def _pooled_name(label: str, system: str, alone: bool) -> str:
    """Return how the row of a bench is called that is about a system of its run."""
    own = (alone or system == label) and label != BASE
    return label if own else f"{label}:{system}"


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
    found: dict[str, list[str]] = {}
    for run in runs[1:]:
        odd = [
            question_name(one)
            for one in common
            if not np.allclose(run.need(BASE, one).statistics, one.statistics, rtol=1e-6, atol=1e-9)
        ]
        if odd:
            found.setdefault(", ".join(odd), []).append(run.label)
    return [
        f"{', '.join(labels)}: the base answered differently than in {runs[0].label} ({odd}); each system is set "
        f"against the base of its own run"
        for odd, labels in found.items()
    ]


def _pairs(rows: Sequence[ComparisonRow], against: Mapping[str, Sequence[str]] | None) -> list[SystemPair]:
    if against is None:
        chosen = list(combinations(rows, 2))
    else:
        named = {BASE: rows[0]}
        for row in rows[1:]:
            named.setdefault(row.run, row)
        others = [(row, named[label]) for row in rows[1:] for label in against.get(row.run, ()) if label in named]
        chosen = [(row, other) for row, other in others if row is not other]
    pairs = []
    for one, other in chosen:
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
