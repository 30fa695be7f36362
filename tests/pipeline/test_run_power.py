"""A whole run on a tiny model, and the current fails."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from chain_runs import figures
from lingraft.core.progress import Reporter
from lingraft.evaluation.published import open_run
from lingraft.models.graft_seal import check_seal
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import verify
from power import KEPT, LOST, NAMED, STATES, Moment, left_of, recorded, restore


class Listening(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, text: str, *, always: bool = False) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def recorded_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, list[Moment], dict[str, Any]]:
    """A small run, its moments and its figures."""
    place = tmp_path_factory.mktemp("power")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3).save_pretrained(place / "model")
    tokenizer.save_pretrained(place / "model")
    sides = {"source": "de", "target": "en"}
    values = {
        "name": "power",
        "model": str(place / "model"),
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 12, **sides},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 3, **sides},
        },
        "stages": [
            {
                "method": "radis",
                "params": {"max_rationale_tokens": 4, "filters": [], "min_rationale_words": 0},
                "tuner": {"kind": "lora", "rank": 2},
                "train": {"tokens_per_step": 256, "save_every_steps": 2, "precision": "fp32", "learning_rate": 0.01},
            }
        ],
        "evaluate": {
            "bootstrap": 100,
            "translation": {"metrics": ["chrf++"], "max_new_tokens": 4},
            "retention": {"suites": [{"kind": "refusal", "max_prompts": 2, "max_new_tokens": 2}]},
        },
        "seed": 7,
    }
    recipe = parse_recipe(values, "power", Path("/"))
    (place / "run").mkdir()
    with recorded(place / "run") as moments:
        run(recipe, place / "run", Listening())
    return recipe, moments, figures(place / "run")


def finished_stages(moment: Moment) -> list[str]:
    """Return the stages that have their names on the disk."""
    names = [name for name, _ in moment.synced[0].names or ()]
    return [name for name in names if re.fullmatch(r".+-[0-9a-f]{8}", name)]


def cut(recipe: Recipe, moment: Moment, state: str, expected: dict[str, Any], folder: Path) -> Listening:
    """Cut the current, check that what was finished is there, and let the run come to its end."""
    restore(moment, state, folder)
    for name in finished_stages(moment):
        assert verify(folder / name), (moment.call, state, name)
    listening = Listening()
    run(recipe, folder, listening)
    assert figures(folder) == expected, (moment.call, state)
    open_run(folder)
    check_seal(folder / "graft")
    again = Listening()
    run(recipe, folder, again)
    assert f"Nothing to do: {folder} is finished" in again.said
    assert f"Report: {folder / 'report.html'}" in again.said  # and what came out, as when it was finished
    return listening


def test_a_run_goes_on_where_it_was_when_the_current_failed(
    recorded_run: tuple[Recipe, list[Moment], dict[str, Any]], tmp_path: Path
) -> None:
    recipe, moments, expected = recorded_run
    calls = [moment.call for moment in moments]
    named = next(at for at, call in enumerate(calls) if re.match(r"replace train-radis-\w+\.partial", call))
    graft = next(at for at, call in enumerate(calls) if call == "replace .graft.new")
    said = cut(recipe, moments[named], NAMED, expected, tmp_path / "named").said
    assert any(text.startswith("Continuing train-radis") for text in said)
    said = cut(recipe, moments[graft], KEPT, expected, tmp_path / "graft").said
    assert not any(re.match("(Starting|Continuing) ", text) for text in said)
    said = cut(recipe, moments[-1], LOST, expected, tmp_path / "end").said
    assert f"Nothing to do: {tmp_path / 'end'} is finished" in said


@pytest.mark.long
def test_a_run_goes_on_whenever_the_current_fails(
    recorded_run: tuple[Recipe, list[Moment], dict[str, Any]], tmp_path: Path
) -> None:
    """Each disk that may be left, once."""
    recipe, moments, expected = recorded_run
    disks = {
        hash(frozenset(left_of(moment, state).items())): (at, state)
        for at, moment in enumerate(moments)
        for state in STATES
    }
    assert len(disks) > 100
    for at, state in disks.values():
        cut(recipe, moments[at], state, expected, tmp_path / f"{at}-{state}")
        shutil.rmtree(tmp_path / f"{at}-{state}")
