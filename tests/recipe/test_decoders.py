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
from lingraft.recipe.trust import acts
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
        ([{"kind": "rerank", "temperature": 0}], "evaluate.decoders.0: 8 samples at temperature 0"),
        ([{"kind": "rerank", "metric": "crf"}], "did you mean 'chrf'"),
        ([{"kind": "rerank", "choose": "estimate"}], "decoder 'rerank': `metric`: chrf compares with references"),
        (["pivot"], "decoder 'pivot': there is no language to translate; name its `languages`"),
        ([{"kind": "pivot", "languages": ["en"]}], "name other languages"),
        (
            [{"kind": "icl", "languages": ["de", "th"]}],
            "decoder 'icl': there are no pairs from German into Thai to show",
        ),
        ([{"kind": "icl", "memory": "m.tmx"}], "`memory` needs its `languages`"),
        ([{"kind": "tear", "estimator": {"kind": "opnai"}}], "did you mean 'openai'"),
        ([{"kind": "tear", "estimator": {"kind": "openai", "modle": "m"}}], "evaluate.decoders.0.estimator.modle"),
    ],
)
def test_mistakes_are_told_when_it_is_read(decoders: list[Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        recipe(*decoders)
    assert words in str(told.value)


def test_a_translation_memory_lies_beside_the_recipe() -> None:
    found = recipe({"kind": "icl", "memory": "memory.tmx", "languages": ["de", "en"]})
    assert found.evaluate.decoders[0].params["memory"] == "/memory.tmx"
    assert parse_recipe(plain_values(dump_recipe(found), "test"), "again", Path("/")) == found


def test_pairs_of_the_development_set_can_be_shown() -> None:
    dev = {"path": "dev.jsonl", "source": "en", "target": "th"}
    test = [MINIMAL["pairs"]["test"], {"path": "thai.jsonl", "source": "en", "target": "th"}]
    with pytest.raises(UsageError, match="no pairs from English into Thai"):
        recipe("icl", pairs={**MINIMAL["pairs"], "test": test})
    assert recipe("icl", pairs={**MINIMAL["pairs"], "test": test, "dev": dev})
    both = {"path": "dev.jsonl", "source": "th", "target": "en", "both_directions": True}
    assert recipe("icl", pairs={**MINIMAL["pairs"], "test": test, "dev": both})
    assert recipe("icl", pairs={**MINIMAL["pairs"], "test": test[1], "train": both})
    untrained = {**MINIMAL["pairs"], "test": test[1], "train": both, "direction_weights": {"en-th": 0}}
    with pytest.raises(UsageError, match="no pairs from English into Thai"):
        recipe("icl", pairs=untrained)
    summaries = {"path": "sums.jsonl", "source": "en", "target": "th", "task": "summary"}
    evaluate = {**MINIMAL["evaluate"], "summary": {}}
    # Which are no translations, and so need no pairs.
    assert recipe("icl", pairs={**MINIMAL["pairs"], "test": [test[0], summaries]}, evaluate=evaluate)


def test_direct_translation_chooses_by_nothing() -> None:
    assert reported_choices(recipe("direct")) == {}
    assert not [doubt for doubt in doubts(recipe("direct")) if "chosen" in doubt]


def test_what_is_chosen_by_what_is_reported_is_said() -> None:
    evaluate = {**MINIMAL["evaluate"], "translation": {"metrics": ["chrf", "bleu"]}}
    found = recipe(
        {"kind": "rerank", "systems": ["base"]}, {"kind": "rerank", "name": "ter", "metric": "ter"}, evaluate=evaluate
    )
    assert reported_choices(found) == {"base/rerank": ["chrf"]}
    assert any("the translations of 'base/rerank' are chosen by chrf" in doubt for doubt in doubts(found))


def test_programs_and_servers_of_decoders_need_consent() -> None:
    quality = {"kind": "command", "command": "python estimate.py", "references": False}
    found = recipe(
        {"kind": "rerank", "choose": "estimate", "metric": quality},
        {"kind": "tear", "estimator": {"kind": "openai", "base_url": "https://api.example.org/v1", "model": "m"}},
    )
    words = [str(act) for act in acts(found)]
    assert any("runs the program `python estimate.py`" in one and "decoder rerank" in one for one in words)
    assert any("https://api.example.org" in one and "evaluate.decoders.1.estimator" in one for one in words)


def test_the_contamination_probe_is_two_decoders_of_the_base() -> None:
    on = {**MINIMAL["evaluate"], "contamination_probe": True}
    found = recipe("direct", evaluate=on)
    assert names(found)[-2:] == ["base/probe-right", "base/probe-wrong"]
    right, wrong = (one.choice.params for one in decoded_systems(found)[-2:])
    assert {**right, "control": "wrong"} == wrong == {"k": 8, "draw": 0, "control": "wrong"}
    assert parse_recipe(plain_values(dump_recipe(found), "test"), "again", Path("/")) == found
    assert names(recipe(evaluate={**on, "contamination_probe": False})) == []
    chosen = {**on, "contamination_probe": {"systems": ["slow"], "k": 4}}
    assert names(recipe(evaluate=chosen)) == ["slow/probe-right", "slow/probe-wrong"]
    with pytest.raises(UsageError, match=r"evaluate\.contamination_probe\.systems: nothing that is measured is called"):
        recipe(evaluate={**on, "contamination_probe": {"systems": ["bse"]}})
    with pytest.raises(UsageError, match="two decoders are called 'probe-wrong'"):
        recipe({"kind": "direct", "name": "probe-wrong"}, evaluate=on)
