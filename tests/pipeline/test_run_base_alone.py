"""A run of the base alone: asked once, and by a decoder of summaries; nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.evaluation.scorecard import Scorecard
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from models_support import save_tiny_model
from tiny_runs import QUIET

pytestmark = pytest.mark.long

TEXT = "The old ferry across the river stops for good in spring. A bridge of steel and wood has taken most of its cars."
GERMAN = "Die alte Fähre über den Fluss stellt im Frühling den Betrieb ein, weil die meisten Autos die Brücke nehmen."


def test_the_base_is_measured_with_its_decoder(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    rows = [{"id": f"d{n}", "source": f"{TEXT} It is boat {n}.", "target": GERMAN} for n in range(2)]
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    documents = {"path": str(tmp_path / "documents.jsonl"), "source": "en", "target": "de", "task": "summary"}
    made = {
        "name": "base",
        "model": str(tmp_path / "model"),
        "pairs": {"test": documents},
        "stages": [],
        "evaluate": {
            "bootstrap": 100,
            "summary": {"max_new_tokens": 6, "metrics": ["rougeL", "rougeLsum", "off_target"]},
            "decoders": [{"kind": "sitr"}],
            "retention": {"suites": []},
            "gate": ["gain>=-100"],
        },
    }
    run(parse_recipe(made, "test", Path("/")), tmp_path / "run", QUIET)
    card = Scorecard.read(tmp_path / "run" / "scorecard.json")
    assert [system.name for system in card.systems] == ["base", "base/sitr"]
    assert {(row.system, row.task, row.metric) for row in card.translation} == {
        (system, "summary", metric)
        for system in ("base", "base/sitr")
        for metric in ("rougeL", "rougeLsum", "off_target")
    }
    (base, sitr) = card.summary
    assert sitr.gain is not None
    assert sitr.gain.metric == "rougeL"
    assert base.calls_per_translation == 1
    assert 1 <= (sitr.calls_per_translation or 0) <= 4
    shown = [json.loads(line) for line in (tmp_path / "run" / "outputs.jsonl").read_text("utf-8").splitlines()]
    assert next(iter(shown[0]["steps"]["base/sitr"])) == "summaries"
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<h2>Summaries</h2>" in page
    assert not (tmp_path / "run" / "graft").exists()
