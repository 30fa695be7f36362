"""A run that measures translations and summaries: each by the metrics of its task, gains by those of translation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.evaluation.compared_run import read_runs
from lingraft.evaluation.comparison import compare
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.scoring import Resampling
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from models_support import save_tiny_model
from tiny_runs import QUIET, values

pytestmark = pytest.mark.long

TEXT = "The old ferry across the river stops for good in spring. A bridge of steel and wood has taken most of its cars."
GERMAN = "Die alte Fähre über den Fluss stellt im Frühling den Betrieb ein, weil die meisten Autos die Brücke nehmen."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("summaries")
    save_tiny_model(root / "model")
    rows = [{"id": f"d{n}", "source": f"{TEXT} It is boat {n}.", "target": GERMAN} for n in range(4)]
    (root / "documents.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = values(root / "model", compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}}
    documents = {"path": str(root / "documents.jsonl"), "source": "en", "target": "de", "task": "summary"}
    made["pairs"]["test"] = [made["pairs"]["test"], documents]
    made["evaluate"] |= {"summary": {"max_new_tokens": 10, "metrics": ["length_ratio", "off_target"]}}
    made["evaluate"]["retention"] = {"suites": [{"kind": "refusal", "max_prompts": 4, "max_new_tokens": 8}]}
    run(parse_recipe(made, "test", Path("/")), root / "run", QUIET)
    return root / "run"


def test_each_task_has_its_metrics_and_the_gain_is_of_translation(folder: Path) -> None:
    card = Scorecard.read(folder / "scorecard.json")
    measured = {(row.task, row.direction): set[str]() for row in card.translation}
    for row in card.translation:
        measured[row.task, row.direction].add(row.metric)
    assert measured == {
        ("translation", "de-en"): {"bleu", "chrf++", "off_target"},
        ("summary", "en-de"): {"length_ratio", "off_target"},
    }
    own = card.summary[-1]
    assert own.gain is not None
    assert own.gain.metric == "chrf++"
    off = [row.score for row in card.translation if (row.task, row.metric) == ("translation", "off_target")]
    assert own.off_target_percent == off[-1]
    assert card.averages == []  # off-target translations and summaries are two things
    tokens = [json.loads(line) for line in (folder / "outputs.jsonl").read_text("utf-8").splitlines()]
    assert {row["group"] for row in tokens} >= {"de-en", "en-de"}


def test_reports_and_comparisons_tell_the_tasks_apart(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert "<h2>Translation and summaries</h2>" in page
    assert "en-de: documents, summaries in another language" in page
    assert "Summarising in another language is measured on" in page
    frontier = compare(read_runs([folder]), Resampling(100, 1))
    assert frontier.metric == "chrf++"
    assert [row.gain is not None for row in frontier.rows] == [True, True]
    lines = [json.loads(line) for line in (folder / "items.jsonl").read_text("utf-8").splitlines()]
    assert {line.get("task", "translation") for line in lines if "direction" in line} == {"translation", "summary"}
