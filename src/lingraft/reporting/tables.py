"""The tables of the report as values: columns, groups of rows, cells. The template only lays them out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from lingraft.data.records import Rejected
from lingraft.evaluation.scorecard import Delta, GeneralScore, Interval, Scorecard, SummaryRow, TranslationScore
from lingraft.reporting.contents import LossPoint
from lingraft.reporting.numbers import (
    MISSING,
    change_mark,
    count,
    decimals_for,
    interval,
    metric_style,
    number,
    p_value,
    retention_mark,
    share,
)

R = TypeVar("R")
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Cell:
    """`kind`: "text", "number", "system", "mark" or "code". `series` is the position of a system in the scorecard."""

    text: str
    kind: str = "number"
    series: int = 0
    headline: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under one heading; `title` is empty where the table has a single group."""

    rows: Sequence[Sequence[Cell]]
    title: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """The first column is the row header; `numeric` names the columns whose title is right-aligned."""

    caption: str
    columns: Sequence[str]
    groups: Sequence[Group]
    numeric: frozenset[str] = frozenset()
    signatures: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Names:
    """The systems in scorecard order and the one of the headline."""

    order: Mapping[str, int]
    headline: str

    def cell(self, system: str) -> Cell:
        """Return the row header of a system."""
        return Cell(system, "system", self.order.get(system, len(self.order)), system == self.headline)


def text(value: str | None) -> Cell:
    """Return a left-aligned cell, "-" when there is nothing to say."""
    return Cell(value or MISSING, "text")


def summary_table(scorecard: Scorecard, names: Names) -> Table:
    """One row a system: what a reader looks at first."""
    methods = {system.name: system for system in scorecard.systems}
    gains: dict[str, list[float]] = {}
    for row in scorecard.summary:
        if row.gain:
            gains.setdefault(row.gain.metric, []).append(row.gain.value)
    decimals = {metric: decimals_for(metric, values) for metric, values in gains.items()}
    rows = []
    for row in scorecard.summary:
        system = methods.get(row.system)
        gain = row.gain
        places = decimals[gain.metric] if gain else 1
        rows.append(
            [
                names.cell(row.system),
                text(", ".join(part for part in (system.method, system.tuner) if part) if system else None),
                Cell(number(gain.value if gain else None, places, signed=True)),
                Cell(interval(gain.ci95 if gain else None, places, signed=True)),
                Cell(number(row.retention_mean)),
                Cell(interval(retention_interval(scorecard, row))),
                Cell(number(row.retention_min)),
                Cell(number(row.kl_from_base, 3)),
                Cell(number(row.off_target_percent)),
                Cell(number(row.extraction_failure_percent)),
                Cell(number(row.output_tokens_per_translation)),
            ]
        )
    metrics = ", ".join(metric_style(metric).label for metric in decimals)
    columns = [
        *("System", "Method, tuner", f"Gain{f', {metrics}' if metrics else ''}", "95 % interval", "Retention, %"),
        *(
            "95 % interval",
            "Lowest, %",
            "KL from base",
            "Off-target, %",
            "Not extracted, %",
            "Tokens a translation",
        ),
    ]
    return Table("Every system at a glance", columns, [Group(rows)], frozenset(columns[2:]))


def retention_interval(scorecard: Scorecard, row: SummaryRow) -> Interval | None:
    """Return the interval of the mean retention.

    A scorecard of an earlier version has none: then the mean distance of the suites' ends is put around the mean, which
    is wider, since it holds even if the errors of all suites point one way.
    """
    if row.retention_mean_ci95 is not None and row.system != "base":
        return row.retention_mean_ci95
    kept = [score.retention for score in scorecard.general if score.system == row.system and score.retention]
    if row.retention_mean is None or not kept or row.system == "base":
        return None
    below = sum(r.percent - r.ci95[0] for r in kept) / len(kept)
    above = sum(r.ci95[1] - r.percent for r in kept) / len(kept)
    return row.retention_mean - below, row.retention_mean + above


def translation_tables(scorecard: Scorecard, names: Names) -> list[Table]:
    """One table a direction and test set: scores of all systems with their difference from base."""
    columns = ["System", "Score", "95 % interval", "Change from base", "95 % interval", "p", "Against base"]
    tables = []
    for (test_set, direction), scores in _grouped(scorecard.translation, lambda s: (s.test_set, s.direction)):
        groups: list[Group] = []
        signatures: dict[tuple[str, str], None] = {}
        for metric, rows in _grouped(scores, lambda s: s.metric):
            places = decimals_for(metric, [row.score for row in rows])
            label = metric_style(metric).label
            cells = [[names.cell(row.system), *_score(row, places), *_delta(metric, row.delta, places)] for row in rows]
            groups.append(Group(cells, label, f"{_better(metric)}{_items(rows, 'segments')}"))
            signatures |= {(label, row.signature): None for row in rows if row.signature}
        caption = f"{direction}: {test_set}"
        tables.append(Table(caption, columns, groups, frozenset(columns[1:6]), list(signatures)))
    return tables


def versus_table(scorecard: Scorecard, names: Names) -> Table:
    """Differences between trained systems; a pair given both ways round is shown once, the later system first."""
    columns = ["Metric", "System", "Against", "Difference", "95 % interval", "p", "Result"]
    groups = []
    for (direction, test_set), scores in _grouped(scorecard.translation, lambda s: (s.direction, s.test_set)):
        cells: list[list[Cell]] = []
        for metric, rows in _grouped(scores, lambda s: s.metric):
            places = decimals_for(metric, [row.score for row in rows])
            seen: set[frozenset[str]] = set()
            for row in sorted(rows, key=lambda s: -names.order.get(s.system, 0)):
                for other, delta in row.versus.items():
                    pair = frozenset((row.system, other))
                    if pair not in seen:
                        seen.add(pair)
                        label, system = text(metric_style(metric).label), names.cell(row.system)
                        cells.append([label, system, names.cell(other), *_delta(metric, delta, places)])
        if cells:
            groups.append(Group(cells, f"{direction}: {test_set}"))
    return Table("Paired differences between trained systems", columns, groups, frozenset(columns[3:6]))


def general_table(scorecard: Scorecard, names: Names) -> Table:
    """General ability by suite and metric, with retention where there is something to keep."""
    columns = ["System", "Score", "95 % interval", "Retention, %", "95 % interval", "Against base"]
    groups: list[Group] = []
    signatures: dict[tuple[str, str], None] = {}
    for (suite, metric), rows in _grouped(scorecard.general, lambda s: (s.suite, s.metric)):
        places = decimals_for(metric, [row.score for row in rows])
        label = metric_style(metric).label
        cells = [[names.cell(row.system), *_score(row, places), *_retention(row)] for row in rows]
        groups.append(Group(cells, f"{suite}: {label}", f"{_better(metric)}{_items(rows, 'items')}"))
        signatures |= {(f"{suite}: {label}", row.signature): None for row in rows if row.signature}
    return Table("General ability", columns, groups, frozenset(columns[1:5]), list(signatures))


def cost_table(scorecard: Scorecard, names: Names) -> Table:
    """What each stage cost."""
    columns = [
        "System",
        "Stage",
        "Seconds",
        "Tokens",
        "Supervised tokens",
        "Tokens a second",
        "Peak memory, MB",
        "Device",
    ]
    rows = [
        [
            names.cell(cost.system),
            text(cost.stage),
            Cell(number(cost.seconds)),
            Cell(count(cost.tokens)),
            Cell(count(cost.supervised_tokens)),
            Cell(number(cost.tokens / cost.seconds, 0) if cost.tokens is not None and cost.seconds > 0 else MISSING),
            Cell(number(cost.peak_memory_mb, 0)),
            text(cost.device),
        ]
        for cost in scorecard.cost
    ]
    return Table("Time, tokens and memory by stage", columns, [Group(rows)], frozenset(columns[2:7]))


def loss_table(losses: Mapping[str, Sequence[LossPoint]], names: Names) -> Table:
    """First and last losses in numbers, beside the curves; the last is the mean of the last tenth of the steps."""
    columns = ["System", "Steps", "Tokens", "First loss", "Last loss"]
    rows = []
    for system, points in losses.items():
        if not points:
            continue
        tail = points[-max(1, len(points) // 10) :]
        last = sum(point.loss for point in tail) / len(tail)
        cells = [count(len(points)), count(points[-1].tokens), number(points[0].loss, 3), number(last, 3)]
        rows.append([names.cell(system), *map(Cell, cells)])
    caption = "First and last loss (last: mean of the last tenth of the steps)"
    return Table(caption, columns, [Group(rows)], frozenset(columns[1:]))


def filter_table(filters: Mapping[str, Mapping[str, int]], names: Names) -> Table:
    """How many rationales each filter dropped, and how many were kept."""
    columns = ["Outcome", "Rationales", "Share"]
    groups = []
    for system, counts in filters.items():
        total = sum(counts.values())
        ordered = sorted(counts.items(), key=lambda item: (item[0] != "kept", -item[1], item[0]))
        rows = [[text(reason), Cell(count(n)), Cell(share(n, total))] for reason, n in ordered]
        groups.append(Group(rows, system, f"{count(total)} written"))
    return Table("Rationale filters", columns, groups, frozenset(columns[1:]))


def rejected_table(rows_read: Mapping[str, int], rejected: Mapping[str, Mapping[str, int]]) -> Table:
    """Rows read and rejected by file and reason."""
    columns = ["File", "Rows read", "Reason", "Rows rejected", "Share"]
    rows = []
    for file in dict.fromkeys([*rows_read, *rejected]):
        read = rows_read.get(file)
        reasons = sorted(rejected.get(file, {}).items(), key=lambda item: (-item[1], item[0])) or [("", 0)]
        for reason, n in reasons:
            part = share(n, read) if read is not None else MISSING
            rows.append([Cell(file, "code"), Cell(count(read)), text(reason), Cell(count(n)), Cell(part)])
    return Table("Rows read and rejected", columns, [Group(rows)], frozenset({"Rows read", "Rows rejected", "Share"}))


def rejected_examples_table(rejected: Iterable[Rejected]) -> Table:
    """A few rejected rows with their place."""
    columns = ["File", "Line", "Reason", "Detail"]
    rows = [[Cell(row.file, "code"), Cell(count(row.line)), text(row.reason), text(row.detail)] for row in rejected]
    return Table("Examples of rejected rows", columns, [Group(rows)], frozenset({"Line"}))


def pairs_table(caption: str, columns: tuple[str, str], values: Mapping[str, str]) -> Table:
    """Names and values, for example package versions."""
    return Table(caption, columns, [Group([[text(name), Cell(value, "code")] for name, value in values.items()])])


def _grouped(rows: Iterable[R], key: Callable[[R], K]) -> list[tuple[K, list[R]]]:
    """Return (key, rows) in order of first appearance."""
    groups: dict[K, list[R]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


def _better(metric: str) -> str:
    better = metric_style(metric).better
    return "" if better == "neither" else f"{better} is better, "


def _items(rows: Sequence[TranslationScore] | Sequence[GeneralScore], noun: str) -> str:
    counts = sorted({row.n for row in rows})
    return f"{' or '.join(count(n) for n in counts)} {noun}"


def _score(row: TranslationScore | GeneralScore, places: int) -> list[Cell]:
    return [Cell(number(row.score, places)), Cell(interval(row.ci95, places))]


def _delta(metric: str, delta: Delta | None, places: int) -> list[Cell]:
    if delta is None:
        return [Cell(MISSING), Cell(MISSING), Cell(MISSING), Cell(MISSING, "mark")]
    return [
        Cell(number(delta.value, places, signed=True)),
        Cell(interval(delta.ci95, places, signed=True)),
        Cell(p_value(delta.p)),
        Cell(change_mark(metric, delta.ci95), "mark"),
    ]


def _retention(row: GeneralScore) -> list[Cell]:
    if row.retention is None or row.system == "base":
        return [Cell(MISSING), Cell(MISSING), Cell(MISSING, "mark")]
    bounds = row.retention.ci95
    return [Cell(number(row.retention.percent)), Cell(interval(bounds)), Cell(retention_mark(bounds), "mark")]
