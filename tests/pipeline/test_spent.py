"""Seconds and usage of stages that were killed and continued are those of all attempts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel
from lingraft.pipeline.answers import answer
from lingraft.pipeline.context import Context
from lingraft.pipeline.masks import Selecting
from lingraft.recipe.load import parse_recipe
from lingraft.store.artefacts import SCRATCH, facts
from lingraft.store.files import read_sealed, write_sealed
from lingraft.store.spent import FILE
from lingraft.training.tuners import TunerInputs
from models_support import request, save_tiny_model
from tiny_runs import QUIET, values

ASKED = [request(name, f"question {name}") for name in "abc"]


class Mortal(Engine):
    """Answers one request at a time, as many as it lives for, and counts what it is billed for."""

    name: ClassVar[str] = "mortal"
    summary: ClassVar[str] = "dies"
    part_size = 1

    def __init__(self, lives: int) -> None:
        self._lives, self._billed = lives, 0

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> Mortal:
        raise NotImplementedError

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        for asked in requests:
            if not self._lives:
                raise EngineError("it has died")
            self._lives, self._billed = self._lives - 1, self._billed + 1
            yield Generation(asked.id, "text", (1, 2), "stop")

    def usage(self) -> dict[str, Any]:
        billed, self._billed = self._billed, 0
        return {"requests": billed} if billed else {}


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    save_tiny_model(tmp_path / "model", seed=3)
    recipe = parse_recipe(values(tmp_path / "model", compare=[]), "test", tmp_path)
    with Context(recipe, tmp_path / "run", QUIET) as found:
        (tmp_path / "run").mkdir()
        yield found


def test_answers_count_the_seconds_and_requests_of_a_killed_attempt(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(context, "engine", lambda choice: Mortal(2))
    with pytest.raises(EngineError, match="it has died"):
        answer(context, "decode-base", ASKED)
    (kept,) = context.root.glob(f"decode-base-*.partial/{SCRATCH}/{FILE}")
    spent = read_sealed(kept)
    assert spent is not None
    assert spent["usage"] == {"requests": 2}
    write_sealed(kept, {**spent, "seconds": 5000.0})  # it took its time
    monkeypatch.setattr(context, "engine", lambda choice: Mortal(9))
    made = facts(answer(context, "decode-base", ASKED))
    assert 5000 <= made["seconds"] < 6000
    assert made["usage"] == {"requests": 3}
    assert (made["requests"], made["tokens"]) == (3, 6)


def test_a_selection_counts_its_training_as_that_counts_itself(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lingraft.pipeline.masks.take_off", lambda model: None)
    model = torch.nn.ModuleDict({"layer": torch.nn.Linear(2, 2)})
    tuner = SimpleNamespace(
        name="sparse",
        passes=2,
        save=lambda trained, folder: None,
        select=lambda model, given: {"layer.weight": torch.ones(2, 2, dtype=torch.bool)},
    )
    made: Any = Selecting(
        context=context,
        name="one",
        inputs={},
        tuner=tuner,
        given=TunerInputs(),
        base=lambda: nullcontext(SimpleNamespace(model=model)),
        first=lambda loaded, folder: SimpleNamespace(model=model, seconds=5000.0, steps=7, tokens=99),
    )
    found = facts(made.folder())
    assert 5000 <= found["seconds"] < 6000
    assert (found["steps"], found["tokens"], found["learning"]) == (7, 99, 4)
