"""The contamination probe in the report: what systems lose where wrong translations are shown to them."""

from __future__ import annotations

from lingraft.evaluation.probe import PROBES
from lingraft.evaluation.scorecard import Scorecard, TranslationScore
from lingraft.evaluation.summary import improvement
from lingraft.reporting.numbers import decimals_for, interval, number
from lingraft.reporting.tables import Cell, Group, Names, Table, text

NOTE = (
    "the same pairs are shown to both, with their own translations and with those of others among them; a model that "
    "learns from their translations loses by the latter; one loses nothing where it knows the direction, or the test "
    "set by heart, where it takes but the form of answers from what it is shown, or where the segments are too few; "
    "compare a test set that was written after the model"
)
NEEDS, KNOWS = "needs right translations", "loses nothing that can be told"


def probe_table(scorecard: Scorecard, names: Names) -> Table | None:
    """Return a row for each system that was probed and each test set; None where none was."""
    metric = next((row.gain.metric for row in scorecard.summary if row.gain), "")
    rows: dict[tuple[str, str, str], TranslationScore] = {
        (row.system, row.test_set, row.direction): row
        for row in scorecard.translation
        if row.metric == metric and row.task == "translation"
    }
    cells, title = [], metric
    for (system, test, direction), wrong in rows.items():
        weights, _, probe = system.rpartition("/")
        right = rows.get((f"{weights}/{PROBES[0]}", test, direction))
        if probe != PROBES[1] or right is None or right.system not in wrong.versus:
            continue
        title, delta = wrong.facts.title, wrong.versus[right.system]
        places = decimals_for(wrong.facts, [right.score, wrong.score])
        once = rows.get((weights, test, direction))
        cells.append(
            [
                names.cell(weights),
                text(f"{test}, {direction}"),
                Cell(number(once.score if once else None, places)),
                Cell(number(right.score, places)),
                Cell(number(wrong.score, places)),
                Cell(number(delta.value, places, signed=True)),
                Cell(interval(delta.ci95, places, signed=True)),
                text(NEEDS if improvement(delta, wrong).ci95[1] < 0 else KNOWS),
            ]
        )
    if not cells:
        return None
    columns = [
        "System",
        "Test set",
        "Nothing shown",
        "Right pairs",
        "Wrong pairs",
        "Difference",
        "95 % interval",
        "Reading",
    ]
    caption = f"Contamination probe: {title} with right and with wrong translations shown"
    return Table(caption, columns, [Group(cells)], frozenset(columns[2:7]), [("Contamination probe", NOTE, "")])
