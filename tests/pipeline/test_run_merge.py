"""Merged systems in whole runs of a tiny random model: measured like others, made once, killed within."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.evaluation.scorecard import Scorecard
from lingraft.merging import results
from lingraft.models.adapter import read_parts
from lingraft.models.graft import read_info
from lingraft.pipeline.run import run
from lingraft.recipe.load import load_recipe, parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import verify
from tiny_runs import QUIET, values

MERGE = [
    {"kind": "linear", "of": ["radis"], "sweep": {"strength": [0.5, 0.25]}},
    {"kind": "widen", "name": "both", "of": ["vanilla", "radis"]},
    {"kind": "task_arithmetic", "name": "again", "of": ["both", "vanilla"], "scale": 0.5},
]
NAMES = ["linear-0.5", "linear-0.25", "both", "again"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    llama = tiny_llama(tokenizer, seed=3)
    with torch.no_grad():
        for parameter in llama.parameters():
            parameter.mul_(3)
    llama.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(model: Path, **changes: Any) -> Recipe:
    made = values(model, **changes)
    suites = [{"kind": "self", "max_prompts": 2, "max_new_tokens": 6, "kl_max_new_tokens": 6}]
    made["evaluate"] |= {"retention": {"suites": suites}}
    made["pairs"]["train"]["limit"] = 6
    made["pairs"]["test"]["limit"] = 3
    return parse_recipe(made, "test", Path("/"))


@pytest.fixture(scope="module")
def finished(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that merges what it trained."""
    folder = tmp_path_factory.mktemp("runs") / "merged"
    run(recipe(model, merge=MERGE), folder, QUIET)
    return folder


def artefact(folder: Path, name: str) -> Path:
    (found,) = (path for path in folder.glob(f"merge-{name}-*") if path.name.rpartition("-")[0] == f"merge-{name}")
    return found


def weights(folder: Path, model: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model that a graft makes of the base, independently of what merges."""
    parts, found = read_parts(folder), load_file(model / "model.safetensors")
    for layer, factors in parts.factors.items():
        found[f"{layer}.weight"] = factors.on(found[f"{layer}.weight"])
    return found | {name: value for name, value in parts.whole.items() if name in found}


def test_merged_systems_are_measured_like_any_other(finished: Path) -> None:
    card = Scorecard.read(finished / "scorecard.json")
    assert [one.name for one in card.systems] == ["base", "vanilla", "radis", *NAMES]
    told = {
        one.name: (one.method, one.tuner, one.merged, one.group, one.swept, one.cite_method) for one in card.systems
    }
    cites = ["wortsman-2022-robust", "wortsman-2022-soups", "xiao-2024-cocktail"]
    assert told["linear-0.5"] == ("linear", None, ["radis"], "linear", {"strength": 0.5}, cites)
    assert told["both"] == ("widen", None, ["vanilla", "radis"], None, {}, ["yu-2024-extend"])
    assert told["again"][2] == ["both", "vanilla"]
    for measured in (card.translation, card.general, card.summary):
        assert {row.system for row in measured} == {one.name for one in card.systems}
    assert all(row.kl_from_base is not None for row in card.summary if row.system in NAMES)
    assert {(row.system, row.stage) for row in card.cost if row.stage == "merging"} == {(n, "merging") for n in NAMES}
    assert card.unchecked == []
    page = (finished / "report.html").read_text("utf-8")
    for text in ("widen of vanilla, radis", "linear of radis, strength 0.25", "was merged without training by"):
        assert text in page
    assert "both" in (finished / "README.md").read_text("utf-8")
    assert {row["system"] for row in map(json.loads, (finished / "items.jsonl").open()) if "system" in row} >= {*NAMES}


def test_their_weights_are_those_of_their_formula(finished: Path, model: Path) -> None:
    start = load_file(model / "model.safetensors")
    own = weights(finished / "graft", model)
    for strength in ("0.5", "0.25"):
        half = weights(artefact(finished, f"linear-{strength}") / "graft", model)
        for name, value in start.items():
            torch.testing.assert_close(half[name], torch.lerp(value, own[name], float(strength)), rtol=1e-4, atol=1e-5)
    both = weights(artefact(finished, "both") / "graft", model)
    (other,) = (weights(path / "graft", model) for path in finished.glob("train-vanilla-*"))
    again = weights(artefact(finished, "again") / "graft", model)
    for name, value in start.items():
        torch.testing.assert_close(
            again[name], value + 0.5 * (both[name] + other[name] - 2 * value), rtol=1e-4, atol=1e-5
        )


def test_they_are_asked_as_what_they_are_made_of(finished: Path) -> None:
    own, both = read_info(finished / "graft"), read_info(artefact(finished, "both") / "graft")
    assert own.stop
    assert both.translating.instruction == own.translating.instruction
    assert set(both.stop) >= set(own.stop)  # where it goes on as radis does, its translation ends as there
    assert both.base_sha256 == own.base_sha256


def test_a_finished_run_merges_nothing_again(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.glob("merge-*/graft/*")}
    assert before
    run(load_recipe(str(finished)), finished, QUIET)
    assert {path: path.stat().st_mtime_ns for path in finished.glob("merge-*/graft/*")} == before
    assert all(verify(path) for path in finished.glob("merge-*"))


@pytest.mark.parametrize(
    ("kind", "of", "words"),
    [
        (
            "chat_vector",
            ["other", "radis"],
            "other has another vocabulary than the base, .* a run merges to grafts; make it",
        ),
        (
            "chat_vector",
            ["radis", "other"],
            "the tokenizer of .*other is not that of .*: it has 1 tokens that the base",
        ),
        (
            "linear",
            ["radis", "other"],
            "the tokenizer of .*other is not that of .*: it has 1 tokens that the base lacks",
        ),
        ("linear", ["radis", "wide"], "wide has another size than the base"),
    ],
)
def test_models_that_do_not_go_together_are_refused_before_anything_is_trained(
    kind: str, of: list[str], words: str, model: Path, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer("smollm2")
    tokenizer.add_tokens(["<other>"] if "other" in of else [])
    llama = tiny_llama(tokenizer, **({"hidden": 64} if "wide" in of else {}))
    for name in {"other", "wide"} & {*of}:
        llama.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    parts = [part if part == "radis" else str(tmp_path / part) for part in of]
    with pytest.raises(ModelError, match=words):
        run(recipe(model, merge=[{"kind": kind, "of": parts}]), tmp_path / "run", QUIET)
    assert not [*(tmp_path / "run").glob("train-*"), *(tmp_path / "run").glob("prepare-*")]


class Killed(BaseException):
    """What no code of the run catches."""


@pytest.mark.long
def test_killed_within_a_merge_it_goes_on_with_the_same_bytes(
    finished: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graft = finished / "graft"
    alone = recipe(
        model,
        stages=[],
        compare=[],
        grafts=[{"path": str(graft), "name": "own"}],
        merge=[{**MERGE[1], "of": ["own", "base"]}],
    )
    plan = results.Plan.weight
    done: list[str] = []

    def failing(self: Any, name: str) -> torch.Tensor:
        done.append(name)
        if len(done) == 4:
            raise Killed
        return plan(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(results.Plan, "weight", failing)
        with pytest.raises(Killed):
            run(alone, tmp_path / "run", QUIET)
    assert not [path for path in (tmp_path / "run").glob("merge-*") if verify(path)]
    run(alone, tmp_path / "run", QUIET)
    run(alone, tmp_path / "fresh", QUIET)
    for name in ("adapter_model.safetensors", "adapter_config.json", "lingraft.json"):
        one, other = (artefact(tmp_path / each, "both") / "graft" / name for each in ("run", "fresh"))
        assert one.read_bytes() == other.read_bytes()
    card = Scorecard.read(tmp_path / "run" / "scorecard.json")
    assert [one.name for one in card.systems] == ["base", "own", "both"]
    assert card.unchecked == ["own", "both"]  # of what was trained elsewhere nobody knows the data
