"""A run whose loss has objectives: three remedies at once, and a compared system without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.pipeline.dry_run import estimate
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from tiny_runs import QUIET, values

REPLAY = {"method": "recovery", "share": 0.3, "params": {"temperature": 1.0, "drop_looping": False}}
OBJECTIVES = [{"kind": "kl_base", "weight": 0.1, "on": ["replay", "translation"]}, "eaft", "stm", "cc"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(model: Path, objective: Any = OBJECTIVES) -> Recipe:
    made = values(model, compare=[{"name": "plain", "objective": []}])
    (stage,) = made["stages"]
    stage["params"] |= {"targets": "soft", "top_k": 4}
    stage |= {"name": "guarded", "beside": [REPLAY], "objective": objective}
    made["evaluate"]["retention"]["suites"] = made["evaluate"]["retention"]["suites"][:1]
    return parse_recipe(made, "test", Path("/"))


def test_a_pass_of_the_base_is_in_the_estimate(model: Path) -> None:
    def hours(objective: Any) -> float:
        lines = estimate(recipe(model, objective)).lines
        return next(line.hours for line in lines if line.stage == "train-guarded")

    assert hours("kl_base") == pytest.approx(hours([]) * 6.5 / 4.5)
    assert hours("eaft") == hours([])


@pytest.mark.long
def test_soft_targets_replay_and_objectives_together(model: Path, tmp_path: Path) -> None:
    run(recipe(model), tmp_path / "run", QUIET)
    told = {}
    for system in ("guarded", "plain"):
        (folder,) = (tmp_path / "run").glob(f"train-{system}-*")
        told[system] = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    assert all("kl_base" in step["objectives"] for step in told["guarded"])  # a step may have no reference
    assert all(not step["objectives"] for step in told["plain"])
    masked = [step["objectives"] for step in told["guarded"] if "stm" in step["objectives"]]
    assert masked
    assert all(set(one) == {"kl_base", "eaft", "stm", "cc"} for one in masked)
    assert all(0 <= one["stm"] <= one["cc"] <= 1 for one in masked)  # what stm keeps, the base would write itself
    assert told["guarded"][0]["objectives"]["kl_base"] == pytest.approx(0, abs=1e-5)  # nothing has learnt yet
    assert told["guarded"][-1]["objectives"]["kl_base"] > 1e-3
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Objective kl_base" in page
    assert "objective eaft" in page
