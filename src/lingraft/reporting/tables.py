"""The tables of the report as values: columns, groups of rows, cells. The template only lays them out."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lingraft.core.tasks import NOUNS
from lingraft.evaluation.scorecard import (
    Delta,
    GeneralScore,
    Interval,
    Scorecard,
    SeedSpread,
    SummaryRow,
    TranslationScore,
)
from lingraft.evaluation.summary_facts import gain_facts, role_facts
from lingraft.reporting.numbers import (
    MISSING,
    change_mark,
    count,
    decimals_for,
    interval,
    number,
    p_value,
    retention_mark,
)
from lingraft.reporting.origins import made
from lingraft.statistics.metric_facts import MetricFacts

R = TypeVar("R")
S = TypeVar("S", bound=TranslationScore | GeneralScore)
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class Cell:
    """`kind`: "text", "number", "system", "mark" or "code". `series` picks the colour of a system; `detail` stands
    below, in small letters."""

    text: str
    kind: str = "number"
    series: int = 0
    headline: bool = False
    detail: str = ""


@dataclass(frozen=True)
class Group:
    """Rows under one heading; `title` is empty where the table has a single group. `suite`: what the filter goes by."""

    rows: Sequence[Sequence[Cell]]
    title: str = ""
    detail: str = ""
    suite: str = ""


@dataclass(frozen=True)
class Table:
    """The first column is the row header; `numeric` names the columns whose title is right-aligned.

    `direction`: what the filter goes by. `signatures`: (label, text, suite) under the table.
    """

    caption: str
    columns: Sequence[str]
    groups: Sequence[Group]
    numeric: frozenset[str] = frozenset()
    signatures: Sequence[tuple[str, str, str]] = ()
    direction: str = ""


@dataclass(frozen=True)
class Names:
    """The systems of a scorecard.

    Attributes:
        order: system -> position.
        series: system -> position of its group, so that the seeds and scales of one system share a colour.
        headline: the system of the big numbers.
    """

    order: Mapping[str, int]
    series: Mapping[str, int]
    headline: str

    @classmethod
    def of(cls, scorecard: Scorecard, headline: str) -> Names:
        """Return the names of a scorecard's systems."""
        systems = scorecard.systems
        groups: dict[str, int] = {}
        for system in systems:
            groups.setdefault(system.group or system.name, len(groups))
        order = {system.name: position for position, system in enumerate(systems)}
        return cls(order, {system.name: groups[system.group or system.name] for system in systems}, headline)

    def cell(self, system: str) -> Cell:
        """Return the row header of a system."""
        return Cell(system, "system", self.series.get(system, len(self.series)), system == self.headline)


def text(value: str | None) -> Cell:
    """Return a left-aligned cell, "-" when there is nothing to say."""
    return Cell(value or MISSING, "text")


def summary_table(scorecard: Scorecard, names: Names) -> Table:
    """One row a system: what a reader looks at first."""
    systems = {system.name: system for system in scorecard.systems}
    gains: dict[str, list[float]] = {}
    for row in scorecard.summary:
        if row.gain:
            gains.setdefault(row.gain.metric, []).append(row.gain.value)
    gained = {metric: gain_facts(metric, scorecard.translation) for metric in gains}
    decimals = {metric: decimals_for(gained[metric], values) for metric, values in gains.items()}
    distances = [row.kl_from_base for row in scorecard.summary if row.kl_from_base is not None]
    offs = [row.off_target_percent for row in scorecard.summary if row.off_target_percent is not None]
    distance = role_facts(scorecard, "divergence", "kl_from_base")
    off = role_facts(scorecard, "off_target", "off_target_percent")
    spreads = {(spread.system, spread.metric): spread for spread in scorecard.seeds if spread.where == "summary"}

    def between_seeds(system: str, metric: str, places: int) -> list[Cell]:
        return [spread_cell(spreads.get((system, metric)), places)] if spreads else []

    decoders = any(system.decoder for system in scorecard.systems)
    rows = []
    for row in scorecard.summary:
        gain = row.gain
        places = decimals[gain.metric] if gain else 1
        rows.append(
            [
                names.cell(row.system),
                text(made(systems[row.system]) if row.system in systems else None),
                _estimate(gain.value if gain else None, gain.ci95 if gain else None, places, signed=True),
                *between_seeds(row.system, "gain", places),
                _estimate(row.retention_mean, retention_interval(scorecard, row)),
                *between_seeds(row.system, "retention_mean", 1),
                Cell(number(row.retention_min)),
                Cell(number(row.kl_from_base, decimals_for(distance, distances))),
                Cell(number(row.off_target_percent, decimals_for(off, offs))),
                Cell(number(row.extraction_failure_percent)),
                Cell(number(row.output_tokens_per_translation)),
                *([Cell(number(row.calls_per_translation))] if decoders else []),
            ]
        )
    metrics = ", ".join(facts.title for facts in gained.values())
    uncertain = ["Between seeds, sd"] if spreads else []
    columns = [
        *(
            "System",
            "Method, tuner",
            f"Gain{f', {metrics}' if metrics else ''}",
            *uncertain,
            "Retention, %",
            *uncertain,
        ),
        *("Lowest, %", distance.label, heading(off), "Not extracted, %", "Tokens a translation"),
        *(["Calls a translation"] if decoders else []),
    ]
    return Table("Every system at a glance, with 95 % intervals", columns, [Group(rows)], frozenset(columns[2:]))


def heading(facts: MetricFacts) -> str:
    """Return the head of a column of a metric's values."""
    return f"{facts.label}, {facts.unit}" if facts.unit else facts.label


def _estimate(value: float | None, ci95: Interval | None, places: int = 1, *, signed: bool = False) -> Cell:
    """Return a value with its interval below."""
    detail = interval(ci95, places, signed=signed) if ci95 is not None else ""
    return Cell(number(value, places, signed=signed), detail=detail)


def spread_cell(spread: SeedSpread | None, places: int) -> Cell:
    """Return the standard deviation between training seeds and their number, "-" without several seeds."""
    return Cell(f"{number(spread.sd, places + 1)} ({len(spread.scores)})" if spread else MISSING)


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
    tables = []
    for (test_set, direction), scores in grouped(scorecard.translation, lambda s: (s.test_set, s.direction)):
        layout = _Layout(scorecard, scores, "segments", lambda s: _places(s.test_set, s.direction))
        groups, signatures = [], []
        for _, rows in grouped(scores, lambda s: s.metric):
            label = rows[0].facts.title
            groups.append(Group(layout.rows(rows, names), label, layout.detail(rows)))
            signatures += [(label, signature, "") for signature in signatures_of(rows)]
        columns = ["System", *layout.score_columns, *layout.delta_columns, "Against base"]
        noun = "" if scores[0].task == "translation" else f", {NOUNS[scores[0].task]}"
        caption = f"{direction}: {test_set}{noun}"
        numeric = frozenset(columns[1:-1])
        tables.append(Table(caption, columns, groups, numeric, [*signatures, *layout.tests()], direction))
    return tables


def general_table(scorecard: Scorecard, names: Names) -> Table:
    """General ability by suite and metric, with retention where there is something to keep."""
    layout = _Layout(scorecard, scorecard.answered, "items", lambda s: [s.suite], retention=True)
    groups, signatures = [], []
    for (suite, _), rows in grouped(scorecard.answered, lambda s: (s.suite, s.metric)):
        title = f"{suite}: {rows[0].facts.title}"
        groups.append(Group(layout.rows(rows, names), title, layout.detail(rows), suite))
        signatures += [(title, signature, suite) for signature in signatures_of(rows)]
    delta_columns = layout.delta_columns if layout.has_deltas else []
    columns = ["System", *layout.score_columns, *delta_columns, "Retention, %", "95 % interval", "Against base"]
    return Table("General ability", columns, groups, frozenset(columns[1:-1]), [*signatures, *layout.tests()])


def versus_tables(scorecard: Scorecard, names: Names) -> list[Table]:
    """Differences between trained systems; a pair given both ways round is shown once, the later system first."""
    tables = []
    for direction, scores in grouped(scorecard.translation, lambda s: s.direction):
        title = f"Paired differences between systems, {direction}"
        tables.append(_versus(scorecard, names, scores, lambda s: s.test_set, title, direction))
    title = "Paired differences between systems, general ability"
    tables.append(_versus(scorecard, names, scorecard.answered, lambda s: s.suite, title))
    return [table for table in tables if table.groups]


def _versus(
    scorecard: Scorecard,
    names: Names,
    scores: Sequence[S],
    place: Callable[[S], str],
    title: str,
    direction: str = "",
) -> Table:
    layout = _Layout(scorecard, scores, "", lambda s: [], versus=True)
    groups = []
    for where, here in grouped(scores, place):
        cells: list[list[Cell]] = []
        for _, rows in grouped(here, lambda s: s.metric):
            facts = rows[0].facts
            places = decimals_for(facts, [row.score for row in rows])
            seen: set[frozenset[str]] = set()
            for row in sorted(rows, key=lambda s: -names.order.get(s.system, 0)):
                for other, delta in row.versus.items():
                    pair = frozenset((row.system, other))
                    if pair not in seen:
                        seen.add(pair)
                        label, system = text(facts.title), names.cell(row.system)
                        mark = Cell(change_mark(facts.better, delta.ci95, delta.p_holm), "mark")
                        cells.append([label, system, names.cell(other), *layout.delta(delta, places), mark])
        if cells:
            groups.append(Group(cells, where, suite="" if direction else where))
    columns = ["Metric", "System", "Against", *layout.delta_columns, "Result"]
    return Table(title, columns, groups, frozenset(columns[3:-1]), layout.tests(), direction)


class _Layout(Generic[S]):
    """The columns that a set of scores needs, and the cells under them."""

    def __init__(
        self,
        scorecard: Scorecard,
        scores: Sequence[S],
        noun: str,
        places: Callable[[S], Sequence[str]],
        *,
        retention: bool = False,
        versus: bool = False,
    ) -> None:
        self.noun, self.places, self.retention = noun, places, retention
        found = [delta for s in scores for delta in ([*s.versus.values()] if versus else [s.delta]) if delta]
        self.deltas = found
        self.has_deltas = bool(found)
        self.holm = any(delta.p_holm is not None for delta in found)
        self.spreads = {(s.system, s.where, s.metric): s for s in scorecard.seeds}
        self.seeded = any(self.spread(row) for row in scores) if not versus else False
        self.score_columns = ["Score", "95 % interval", *(["Between seeds, sd"] if self.seeded else [])]
        change = "Difference" if versus else "Change from base"
        self.delta_columns = [change, "95 % interval", "p", *(["p, Holm"] if self.holm else [])]

    def spread(self, row: S) -> SeedSpread | None:
        keys = [(row.system, where, row.metric) for where in self.places(row)]
        return next((self.spreads[key] for key in keys if key in self.spreads), None)

    def rows(self, rows: Sequence[S], names: Names) -> list[list[Cell]]:
        """Return the cells of one metric's scores."""
        places = decimals_for(rows[0].facts, [row.score for row in rows])
        return [[names.cell(row.system), *self._score(row, places), *self._change(row, places)] for row in rows]

    def detail(self, rows: Sequence[S]) -> str:
        """Say which way is better, how many items there are, and what counts for no retention."""
        better = rows[0].facts.direction
        counts = " or ".join(count(n) for n in sorted({row.n for row in rows}))
        diagnostic = all(isinstance(row, GeneralScore) and row.diagnostic for row in rows)
        return f"{f'{better}, ' if better else ''}{counts} {self.noun}{', diagnostic' if diagnostic else ''}"

    def tests(self) -> list[tuple[str, str, str]]:
        """Say where the p-values are from."""
        tests = list(dict.fromkeys(delta.test for delta in self.deltas))
        holm = "; corrected for the number of comparisons by Holm's method" if self.holm else ""
        return [("p", f"{', '.join(tests)}, two-sided{holm}", "")] if tests else []

    def delta(self, delta: Delta | None, places: int) -> list[Cell]:
        """Return the cells of a difference."""
        if delta is None:
            return [Cell(MISSING)] * len(self.delta_columns)
        cells = [
            Cell(number(delta.value, places, signed=True)),
            Cell(interval(delta.ci95, places, signed=True)),
            Cell(p_value(delta.p)),
        ]
        return [*cells, Cell(MISSING if delta.p_holm is None else p_value(delta.p_holm))] if self.holm else cells

    def _score(self, row: S, places: int) -> list[Cell]:
        cells = [Cell(number(row.score, places)), Cell(interval(row.ci95, places))]
        if self.seeded:
            cells.append(spread_cell(self.spread(row), places))
        return cells

    def _change(self, row: S, places: int) -> list[Cell]:
        delta = row.delta
        mark = Cell(change_mark(row.facts.better, delta.ci95, delta.p_holm) if delta else MISSING, "mark")
        if not self.retention:
            return [*self.delta(delta, places), mark]
        cells = self.delta(delta, places) if self.has_deltas else []
        kept = row.retention if isinstance(row, GeneralScore) and row.system != "base" else None
        if kept is None:
            return [*cells, Cell(MISSING), Cell(MISSING), mark]
        mark = Cell(retention_mark(kept.ci95, delta.p_holm if delta else None), "mark")
        return [*cells, Cell(number(kept.percent)), Cell(interval(kept.ci95)), mark]


def grouped(rows: Iterable[R], key: Callable[[R], K]) -> list[tuple[K, list[R]]]:
    """Return (key, rows) in order of first appearance."""
    groups: dict[K, list[R]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.items())


_WILSON = "|ci:wilson"
"""In a signature: the interval is not from resamples, since every item of this system is right or wrong."""


def signatures_of(rows: Sequence[TranslationScore] | Sequence[GeneralScore]) -> list[str]:
    """Return each signature once.

    Where a metric of counted values happens to be 0 or 1 on all items of some systems, their interval alone is made in
    another way: the signature is shown once, and says of which systems.
    """
    found: dict[str, dict[str, bool]] = {}
    for row in rows:
        if row.signature:
            found.setdefault(row.signature.replace(_WILSON, ""), {})[row.system] = _WILSON in row.signature
    shown: list[str] = []
    for signature, wilson in found.items():
        if all(wilson.values()):
            shown += dict.fromkeys(row.signature for row in rows if row.signature.replace(_WILSON, "") == signature)
        else:
            some = ", ".join(system for system, is_so in wilson.items() if is_so)
            shown.append(f"{signature}{f'{_WILSON} of {some}' if some else ''}")
    return shown


def _places(test_set: str, direction: str) -> list[str]:
    """Return how the scorecard may name a test set and its direction."""
    return [f"{test_set} {direction}", f"{test_set}, {direction}", f"{test_set}/{direction}"]
