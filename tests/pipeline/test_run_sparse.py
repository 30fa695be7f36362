"""Runs whose tuner selects what learns, on a tiny random model: masks, kills, sums of grafts, training upon one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import tiny_llama, tiny_tokenizer
from chain_runs import folders
from lingraft.core.errors import ModelError, UsageError
from lingraft.core.progress import Reporter
from lingraft.evaluation.scorecard import Scorecard
from lingraft.models.adapter import read_parts
from lingraft.models.graft import find_base, read_info
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import facts
from lingraft.training.selection import FILE, read_masks
from tiny_runs import QUIET, values

DRIFT = {"kind": "lora", "rank": 4, "dropout": 0, "layers": {"by": "drift", "keep": 0.5}}
SPARSE = {"kind": "sparse", "density": 0.05, "l1": 0.1}


class Stopped(Exception):
    """Raised by a reporter in the middle of a training."""


class Stopping(Reporter):
    """A reporter that stops the run at the second step of a task."""

    def __init__(self, title: str) -> None:
        super().__init__(quiet=True)
        self.title = title

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Any]:
        with super().task(title, total) as task:
            if title == self.title:
                update = task.update

                def stopping(done: int, detail: str = "", total: int | None = None) -> None:
                    update(done, detail, total)
                    if done == 2:
                        raise Stopped

                task.update = stopping  # type: ignore[method-assign]
            yield task


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def recipe(model: Path, tuner: dict[str, Any], stages: int = 1, **changes: Any) -> Recipe:
    made = values(model, compare=[], **changes)
    stage = made["stages"][0] | {"method": "vanilla", "params": {}, "tuner": tuner}
    stage["train"] = stage["train"] | {"save_every_steps": 1, "tokens_per_step": 128}
    made["stages"] = [stage, *({**stage, "name": f"more-{number}"} for number in range(1, stages))]
    for other in made["stages"][1:]:
        other.pop("tuner")
    made["evaluate"] |= {"retention": {"suites": []}}
    return parse_recipe(made, "test", Path("/"))


@pytest.fixture(scope="module")
def sparse(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two stages that continue one sparse adapter, measured at half its strength as well."""
    folder = tmp_path_factory.mktemp("sparse") / "run"
    made = recipe(model, SPARSE, 2)
    run(made.model_copy(update={"evaluate": made.evaluate.model_copy(update={"scales": [0.5]})}), folder, QUIET)
    return folder


@pytest.mark.long
def test_a_sparse_graft_is_selected_trained_continued_and_scaled(sparse: Path) -> None:
    (masks,) = folders(sparse, "masks-vanilla")
    made = facts(masks)
    assert made["learning"] == round(0.05 * made["of"])
    assert made["steps"] > 2
    parts = read_parts(sparse / "graft")
    assert sum(len(entries.values) for entries in parts.sparse.values()) == made["learning"]
    chosen = read_masks(masks / FILE, read_info(sparse / "graft").base_sha256)
    for name, entries in parts.sparse.items():
        assert torch.equal(chosen[f"{name}.weight"].nonzero().t().int(), entries.places)
    (scaled,) = folders(sparse, "scale-more-1-x0.5")
    half = read_parts(scaled / "graft").sparse
    assert all(torch.equal(half[name].values, one.values / 2) for name, one in parts.sparse.items())
    card = Scorecard.read(sparse / "scorecard.json")
    assert {system.name for system in card.systems} == {"base", "more-1", "more-1*0.5"}
    assert any(cost.stage == "selection" for cost in card.cost)


@pytest.mark.long
@pytest.mark.parametrize("stage", ["masks-vanilla", "train-vanilla"])
def test_a_run_killed_in_either_pass_ends_as_undisturbed(model: Path, sparse: Path, tmp_path: Path, stage: str) -> None:
    made = recipe(model, SPARSE)
    with pytest.raises(Stopped):
        run(made, tmp_path / "run", Stopping(stage))
    run(made, tmp_path / "run", QUIET)
    (first,), (again,) = folders(sparse, "masks-vanilla"), folders(tmp_path / "run", "masks-vanilla")
    assert (first / FILE).read_bytes() == (again / FILE).read_bytes()
    (first,), (again,) = folders(sparse, "train-vanilla"), folders(tmp_path / "run", "train-vanilla")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (first / "graft" / name).read_bytes() == (again / "graft" / name).read_bytes()


@pytest.mark.long
def test_a_task_is_trained_upon_a_language_and_added_to_it(model: Path, sparse: Path, tmp_path: Path) -> None:
    upon = sparse / "graft"
    made = recipe(model, {"kind": "sparse", "density": 0.02, "mask": "random"}, name="task")
    stages = [made.stages[0].model_copy(update={"upon": str(upon)})]
    run(made.model_copy(update={"stages": stages}), tmp_path / "task", QUIET)
    alone = recipe(model, {"kind": "sparse", "density": 0.02, "mask": "random"}, name="task")
    run(alone, tmp_path / "alone", QUIET)
    told = [read_info(tmp_path / name / "graft").upon_sha256 for name in ("task", "alone")]
    assert told == [read_info(upon).adapter_sha256, None]
    cards = [(tmp_path / name / "graft" / "README.md").read_text("utf-8") for name in ("task", "alone")]
    assert [f"sha256 `{told[0]}`" in card for card in cards] == [True, False]
    reports = [(tmp_path / name / "report.html").read_text("utf-8") for name in ("task", "alone")]
    assert [f"another adapter merged into the base (SHA-256 {str(told[0])[:16]})" in one for one in reports] == [
        True,
        False,
    ]
    task, other = read_parts(tmp_path / "task/graft").sparse, read_parts(tmp_path / "alone/graft").sparse
    assert all(torch.equal(one.places, other[name].places) for name, one in task.items())
    assert not all(torch.equal(one.values, other[name].values) for name, one in task.items())  # another base
    listed = [{"name": "both", "path": [str(sparse), str(tmp_path / "task")]}, str(tmp_path / "task")]
    both = recipe(model, SPARSE, grafts=listed, name="sum")
    run(both.model_copy(update={"stages": []}), tmp_path / "both", QUIET)
    (folder,) = folders(tmp_path / "both", "sum-both")
    total, language = read_parts(folder / "graft").sparse, read_parts(upon).sparse
    files = find_base(read_info(folder / "graft"), folder / "graft", str(model))
    assert files.folder == model
    for name in {*language, *task}:
        out = torch.zeros(2, 300, 300, dtype=torch.float64)
        for number, parts in enumerate((language, task)):
            if name in parts:
                rows, columns = parts[name].places.long()
                out[number][rows, columns] = parts[name].values.double()
        found = torch.zeros(300, 300, dtype=torch.float64)
        rows, columns = total[name].places.long()
        found[rows, columns] = total[name].values.double()
        torch.testing.assert_close(found, out.sum(0), rtol=1e-7, atol=0)
    card = Scorecard.read(tmp_path / "both" / "scorecard.json")
    assert [system.name for system in card.systems] == ["base", "both", "task"]


@pytest.mark.long
def test_columns_are_scored_on_the_replayed_prompts(model: Path, tmp_path: Path) -> None:
    run(recipe(model, {"kind": "ssu"}), tmp_path / "run", QUIET)
    (masks,) = folders(tmp_path / "run", "masks-vanilla")
    made = facts(masks)
    assert made["learning"] == made["of"] / 2
    shutil.rmtree(tmp_path / "run" / masks.name)
    (trained,) = folders(tmp_path / "run", "train-vanilla")
    run(recipe(model, {"kind": "ssu"}), tmp_path / "run", QUIET)
    assert folders(tmp_path / "run", "masks-vanilla") == [masks]
    assert folders(tmp_path / "run", "train-vanilla") == [trained]


@pytest.mark.long
def test_layers_are_chosen_by_a_first_training_killed_in_it_or_not(model: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(recipe(model, DRIFT), tmp_path / "cut", Stopping("masks-vanilla"))
    for name in ("cut", "whole"):
        run(recipe(model, DRIFT), tmp_path / name, QUIET)
    (cut,), (whole,) = (folders(tmp_path / name, "masks-vanilla") for name in ("cut", "whole"))
    assert (cut / FILE).read_bytes() == (whole / FILE).read_bytes()
    chosen = {name.split(".")[2] for name in read_masks(whole / FILE, read_info(tmp_path / "cut/graft").base_sha256)}
    assert len(chosen) == 1
    parts = [read_parts(tmp_path / name / "graft").factors for name in ("cut", "whole")]
    assert {name.split(".")[2] for name in parts[0]} == chosen
    assert all(torch.equal(one.b @ one.a, parts[1][name].b @ parts[1][name].a) for name, one in parts[0].items())
    card = Scorecard.read(tmp_path / "whole" / "scorecard.json")
    assert any(cost.stage == "selection" for cost in card.cost)


@pytest.mark.parametrize(
    ("tuner", "train", "message"),
    [
        ({"kind": "sparse", "density": 1.5}, {}, r"density"),
        (SPARSE, {"precision": "nf4"}, r"train\.precision: weights in 4 bits cannot learn"),
        (SPARSE, {"sharding": "full"}, r"train\.sharding: `full` gives each process a part"),
        ({"kind": "ssu"}, {"precision": "nf4"}, r"train\.precision: weights in 4 bits cannot learn"),
        ({"kind": "ssu"}, {"weight_decay": 0.1}, r"train\.weight_decay: frozen columns would be made smaller"),
        ({"kind": "ssu"}, None, r"tuner 'ssu' looks at general prompts, and there are none"),
        (DRIFT, None, r"tuner 'lora' looks at general prompts, and there are none"),
        (DRIFT, {"sharding": "full"}, r"train\.sharding: a rule for layers looks at whole weights"),
    ],
)
def test_what_cannot_be_is_refused_when_the_recipe_is_read(
    model: Path, tuner: dict[str, Any], train: dict[str, Any] | None, message: str
) -> None:
    made = values(model, compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}, "tuner": tuner}
    made["stages"][0]["train"] = made["stages"][0]["train"] | (train or {})
    made["evaluate"] |= {"retention": {"suites": []}}
    if train is None:
        made.pop("prompts")
    with pytest.raises(UsageError, match=message):
        parse_recipe(made, "test", Path("/"))


def test_servers_that_load_no_sparse_graft_are_refused_when_the_recipe_is_read(model: Path) -> None:
    made = values(model, compare=[])
    made["stages"][0] |= {"method": "vanilla", "params": {}, "tuner": SPARSE}
    made["evaluate"]["engine"] = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "load_grafts": True}
    with pytest.raises(UsageError, match="a server loads no graft that changes single numbers"):
        parse_recipe(made, "test", Path("/"))


def test_stages_of_different_kinds_are_not_put_together(model: Path) -> None:
    made = values(model, compare=[])
    stage = made["stages"][0] | {"method": "vanilla", "params": {}}
    made["stages"] = [{**stage, "tuner": SPARSE}, {**stage, "name": "two", "fresh": True, "tuner": {"kind": "lora"}}]
    with pytest.raises(UsageError, match="sparse changes and others cannot be in one adapter"):
        parse_recipe(made, "test", Path("/"))
    made["stages"] = [{**stage, "tuner": SPARSE}, {**stage, "name": "two", "upon": "/tmp/x"}]
    with pytest.raises(UsageError, match="`upon` is of the first stage"):
        parse_recipe(made, "test", Path("/"))


@pytest.mark.long
def test_grafts_of_another_base_are_not_added(model: Path, sparse: Path, tmp_path: Path) -> None:
    shutil.copytree(sparse / "graft", tmp_path / "other")
    info = (tmp_path / "other/lingraft.json").read_text("utf-8")
    sha = read_info(tmp_path / "other").base_sha256
    (tmp_path / "other/lingraft.json").write_text(info.replace(sha, "0" * 64), "utf-8")
    made = recipe(model, SPARSE, grafts=[[str(sparse), str(tmp_path / "other")]])
    with pytest.raises(ModelError, match="give grafts of one base"):
        run(made.model_copy(update={"stages": []}), tmp_path / "run", QUIET)
