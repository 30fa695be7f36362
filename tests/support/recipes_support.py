"""Recipes that tests change, and what tests ask of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from lingraft.core.errors import UsageError
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe

HOST = "https://api.example.org/v1"
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


def judged(**params: Any) -> dict[str, Any]:
    """Return a section with a suite whose judge is a server at another machine."""
    return {"suites": [{"kind": "mt_bench", "judge": {"kind": "openai", "base_url": HOST, **params}}]}
