"""What stands at the top of the report: what the run took, on how much it measured, and how its gates stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lingraft.core.figures import duration
from lingraft.evaluation.gate import NO_BOUND, Verdict
from lingraft.evaluation.scorecard import GeneralScore, Scorecard
from lingraft.evaluation.summary import headline_task
from lingraft.reporting.contents import Work
from lingraft.reporting.numbers import MINUS, count
from lingraft.reporting.tables import Cell, Names, grouped

FEW_SEGMENTS = 100
FEW_ITEMS = 50
"""Below these, of a test set and of a suite, intervals are so wide that only large differences are seen."""


@dataclass(frozen=True)
class GateLine:
    """How one gate stands for one system and row. `mark`: "met" or "missed"; `found`: the value that was compared."""

    mark: str
    rule: str
    system: Cell
    where: str
    found: str


@dataclass(frozen=True)
class GateBox:
    """All gates of a run: the title says how many are met."""

    title: str
    lines: Sequence[GateLine]


def work_words(work: Work | None) -> str:
    """Return time and tokens of all stages in words; empty where they are not known."""
    if work is None:
        return ""
    parts = [f"{duration(work.seconds)} in all stages" if work.seconds else ""]
    tokens = [(work.trained, "trained on"), (work.written, "written")]
    parts += [f"{count(n)} tokens {what}" for n, what in tokens if n]
    return ", ".join(filter(None, parts))


def measured_words(scorecard: Scorecard) -> str:
    """Return how many segments and items the scores are from; empty where nothing was measured."""
    segments, items = _segments(scorecard), _items(scorecard)
    parts = []
    if segments:
        several = f" in {count(len(segments))} test sets and directions" if len(segments) > 1 else ""
        parts.append(f"{_of(sum(segments.values()), 'segment')}{several}")
    if items:
        several = f"{count(len(items))} suites" if len(items) > 1 else "a suite"
        parts.append(f"{_of(sum(items.values()), 'item')} of {several}")
    return ", ".join(parts)


_QUALITY = {
    "translation": ("Translation", "translation quality", "translate the same segments"),
    "summary": ("Summaries", "the summaries' quality", "summarise the same documents"),
    "code": ("Code", "the share of right programs", "translate the same programs"),
}


@dataclass(frozen=True)
class TaskWords:
    """What a report says of the tasks of its test sets: heading, of what the gain is, what compared systems do."""

    heading: str
    quality: str
    same: str


def task_words(scorecard: Scorecard) -> TaskWords:
    """Return the words for the tasks that were measured."""
    tasks = list(dict.fromkeys(row.task for row in scorecard.translation)) or ["translation"]
    headings, _, same = zip(*(_QUALITY[task] for task in tasks), strict=True)
    heading = " and ".join([headings[0], *(one.lower() for one in headings[1:])])
    return TaskWords(heading, _QUALITY[headline_task(tasks)][1], " or ".join(same))


def few_items_warnings(scorecard: Scorecard) -> list[str]:
    """Return a sentence where test sets or suites are so small that intervals are wide."""
    short = [f"{where} has {_of(n, 'segment')}" for where, n in _segments(scorecard).items() if n < FEW_SEGMENTS]
    short += [f"{suite} has {_of(n, 'item')}" for suite, n in _items(scorecard).items() if n < FEW_ITEMS]
    if not short:
        return []
    return [
        f"Few items: {', '.join(short)}. With fewer than {FEW_SEGMENTS} segments or {FEW_ITEMS} items intervals are "
        f"wide: a difference that is not significant here may still be a large one."
    ]


def gate_box(verdicts: Sequence[Verdict], names: Names) -> GateBox | None:
    """Return the gates of a run as they are shown; None where it has none."""
    if not verdicts:
        return None
    rules = dict.fromkeys(verdict.gate.text for verdict in verdicts)
    missed = {verdict.gate.text for verdict in verdicts if not verdict.holds}
    title = f"Gates: {len(rules) - len(missed)} of {len(rules)} met"
    return GateBox(title, [_line(verdict, names) for verdict in verdicts])


def _line(verdict: Verdict, names: Names) -> GateLine:
    found, reading = "not measured", verdict.reading
    if reading.value is not None:
        found = f"{_short(reading.value)}, no interval"
        if reading.ci95 is not None and verdict.bound is None:
            found = f"{_short(reading.value)}, {NO_BOUND}"
        elif reading.ci95 is not None and verdict.bound is not None:
            gate, bound, (low, high) = verdict.gate, _short(verdict.bound), map(_short, reading.ci95)
            found = f"{gate.end} end {bound} of {_short(reading.value)} [{low}, {high}], {gate.level}"
            if gate.one_sided:
                found = f"{gate.end} bound {bound} of {_short(reading.value)}, {gate.level}"
    mark = "met" if verdict.holds else "missed"
    return GateLine(mark, verdict.gate.text, names.cell(verdict.system), reading.where, found)


def _short(value: float) -> str:
    # As many digits as `lingraft gate` prints: the compared number may lie close to that of the rule.
    return f"{value:.4g}".replace("-", MINUS)


def _of(n: int, noun: str) -> str:
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"


def _segments(scorecard: Scorecard) -> dict[str, int]:
    """Return the segments of each test set and direction."""
    sets = grouped(scorecard.translation, lambda row: (row.test_set, row.direction))
    return {f"{test_set} {direction}": rows[0].n for (test_set, direction), rows in sets}


def _items(scorecard: Scorecard) -> dict[str, int]:
    """Return the items of each suite: the fewest of a score of ability; all, where it has diagnostics alone."""

    def counted(rows: Sequence[GeneralScore]) -> int:
        abilities = [row.n for row in rows if not row.diagnostic]
        return min(abilities) if abilities else max(row.n for row in rows)

    return {suite: counted(rows) for suite, rows in grouped(scorecard.general, lambda row: row.suite)}
