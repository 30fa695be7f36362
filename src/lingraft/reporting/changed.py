"""Items that changed from the base, for the report and the card: net of chance, and a few of them with answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lingraft.data.records import SideBySide
from lingraft.evaluation.changed import most_forgotten
from lingraft.evaluation.scorecard import Changed, ChangedOverSeeds, GeneralScore, Scorecard
from lingraft.evaluation.scoring import BASE
from lingraft.reporting.numbers import MISSING, count, interval, number, p_value
from lingraft.reporting.tables import Cell, Group, Names, Table, grouped, text

EXAMPLES = 2
"""Shown of each kind, system and metric."""
_ANSWER = 240
"""Characters of an answer; the outputs have the whole."""

_HOW = (
    "items that guessing flips, each way: wrong in both x c / (1 - c), c what guessing scores, and no more than the "
    "rarer kind of flip (after arXiv 2510.17776); forgotten = 100 x (right to wrong - by chance) / (right in base - "
    "c x items), learnt likewise, so that retention = 100 - forgotten + learnt"
)


def changed_table(scorecard: Scorecard, names: Names) -> Table:
    """Return one row a system and metric whose items are right or wrong; no groups where there is none."""
    rows = [(row, row.changed) for row in scorecard.answered if row.changed]
    holm = any(row.delta and row.delta.p_holm is not None for row, _ in rows)
    groups = []
    for (suite, metric), here in grouped(rows, lambda pair: (pair[0].suite, pair[0].metric)):
        cells = [_cells(row, changed, names, holm) for row, changed in here]
        pooled = [one for one in scorecard.changed_over_seeds if (one.suite, one.metric) == (suite, metric)]
        cells += [_mean_cells(one, names, holm) for one in pooled]
        first = here[0][0]
        detail = f"{count(first.n)} items{', diagnostic' if first.diagnostic else ''}"
        groups.append(Group(cells, f"{suite}: {first.facts.title}", detail, suite))
    columns = [
        *("System", "Right in base", "Right to wrong", "Wrong to right", "By chance, each", "Forgotten, %"),
        *("95 % interval", "Learnt, %", "p", *(["p, Holm"] if holm else [])),
    ]
    tests = dict.fromkeys([row.delta.test for row, _ in rows if row.delta])
    tests |= dict.fromkeys(f"{one.test} (means)" for one in scorecard.changed_over_seeds)
    signatures = [("By chance", _HOW, "")]
    if tests:
        corrected = "; corrected for the number of comparisons by Holm's method" if holm else ""
        signatures.append(("p", f"{', '.join(tests)}, two-sided{corrected}", ""))
    caption = "Items that changed: right in the base and wrong now, and the other way round"
    return Table(caption, columns, groups, frozenset(columns[1:]), signatures)


def _cells(row: GeneralScore, changed: Changed, names: Names, holm: bool) -> list[Cell]:
    lost, delta = changed.forgotten, row.delta
    tested = [p_value(delta.p) if delta else MISSING]
    if holm:
        tested.append(p_value(delta.p_holm) if delta and delta.p_holm is not None else MISSING)
    return [
        names.cell(row.system),
        Cell(count(changed.base_right)),
        Cell(count(changed.right_to_wrong)),
        Cell(count(changed.wrong_to_right)),
        Cell(number(changed.by_chance)),
        Cell(number(lost.percent if lost else None)),
        Cell(interval(lost.ci95) if lost else MISSING),
        Cell(number(changed.learnt_percent)),
        *map(Cell, tested),
    ]


def _mean_cells(one: ChangedOverSeeds, names: Names, holm: bool) -> list[Cell]:
    own, lost = names.cell(one.system), one.forgotten
    return [
        replace(own, text=f"{one.system}, mean of {one.trainings} seeds"),
        Cell(count(one.base_right)),
        *(Cell(number(items)) for items in (one.right_to_wrong, one.wrong_to_right, one.by_chance)),
        Cell(number(lost.percent if lost else None)),
        Cell(interval(lost.ci95) if lost else MISSING),
        Cell(number(one.learnt_percent)),
        Cell(p_value(one.p)),
        *([Cell(MISSING)] if holm else []),
    ]


def changed_examples(scorecard: Scorecard, examples: Sequence[SideBySide], names: Names) -> Table:
    """Return a few of the items that changed, with what base and system answered; none of diagnostics.

    Args:
        scorecard: names the items.
        examples: with the answers; an item without any, such as one that is scored by likelihood, has its id alone.
        names: of the systems.
    """
    known = {(one.group, one.id): one.outputs for one in examples}
    groups = []
    for (suite, _), rows in grouped(scorecard.answered, lambda row: (row.suite, row.metric)):
        cells = []
        for row in rows:
            changed = None if row.diagnostic else row.changed
            kinds = [("lost", changed.lost_ids), ("gained", changed.gained_ids)] if changed else []
            for kind, ids in kinds:
                for id_ in ids[:EXAMPLES]:
                    outputs = known.get((suite, id_), {})
                    answers = [text(_short(outputs.get(name, ""))) for name in (BASE, row.system)]
                    words = "right to wrong" if kind == "lost" else "wrong to right"
                    cells.append([names.cell(row.system), text(words), Cell(id_, "code"), *answers])
        if cells:
            groups.append(Group(cells, f"{suite}: {rows[0].facts.title}", suite=suite))
    return Table("Some of the items that changed", ["System", "Change", "Item", "Base", "System's answer"], groups)


def _short(answer: str) -> str:
    words = " ".join(answer.split())
    return words if len(words) <= _ANSWER else f"{words[:_ANSWER].rstrip()} ..."


def changed_line(scorecard: Scorecard, system: str) -> str:
    """Return in a sentence what a system forgot of the suite where it is most; empty where no suite says."""
    row = most_forgotten(scorecard.answered, system)
    if row is None or row.changed is None or row.changed.forgotten is None:
        return ""
    changed, lost = row.changed, row.changed.forgotten
    return (
        f"Of the items that the base had right, {number(lost.percent)} % {interval(lost.ci95)} are wrong now, net of "
        f"chance, in the suite where it is most ({row.suite}, {row.facts.title}: {count(changed.right_to_wrong)} of "
        f"{count(changed.base_right)} went from right to wrong, {count(changed.wrong_to_right)} from wrong to right)."
    )
