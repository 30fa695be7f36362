"""The tables of a bench's page: rows with scores and costs, differences, what was forgotten, what rows change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lingraft.core.figures import value_text
from lingraft.core.printable import printable
from lingraft.evaluation.changed import MeanChange
from lingraft.evaluation.compared_row import GAIN, RETENTION, ComparisonRow, Measured
from lingraft.evaluation.comparison import LEVEL, Frontier, SystemPair
from lingraft.evaluation.scoring import BASE
from lingraft.reporting.bench_contents import BenchLine, BenchSection, Chosen
from lingraft.reporting.comparison_page import forgotten, gain_places, heading, mark_of, series_of
from lingraft.reporting.numbers import MISSING, change_mark, count, decimals_for, interval, number, p_value
from lingraft.reporting.tables import Cell, Group, Table, grouped, text
from lingraft.statistics.paired_tests import holm

_WHOLE = 200
"""Characters of a change to the recipe that are shown; the bench file has the whole."""


@dataclass(frozen=True)
class TrainingCost:
    """What a training of a row took: seconds and real (unpadded) tokens; None where it trains nothing.

    Attributes:
        synthesis: seconds in which models wrote what is trained on; further trainings share it.
        training: seconds.
        tokens: read in training, as often as they are.
        supervised: those of them that the model learns to write.
    """

    synthesis: float | None
    training: float | None
    tokens: int | None
    supervised: int | None


_NOTHING = TrainingCost(None, None, None, None)


def training_cost(line: BenchLine, row: ComparisonRow) -> TrainingCost:
    """Return the cost of a row: the mean over its trainings."""
    costs = [one for one in (line.run.scorecard.cost if line.run else ()) if one.system in row.trainings]
    written = [one.seconds for one in costs if one.stage.startswith("synthesis")]
    trained = [one for one in costs if one.stage == "training"]
    selected = [one for one in costs if one.stage == "selection"]  # by a first pass of training
    trainings = max(1, len({one.system for one in trained}))
    return TrainingCost(
        sum(written) if written else None,
        sum(one.seconds for one in (*selected, *trained)) / trainings if trained else None,
        round(sum(one.tokens or 0 for one in trained) / trainings) if trained else None,
        round(sum(one.supervised_tokens or 0 for one in trained) / trainings) if trained else None,
    )


def rows_table(section: BenchSection) -> Table:
    """Return the table of the rows: what each gained, kept, forgot and cost; those that are not run say why."""
    frontier, reference = section.frontier, section.reference
    seeds = frontier is not None and any(len(row.trainings) > 1 for row in frontier.rows)
    against = [BASE, *([reference] if reference else [])]
    gained = f"Gain, {frontier.facts.title}" if frontier and frontier.metric else "Gain"
    stated = any(line.state for line in section.lines)  # first, where it is seen
    columns = [
        *("Row", *(["Status"] if stated else []), gained, "Retention, %", "Lowest, %", "Most forgotten, %"),
        *("Frontier", "Synthesis, s", "Training, s", "Tokens read", "Supervised"),
        *(f"{measure} against {name}" for measure in ("Gain", "Retention") for name in against),
        *(["Trainings, sd of gain and retention"] if seeds else []),
    ]
    words = {"Row", "Frontier", "Status", f"Gain against {BASE}", f"Retention against {BASE}"}
    rows = []
    if frontier is not None:
        base = next(row for row in frontier.rows if row.name == BASE)
        rows.append([Cell(BASE, "system"), text(""), *_cells(section, frontier, base, _NOTHING, seeds)])
    for line in section.lines:
        measured = section.measured(line)
        for row in measured if frontier else ():
            assert frontier is not None, "else nothing is measured"
            name = Cell(row.name, "system", series_of(frontier)[row.name], mark_of(row) == "Pareto")
            rows.append(
                [name, text(line.state or "done"), *_cells(section, frontier, row, training_cost(line, row), seeds)]
            )
        if not measured:
            nothing = [Cell(MISSING, "text" if column in words else "number") for column in columns[1 + stated :]]
            rows.append([text(line.row.name), text(line.state), *nothing])
    rows = rows if stated else [[row[0], *row[2:]] for row in rows]
    return Table(f"{section.title}, with 95 % intervals", columns, [Group(rows)], frozenset(columns) - words)


def _cells(
    section: BenchSection, frontier: Frontier, row: ComparisonRow, cost: TrainingCost, seeds: bool
) -> list[Cell]:
    places, of_base = gain_places(frontier), row.name == BASE
    percent, bounds, suite = forgotten(row)
    cells = [
        Cell(MISSING) if of_base else _estimate(row.gain, places, signed=True),
        Cell(number(row.retention.value)) if of_base and row.retention else _estimate(row.retention, 1, signed=False),
        Cell(number(row.lowest)),
        Cell(number(percent), detail=f"{bounds} {suite}".strip()),
        text("" if of_base else mark_of(row)),
        *(Cell(number(one, 0)) for one in (cost.synthesis, cost.training, cost.tokens, cost.supervised)),
    ]
    for measure, decimals in ((GAIN, places), (RETENTION, 1)):
        cells.append(Cell(_mark(_pair(frontier, row.name, BASE, measure)), "mark"))
        if section.reference:
            cells.append(_difference(_pair(frontier, row.name, section.reference, measure), decimals))
    if seeds:
        spread = f"{number(row.spread.get(GAIN), places + 1)} and {number(row.spread.get(RETENTION))}"
        several = len(row.trainings) > 1
        cells.append(Cell(MISSING if of_base else count(len(row.trainings)), detail=spread if several else ""))
    return cells


def _estimate(found: Measured | None, places: int, *, signed: bool) -> Cell:
    detail = interval(found.ci95, places, signed=signed) if found else ""
    return Cell(number(found.value if found else None, places, signed=signed), detail=detail)


def _pair(frontier: Frontier, first: str, second: str, measure: str) -> SystemPair | None:
    found = (pair for pair in frontier.pairs if (pair.first, pair.second, pair.measure) == (first, second, measure))
    return next(found, None)


def _mark(pair: SystemPair | None) -> str:
    return change_mark("higher", pair.delta.ci95, pair.delta.p_holm) if pair else MISSING


def _difference(pair: SystemPair | None, places: int) -> Cell:
    if pair is None:
        return Cell(MISSING)
    bounds = interval(pair.delta.ci95, places, signed=True)
    return Cell(number(pair.delta.value, places, signed=True), detail=f"{bounds} {_mark(pair)}")


def differences_table(title: str, frontier: Frontier) -> Table:
    """Return every difference that is tested, with p as it is and corrected."""
    groups, series = [], series_of(frontier)
    for measure, unit, places in ((GAIN, frontier.facts.title, gain_places(frontier)), (RETENTION, "%", 1)):
        rows = [
            [
                Cell(pair.first, "system", series[pair.first]),
                Cell(pair.second, "system", series[pair.second]),
                Cell(number(pair.delta.value, places, signed=True)),
                Cell(interval(pair.delta.ci95, places, signed=True)),
                Cell(p_value(pair.delta.p)),
                Cell(p_value(1.0 if pair.delta.p_holm is None else pair.delta.p_holm)),
                Cell(_mark(pair), "mark"),
            ]
            for pair in frontier.pairs
            if pair.measure == measure
        ]
        if rows:
            groups.append(Group(rows, f"{measure.capitalize()}, {unit}"))
    columns = ["Row", "Against", "Difference", "95 % interval", "p", "p, Holm", "Result"]
    return Table(f"Paired differences, {title}", columns, groups, frozenset(columns[2:-1]))


def forgotten_table(frontier: Frontier) -> Table:
    """Return for each suite whose items are right or wrong how many each row lost and gained, corrected over all."""
    rows = [(row, one) for row in frontier.rows for one in row.changed]
    corrected = holm([one.p for _, one in rows])
    tested = [(row, one, p) for (row, one), p in zip(rows, corrected, strict=True)]
    series, groups = series_of(frontier), []
    for (suite, metric), here in grouped(tested, lambda found: (found[1].suite, found[1].metric)):
        cells = [[Cell(row.name, "system", series[row.name]), *_changed(one, p)] for row, one, p in here]
        known = frontier.questions.get(f"{suite} {metric}")
        groups.append(Group(cells, f"{suite}: {known[1].title if known else metric}"))
    columns = [
        *("Row", "Right in base", "Right to wrong", "Wrong to right", "By chance, each", "Forgotten, %"),
        *("95 % interval", "Learnt, %", "p", "p, Holm", "Result"),
    ]
    tests = ", ".join(dict.fromkeys(one.test for _, one in rows))
    means = "; counts are means over trainings" if any(one.trainings > 1 for _, one in rows) else ""
    how = [
        ("p", f"{tests}, two-sided; Holm's method over the {len(rows)} comparisons of this table", ""),
        ("By chance", f"items that guessing is expected to have flipped, each way{means}", ""),
    ]
    caption = "Items that changed: right in the base and wrong now, and the other way round"
    return Table(caption, columns, groups, frozenset(columns[1:-1]), how)


def _changed(one: MeanChange, p_holm: float) -> list[Cell]:
    lost, places = one.forgotten, 0 if one.trainings == 1 else 1
    worse = one.right_to_wrong > one.wrong_to_right
    return [
        Cell(count(one.base_right)),
        *(Cell(number(value, places)) for value in (one.right_to_wrong, one.wrong_to_right)),
        Cell(number(one.by_chance)),
        Cell(number(lost.percent if lost else None)),
        Cell(interval(lost.ci95) if lost else MISSING),
        Cell(number(one.learnt_percent)),
        Cell(p_value(one.p)),
        Cell(p_value(p_holm)),
        Cell("n.s." if p_holm >= LEVEL else "below base" if worse else "above base", "mark"),
    ]


def scores_table(frontier: Frontier) -> Table:
    """Return every common score of every row."""
    columns = ["Row", *(heading(frontier, name) for name in frontier.questions)]
    places = {
        name: decimals_for(facts, [row.scores[name] for row in frontier.rows if name in row.scores])
        for name, (_, facts) in frontier.questions.items()
    }
    series = series_of(frontier)
    rows = [
        [
            Cell(row.name, "system", series[row.name]),
            *(Cell(number(row.scores.get(name), decimals)) for name, decimals in places.items()),
        ]
        for row in frontier.rows
    ]
    return Table("Scores", columns, [Group(rows)], frozenset(columns[1:]))


def changes_table(section: BenchSection) -> Table:
    """Return what each row changes in the recipe, and what was chosen for it."""
    chosen = any(line.row.choice for line in section.lines)
    rows = [
        [
            text(line.row.name),
            Cell(changes_words(line.row.set), "code") if line.row.set else text("the recipe as it is"),
            *([text(chosen_words(line.row.choice))] if chosen else []),
            text(line.state or "done"),
        ]
        for line in section.lines
    ]
    columns = ["Row", "Changes to the recipe", *(["Chosen on the development set"] if chosen else []), "Status"]
    return Table("What the rows are", columns, [Group(rows)])


def changes_words(changes: Mapping[str, object]) -> str:
    """Return changes to a recipe in one line."""
    words = "; ".join(f"{key}: {value_text(value)}" for key, value in changes.items())
    return printable(words, _WHOLE)


def chosen_words(choice: Chosen | None) -> str:
    """Return what was chosen for a row, and by which figures."""
    if choice is None:
        return ""
    tried = [f"{value_text(one.value)}: {dev_figure(one.dev, choice.by)}" for one in choice.candidates]
    like = f", as {choice.like}" if choice.like else ""
    edge = f", best at the {choice.edge} tried" if choice.edge else ""
    by = f" by {choice.by}" if choice.by else ""
    figures = f" ({'; '.join(tried)})" if tried else ""
    return f"{choice.key} {value_text(choice.value)}{by}{edge}{like}{figures}"


def dev_figure(dev: Mapping[str, float] | None, by: str) -> str:
    """Return what the development set said of a value that was tried.

    Args:
        dev: figures by name; None where training was spoilt.
        by: the one by which it is chosen, "loss" or "chrf".
    """
    if dev is None:
        return "spoilt"
    return number(dev.get(by), 4 if by == "loss" else 2)
