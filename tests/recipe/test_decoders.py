"""What a recipe says of decoders: which systems they make, and what is refused when it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.decoders import decoded_systems
from lingraft.recipe.files import doubts, reported_choices
from lingraft.recipe.load import dump_recipe, parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.strict_yaml import plain_values
from recipes_support import MINIMAL


def recipe(*decoders: Any, **changes: Any) -> Recipe:
    values = {**MINIMAL, "compare": [{"name": "slow", "train": {"learning_rate": 1e-5}}], **changes}
    evaluate = {**values.get("evaluate", {}), "decoders": list(decoders)}
    return parse_recipe({**values, "evaluate": evaluate}, "test", Path("/"))


def names(found: Recipe) -> list[str]:
    return [system.name for system in decoded_systems(found)]


def test_a_decoder_is_used_with_all_that_is_measured_or_with_those_that_are_named() -> None:
    own = recipe().headliners[0]
    assert names(recipe("direct")) == ["base/direct", "slow/direct", f"{own}/direct"]
    assert names(recipe({"kind": "direct", "name": "once", "systems": [own, "base"]})) == [f"{own}/once", "base/once"]
    assert names(recipe("direct", grafts=["/g/other"]))[-1] == "other/direct"


def test_variants_are_decoded_where_they_are_named() -> None:
    own = recipe().headliners[0]
    changes: dict[str, Any] = {"seeds": 2, "evaluate": {**MINIMAL["evaluate"], "scales": [0.5]}}
    assert names(recipe("direct", **changes)) == ["base/direct", "slow/direct", f"{own}/direct"]
    again = f"{own}#{recipe(**changes).further_seeds[0]}"
    several = recipe({"kind": "direct", "systems": [f"{own}*0.5", again]}, **changes)
    assert names(several) == [f"{own}*0.5/direct", f"{again}/direct"]


def test_it_is_the_same_recipe_when_it_was_written_and_read() -> None:
    found = recipe({"kind": "direct", "name": "once", "systems": ["base"]})
    assert parse_recipe(plain_values(dump_recipe(found), "test"), "again", Path("/")) == found


@pytest.mark.parametrize(
    ("decoders", "words"),
    [
        (["dirct"], "unknown decoder 'dirct'; did you mean 'direct'"),
        (["direct", {"kind": "direct"}], "two decoders are called 'direct'; give one of them another `name:`"),
        ([{"kind": "direct", "name": "a/b"}], "evaluate.decoders.0.name"),
        ([{"kind": "direct", "systems": ["bse"]}], "nothing that is measured is called 'bse'; did you mean 'base'"),
        ([{"kind": "direct", "systems": ["base", "base"]}], "two systems are called 'base'"),
        ([{"kind": "direct", "system": ["base"]}], "unknown key 'evaluate.decoders.0.system'; did you mean 'systems'"),
        ([{"name": "x"}], "evaluate.decoders.0.kind"),
    ],
)
def test_mistakes_are_told_when_it_is_read(decoders: list[Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        recipe(*decoders)
    assert words in str(told.value)


def test_direct_translation_chooses_by_nothing() -> None:
    assert reported_choices(recipe("direct")) == {}
    assert not [doubt for doubt in doubts(recipe("direct")) if "chosen" in doubt]
