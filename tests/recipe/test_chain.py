"""Recipes with several stages: what is trained, what is left out, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.recipe.load import dump_recipe, parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.strict_yaml import plain_values

CHAIN: dict[str, Any] = {
    "name": "chain",
    "pairs": {
        "train": [{"path": "train.jsonl", "source": "de", "target": "en"}],
        "test": [{"path": "test.jsonl", "source": "de", "target": "en"}],
    },
    "prompts": {"path": "prompts.jsonl"},
    "texts": [{"path": "de.jsonl", "lang": "de"}, {"path": "en.jsonl", "lang": "en"}],
    "vocabulary": {"size": 100},
    "stages": [
        {"method": "pretraining", "tuner": {"kind": "lora", "rank": 8, "embeddings": "all"}},
        {"method": "translation_pretraining", "train": {"learning_rate": 1e-4}},
        {
            "name": "transllm",
            "method": "tcot",
            "beside": [{"method": "recovery", "share": 0.4}, {"method": "vanilla", "share": 0.2}],
        },
    ],
}


def recipe(**changes: Any) -> Recipe:
    return parse_recipe({**CHAIN, **changes}, "recipe.yaml", Path("/data"))


def methods(recipe: Recipe, name: str) -> list[list[tuple[str, float | None]]]:
    system = next(system for system in recipe.systems() if system.name == name)
    return [
        [(stage.method, None), *((other.method, pytest.approx(other.share)) for other in stage.beside)]
        for stage in system.stages
    ]


def test_the_stages_are_one_system_with_one_tuner() -> None:
    loaded = recipe()
    (system,) = loaded.systems()
    assert system.name == "transllm"
    assert [stage.label for stage in system.stages] == ["pretraining", "translation_pretraining", "transllm"]
    assert {stage.tuner.params["rank"] for stage in system.stages} == {8}
    assert loaded.native_languages == ["de"]
    assert loaded.headliners == ["transllm"]
    assert loaded.texts[0].path == "/data/de.jsonl"


def test_a_resolved_recipe_with_stages_feeds_back_unchanged() -> None:
    loaded = recipe(compare=[{"without": ["recovery"]}, "vanilla"])
    again = parse_recipe(plain_values(dump_recipe(loaded), "dump"), "dump", Path("/elsewhere"))
    assert again == loaded
    assert again.systems() == loaded.systems()


def test_methods_are_left_out_wherever_they_stand() -> None:
    loaded = recipe(
        compare=[
            {"name": "no-rkd", "without": ["recovery"]},
            {"name": "no-cpt", "without": ["pretraining", "translation_pretraining"], "method": "tcot",
             "params": {"translations": "th.jsonl"}},
            {"name": "no-tcot", "without": ["tcot"]},
            {"name": "two", "without": ["transllm"]},
        ]
    )  # fmt: skip
    before = [[("pretraining", None)], [("translation_pretraining", None)]]
    assert methods(loaded, "no-rkd") == [*before, [("tcot", None), ("vanilla", 0.2 / 0.6)]]
    assert methods(loaded, "no-cpt") == [[("tcot", None)]]
    assert methods(loaded, "no-tcot") == [*before, [("recovery", None), ("vanilla", 0.2 / 0.6)]]
    assert methods(loaded, "two") == before
    assert loaded.compare[1].params["translations"] == "/data/th.jsonl"


def test_a_compared_method_replaces_the_last_stage() -> None:
    loaded = recipe(
        compare=[{"method": "native_sft", "train": {"epochs": 2}}, {"tuner": {"rank": 4, "embeddings": "new"}}]
    )
    assert methods(loaded, "native_sft")[2] == [("native_sft", None)]
    by_name = {system.name: system for system in loaded.systems()}
    assert by_name["native_sft"].stage.train.epochs == 2
    assert {stage.tuner.params["rank"] for stage in by_name["transllm-lora"].stages} == {4}


FULL_TUNING: dict[str, Any] = {
    "tuner": "full",
    "train": {"learning_rate": 1e-5},
    "in_stages": {
        "pretraining": {"train": {"learning_rate": 2e-5, "epochs": 3}, "params": {"block_tokens": 128}},
        "translation_pretraining": {"train": {"learning_rate": 3e-5}},
    },
}


def test_a_compared_system_changes_single_stages() -> None:
    loaded = recipe(compare=[FULL_TUNING, {"name": "long", "in_stages": {"transllm": {"train": {"epochs": 2}}}}])
    by_name = {system.name: system for system in loaded.systems()}
    full, long, own = (by_name[name].stages for name in ("transllm-full", "long", "transllm"))
    assert [stage.train.learning_rate for stage in full] == [2e-5, 3e-5, 1e-5]
    assert [stage.train.learning_rate for stage in own] == [2e-4, 1e-4, 2e-4]
    assert [stage.train.epochs for stage in full] == [3, 1, 1]
    assert {stage.tuner.kind for stage in full} == {"full"}
    assert full[0].params == {**own[0].params, "block_tokens": 128}
    assert [stage.params for stage in full[1:]] == [stage.params for stage in own[1:]]
    assert long[:2] == own[:2]
    assert long[2] == own[2].model_copy(update={"train": own[2].train.model_copy(update={"epochs": 2})})
    again = parse_recipe(plain_values(dump_recipe(loaded), "dump"), "dump", Path("/elsewhere"))
    assert again == loaded
    assert again.systems() == loaded.systems()


def test_a_changed_stage_of_texts_is_found_from_the_recipes_folder() -> None:
    stages = [*CHAIN["stages"][:2], {"method": "tcot", "name": "first"}, {"method": "recovery", "name": "last"}]
    loaded = recipe(
        stages=stages, compare=[{"name": "other", "in_stages": {"first": {"params": {"translations": "th.jsonl"}}}}]
    )
    by_name = {system.name: system.stages[2].params["translations"] for system in loaded.systems()}
    assert by_name == {"other": "/data/th.jsonl", "last": None}


def test_stages_may_begin_new_adapters() -> None:
    stages = [dict(stage) for stage in CHAIN["stages"]]
    stages[1] |= {"fresh": True, "tuner": {"rank": 4, "embeddings": "new"}}
    loaded = recipe(stages=stages, compare=[{"merge": True}, {"merge": True, "without": ["pretraining"]}])
    by_name = {system.name: system for system in loaded.systems()}
    assert [stage.fresh for stage in by_name["transllm"].stages] == [False, True, False]
    assert [stage.tuner.params["rank"] for stage in by_name["transllm"].stages] == [8, 4, 4]
    assert [stage.fresh for stage in by_name["transllm-merged"].stages] == [False, True, True]
    assert [stage.fresh for stage in by_name["transllm-without-pretraining-merged"].stages] == [True, True]
    again = parse_recipe(plain_values(dump_recipe(loaded), "dump"), "dump", Path("/elsewhere"))
    assert again.systems() == loaded.systems()


def _changed(number: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**stage, **(changes if i == number else {})} for i, stage in enumerate(CHAIN["stages"])]


def test_seeds_repeat_the_whole_chain() -> None:
    systems = recipe(seeds=2).systems()
    assert [(system.name, system.seed, system.group) for system in systems] == [
        ("transllm", 1, None),
        ("transllm#2", 2, "transllm"),
    ]
    assert systems[0].stages == systems[1].stages


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": []}, "stages.0: method 'pretraining' needs texts"),
        ({"vocabulary": None}, "system 'transllm': method 'translation_pretraining' needs markers"),
        ({"stages": CHAIN["stages"][2:]}, "'transllm': method 'tcot' lets the graft of the stage before translate"),
        ({"compare": [{"tuner": "lora"}]}, "set `embeddings: new` or `embeddings: all`"),
        ({"compare": [{"without": ["radis"]}]}, "`without` names 'radis', which is no stage and in none"),
        ({"compare": [{"name": "same"}]}, "compare.0: says nothing that differs"),
        ({"compare": [{"method": "native_sft", "without": ["transllm"]}]}, "leaves out 'transllm', whose method"),
        ({"compare": [{"params": {"x": 1}, "without": ["tcot"]}]}, "compare.0: the key 'method' is missing"),
        ({"compare": [{"vocabulary": False}]}, "system 'transllm-base-vocabulary': method"),
        ({"compare": [{"without": ["pretraining"], "train": {"epoch": 1}}]}, "unknown key 'compare.0.train.epoch'"),
        (
            {"compare": [{"in_stages": {"pretrainin": {"train": {"epochs": 2}}}}]},
            "compare.0.in_stages: there is no stage 'pretrainin'; did you mean 'pretraining'?",
        ),
        (
            {"compare": [{"in_stages": {"pretraining": {"train": {"epoch": 2}}}}]},
            "unknown key 'compare.0.in_stages.pretraining.train.epoch'; did you mean 'epochs'?",
        ),
        (
            {"compare": [{"in_stages": {"pretraining": {"params": {"block": 2}}}}]},
            "unknown key 'compare.0.in_stages.pretraining.params.block'; did you mean 'block_tokens'?",
        ),
        (
            {"compare": [{"in_stages": {"pretraining": {"trian": {"epochs": 2}}}}]},
            "unknown key 'compare.0.in_stages.pretraining.trian'; did you mean 'train'?",
        ),
        ({"compare": [{"in_stages": {"pretraining": {}}}]}, "in_stages.pretraining changes nothing"),
        ({"compare": [{"in_stages": {}}]}, "says nothing that differs"),
        (
            {"compare": [{"method": "native_sft", "in_stages": {"transllm": {"train": {"epochs": 2}}}}]},
            "compare.0.in_stages.transllm: the last stage is changed beside it as well",
        ),
        (
            {"compare": [{"train": {"epochs": 3}, "in_stages": {"transllm": {"train": {"epochs": 2}}}}]},
            "compare.0.in_stages.transllm: the last stage is changed beside it as well",
        ),
        (
            {"compare": [{"without": ["pretraining"], "in_stages": {"pretraining": {"train": {"epochs": 2}}}}]},
            "compare.0.in_stages.pretraining: the stage is left out by `without`",
        ),
        (
            {"compare": [{"without": ["tcot"], "in_stages": {"transllm": {"params": {"max_prompts": 2}}}}]},
            "compare.0.in_stages.transllm.params: belong to 'tcot', which `without` leaves out",
        ),
        (
            {"evaluate": {"translate_test": {"languages": ["en"]}}},
            "questions are translated into English and answers from it",
        ),
        (
            {"evaluate": {"translate_test": {"translator": {"kind": "openai", "modle": 1}}}},
            "unknown key 'evaluate.translate_test.translator.modle'",
        ),
        (
            {"evaluate": {"translate_test": {}}, "vocabulary": None, "stages": [{"method": "vanilla"}]},
            "evaluate.translate_test: there is no language to translate",
        ),
        ({"evaluate": {"translate_test": {}}, "compare": [{"name": "translate-test", "merge": True}]}, "two systems"),
        ({"stages": _changed(0, fresh=True)}, "the first stage has nothing before it to merge"),
        ({"stages": _changed(1, tuner={"rank": 4})}, "or begin a new adapter with `fresh: true`"),
        ({"stages": _changed(1, fresh=True, train={"sharding": "full"})}, "must be whole and not in 4 bits"),
        (
            {"stages": _changed(2, fresh=True, tuner={"rank": 4}), "compare": [{"method": "native_sft", "merge": True,
             "without": ["pretraining", "translation_pretraining"]}]},
            "compare.0: `merge` needs several stages",
        ),
        (
            {"stages": _changed(1, fresh=True, tuner={"rank": 4}),
             "compare": [{"without": ["translation_pretraining"]}]},
            "'transllm' continues the adapter of 'pretraining', which has another tuner",
        ),
    ],
)  # fmt: skip
def test_a_chain_that_cannot_work_is_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_chain_is_distilled_only_from_a_stage_that_teaches_it() -> None:
    last = {"method": "chain_distillation"}
    assert recipe(stages=[*CHAIN["stages"], last])
    with pytest.raises(UsageError, match=r"asks the graft .* through the chain, which no stage before teaches; put"):
        recipe(stages=[*CHAIN["stages"][:2], last])
    with pytest.raises(UsageError, match=r"'chain_distillation' .*graft of the stage before.*there is none"):
        recipe(stages=[{**CHAIN["stages"][0], **last}])
    words = {"teacher": "base", "targets": "hard"}
    assert recipe(stages=[*CHAIN["stages"][:2], {**last, "params": words}])
