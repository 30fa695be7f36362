"""The benchmark of methods: all that is registered is in it, and its recipes can be read."""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

from lingraft.methods.base import METHODS
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.tuners import TUNERS

FOLDER = Path(__file__).parents[2] / "benchmarks"
OF_GIVEN_PAIRS = {"preferences", "cpo", "ipo"}
"""Need preferences that somebody gives."""


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("methods")


def options(folder: Path) -> argparse.Namespace:
    given = {"test": "starter:test.de-en.jsonl", "test_rows": 9, "prompts": "starter:prompts.jsonl"}
    none = dict.fromkeys(("source", "target", "pairs", "rows"))
    return argparse.Namespace(**given, **none, model="smollm2-135m-instruct", out=str(folder))


def test_all_that_is_registered_for_pairs_is_compared(benchmark: ModuleType) -> None:
    told = json.dumps([benchmark.ONE_STAGE, benchmark.TWO_STAGES])
    of_pairs = {
        name for name in METHODS if METHODS.get(name).consumes == "pairs" and not METHODS.get(name).needs_markers
    }
    for name in ({*of_pairs, *OBJECTIVES, *TUNERS, "recovery", "mix"} - OF_GIVEN_PAIRS) - {"dpo"}:
        assert f'"{name}"' in told, name


def test_its_recipes_can_be_read(benchmark: ModuleType, tmp_path: Path) -> None:
    plain, *others = [{"name": name, **entry} for name, entry in benchmark.ONE_STAGE.items()]
    del plain["name"]
    read = benchmark.recipe_of(options(tmp_path), "one-stage", [plain], others)
    assert [system.name for system in read.systems()][-1] == "vanilla"
    assert {system.name for system in read.systems()} == set(benchmark.ONE_STAGE)
    for name, stages in benchmark.TWO_STAGES.items():
        assert len(benchmark.recipe_of(options(tmp_path), name, stages, []).stages) == 2
