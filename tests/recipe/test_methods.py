"""Several methods in one stage: how they are written, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lingraft.core.errors import UsageError
from lingraft.data.records import Pair
from lingraft.methods.base import METHODS, MethodInputs
from lingraft.pipeline.synthesise import Component, StageExamples
from lingraft.recipe.asking import chat_of, wording_of, wording_of_run
from lingraft.recipe.load import dump_recipe, load_recipe, parse_recipe
from lingraft.recipe.overrides import apply_override
from lingraft.recipe.schema import Recipe

MINIMAL: dict[str, Any] = {
    "name": "run",
    "pairs": {
        "train": {"path": "starter:train.de-en.jsonl", "source": "de", "target": "en"},
        "test": {"path": "starter:test.de-en.jsonl", "source": "de", "target": "en"},
    },
    "prompts": {"path": "starter:prompts.jsonl"},
}
RECOVERY = {"method": "recovery", "share": 0.3}


def parsed(stage: dict[str, Any], **changes: Any) -> Recipe:
    return parse_recipe({**MINIMAL, "stages": [stage], **changes}, "test", Path("/"))


def test_a_list_of_methods_means_the_first_and_those_beside_it() -> None:
    listed = parsed({"method": [{"method": "radis", "params": {"rationale_share": 0.5}}, RECOVERY]})
    long = parsed({"method": "radis", "params": {"rationale_share": 0.5}, "beside": [RECOVERY]})
    assert listed == long
    (system,) = listed.systems()
    assert system.name == "radis+recovery"
    assert system.stage.beside[0].share == 0.3
    assert system.stage.beside[0].params["max_answer_tokens"] == 256  # defaults are filled in
    again = parse_recipe(yaml.safe_load(dump_recipe(listed)), "again", Path("/"))
    assert again == listed


def test_a_compared_system_has_its_own_methods_beside_it() -> None:
    recipe = parsed(
        {"method": "radis"},
        compare=["vanilla", {"method": "vanilla", "beside": [RECOVERY]}, {"method": ["radis", RECOVERY], "name": "x"}],
    )
    assert [(s.name, [b.method for b in s.stage.beside]) for s in recipe.systems()] == [
        ("vanilla", []),
        ("vanilla+recovery", ["recovery"]),
        ("x", ["recovery"]),
        ("radis", []),
    ]


def test_compared_methods_are_asked_in_the_same_words_unless_they_name_others() -> None:
    own = "Carry this over from {source_name} into {target_name}:\n{source}"
    other = "Please translate from {source_name} to {target_name}:\n{source}"
    recipe = parsed(
        {"method": "radis", "params": {"instructions": [own]}},
        compare=[
            "vanilla",
            {"method": "vanilla", "beside": [RECOVERY], "name": "replay"},
            {"method": "vanilla", "params": {"instructions": [other]}, "name": "other"},
        ],
    )
    words = {system.name: system.stage.params["instructions"] for system in recipe.systems()}
    assert words == {"vanilla": [own], "replay": [own], "other": [other], "radis": [own]}
    again = parse_recipe(yaml.safe_load(dump_recipe(recipe)), "again", Path("/"))
    assert again == recipe


def test_what_is_compared_takes_the_words_of_the_method_that_teaches_to_translate() -> None:
    own = "Carry this over into {target_name}:\n{source}"
    recipe = parse_recipe(
        {
            **MINIMAL,
            "texts": {"path": "starter:texts.th.jsonl", "lang": "th"},
            "vocabulary": {"size": 100},
            "stages": [
                {"method": "translation_pretraining", "tuner": {"kind": "lora", "embeddings": "all"}},
                {"method": "tcot", "beside": [{"method": "vanilla", "share": 0.2, "params": {"instructions": [own]}}]},
            ],
            "compare": [
                {"method": "native_sft", "beside": [{"method": "vanilla", "share": 0.2}]},
                {"name": "none", "without": ["vanilla"]},
            ],
        },
        "test",
        Path("/"),
    )
    words = {system.name: wording_of(system.stages) for system in recipe.systems()}
    assert words == {"native_sft+vanilla": own, "none": None, "tcot+vanilla": own}
    assert wording_of_run(recipe) == own  # in which the base, and what was taught none, is asked
    chats = {system.name: chat_of(system.stages) for system in recipe.systems()}
    assert chats == {"native_sft+vanilla": "direct", "none": "tcot", "tcot+vanilla": "tcot"}
    assert chat_of(recipe.stages[:1]) == "direct"
    vanilla = recipe.stages[1].model_copy(update={"method": "vanilla", "params": {}, "beside": []})
    assert chat_of([*recipe.stages, vanilla]) == "tcot"  # what a further stage says nothing of stays as it was


@pytest.mark.parametrize("method", ["recovery", "radis"])
def test_translations_end_as_the_method_that_teaches_them_ends_them(method: str) -> None:
    """Whichever of the methods of a stage stands first."""
    pair = Pair("a", "Guten Tag.", "Good day.", "de", "en")
    parts = []
    for name in ("recovery", "radis", "vanilla"):
        entry: Any = METHODS.get(name)
        made = entry(entry.Params())
        inputs = MethodInputs([pair], prepared=made.prepare(MethodInputs([pair])))
        parts.append(Component(method=made, share=None, inputs=inputs, stop=made.stop(inputs), answers={}))
    parts.sort(key=lambda part: part.method.name != method)
    system = parsed({"method": "recovery", "beside": [{"method": "radis", "share": 0.4}]}).systems()[0]
    found = StageExamples(system, parts).translating
    assert found is not None
    assert (found.method.name, found.stop, found.prepared) == ("radis", ("\nNote:",), {"delimiter": "\n\nNote:"})
    assert StageExamples(system, [part for part in parts if part.method.name == "recovery"]).translating is None


@pytest.mark.parametrize(
    ("one", "other", "complaint"),
    [
        (
            ("radis", {"instructions": ["Say in {target_name}: {source}"]}),
            ("vanilla", {}),
            r"'radis' and 'vanilla' teach to translate when asked in different words \('Say in .*give both the same",
        ),
        (
            ("radis", {"delimiter": "\n\nWhy:"}),
            ("radis", {"delimiter": "\n\nNote:"}),
            "end a translation differently.*give both the same `delimiter`",
        ),
        (("radis", {"instructions": "varied"}), ("vanilla", {}), None),  # asked in the first, which is the same
        (("vanilla", {}), ("radis", {}), None),
        (("recovery", {"instructions": ["Say in {target_name}: {source}"]}), ("vanilla", {}), None),
    ],
)
def test_methods_that_disagree_on_how_a_translation_is_asked_for_are_refused(
    one: tuple[str, Any], other: tuple[str, Any], complaint: str | None
) -> None:
    stage = {"method": one[0], "params": one[1], "beside": [{"method": other[0], "params": other[1], "share": 0.5}]}
    if complaint is None:
        assert parsed(stage)
        return
    with pytest.raises(UsageError, match=complaint):
        parsed(stage)


def test_the_recipe_at_papers_scale_compares_methods_in_the_same_words() -> None:
    recipe = load_recipe("radis-wmt22")
    wordings = [system.stage.params["instructions"] for system in recipe.systems()]
    assert len(wordings) == 2
    assert wordings[0] == wordings[1]
    assert len(wordings[0]) > 1


def test_an_override_reaches_a_method_beside() -> None:
    values: dict[str, Any] = {**MINIMAL, "stages": [{"method": "radis", "beside": [dict(RECOVERY)]}]}
    apply_override(values, "stages.0.beside.0.share=0.1")
    assert parse_recipe(values, "test", Path("/")).stages[0].beside[0].share == 0.1


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        ({"method": ["radis", "recovery"]}, "stages.0.beside.0"),
        ({"method": ["radis", {**RECOVERY, "share": 1.0}]}, "stages.0.beside.0.share: .*less than 1"),
        ({"method": ["radis", RECOVERY, {**RECOVERY, "share": 0.7}]}, "leave nothing to the first method"),
        ({"method": [{"method": "radis", "share": 0.7}, RECOVERY]}, "the first has `method` and `params`"),
        ({"method": ["radis", RECOVERY], "beside": [RECOVERY]}, "in a list of methods"),
        ({"method": "radis", "beside": [{"method": "recovry", "share": 0.1}]}, "unknown method 'recovry'.*'recovery'"),
        (
            {"method": "radis", "beside": [{**RECOVERY, "params": {"max_answer_token": 3}}]},
            "unknown key 'stages.0.beside.0.params.max_answer_token'.*max_answer_tokens",
        ),
    ],
)
def test_what_cannot_be_mixed_is_refused_with_its_place(stage: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parsed(stage)


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ({}, r"the suite 'self', which is measured unless suites are named, needs general prompts; .* or name suites"),
        ({"retention": {"suites": ["self"]}}, r"the suite 'self' needs general prompts; .* or drop the suite"),
    ],
)
def test_a_suite_of_prompts_that_nobody_named_is_told_as_one(evaluate: dict[str, Any], said: str) -> None:
    own = {**RECOVERY, "params": {"prompts": "self"}}
    values = {key: value for key, value in MINIMAL.items() if key != "prompts"}
    values |= {"stages": [{"method": "radis", "beside": [own]}], "evaluate": evaluate}
    with pytest.raises(UsageError, match=said):
        parse_recipe(values, "test", Path("/"))
    parse_recipe(values | {"evaluate": {"retention": {"suites": ["refusal"]}}}, "test", Path("/"))


def test_a_method_of_prompts_needs_prompts() -> None:
    values = {key: value for key, value in MINIMAL.items() if key != "prompts"}
    values |= {"stages": [{"method": "radis", "beside": [RECOVERY]}], "evaluate": {"retention": {"suites": []}}}
    with pytest.raises(UsageError, match=r"stages.0.beside.0: method 'recovery' needs general prompts; add"):
        parse_recipe(values, "test", Path("/"))


def test_a_method_without_what_it_needs_is_refused_with_its_place() -> None:
    with pytest.raises(UsageError, match=r"stages.0: method 'language_aware': no language beside those of de-en"):
        parsed({"method": "language_aware"})
    bare = {key: value for key, value in MINIMAL.items() if key != "prompts"}
    bare |= {"evaluate": {"retention": {"suites": []}}, "stages": [{"method": "vanilla"}, {"method": "mix"}]}
    with pytest.raises(
        UsageError, match=r"stages.1: method 'mix': nothing to mix in; name files .*`prompts:` or `texts:`"
    ):
        parse_recipe(bare, "test", Path("/"))
    assert parsed({"method": "mix"})
    with pytest.raises(UsageError, match=r"nothing to mix in; name files .*or add `texts:` to the recipe"):
        parsed({"method": "mix", "params": {"kinds": ["texts"]}})
    beside = {"method": "language_aware", "share": 0.2}
    with pytest.raises(UsageError, match=r"stages.0.beside.0: method 'language_aware': .*the parameter `languages`"):
        parsed({"method": "vanilla", "beside": [beside]})
    assert parsed({"method": "vanilla", "beside": [{**beside, "params": {"languages": ["fr"]}}]})


def test_an_engine_without_grafts_may_write_rationales_but_not_evaluate() -> None:
    server = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}
    with pytest.raises(UsageError, match=r"'openai' cannot answer with what is trained: neither load_grafts.*or set"):
        parse_recipe({**MINIMAL, "engine": server}, "test", Path("/"))
    evaluate = {**MINIMAL.get("evaluate", {}), "engine": "transformers"}
    recipe = parse_recipe({**MINIMAL, "engine": server, "evaluate": evaluate}, "test", Path("/"))
    assert (recipe.engine.kind, recipe.evaluate.engine and recipe.evaluate.engine.kind) == ("openai", "transformers")
    assert parse_recipe({**MINIMAL, "engine": {**server, "load_grafts": True}}, "test", Path("/")).engine.params


def test_a_method_whose_prompts_the_base_writes_needs_none() -> None:
    values = {key: value for key, value in MINIMAL.items() if key != "prompts"}
    own = {**RECOVERY, "params": {"prompts": "self"}}
    values |= {"stages": [{"method": "radis", "beside": [own]}], "evaluate": {"retention": {"suites": []}}}
    recipe = parse_recipe(values, "test", Path("/"))
    assert recipe.prompts is None
    assert recipe.stages[0].beside[0].params["self_prompts"] == 1000
