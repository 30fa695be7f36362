"""Dotted changes to recipes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lingraft.core.errors import UsageError
from lingraft.recipe.load import load_recipe
from lingraft.recipe.overrides import apply_override
from lingraft.recipe.strict_yaml import plain_values
from recipes_support import FULL, MINIMAL, VALUES, parsed, tried, written


@given(st.text(alphabet="stages.0train=epochsmodel1[]{}:- ", max_size=30), VALUES)
def test_no_override_causes_anything_but_a_refusal(override: str, value: Any) -> None:
    for values in (copy.deepcopy(FULL), {"stages": value}, {"a": value}):
        _, error = tried(apply_override, values, override)
        assert "\n" not in error
        assert "\n" not in tried(parsed, values)[1]


@pytest.mark.parametrize(
    ("override", "check"),
    [
        ("seed=7", lambda recipe: recipe.seed == 7),
        ("stages.0.train.epochs=3", lambda recipe: recipe.stages[0].train.epochs == 3),
        ("stages.0.train.learning_rate=2e-4", lambda recipe: recipe.stages[0].train.learning_rate == 2e-4),
        ("stages.0.tuner.dropout=0.5", lambda recipe: recipe.stages[0].tuner.params["dropout"] == 0.5),
        ("stages.0.tuner.rank=8", lambda recipe: recipe.stages[0].tuner.params["rank"] == 8),
        ("stages.0.params.filters=[]", lambda recipe: recipe.stages[0].params["filters"] == []),
        ("pairs.train.0.limit=5", lambda recipe: recipe.pairs.train[0].limit == 5),
        (
            "pairs.train.0={path: a.jsonl, source: de, target: en, limit: 5}",
            lambda recipe: [source.limit for source in recipe.pairs.train] == [5],
        ),
        ("pairs.train.path=/x=y.jsonl", lambda recipe: recipe.pairs.train[0].path == "/x=y.jsonl"),
        ("prompts.path=/x.jsonl", lambda recipe: [one.path for one in recipe.prompts] == ["/x.jsonl"]),
        ("prompts.0.path=/x.jsonl", lambda recipe: [one.path for one in recipe.prompts] == ["/x.jsonl"]),
        ("prompts=[{path: /x.jsonl}, {path: /y.jsonl}]", lambda recipe: len(recipe.prompts) == 2),
        ("compare=[]", lambda recipe: recipe.compare == []),
        ("compare.0.train.epochs=4", lambda recipe: recipe.systems()[0].stage.train.epochs == 4),
        ("compare.0.tuner.rank=2", lambda recipe: recipe.systems()[0].stage.tuner.params["rank"] == 2),
        ("engine.max_batch=2", lambda recipe: recipe.engine.params["max_batch"] == 2),
        (
            "evaluate.retention.suites.0.max_prompts=4",
            lambda r: r.evaluate.retention.suites[0].params["max_prompts"] == 4,
        ),
        ("expected.pairs=9", lambda recipe: recipe.expected.pairs == 9),
    ],
)
@pytest.mark.parametrize("long", [True, False], ids=["long", "short"])
def test_an_override_reaches_its_key_also_through_short_forms(
    tmp_path: Path, override: str, check: Any, long: bool
) -> None:
    short = {**MINIMAL, "prompts": FULL["prompts"], "engine": "transformers", "compare": ["vanilla"]}
    short["evaluate"] = {"retention": {"suites": ["self"]}}
    recipe = load_recipe(written(tmp_path, yaml.safe_dump(FULL if long else short)), [override])
    assert check(recipe)


@pytest.mark.parametrize("key", ["prompts", "texts", "pairs.train"])
def test_the_one_file_of_a_list_is_changed_without_its_number_and_one_of_several_is_not(key: str) -> None:
    files: list[dict[str, Any]] = [{"path": "a"}]
    values: dict[str, Any] = {"pairs": {"train": files}} if key == "pairs.train" else {key: files}
    apply_override(values, f"{key}.limit=5")
    assert files == [{"path": "a", "limit": 5}]
    files.append({"path": "b"})
    with pytest.raises(UsageError, match=rf"{key}.limit is not an entry; they are numbered from 0 to 1"):
        apply_override(values, f"{key}.limit=5")
    apply_override(values, f"{key}.1.limit=6")
    assert files[1] == {"path": "b", "limit": 6}


def test_later_overrides_win_and_aliases_do_not_share() -> None:
    values = plain_values("a: &a {x: 1}\nb: *a\nc: [*a]\n", "x")
    apply_override(values, "a.x=2")
    apply_override(values, "a.x=3")
    assert values == {"a": {"x": 3}, "b": {"x": 1}, "c": [{"x": 1}]}


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("seed", "is not of the form key.key=value"),
        ("=1", "is not of the form key.key=value"),
        ("seed=[1", "not valid YAML"),
        ("stages.3.train.epochs=1", "stages.3 is not an entry; there is only 0"),
        ("stages.x.method=radis", "stages.x is not an entry"),
        ("stages.².method=radis", "is not an entry"),
        (f"stages.{'9' * 5000}.method=radis", "is not an entry"),
        ("seed.x=1", "seed holds a plain value, not settings"),
        ("stages.0.train.epoch=1", "unknown key 'stages.0.train.epoch'; did you mean 'epochs'?"),
        ("pairs.train.1.limit=5", "pairs.train.1 is not an entry; there is only 0"),
        ("pairs.train.1={}", "pairs.train.1 is not an entry; there is only 0"),
        ("evaluate.scales.0=0.5", "give the whole list: evaluate.scales=[...]"),
        ("grafts.0=runs/a", "the recipe has no grafts, and its default is not changed entry by entry"),
        ("sed=1", "unknown key 'sed'; did you mean 'seed'?"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(written(tmp_path, yaml.safe_dump(FULL)), [override])
    assert complaint in str(caught.value)


@pytest.mark.parametrize("override", ["evaluate.translation.metrics.0.kind=x", "evaluate.translation.metrics.0=x"])
def test_an_entry_of_a_default_list_is_not_changed_alone(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match=r"recipe has no evaluate\.translation\.metrics.*give the whole list"):
        load_recipe(written(tmp_path, yaml.safe_dump(MINIMAL)), [override])
