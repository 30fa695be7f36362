"""A run whose stages begin new adapters, on a tiny random model: what is merged, and what is one graft in the end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from chain_runs import QUIET, chain_data, chain_values, figures, folders
from lingraft.core.progress import Reporter
from lingraft.evaluation.scorecard import Scorecard
from lingraft.models.adapter_files import read_adapter
from lingraft.models.files import find_model
from lingraft.models.graft import grafted
from lingraft.models.growth import extended
from lingraft.models.loading import load_model
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import facts


class Stopped(Exception):
    """Raised by a reporter in the middle of a training."""


class Stopping(Reporter):
    """A reporter that stops the run at the second step of a training, as often as it is told to."""

    def __init__(self, stage: str) -> None:
        super().__init__(quiet=True)
        self.stage, self.stops = stage, 1

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Any]:
        with super().task(title, total) as task:
            if title == f"train-{self.stage}" and self.stops:
                update, self.stops = task.update, 0

                def stopping(done: int, detail: str = "", total: int | None = None) -> None:
                    update(done, detail, total)
                    if done == 2:
                        raise Stopped

                task.update = stopping  # type: ignore[method-assign]
            yield task


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chain_data(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def fresh_recipe(data: Path) -> Recipe:
    """The second stage begins a new adapter of another rank, which the third continues; it translates for the base."""
    merged = {"name": "merged", "merge": True, "tuner": {"rank": 2, "embeddings": "new"}}
    recipe = chain_values(data, save_every_steps=1, compare=[merged])
    recipe["stages"][1] |= {"fresh": True, "tuner": {"kind": "lora", "rank": 3, "alpha": 5, "embeddings": "all"}}
    tcot = recipe["evaluate"]["retention"]["suites"][-1]
    recipe["evaluate"] |= {"stages": False, "retention": {"suites": [tcot]}, "translate_test": {}}
    return parse_recipe(recipe, "test", Path("/"))


@pytest.fixture(scope="module")
def fresh(fresh_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fresh") / "run"
    run(fresh_recipe, folder, QUIET)
    return folder


@pytest.mark.parametrize(("name", "rank", "first"), [("transllm", 4 + 3, 4), ("merged", 3 * 2, 0)])
def test_stages_with_adapters_of_their_own_end_as_one_graft_on_the_untouched_base(
    data: Path, fresh: Path, name: str, rank: int, first: int
) -> None:
    (folder,) = folders(fresh, f"train-{name}")
    ranks = {path: read_adapter(path / "graft")[0].r for path in (folder, *folders(fresh, "train-pretraining"))}
    assert ranks[folder] == rank
    loaded = load_model(find_model(str(data / "model")), "fp32")
    with grafted(loaded, folder / "graft") as on, torch.inference_mode():
        ids = torch.tensor([on.renderer.plain_ids("Im Hafen von Husum liegen Schiffe.")])
        found, size = on.model(input_ids=ids).logits, on.model.config.vocab_size
    known = slice(on.new_ids.stop)  # rows that fill up the embeddings mean nothing
    base = AutoModelForCausalLM.from_pretrained(data / "model", dtype=torch.float32)
    base.resize_token_embeddings(size, mean_resizing=False)
    plain = PeftModel.from_pretrained(base, str(folder / "graft")).eval()
    with torch.inference_mode():
        logits = plain(input_ids=ids).logits
        torch.testing.assert_close(logits[..., known], found[..., known], rtol=1e-4, atol=1e-4)
    if first:  # merged by PEFT, and what the last stage continued on it
        before = next(path for path in ranks if ranks[path] == first)
        with extended(loaded, Vocabulary.of(folder / "graft")) as grown, torch.inference_mode():
            merged = PeftModel.from_pretrained(grown.model, str(before / "graft")).merge_and_unload()
            logits = PeftModel.from_pretrained(merged, str(folder / "own")).eval()(input_ids=ids).logits
            torch.testing.assert_close(logits, found, rtol=1e-4, atol=1e-4)


def test_the_graft_translates_before_and_after_the_base(fresh: Path) -> None:
    card = Scorecard.read(fresh / "scorecard.json")
    assert [system.name for system in card.systems] == ["base", "merged", "transllm", "translate-test"]
    assert {row.system for row in card.general if row.metric == "query_chrf"} == {
        "merged",
        "transllm",
        "translate-test",
    }
    rows = {(row.system, row.test_set) for row in card.translation}
    assert {system for system, _ in rows} == {"base", "merged", "transllm", "translate-test"}
    assert any(row.system == "translate-test" and row.metric == "tokens_query" for row in card.general)
    asked = folders(fresh, "decode-translate-test-queries")[0]
    assert facts(asked)["requests"] == 4
    assert facts(folders(fresh, "decode-translate-test-tests")[0])["requests"] >= 3
    page = (fresh / "report.html").read_text("utf-8")
    assert "translator, base, translator" in page


@pytest.mark.parametrize(
    "stage", [pytest.param("translation_pretraining+pretraining", marks=pytest.mark.long), "transllm"]
)
def test_a_stage_stopped_after_a_merge_ends_as_undisturbed(
    fresh_recipe: Recipe, fresh: Path, tmp_path: Path, stage: str
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(fresh, copy)
    lost = folders(copy, f"train-{stage}")
    for folder in lost:
        shutil.rmtree(folder)
    with pytest.raises(Stopped):
        run(fresh_recipe, copy, Stopping(stage))
    run(fresh_recipe, copy, QUIET)
    for folder in lost:
        for path in (folder / "graft").iterdir():
            assert path.read_bytes() == (fresh / folder.name / "graft" / path.name).read_bytes(), path
    assert figures(copy) == figures(fresh)
