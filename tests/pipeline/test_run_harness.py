"""Runs with suites of lm-eval's tasks, and what a second run in the same folder asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.progress import Reporter
from lingraft.engines import likelihood
from lingraft.engines.transformers import TransformersEngine
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from models_support import save_tiny_model

QUIET = Reporter(quiet=True)
ROWS = {
    "hellaswag": {"activity_label": "Cooking", "ctx_a": "A cook takes eggs.", "ctx_b": "she", "label": "1"}
    | {"endings": ["boils them.", "sings.", "flies away.", "sells them."]},
    "piqa": {"goal": "Open a door", "sol1": "Turn the handle", "sol2": "Boil the handle", "label": 0},
    "gsm8k": {"question": "What is 1 and 1?", "answer": "Twice 1.\n#### 2"},
}


def recipe(model: Path, folder: Path, *tasks: str) -> Any:
    """A run that trains one system and is evaluated on tasks."""
    suites = []
    for task in tasks:
        path = folder / f"{task}.jsonl"
        path.write_text("".join(json.dumps(ROWS[task]) + "\n" for _ in range(2)), "utf-8")
        suites.append({"kind": "harness", "name": task, "tasks": [f"local:{task}"], "path": str(path)})
        if task == "gsm8k":
            suites[-1]["max_new_tokens"] = 5
    source = {"source": "de", "target": "en"}
    values = {
        "name": "tiny",
        "model": str(model),
        "engine": "transformers",
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 16, **source},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 6, **source},
        },
        "stages": [
            {"method": "vanilla", "tuner": {"kind": "lora", "rank": 2}, "train": {"precision": "fp32"}},
        ],
        "evaluate": {"bootstrap": 100, "translation": {"max_new_tokens": 8}, "retention": {"suites": suites}},
        "seed": 7,
    }
    return parse_recipe(values, "test", Path("/"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of everything that is generated or measured, as it happens."""
    noted: list[str] = []
    answers, scores = TransformersEngine._answers, likelihood._Scorer.score

    def answering(self: Any, requests: Any) -> Any:
        listed = list(requests)
        noted.extend(request.id for request in listed)
        return answers(self, listed)

    def scoring(self: Any, trees: Any, continuations: Any) -> Any:
        noted.extend(f"likelihood {i}" for tree in trees for i in tree.wanted)
        return scores(self, trees, continuations)

    monkeypatch.setattr(TransformersEngine, "_answers", answering)
    monkeypatch.setattr(likelihood._Scorer, "score", scoring)
    return noted


def figures(folder: Path) -> Any:
    card = json.loads((folder / "scorecard.json").read_text("utf-8"))
    timeless = [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in card["summary"]]
    return card["translation"], card["general"], timeless


def test_an_added_suite_is_asked_alone_and_gives_what_a_whole_run_gives(tmp_path: Path, asked: list[str]) -> None:
    model = save_tiny_model(tmp_path / "model", seed=3)
    run(recipe(model, tmp_path, "hellaswag"), tmp_path / "grown", QUIET)
    first = list(asked)
    assert sum(id_.startswith("likelihood") for id_ in first) == 2 * 4  # base and graft; two equal items are one
    assert len([id_ for id_ in first if not id_.startswith("likelihood")]) == 2 * 6  # test pairs

    asked.clear()
    run(recipe(model, tmp_path, "hellaswag", "piqa", "gsm8k"), tmp_path / "grown", QUIET, replace=True)
    assert sum(id_.startswith("likelihood") for id_ in asked) == 2 * 2
    assert len([id_ for id_ in asked if not id_.startswith("likelihood")]) == 2
    assert {id_.partition("/")[0] for id_ in asked if not id_.startswith("likelihood")} == {"gsm8k"}

    asked.clear()
    run(recipe(model, tmp_path, "piqa", "gsm8k"), tmp_path / "grown", QUIET, replace=True)  # nothing is asked
    assert asked == []

    run(recipe(model, tmp_path, "hellaswag", "piqa", "gsm8k"), tmp_path / "whole", QUIET)
    run(recipe(model, tmp_path, "hellaswag", "piqa", "gsm8k"), tmp_path / "grown", QUIET, replace=True)
    assert figures(tmp_path / "grown") == figures(tmp_path / "whole")
    rows = figures(tmp_path / "whole")[1]
    assert {(row["suite"], row["metric"]) for row in rows if row["system"] == "base"} == {
        ("hellaswag", "acc"),
        ("hellaswag", "acc_norm"),
        ("piqa", "acc"),
        ("piqa", "acc_norm"),
        ("gsm8k", "exact_match,strict-match"),
        ("gsm8k", "exact_match,flexible-extract"),
    }
    assert all("lm-eval:" in row["signature"] for row in rows)
