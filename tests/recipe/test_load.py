"""Recipes: what they accept, and that they feed back unchanged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.recipe.load import dump_recipe, load_recipe, parse_recipe
from lingraft.recipe.shipped import shipped_recipes
from lingraft.recipe.stages import Beside, Part, Stage, with_params
from lingraft.recipe.strict_yaml import plain_values
from lingraft.translation.wording import VARIANTS
from recipes_support import FULL, MINIMAL, VALUES, changed, parsed, places, tried, written


def test_a_minimal_recipe_gets_every_default() -> None:
    recipe = parsed(MINIMAL)
    assert [system.name for system in recipe.systems()] == ["radis"]
    assert recipe.stages[0].params["rationale_weight"] == 1.0
    assert recipe.stages[0].tuner.params["rank"] == 16
    assert recipe.engine.kind == "transformers"
    assert recipe.engine.params["max_batch"] == 128
    assert [metric.label for metric in recipe.evaluate.translation.metrics] == ["bleu", "chrf++", "off_target"]
    assert recipe.evaluate.translation.metrics[0].params == {"tokenize": "auto"}
    assert recipe.seed == 1


def test_short_forms_mean_their_long_forms() -> None:
    short = {
        **MINIMAL,
        "engine": "transformers",
        "stages": {"method": "radis", "tuner": "lora", "params": {"instructions": "varied"}},
        "compare": ["vanilla"],
    }
    long = {
        **MINIMAL,
        "pairs": {key: [value] for key, value in MINIMAL["pairs"].items()},
        "engine": {"kind": "transformers"},
        "stages": [{"method": "radis", "tuner": {"kind": "lora"}, "params": {"instructions": list(VARIANTS)}}],
        "compare": [{"method": "vanilla"}],
        "evaluate": {"retention": {"suites": [{"kind": "refusal"}]}},
    }
    assert parsed(short) == parsed(long)


def test_a_compared_system_takes_what_it_does_not_say_from_the_recipes_own_stage() -> None:
    recipe = parsed(FULL)
    plain, own = recipe.systems()
    assert (plain.name, own.name) == ("plain", "radis")
    assert (plain.stage.train.epochs, own.stage.train.epochs) == (1, 2)
    assert plain.stage.train.learning_rate == own.stage.train.learning_rate == 1e-5
    assert (plain.stage.tuner.params["rank"], own.stage.tuner.params["rank"]) == (16, 4)
    inherited = parsed({**FULL, "compare": ["vanilla"]}).systems()[0]
    assert inherited.stage.tuner == own.stage.tuner
    assert inherited.stage.train == own.stage.train


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    values = changed(FULL, "pairs.train.path", "../data/train.de")
    values = changed(values, "pairs.train.target_path", "../data/train.en")
    values = changed(values, "pairs.test.path", "hub:org/name")
    values["evaluate"]["retention"]["suites"] = [{"kind": "refusal", "prompts": "harmful.jsonl"}]
    recipe = parsed(values, tmp_path / "recipes")
    assert recipe.pairs.train[0].path == str(tmp_path / "data" / "train.de")
    assert recipe.pairs.train[0].target_path == str(tmp_path / "data" / "train.en")
    assert recipe.pairs.test[0].path == "hub:org/name"
    assert [source.path for source in recipe.prompts or ()] == ["starter:prompts.jsonl"]
    assert recipe.evaluate.retention.suites[0].params["prompts"] == str(tmp_path / "recipes" / "harmful.jsonl")
    assert parsed(changed(FULL, "pairs.train.path", "/abs/x.jsonl")).pairs.train[0].path == "/abs/x.jsonl"


def test_a_model_is_a_path_where_there_is_one(tmp_path: Path) -> None:
    model = tmp_path / "org" / "model"
    model.mkdir(parents=True)
    assert parsed({**MINIMAL, "model": "org/model"}, tmp_path).model == "org/model"
    (model / "config.json").write_text("{}")
    assert parsed({**MINIMAL, "model": "org/model"}, tmp_path).model == str(model)
    assert parsed({**MINIMAL, "model": "./other"}, tmp_path).model == str(tmp_path / "other")
    assert parsed(MINIMAL, tmp_path).model == "smollm2-135m-instruct"


@given(st.sampled_from(places(FULL)), VALUES)
def test_no_value_anywhere_causes_anything_but_a_refusal(place: tuple[Any, ...], value: Any) -> None:
    values: Any = copy.deepcopy(FULL)
    if place:
        node = values
        for part in place[:-1]:
            node = node[part]
        node[place[-1]] = value
    else:
        values = value
    recipe, error = tried(parsed, values)
    assert "\n" not in error
    if recipe is not None:
        assert parse_recipe(yaml.safe_load(dump_recipe(recipe)), "again", Path("/elsewhere")) == recipe


@pytest.mark.parametrize("values", [MINIMAL, FULL], ids=["minimal", "full"])
def test_a_dumped_recipe_loads_to_the_same_recipe_anywhere(tmp_path: Path, values: dict[str, Any]) -> None:
    recipe = parsed(values, Path("/somewhere"))
    text = dump_recipe(recipe)
    again = load_recipe(written(tmp_path, text))
    assert again == recipe
    assert dump_recipe(again) == text


def test_one_source_of_prompts_is_a_list_of_one_and_is_written_down_as_it_was(tmp_path: Path) -> None:
    """Folders of runs that know of one source alone hold its keys without a number."""
    one, two = FULL["prompts"], {"path": "own.jsonl", "limit": 3}
    alone, listed = parsed(FULL), parsed({**FULL, "prompts": [one]})
    assert listed == alone
    assert dump_recipe(listed) == dump_recipe(alone)
    assert plain_values(dump_recipe(alone), "x")["prompts"]["path"] == one["path"]
    both = parsed({**FULL, "prompts": [one, two]}, tmp_path)
    assert [source.path for source in both.prompts or ()] == [one["path"], str(tmp_path / "own.jsonl")]
    assert [source["limit"] for source in plain_values(dump_recipe(both), "x")["prompts"]] == [10, 3]
    assert load_recipe(written(tmp_path, dump_recipe(both))) == both
    assert "prompts" not in plain_values(dump_recipe(parsed(MINIMAL)), "x")


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "prompts: the list is empty; name a file, such as `{path: prompts.jsonl}`, or drop the key"),
        ([{"path": "a.jsonl"}, {"path": "x/../a.jsonl"}], "prompts.1: /data/a.jsonl is named twice; name it once"),
        ([{"path": "a.jsonl"}, {"path": "b.jsonl", "lmit": 2}], "unknown key 'prompts.1.lmit'; did you mean 'limit'?"),
        ([{"path": "a.jsonl"}, "b.jsonl"], "prompts.1: Input should be a valid mapping (given: 'b.jsonl')"),
    ],
)
def test_a_wrong_list_of_prompts_is_refused(prompts: list[Any], said: str) -> None:
    assert tried(parsed, {**FULL, "prompts": prompts})[1] == f"test.yaml: {said}"


def test_two_columns_or_splits_of_a_file_are_two_sources_of_prompts() -> None:
    english, german = ({"path": "a.jsonl", "fields": {"prompt": code}} for code in ("en", "de"))
    splits = [{"path": "hub:org/name", "split": split} for split in ("train", "test")]
    assert len(parsed({**FULL, "prompts": [english, german, *splits]}).prompts or ()) == 4


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_and_feeds_back_unchanged(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(written(tmp_path, dump_recipe(recipe))) == recipe
    trained = [system.name for system in recipe.systems()]
    assert trained[-1:] == [] if name == "summaries" else trained[-1] in ("keep", "radis", "transllm", "xplus")


def test_the_shipped_recipes_are_those_of_the_folder() -> None:
    assert {"demo", "radis-de-en", "radis-wmt22"} <= set(shipped_recipes())


def test_a_recipe_is_a_value_that_nothing_changes() -> None:
    recipe = load_recipe("transllm-th")
    sections = (recipe, recipe.pairs, recipe.stages[0], recipe.stages[0].tuner, recipe.evaluate, recipe.engine)
    for section in sections:
        with pytest.raises(ValidationError, match="Instance is frozen"):
            setattr(section, next(iter(type(section).model_fields)), None)
    assert recipe.as_shipped("") == recipe  # where it was read from is no part of what it says
    assert (recipe.shipped, recipe.as_shipped("").shipped) == ("transllm-th", "")


def test_the_methods_of_a_stage_are_its_parts() -> None:
    stage = Stage(method="tcot", params={"max_prompts": 3}, beside=[Beside(method="recovery", share=0.25)])
    assert stage.parts == [Part("tcot", {"max_prompts": 3}), Part("recovery", {}, 0.25, "beside.0")]
    assert [part.at("stages.1") for part in stage.parts] == ["stages.1", "stages.1.beside.0"]
    other = with_params(stage, lambda part: {"seen": part.kind})
    assert [part.params for part in other.parts] == [{"seen": "tcot"}, {"seen": "recovery"}]
    assert stage.params == {"max_prompts": 3}
