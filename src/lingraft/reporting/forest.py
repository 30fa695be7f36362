"""Forest plots: a row a system with its value and interval drawn on a common scale.

A forest plot is a table with one drawn column, so it is laid out as one: it reads on paper and on a phone, a filter
hides single rows, and the drawing needs no text of its own. Positions are shares of the column's width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.ticker import MaxNLocator

from lingraft.evaluation.scorecard import Interval, Scorecard
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.reporting.contents import Breakdown
from lingraft.reporting.numbers import count, decimals_for, interval, number
from lingraft.reporting.tables import Cell, Names, grouped
from lingraft.statistics.bootstrap import wilson_interval
from lingraft.statistics.metric_facts import MetricFacts

FAULTS = {
    "empty": "Empty",
    "thinking": "Thoughts alone",
    "thought": "Behind thoughts",
    "preamble": "Announced, not only translated",
    "extra_text": "Several paragraphs for one",
    "delimiter_in_source": "Delimiter within the text",
    "unfinished": "Cut off by the token limit",
    "looping": "Repeats itself",
    "copied_source": "Source copied",
}
"""Kinds of `Breakdown.counts` in the order in which they are shown; other kinds follow under their own name."""
FAULT_ROLES = ("off_target", "copied_source", "fault")
"""Metrics with these roles are drawn before the kinds; where one is measured, the kind of that name is not."""


@dataclass(frozen=True)
class Mark:
    """One row: `low` and `high` are the drawn ends of the interval in percent of the width, None without one.

    `cut_low`, `cut_high`: the interval goes on beyond the scale.
    """

    system: Cell
    value: str
    bounds: str
    at: float
    low: float | None = None
    high: float | None = None
    cut_low: bool = False
    cut_high: bool = False


@dataclass(frozen=True)
class Panel:
    """Rows under one heading. `direction` and `suite`: what the filter goes by."""

    title: str
    detail: str
    marks: Sequence[Mark]
    direction: str = ""
    suite: str = ""


@dataclass(frozen=True)
class Forest:
    """Panels on one scale. `ticks`: (position in percent of the width, label); `reference`: position of its line."""

    caption: str
    unit: str
    panels: Sequence[Panel]
    ticks: Sequence[tuple[float, str]]
    reference: float


@dataclass(frozen=True)
class ForestRow:
    """A value before it has a place."""

    system: str
    value: float
    ci95: Interval | None


PERCENT = MetricFacts(decimals=1, unit="%")


@dataclass(frozen=True)
class PanelValues:
    """A panel before its values have places; `facts` of the metric decide the decimals."""

    title: str
    detail: str
    rows: Sequence[ForestRow]
    facts: MetricFacts = PERCENT
    direction: str = ""
    suite: str = ""


def gain_forest(scorecard: Scorecard, names: Names) -> Forest | None:
    """Change of the headline metric from base, for each test set and direction."""
    metric = next((row.gain.metric for row in scorecard.summary if row.gain), "")
    facts = gain_facts(metric, scorecard.translation)
    blocks = []
    for (test_set, direction), scores in grouped(scorecard.translation, lambda s: (s.test_set, s.direction)):
        own = [s for s in scores if s.metric == metric and s.delta]
        rows = [ForestRow(s.system, s.delta.value, s.delta.ci95) for s in own if s.delta]
        if rows:
            blocks.append(
                PanelValues(f"{direction}: {test_set}", f"{count(own[0].n)} segments", rows, facts, direction)
            )
    label = facts.title
    return layout(f"Change of {label} from base", f"{label}, change from base", blocks, names, 0.0, signed=True)


def retention_forest(scorecard: Scorecard, names: Names) -> Forest | None:
    """Retention of every suite and metric that retains."""
    blocks = []
    for (suite, _), scores in grouped(scorecard.answered, lambda s: (s.suite, s.metric)):
        rows = [ForestRow(s.system, s.retention.percent, s.retention.ci95) for s in scores if s.retention]
        rows = [row for row in rows if row.system != "base"]
        if rows:
            title = f"{suite}: {scores[0].facts.title}"
            blocks.append(PanelValues(title, f"{count(scores[0].n)} items", rows, suite=suite))
    return layout("Retention by suite", "retention, % of base", blocks, names, 100.0, limits=(0.0, 200.0))


def length_forest(scorecard: Scorecard, names: Names) -> Forest | None:
    """Length of the translations in units of the references'."""
    blocks = []
    for (test_set, direction), scores in grouped(scorecard.translation, lambda s: (s.test_set, s.direction)):
        for _, own in grouped([s for s in scores if s.facts.role == "length"], lambda s: s.metric):
            rows = [ForestRow(s.system, s.score, s.ci95) for s in own]
            blocks.append(PanelValues(f"{direction}: {test_set}", "", rows, own[0].facts, direction))
    return layout("Length of translations", "length ratio to the reference", blocks, names, 1.0, limits=(0.0, 5.0))


def error_forest(scorecard: Scorecard, breakdowns: Sequence[Breakdown], names: Names) -> Forest | None:
    """Shares of segments with an error, kind by kind, with the base for comparison."""
    blocks = []
    scored = grouped(scorecard.translation, lambda s: (s.test_set, s.direction))
    places = dict.fromkeys([*(place for place, _ in scored), *((b.test_set, b.direction) for b in breakdowns)])
    found = dict(scored)
    counted = {(b.test_set, b.direction): b for b in breakdowns}
    for place in places:
        where = f"{place[1]}: {place[0]}"
        measured: set[str] = set()
        for role in FAULT_ROLES:
            faulty = [s for s in found.get(place, []) if s.facts.role == role]
            for _, own in grouped(faulty, lambda s: s.metric):
                measured.add(role)
                rows = [ForestRow(s.system, s.score, s.ci95) for s in own]
                blocks.append(PanelValues(own[0].facts.share, where, rows, direction=place[1]))
        if breakdown := counted.get(place):
            kinds = dict.fromkeys([*FAULTS, *(kind for counts in breakdown.counts.values() for kind in counts)])
            for kind in kinds:
                if kind not in measured and any(kinds.get(kind) for kinds in breakdown.counts.values()):
                    rows = [
                        _share(system, kinds.get(kind, 0), breakdown.n) for system, kinds in breakdown.counts.items()
                    ]
                    blocks.append(PanelValues(FAULTS.get(kind, kind), where, rows, direction=place[1]))
    return layout("Errors by kind", "% of segments", blocks, names, 0.0)


def judge_forest(scorecard: Scorecard, names: Names) -> Forest | None:
    """Refusals by keyword beside those by a guard's verdict, and how often the two disagree; kappa is no percentage."""
    blocks = []
    for suite, scores in grouped(scorecard.answered, lambda s: s.suite):
        ruled, judged = ([s for s in scores if s.facts.role == role] for role in ("rule", "verdict"))
        if ruled and judged:
            for _, own in grouped([*ruled, *judged], lambda s: s.metric):
                rows = [ForestRow(s.system, s.score, s.ci95) for s in own]
                label = own[0].facts.share
                blocks.append(PanelValues(f"{suite}: {label}", f"{count(own[0].n)} items", rows, suite=suite))
    return layout("Keyword rule against guard", "% of items", blocks, names, 0.0)


def layout(
    caption: str,
    unit: str,
    blocks: Sequence[PanelValues],
    names: Names,
    reference: float,
    *,
    signed: bool = False,
    limits: Interval | None = None,
) -> Forest | None:
    """Place values on one scale that holds the reference, every value and, within `limits`, every interval.

    Args:
        caption: of the drawing.
        unit: of the values, for the axis.
        blocks: values with their intervals, system by system.
        names: order and colours of the systems.
        reference: value of the reference line.
        signed: whether positive values have a sign.
        limits: beyond which intervals do not widen the scale; None: all of them do.

    Returns:
        None where there is nothing to draw.
    """
    values = [row.value for block in blocks for row in block.rows if math.isfinite(row.value)]
    if not values:
        return None
    ends = [end for block in blocks for row in block.rows for end in row.ci95 or () if math.isfinite(end)]
    if limits:
        ends = [min(max(end, limits[0]), limits[1]) for end in ends]
    low, high = min([reference, *values, *ends]), max([reference, *values, *ends])
    room = 0.04 * (high - low) or 0.5
    low, high = low - room, high + room

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    panels = []
    for block in blocks:
        rows = [row for row in block.rows if math.isfinite(row.value)]
        places = decimals_for(block.facts, [row.value for row in rows])
        marks = [_mark(row, names, place, places, signed) for row in rows]
        panels.append(Panel(block.title, block.detail, marks, block.direction, block.suite))
    numbers = [tick for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= tick <= high]
    places = max((len(f"{tick:.6f}".rstrip("0").partition(".")[2]) for tick in numbers), default=0)
    ticks = [(place(tick), number(tick, places, signed=signed)) for tick in numbers]
    return Forest(caption, unit, panels, ticks, place(reference))


def _mark(row: ForestRow, names: Names, place: Callable[[float], float], places: int, signed: bool) -> Mark:
    value = number(row.value, places, signed=signed)
    cell, bounds = names.cell(row.system), row.ci95
    if bounds is None or not all(map(math.isfinite, bounds)):
        return Mark(cell, value, "", place(row.value))
    low, high = place(bounds[0]), place(bounds[1])
    drawn = interval(bounds, places, signed=signed)
    return Mark(cell, value, drawn, place(row.value), max(low, 0.0), min(high, 100.0), low < 0, high > 100)


def _share(system: str, part: int, whole: int) -> ForestRow:
    low, high = wilson_interval(part, whole)
    return ForestRow(system, 100 * part / whole, (100 * low, 100 * high))
