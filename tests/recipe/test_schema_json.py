"""The JSON Schema of recipes says what the program says: what it takes is valid, and what it refuses is not."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from lingraft.core.errors import UsageError
from lingraft.core.streams import json_text
from lingraft.recipe.load import dump_recipe, load_recipe, parse_recipe
from lingraft.recipe.registries import PLACES, entries_of
from lingraft.recipe.schema_json import recipe_schema
from lingraft.recipe.shipped import shipped_recipes
from lingraft.recipe.strict_yaml import plain_values
from recipes_support import FULL, MINIMAL

VALUES = recipe_schema()
SCHEMA = Draft202012Validator(VALUES)
DOCS = Path(__file__).parents[2] / "docs"


def test_the_published_schema_is_what_the_program_makes() -> None:
    """`lingraft schema > docs/recipe.schema.json` brings it up to date."""
    Draft202012Validator.check_schema(VALUES)
    assert (DOCS / "recipe.schema.json").read_text("utf-8") == json_text(VALUES, indent=1) + "\n"


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_are_valid_as_written_and_as_resolved(name: str) -> None:
    SCHEMA.validate(plain_values(shipped_recipes()[name], name))
    SCHEMA.validate(plain_values(dump_recipe(load_recipe(name)), name))


SERVER = {"kind": "openai", "base_url": "http://127.0.0.1:8000/v1", "model": "m"}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the minimal recipe with some keys set."""
    return copy.deepcopy({**MINIMAL, **changes})


def measured(*suites: Any, **evaluate: Any) -> dict[str, Any]:
    """Return the minimal recipe with other suites and settings of the evaluation."""
    return changed({"evaluate": {"retention": {"suites": list(suites)}, **evaluate}})


def trained(**stage: Any) -> dict[str, Any]:
    """Return the minimal recipe with a stage and prompts."""
    return changed({"prompts": {"path": "p"}, "stages": [stage]})


SIDES = {"source": "de", "target": "en"}
TAKEN: list[dict[str, Any]] = [
    MINIMAL,
    FULL,
    changed({"stages": {"method": "radis", "tuner": "lora", "params": {"instructions": "varied"}}}),
    trained(params={"max_rationale_tokens": 5}),  # of the default method
    trained(method=["radis", {"method": "recovery", "share": 0.5}]),
    {**trained(), "compare": [{"method": [{"method": "vanilla"}, {"method": "recovery", "share": 0.5}]}]},
    changed({"pairs": {"train": {"path": "a", **SIDES, "fields": {"source": 2}}, "test": {"path": "b", **SIDES}}}),
    changed({"engine": {"kind": "ray", "inner": {"kind": "transformers", "max_batch": 2}}}),
    changed({"grafts": ["runs/a", {"path": "runs/b", "name": "b"}]}),
    measured({"kind": "refusal", "guard": SERVER, "retains": False}),
    measured({"kind": "mt_bench", "judge": {"kind": "transformers", "model": "org/judge"}}),
    measured("refusal", translation={"metrics": ["bleu", {"kind": "comet", "name": "c"}]}),
    measured("refusal", translate_test={"translator": SERVER, "languages": ["de"]}),
    changed({"seeds": [1, 2], "compare": ["vanilla", {"name": "x", "train": {"epochs": 2}}]}),
    changed({"compare": [{"in_stages": {"radis": {"train": {"epochs": 2}}}}]}),
    changed({"prompts": [{"path": "p", "limit": 250}, {"path": "q", "fields": {"prompt": 1}}]}),
    changed({"prompts": None}),
]


@pytest.mark.parametrize("values", TAKEN)
def test_what_the_program_takes_is_valid(values: dict[str, Any]) -> None:
    parse_recipe(copy.deepcopy(values), "test", Path("/"))
    SCHEMA.validate(values)


REFUSED: list[dict[str, Any]] = [
    changed({"prompts": []}),
    changed({"prompts": {"path": "p", "lmit": 2}}),
    changed({"prompts": [{"path": "p"}, {"path": "q", "lmit": 2}]}),
    changed({"prompts": ["p"]}),
    changed({"sed": 2}),
    changed({"seed": "two"}),
    changed({"seed": True}),
    trained(method="radiss"),
    trained(method="radis", params={"rationale_wait": 1}),
    trained(method="vanilla", params={"rationale_weight": 1}),  # of another method
    trained(params={"rationale_wait": 1}),
    trained(tuner={"kind": "lora", "rnk": 8}),
    trained(tuner={"rnk": 8}),
    trained(tuner="loro"),
    trained(train={"epoch": 1}),
    trained(beside=[{"method": "recovery", "share": 2}]),
    changed({"stages": {"train": {"epoch": 1}}}),
    changed({"engine": "transformer"}),
    changed({"engine": {"kind": "transformers", "max_num_seqs": 4}}),  # vLLM's
    changed({"engine": {"kind": "ray", "inner": {"kind": "transformers", "max_num_seqs": 4}}}),
    changed({"compare": ["vanila"]}),
    changed({"compare": [{"method": "vanilla", "train": {"epoch": 2}}]}),
    measured({"kind": "refusal", "max_pairs": 3}),  # of another suite
    measured({"kind": "refusal", "guard": {"kind": "openai", "modle": "m"}}),
    measured({"name": "no kind"}),
    measured("refusal", translation={"metrics": ["blue"]}),
    changed({"pairs": {**MINIMAL["pairs"], "test": {"path": "b", "source": "de"}}}),
]


@pytest.mark.parametrize("values", REFUSED)
def test_what_the_program_refuses_for_a_key_or_value_is_not_valid(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        parse_recipe(copy.deepcopy(values), "test", Path("/"))
    assert not SCHEMA.is_valid(values)


FREE = ("fields", "template", "in_stages", "extra_body", "grafts", "command")
"""Keys whose mappings hold names of the user's."""


def _sections(node: Any, key: str = "") -> Iterator[dict[str, Any]]:
    if isinstance(node, dict) and key not in FREE:
        yield node
    for inner, value in node.items() if isinstance(node, dict) else [(key, item) for item in node]:
        if isinstance(value, dict | list):
            yield from _sections(value, inner)


@pytest.mark.parametrize("name", ["demo", "transllm-th-7b"])
def test_no_section_takes_a_misspelt_key(name: str) -> None:
    values = plain_values(dump_recipe(load_recipe(name)), name)
    sections = list(_sections(values))
    assert len(sections) > 20
    for section in sections:
        for key in [*section][:3]:
            section[f"{key}x"] = section.pop(key)
            assert not SCHEMA.is_valid(values), (key, section)
            section[key] = section.pop(f"{key}x")
    SCHEMA.validate(values)


def test_all_that_is_registered_is_in_it_with_its_parameters() -> None:
    definitions = VALUES["$defs"]
    for kind in (kind for kind in PLACES if kind != "documents"):  # files that are translated, of which no recipe says
        for name, entry in entries_of(kind).items():
            own = definitions[f"{kind.removesuffix('s')}.{name}"]
            assert entry.Params.model_fields.keys() <= own["properties"].keys()
            assert own["additionalProperties"] is False


def test_every_key_says_what_it_is() -> None:
    def keys(node: Any, place: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, dict):
            properties = node.get("properties", {})
            if "type" in node:  # else a condition
                yield from ((f"{place}.{key}", value) for key, value in properties.items() if isinstance(value, dict))
            for key, value in node.items():
                yield from keys(value, f"{place}/{key}")

    missing = [place for place, value in keys(VALUES, "") if not ("description" in value or set(value) == {"const"})]
    assert missing == []
