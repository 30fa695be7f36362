"""The section `merge` of a recipe: systems of others' weights, sweeps, and what is refused when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.load import dump_recipe, parse_recipe
from lingraft.recipe.strict_yaml import plain_values
from recipes_support import FULL, parsed

GROWN = {"vocabulary": {"size": 100}, "texts": [{"path": "de.jsonl", "lang": "de"}]}
PLAIN = {"method": "vanilla", "name": "plain"}
LORA_NEW = {"kind": "lora", "embeddings": "new"}


def made(*merge: Any, **changes: Any) -> Any:
    return parsed({**FULL, "merge": list(merge), **changes})


def test_one_entry_is_one_system_with_all_parameters_of_its_merger() -> None:
    recipe = made(
        {"kind": "ties", "of": ["plain", "radis"], "density": 0.5}, {"kind": "linear", "of": ["ties", "base"]}
    )
    first, second = recipe.merges()
    assert (first.name, first.of, first.group) == ("ties", ("plain", "radis"), None)
    assert first.params == {"weights": [], "density": 0.5, "scale": 1.0, "normalise": True}
    assert (second.name, second.of) == ("linear", ("ties", "base"))
    assert recipe.headliners == ["radis"]


def test_a_sweep_is_a_system_for_each_combination_joined_by_its_last_parameter() -> None:
    sweep = {"density": [0.2, 0.5], "weights": [[1, 2], [2.5, 1]]}
    plans = made({"kind": "ties", "name": "t", "of": ["plain", "radis"], "sweep": sweep}).merges()
    assert [(plan.name, plan.group) for plan in plans] == [
        ("t-0.2-1+2", "t-0.2"),
        ("t-0.2-2.5+1", "t-0.2"),
        ("t-0.5-1+2", "t-0.5"),
        ("t-0.5-2.5+1", "t-0.5"),
    ]
    assert plans[1].params == {"density": 0.2, "weights": [2.5, 1], "scale": 1.0, "normalise": True}
    assert plans[1].swept == {"density": 0.2, "weights": [2.5, 1]}


def test_it_is_written_down_and_read_back_with_its_paths() -> None:
    recipe = made(
        {"kind": "widen", "of": ["radis", "./grafts/one", "/models/two"], "sweep": {"score_calibration_value": [1, 2]}}
    )
    assert recipe.merge[0].of == ["radis", "/data/grafts/one", "/models/two"]
    again = parse_recipe(plain_values(dump_recipe(recipe), "x"), "x", Path("/elsewhere"))
    assert again == recipe


def test_without_training_given_grafts_or_folders_are_merged() -> None:
    bare = {"stages": [], "compare": []}
    linear = {"kind": "linear", "of": ["one", "two"]}
    recipe = made(linear, grafts=[{"path": "a/one"}, {"path": "a/two"}], **bare)
    assert recipe.headliners == ["one", "two"]
    assert made({"kind": "linear", "of": ["./one", "./two"]}, **bare).headliners == ["linear"]


LINEAR: dict[str, Any] = {"kind": "linear", "of": ["plain", "radis"]}
REFUSED: list[tuple[list[Any], dict[str, Any], str]] = [
    (
        [{**LINEAR, "of": ["plain", "radix"]}],
        {},
        "merge.0.of: there is no system 'radix' to merge; did you mean 'radis'?",
    ),
    ([{**LINEAR, "of": ["linear", "radis"]}], {}, "merge.0.of: 'linear' is made by this entry or one behind it"),
    ([{**LINEAR, "of": ["later"]}, {**LINEAR, "name": "later"}], {}, "'later' is made by this entry or one behind it"),
    (
        [{**LINEAR, "name": "s", "sweep": {"strength": [0.1, 0.2]}}, {**LINEAR, "of": ["s"]}],
        {},
        "merge.1.of: 's' is a sweep of several systems; name one of them, such as s-0.1, s-0.2",
    ),
    ([{**LINEAR, "of": ["plain", "plain"]}], {}, "'plain' is named twice"),
    ([{**LINEAR, "of": ["./a", "x/../a"]}], {}, "merge: 'linear' names the folder /data/a twice"),
    ([{**LINEAR, "of": ["base"]}], {}, "the base alone is no merge"),
    ([{**LINEAR, "of": []}], {}, "merge.0.of: "),
    ([{"kind": "linear"}], {}, "the key 'merge.0.of' is missing"),
    (["linear"], {}, "the key 'merge.0.of' is missing"),
    ([{**LINEAR, "kind": "liner"}], {}, "unknown merger 'liner'; did you mean 'linear'?"),
    ([{**LINEAR, "strenth": 1}], {}, "unknown key 'merge.0.strenth'; did you mean 'strength'?"),
    ([{**LINEAR, "sweep": {"strenth": [1, 2]}}], {}, "unknown key 'merge.0.strenth'; did you mean 'strength'?"),
    ([{**LINEAR, "sweep": {"strength": [0.5, "half"]}}], {}, "merge.0.strength: "),
    ([{**LINEAR, "sweep": {"strength": [0.5]}}], {}, "sweep.strength: give two values or more"),
    ([{**LINEAR, "sweep": {"strength": [0.5, 0.5]}}], {}, "sweep.strength: a value is there twice"),
    ([{**LINEAR, "strength": 1, "sweep": {"strength": [0.5, 1]}}], {}, "strength is set and in `sweep`"),
    ([{**LINEAR, "sweep": {"strength": [i / 1000 for i in range(101)]}}], {}, "the sweep has 101 combinations"),
    ([{**LINEAR, "weights": [1, 2, 3]}], {}, "merge.0.weights: there are 3 of them for 2 models"),
    ([{**LINEAR, "sweep": {"weights": [[1, 2], [1]]}}], {}, "merge.0.weights: there are 1 of them for 2 models"),
    ([{"kind": "slerp", "of": ["plain", "radis", "base"]}], {}, "slerp merges 1 to 2 models, and there are 3"),
    ([{"kind": "chat_vector", "of": ["plain"]}], {}, "chat_vector merges 2 models, and there are 1"),
    ([{**LINEAR, "name": "plain"}], {}, "two systems are called 'plain'; give one in `compare`, `grafts` or `merge`"),
    ([LINEAR, {**LINEAR, "sweep": {"strength": [0.1, 0.2]}}], {}, "two systems are called 'linear'"),
    (
        [LINEAR],
        {"engine": {"kind": "openai", "base_url": "http://127.0.0.1:8000/v1", "load_grafts": True}},
        "engine 'openai' cannot answer with what is merged: a server loads no graft of whole layers (`merge`)",
    ),
    (
        [LINEAR],
        {
            "stages": [{"method": "radis", "train": {"precision": "nf4"}}],
            "compare": [{"method": "vanilla", "name": "plain"}],
        },
        "merged weights are whole, and the base is in 4 bits",
    ),
    (
        [LINEAR],
        {
            "stages": [{"method": "radis", "tuner": LORA_NEW}],
            "compare": [{"method": "vanilla", "name": "plain", "vocabulary": False, "tuner": "lora"}],
            **GROWN,
        },
        "merge.0.of: 'radis' has the recipe's extended vocabulary and 'plain' has not",
    ),
    *(
        (
            [{"kind": "chat_vector", "of": parts}],
            {
                "stages": [{"method": "radis", "tuner": LORA_NEW}],
                "compare": [{"method": "vanilla", "name": "plain", "vocabulary": False, "tuner": "lora"}],
                **GROWN,
            },
            "merge what has one vocabulary; only `lingraft merge --checkpoint` takes another for the first model",
        )
        for parts in (["radis", "plain"], ["plain", "radis"])
    ),
]


@pytest.mark.parametrize(("merge", "changes", "complaint"), REFUSED)
def test_what_cannot_be_merged_is_refused_in_one_sentence(
    merge: list[Any], changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        made(*merge, **changes)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
