"""Methods that learn from a teacher or from the graft of the stage before, in whole runs of a tiny random model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.pipeline.answers import read_answers
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from tiny_runs import QUIET, values

pytestmark = pytest.mark.long

TEACHER = {"kind": "scripted", "rules": [{"answer": " The teacher says that the harbour is near."}]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def executed(model: Path, folder: Path, *stages: dict[str, Any]) -> Path:
    recipe = values(model, compare=[])
    (usual,) = recipe["stages"]
    recipe["stages"] = [{"tuner": usual["tuner"], "train": usual["train"], **stage} for stage in stages]
    recipe["evaluate"]["retention"]["suites"] = recipe["evaluate"]["retention"]["suites"][:1]
    run(parse_recipe(recipe, "test", Path("/")), folder, QUIET)
    return folder


def filters(folder: Path, system: str) -> dict[str, int]:
    (rows,) = folder.glob(f"rows-{system}-*")
    return dict(json.loads((rows / "filters.json").read_text()))


def test_seqkd_learns_a_teachers_translations(model: Path, tmp_path: Path) -> None:
    folder = executed(model, tmp_path / "run", {"method": "seqkd", "params": {"teacher": TEACHER}})
    assert filters(folder, "seqkd") == {"kept": 24}
    (trained,) = folder.glob("train-seqkd-*")
    assert "The teacher says" in (trained / "example.txt").read_text("utf-8")


def test_a_further_stage_of_radis_has_rationales_of_the_graft_before_it(model: Path, tmp_path: Path) -> None:
    params = {"max_rationale_tokens": 16, "filters": [], "min_rationale_words": 0, "targets": "soft", "top_k": 4}
    refreshed = {"method": "radis", "name": "refreshed", "params": {**params, "rationales": "before"}}
    folder = executed(model, tmp_path / "run", {"method": "radis", "params": params}, refreshed)
    first, second = sorted(folder.glob("synthesis-radis-*"), key=lambda path: path.stat().st_mtime)
    manifests = [json.loads((path / "manifest.json").read_text()) for path in (first, second)]
    (trained,) = folder.glob("train-radis-*")
    assert [manifest["inputs"]["identity"]["graft"] for manifest in manifests] == ["", trained.name]
    own, before = read_answers(first), read_answers(second)
    assert set(own) == set(before)
    assert all(before[id_].logprobs for id_ in before)
    assert any(own[id_].logprobs != before[id_].logprobs for id_ in own)  # the student has moved


def test_radis_learns_rationales_that_an_engine_writes_when_asked_in_words(model: Path, tmp_path: Path) -> None:
    teacher = {"kind": "scripted", "rules": [{"pattern": "Why\\?$", "answer": "The verb of this sentence comes late."}]}
    params = {"rationales": teacher, "rationale_prompt": "{request}\n{reference}\nWhy?"}
    folder = executed(model, tmp_path / "run", {"method": "radis", "params": params})
    assert filters(folder, "radis") == {"kept": 24}
