"""Preference pairs and penalties on weights in whole runs of a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.evaluation.scorecard import Scorecard
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.rendering.row_files import RenderedRows
from tiny_runs import QUIET, values

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_given_preferences_are_a_second_stage_beside_replay(model: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"source": f"Zeile {i}.", "candidates": [f"Line {i}.", f"Row {i}.", "No."], "scores": [0.9, 0.5, 0.01 * i]}
        for i in range(60)
    ]
    rows[3] = {"source": "Ja.", "chosen": "Yes. " * 3000, "rejected": "No."}  # too long: its partner goes with it
    (tmp_path / "ranked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = values(model, compare=[], checks={"max_tokens": 400})
    (usual,) = recipe["stages"]
    common = {"tuner": usual["tuner"], "train": usual["train"]}
    second = {
        "method": "preferences",
        "params": {"path": str(tmp_path / "ranked.jsonl"), "source": "de", "target": "en", "loss": "dpo"},
        "beside": [{"method": "recovery", "share": 0.3, "params": {"drop_looping": False, "temperature": 1.0}}],
        "objective": [{"kind": "ewc", "samples": 4}, "l2_init", "spd", {"kind": "cpo", "weight": 0.5}],
        **common,
    }
    recipe["stages"] = [{"method": "vanilla", **common}, second]
    recipe["evaluate"]["retention"]["suites"] = recipe["evaluate"]["retention"]["suites"][:1]
    folder = tmp_path / "run"
    run(parse_recipe(recipe, "test", Path("/")), folder, QUIET)
    (made,) = folder.glob("rows-preferences+recovery-*")
    rendered = RenderedRows(made / "rows")
    assert rendered.signs is not None
    signs = rendered.signs.tolist()
    assert signs[: signs.index(0)] == [1, -1] * 59
    (trained,) = folder.glob("train-preferences+recovery-*")
    steps = [json.loads(line) for line in (trained / "losses.jsonl").read_text().splitlines()]
    assert set().union(*(step["objectives"] for step in steps)) == {"dpo", "cpo", "ewc", "l2_init", "spd"}
    assert Scorecard.read(folder / "scorecard.json").translation
    assert (folder / "graft" / "adapter_model.safetensors").is_file()
