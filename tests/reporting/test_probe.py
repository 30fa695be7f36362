"""The contamination probe in the report: who loses by wrong pairs, and who does not."""

from __future__ import annotations

from typing import Any

from lingraft.evaluation.probe import is_probe
from lingraft.evaluation.scorecard import SummaryRow, TranslationScore
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.decoding import decoder_notes
from lingraft.reporting.probe import KNOWS, NEEDS, probe_table
from lingraft.reporting.tables import Names


def row(system: str, test: str, score: float, **versus: tuple[float, float, float]) -> TranslationScore:
    deltas = {f"base/{name.replace('_', '-')}": delta(*values) for name, values in versus.items()}
    return TranslationScore.model_validate(
        {
            "system": system,
            "test_set": test,
            "direction": "de-en",
            "metric": "chrf++",
            "label": "chrF++",
            "better": "higher",
            "decimals": 1,
            "signature": "s",
            "n": 9,
            "score": score,
            "ci95": (score - 1, score + 1),
            "versus": deltas,
        }
    )


def delta(value: float, low: float, high: float) -> dict[str, Any]:
    return {"value": value, "ci95": (low, high), "p": 0.5}


def test_a_table_says_who_needs_what_is_shown(contents: ReportContents) -> None:
    scorecard = contents.scorecard
    systems = [scorecard.systems[0]]
    systems += [
        scorecard.systems[0].model_copy(update={"name": f"base/{name}", "weights": "base", "decoder": "icl"})
        for name in ("probe-right", "probe-wrong")
    ]
    gain = {"metric": "chrf++", "value": 1.0, "ci95": (0.0, 2.0)}
    card = scorecard.model_copy(
        update={
            "systems": systems,
            "summary": [SummaryRow.model_validate({"system": "base/probe-right", "gain": gain})],
            "translation": [
                row("base", "public", 40.0),
                row("base/probe-right", "public", 44.0),
                row("base/probe-wrong", "public", 43.9, probe_right=(-0.1, -0.8, 0.6)),
                row("base/probe-right", "private", 33.0),
                row("base/probe-wrong", "private", 21.0, probe_right=(-12.0, -14.0, -9.5)),
            ],
        }
    )
    table = probe_table(card, Names.of(card, "base"))
    assert table is not None
    shown = [[cell.text for cell in cells] for cells in table.groups[0].rows]
    assert [cells[1:] for cells in shown] == [
        ["public, de-en", "40.0", "44.0", "43.9", "\u22120.1", "[\u22120.8, +0.6]", KNOWS],
        ["private, de-en", "-", "33.0", "21.0", "\u221212.0", "[\u221214.0, \u22129.5]", NEEDS],
    ]
    assert probe_table(scorecard, Names.of(scorecard, "base")) is None
    assert decoder_notes(card) == []
    assert [is_probe(name) for name in ("base/probe-wrong", "probe-wrong", "base/icl")] == [True, False, False]
