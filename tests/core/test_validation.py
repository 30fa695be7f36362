"""Numbers of a recipe: every one that is set is a number, finite, and within reason."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from lingraft.core.validation import LARGEST, Settings
from lingraft.decoders.base import DECODERS
from lingraft.engines.base import ENGINES
from lingraft.methods.base import METHODS
from lingraft.metrics.base import METRICS
from lingraft.recipe.schema import Recipe
from lingraft.suites.base import SUITES
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.tuners import TUNERS
from recipes_support import FULL, changed, parsed, refusal


def _properties(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property of a JSON Schema, at any depth, with its name."""
    if isinstance(node, dict):
        yield from node.get("properties", {}).items()
        for inner in node.values():
            yield from _properties(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from _properties(inner)


def _forms(schema: dict[str, Any]) -> set[str]:
    """Return the types that a property may have, those of its list items as well."""
    forms = {one for part in schema.get("anyOf", []) for one in _forms(part)}
    if schema.get("type") == "array":
        return forms | _forms(schema.get("items", {}))
    return forms | {schema["type"]} if "type" in schema else forms


REGISTRIES = (METHODS, SUITES, METRICS, ENGINES, TUNERS, OBJECTIVES, DECODERS)
REGISTERED = [registry.get(name) for registry in REGISTRIES for name in registry]
MODELS: list[type[BaseModel]] = [Recipe, *(entry.Params for entry in REGISTERED)]


def test_every_number_of_every_section_is_held_to() -> None:
    """A section that is no `Settings` would take `true` for 1, and infinity."""
    numbers = 0
    for model in MODELS:
        assert issubclass(model, Settings)
        for name, schema in _properties(model.model_json_schema()):
            numbers += bool(_forms(schema) & {"integer", "number"})
            assert "boolean" not in _forms(schema) or not _forms(schema) & {"integer", "number"}, name
    assert numbers > 80
    for section in _sections(Recipe, set()):
        assert issubclass(section, Settings), section


def _sections(model: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    def inside(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
            seen.add(annotation)
            _sections(annotation, seen)
        for argument in getattr(annotation, "__args__", ()):
            inside(argument)

    for field in model.model_fields.values():
        inside(field.annotation)
    return seen


PLACES = [
    "seed",
    "seeds",
    "pairs.train.limit",
    "prompts.limit",
    "checks.max_length_ratio",
    "stages.0.train.epochs",
    "stages.0.train.max_tokens",
    "stages.0.tuner.rank",
    "stages.0.tuner.alpha",
    "stages.0.params.rationale_share",
    "evaluate.retention.suites.0.temperature",
    "engine.max_batch",
    "expected.pairs",
]


def numbered(place: str) -> str:
    """Return a key as messages name it: within a list, also where a single entry stands without it."""
    return place.replace("pairs.train.", "pairs.train.0.").replace("prompts.", "prompts.0.")


@pytest.mark.parametrize("place", PLACES)
def test_true_is_no_number(place: str) -> None:
    message = refusal(changed(FULL, place, True))
    assert "are no numbers" in message
    assert message.startswith(numbered(place))


def test_true_among_numbers_is_refused_and_where_it_is_one_of_two_it_is_taken() -> None:
    assert "are no numbers" in refusal(changed(FULL, "evaluate.scales", [0.5, True]))
    assert "are no numbers" in refusal(changed(FULL, "seeds", [True]))
    assert parsed(changed(FULL, "checks.language_check", False)).checks.language_check is False


@pytest.mark.parametrize("place", [place for place in PLACES if place not in ("seed", "seeds")])
@pytest.mark.parametrize("number", [1e308, 10**30, math.inf, math.nan])
def test_what_no_run_could_count_is_refused_where_it_stands(place: str, number: float) -> None:
    assert refusal(changed(FULL, place, number)).startswith(numbered(place))


def test_a_rate_next_to_nothing_is_refused_and_the_largest_number_is_not() -> None:
    assert "close to zero" in refusal(changed(FULL, "expected", {"peak_tflops": 5e-324}))
    assert parsed(changed(FULL, "prompts.limit", int(LARGEST))).prompts[0].limit == 10**15  # type: ignore[index]


def test_numbers_with_leading_zeros_count_as_they_are_read() -> None:
    assert parsed(changed(FULL, "prompts.limit", "010")).prompts[0].limit == 10  # type: ignore[index]


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (
            "stages.0.tuner.targets",
            5,
            "stages.0.tuner.targets: Input should be 'all-linear', or a valid list (given: 5)",
        ),
        ("stages.0.tuner.targets", [1], "stages.0.tuner.targets.0: Input should be a valid string (given: 1)"),
        ("seeds", "x", "seeds: Input should be a valid integer, or a valid list (given: 'x')"),
        ("seeds", None, "seeds: Input should be a valid integer, or a valid list (given: null)"),
        (
            "vocabulary",
            {"size": -1},
            "vocabulary.size: Input should be greater than or equal to 0, or 'auto' (given: -1)",
        ),
        ("engine", 5, "engine: Input should be a valid mapping (given: 5)"),
        ("stages", [None], "stages.0: Input should be a valid mapping (given: null)"),
        (
            "evaluate.translate_test",
            {"translator": 5},
            "evaluate.translate_test.translator: Input should be 'graft', or a valid mapping (given: 5)",
        ),
        (
            "evaluate.translate_test",
            {"translator": {"kind": 5}},
            "evaluate.translate_test.translator.kind: Input should be a valid string (given: 5)",
        ),
        (
            "stages",
            [{"method": "tcot", "params": {"translator": 5}}],
            "stages.0.params.translator: Input should be 'graft', or a valid mapping (given: 5)",
        ),
    ],
)
def test_all_that_is_allowed_is_said_at_the_key_as_the_recipe_has_it(place: str, value: Any, said: str) -> None:
    full = {**FULL, "seeds": 1, "evaluate": {**FULL["evaluate"]}}
    assert refusal(changed(full, place, value)) == said


@pytest.mark.parametrize("name", [0, [], {}, False, None])
def test_a_name_that_is_no_text_is_refused_and_none_is_the_files(name: Any) -> None:
    assert refusal(changed(FULL, "pairs.train.name", name)).startswith(
        "pairs.train.0.name: Input should be a valid string"
    )
    assert parsed(changed(FULL, "pairs.train.name", "")).pairs.train[0].name == "train"
