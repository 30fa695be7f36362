"""Recipes: what they accept, what they say when they do not, and that they feed back unchanged."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lingraft.errors import UsageError
from lingraft.instructions import VARIANTS
from lingraft.recipe import Recipe, dump_recipe, load_recipe, parse_recipe, shipped_recipes
from lingraft.recipe_overrides import apply_override
from lingraft.yaml_text import plain_values

MINIMAL: dict[str, Any] = {
    "name": "run",
    "pairs": {
        "train": {"path": "train.jsonl", "source": "de", "target": "en"},
        "test": {"path": "test.jsonl", "source": "de", "target": "en"},
    },
    "evaluate": {"retention": {"suites": ["refusal"]}},
}
FULL: dict[str, Any] = {
    **MINIMAL,
    "model": "smollm2-135m-instruct",
    "engine": {"kind": "transformers", "max_batch": 4},
    "prompts": {"path": "starter:prompts.jsonl", "limit": 10},
    "checks": {"max_length_ratio": 3.0},
    "stages": [
        {
            "method": "radis",
            "params": {"rationale_share": 0.5},
            "tuner": {"kind": "lora", "rank": 4},
            "train": {"epochs": 2, "learning_rate": 1e-5},
        }
    ],
    "compare": [
        {"method": "vanilla", "name": "plain", "tuner": {"kind": "lora"}, "train": {"epochs": 1}, "params": {}}
    ],
    "evaluate": {
        "translation": {"metrics": ["bleu"]},
        "retention": {"suites": [{"kind": "self", "max_prompts": 3}]},
        "bootstrap": 200,
    },
    "expected": {"pairs": 7},
    "seed": 5,
}


def parsed(values: Any, root: Path = Path("/data")) -> Recipe:
    return parse_recipe(copy.deepcopy(values), "test.yaml", root)


def changed(values: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Return a copy with one key set, independent of `apply_override`."""
    out = copy.deepcopy(values)
    node: Any = out
    *path, last = place.split(".")
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[last] = value
    return out


def refusal(values: Any) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(values)
    message = str(caught.value)
    assert message.startswith("test.yaml: ")
    assert "\n" not in message
    return message.removeprefix("test.yaml: ")


def written(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def tried(function: Callable[..., Any], *arguments: object) -> tuple[Any, str]:
    """Return what a function returns, or None and what it says when it refuses; all else is an error of the test."""
    try:
        return function(*arguments), ""
    except UsageError as error:
        return None, str(error)


# What is accepted


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
    assert recipe.prompts is not None
    assert recipe.prompts.path == "starter:prompts.jsonl"
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


# What is refused

SECTIONS = [
    ("nam", "name"),
    ("pairs.trian", "train"),
    ("pairs.train.sorce", "source"),
    ("pairs.test.targt", "target"),
    ("prompts.lmit", "limit"),
    ("engine.max_bach", "max_batch"),
    ("checks.max_lenght_ratio", "max_length_ratio"),
    ("stages.0.metod", "method"),
    ("stages.0.params.rationale_shar", "rationale_share"),
    ("stages.0.tuner.rnk", "rank"),
    ("stages.0.train.epoch", "epochs"),
    ("compare.0.parms", "params"),
    ("compare.0.params.instruction", "instructions"),
    ("compare.0.tuner.rnk", "rank"),
    ("compare.0.train.learning_rat", "learning_rate"),
    ("evaluate.translatoin", "translation"),
    ("evaluate.translation.metric", "metrics"),
    ("evaluate.retention.suite", "suites"),
    ("evaluate.retention.suites.0.max_promps", "max_prompts"),
    ("evaluate.retention.suites.0.retain", "retains"),
    ("expected.pair", "pairs"),
]


@pytest.mark.parametrize(("place", "nearest"), SECTIONS)
def test_an_unknown_key_is_refused_with_its_place_and_the_nearest_known_one(place: str, nearest: str) -> None:
    message = refusal(changed(FULL, place, 1))
    found = re.fullmatch(r"unknown key '([^']+)'; did you mean '([^']+)'\?", message)
    assert found, message
    assert found[2] == nearest
    parts = place.split(".")
    # A single entry written without a list is entry 0.
    assert [part for part in found[1].split(".") if part != "0"] == [part for part in parts if part != "0"]
    assert difflib.SequenceMatcher(None, parts[-1], nearest).ratio() > 0.5


@pytest.mark.parametrize(
    ("place", "value", "complaint"),
    [
        ("name", "../up", "name: "),
        ("name", "a" * 81, "name: "),
        ("name", None, "name: "),
        ("model", "", "model: "),
        ("seed", -1, "seed: "),
        ("seed", 2**32, "seed: "),
        ("seed", "many", "(given: 'many')"),
        ("seed", int("9" * 4000), "seed: "),
        ("pairs.train.source", "xx-not-a-language", "unknown language code 'xx-not-a-language'"),
        ("pairs.train.source", "en", "source and target are both 'en'"),
        ("pairs.train", [], "the key 'pairs.train' is missing"),
        ("pairs.train", "train.jsonl", "pairs.train: "),
        ("engine.kind", "vlm", "unknown engine 'vlm'"),
        ("engine.max_batch", 0, "engine.max_batch: "),
        ("stages", [], "there is neither a stage to train nor a graft to measure"),
        ("stages", [{"method": "radis", "tuner": {"rank": 8}}, {"tuner": {"kind": "lora"}}], "stages: all stages"),
        ("stages.0.method", "raddis", "unknown method 'raddis'; did you mean 'radis'?"),
        ("stages.0.params.rationale_share", 1.5, "stages.0.params.rationale_share: "),
        ("stages.0.params.rationale_weight", float("inf"), "stages.0.params.rationale_weight: "),
        ("stages.0.params.delimiter", "\n", "stages.0.params.delimiter: a delimiter of white space"),
        ("stages.0.params.instructions", ["Translate {x}"], "stages.0.params: instruction 'Translate {x}'"),
        ("stages.0.tuner.kind", "lorra", "unknown tuner 'lorra'; did you mean 'lora'?"),
        ("stages.0.train.epochs", 0, "stages.0.train.epochs: "),
        ("stages.0.train.epochs", [1], "stages.0.train.epochs: "),
        ("compare.0.train.epochs", -1, "compare.0.train.epochs: "),
        ("compare.0.name", "radis", "two systems are called 'radis'"),
        ("compare.0.name", "base", "two systems are called 'base'"),
        ("compare.0.name", "../../etc", "compare.0.name: "),
        ("compare.0.method", "vanila", "unknown method 'vanila'; did you mean 'vanilla'?"),
        ("evaluate.translation.metrics", ["blue"], "bleu"),
        ("evaluate.translation.metrics", [], "evaluate.translation.metrics: "),
        ("evaluate.retention.suites", ["selv"], "unknown suite 'selv'; did you mean 'self'?"),
        ("evaluate.bootstrap", 3, "evaluate.bootstrap: "),
        ("evaluate.scales", [0.5, 1], "1 is no further scale"),
        ("evaluate.scales", [0.5, 0.5], "0.5 is no further scale"),
        ("evaluate.scales", [-0.5], "-0.5 is no further scale"),
        ("evaluate.gate", ["gain"], "gate 'gain' is not of the form NAME>=NUMBER"),
        ("evaluate.gate", ["gain>=low"], "is not of the form NAME>=NUMBER"),
        ("seeds", 0, "0 trainings of each system are not possible"),
        ("seeds", [2, 2], "give at most 100 different seeds"),
        ("seeds", [-1], "give at most 100 different seeds"),
        ("grafts", [{"path": "a/radis"}], "two systems are called 'radis'"),
        ("expected.utilisation", 2, "expected.utilisation: "),
        ("pairs.train.path", "a\0b", "is not a usable path"),
        ("pairs.test.path", "~nobody-of-this-name/x", "is not a usable path"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(place: str, value: Any, complaint: str) -> None:
    assert complaint in refusal(changed(FULL, place, value))


@pytest.mark.parametrize(
    "place", ["name", "pairs", "pairs.train", "pairs.test", "pairs.train.path", "pairs.test.target"]
)
def test_a_missing_key_is_named(place: str) -> None:
    values: Any = copy.deepcopy(MINIMAL)
    node = values
    *path, last = place.split(".")
    for part in path:
        node = node[part]
    del node[last]
    message = refusal(values)
    assert message.startswith("the key '")
    assert last in message
    assert message.endswith("is missing")


def test_combinations_are_checked() -> None:
    assert "'self' needs general prompts" in refusal(changed(MINIMAL, "evaluate.retention.suites", ["self"]))
    test = MINIMAL["pairs"]["test"]
    assert "two test sets are called test (de-en)" in refusal(changed(MINIMAL, "pairs.test", [test, test]))
    other = {**test, "target": "fr"}
    assert len(parsed(changed(MINIMAL, "pairs.test", [test, other, {**test, "name": "b"}])).pairs.test) == 3


# Anything

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["radis", "lora", "self", "de", "en", "auto", "~x", "hub:a/b", "/", "\0", "2024-01-01"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["kind", "path", "source", "target", "name", "0", "train", "params"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


def places(node: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [before, *(place for key, inner in entries for place in places(inner, (*before, key)))]


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


@given(st.text(alphabet="stages.0train=epochsmodel1[]{}:- ", max_size=30), VALUES)
def test_no_override_causes_anything_but_a_refusal(override: str, value: Any) -> None:
    for values in (copy.deepcopy(FULL), {"stages": value}, {"a": value}):
        _, error = tried(apply_override, values, override)
        assert "\n" not in error
        assert "\n" not in tried(parsed, values)[1]


# Overrides


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
        ("pairs.train.path=/x=y.jsonl", lambda recipe: recipe.pairs.train[0].path == "/x=y.jsonl"),
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
        ("stages.3.train.epochs=1", "stages.3 is not an entry; there are 1, from 0"),
        ("stages.x.method=radis", "stages.x is not an entry"),
        ("stages.².method=radis", "is not an entry"),
        (f"stages.{'9' * 5000}.method=radis", "is not an entry"),
        ("seed.x=1", "seed holds a plain value, not settings"),
        ("stages.0.train.epoch=1", "unknown key 'stages.0.train.epoch'; did you mean 'epochs'?"),
        ("sed=1", "unknown key 'sed'; did you mean 'seed'?"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str, complaint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(written(tmp_path, yaml.safe_dump(FULL)), [override])
    assert complaint in str(caught.value)


# Round trip


@pytest.mark.parametrize("values", [MINIMAL, FULL], ids=["minimal", "full"])
def test_a_dumped_recipe_loads_to_the_same_recipe_anywhere(tmp_path: Path, values: dict[str, Any]) -> None:
    recipe = parsed(values, Path("/somewhere"))
    text = dump_recipe(recipe)
    again = load_recipe(written(tmp_path, text))
    assert again == recipe
    assert dump_recipe(again) == text


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads_and_feeds_back_unchanged(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert load_recipe(written(tmp_path, dump_recipe(recipe))) == recipe
    assert [system.name for system in recipe.systems()][-1] in ("radis", "transllm")


def test_the_shipped_recipes_are_those_of_the_folder() -> None:
    assert {"demo", "radis-de-en", "radis-wmt22"} <= set(shipped_recipes())
