"""Rows of a bench on as many tokens as another: the budget of each stage, and which rows need it."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

from lingraft.pipeline.bench_tokens import TOLERANCE, differs, with_tokens
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.training.batching import plan_steps
from tiny_runs import values


def staged(**train: float) -> Recipe:
    made = copy.deepcopy(values(Path("/model"), compare=[]))
    made["stages"] = [made["stages"][0], {**copy.deepcopy(made["stages"][0]), "name": "second"}]
    made["stages"][0]["train"] |= train
    return parse_recipe(made, "test", Path("/"))


def read(recipe: Recipe, stage: int, lengths: np.ndarray) -> int:
    """Return the real tokens that training a stage on rows of these lengths reads."""
    train = recipe.stages[stage].train
    plan = plan_steps(
        lengths,
        lengths,
        tokens_per_step=train.tokens_per_step,
        micro_tokens=train.micro_tokens,
        epochs=train.epochs,
        seed=1,
        max_tokens=train.max_tokens,
        max_steps=train.max_steps,
    )
    return plan.tokens


@pytest.mark.parametrize("factor", [0.07, 0.6, 1.0, 1.7, 5.3])
@pytest.mark.parametrize("train", [{}, {"epochs": 0.4}, {"epochs": 3, "max_steps": 5}, {"max_tokens": 900}])
def test_stages_read_as_many_tokens_as_are_wanted_to_within_an_example(factor: float, train: dict[str, float]) -> None:
    recipe, longest = staged(**train), 40
    lengths = [np.random.default_rng(stage).integers(10, longest, 200) for stage in (0, 1)]
    own = [read(recipe, stage, lengths[stage]) for stage in (0, 1)]
    wanted = round(factor * sum(own))
    equal = with_tokens(recipe, own, wanted)
    for stage in (0, 1):
        its = factor * own[stage]
        assert its - longest <= read(equal, stage, lengths[stage]) <= its + 1
    parsed = parse_recipe(equal.model_dump(mode="json", exclude_none=True), "test", Path("/"))
    assert parsed == equal  # it is a recipe that can be written down and read
    assert recipe.stages[0].train.max_tokens == train.get("max_tokens")


def test_a_tenth_more_or_less_is_as_good_as_equal() -> None:
    assert TOLERANCE == 0.1
    assert [differs(tokens, 1000) for tokens in (899, 900, 1000, 1100, 1101)] == [True, False, False, False, True]
