"""Objectives of a stage: how they are written, what methods ask for, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from lingraft.core.errors import UsageError
from lingraft.methods.base import METHODS
from lingraft.methods.vanilla import Vanilla
from lingraft.recipe.load import dump_recipe, load_recipe, parse_recipe
from lingraft.recipe.objectives import objectives_of
from lingraft.recipe.schema import Recipe
from lingraft.training.objectives import group_of

MINIMAL: dict[str, Any] = {
    "name": "run",
    "pairs": {
        "train": {"path": "starter:train.de-en.jsonl", "source": "de", "target": "en"},
        "test": {"path": "starter:test.de-en.jsonl", "source": "de", "target": "en"},
    },
    "prompts": {"path": "starter:prompts.jsonl"},
}


def parsed(stage: dict[str, Any], **changes: Any) -> Recipe:
    return parse_recipe({**MINIMAL, "stages": [{"method": "vanilla", **stage}], **changes}, "test", Path("/"))


def said(recipe: Recipe, system: int = -1) -> list[dict[str, Any]]:
    """Return the objectives of a system's last stage."""
    found = objectives_of(recipe.systems()[system].stage)
    return [{"kind": one.name, **one.params.model_dump(mode="json")} for one in found]


@pytest.mark.parametrize("given", ["eaft", {"kind": "eaft"}, ["eaft"], [{"kind": "eaft", "on": "translation"}]])
def test_one_may_stand_without_its_list_and_by_its_name(given: Any) -> None:
    recipe = parsed({"objective": given})
    assert said(recipe) == [{"kind": "eaft", "weight": 1.0, "on": ["translation"], "top_k": 20}]
    assert parse_recipe(recipe.model_dump(), "again", Path("/")) == recipe


def test_a_file_says_on_in_plain_words(tmp_path: Path) -> None:
    """YAML 1.1 takes `on` for true."""
    (tmp_path / "recipe.yaml").write_text(
        "name: run\n"
        "pairs:\n"
        "  train: {path: 'starter:train.de-en.jsonl', source: de, target: en}\n"
        "  test: {path: 'starter:test.de-en.jsonl', source: de, target: en}\n"
        "evaluate: {retention: {suites: []}}\n"
        "stages:\n"
        "  - method: vanilla\n"
        "    objective:\n"
        "      - kind: eaft\n"
        "        on: both\n"
    )
    recipe = load_recipe(str(tmp_path / "recipe.yaml"))
    assert said(recipe)[0]["on"] == ["translation", "replay"]
    (tmp_path / "again.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(str(tmp_path / "again.yaml")) == recipe


def test_roles_belong_to_one_group_each() -> None:
    roles = "translation separator rationale reply english_query english_reply native_reply marker text other"
    assert [group_of(role) for role in roles.split()] == ["translation", *["replay"] * 7, "text", "replay"]
    assert group_of("unwanted") is None


def test_a_compared_system_takes_those_of_the_recipe_or_has_its_own() -> None:
    recipe = parsed(
        {"objective": "eaft"},
        compare=[
            {"method": "radis"},
            {"method": "radis", "name": "none", "objective": []},
            {"objective": {"kind": "eaft", "top_k": 5}},
            {"name": "changed", "in_stages": {"vanilla": {"objective": []}}},
        ],
    )
    assert [[one.get("top_k") for one in said(recipe, i)] for i in range(5)] == [[20], [], [5], [], [20]]
    assert [system.name for system in recipe.systems()] == ["radis", "none", "vanilla-eaft", "changed", "vanilla"]


class Asking(Vanilla):
    """Asks for an objective."""

    name: ClassVar[str] = "asking"

    def objective(self) -> list[dict[str, Any]]:
        return [{"kind": "eaft", "top_k": 3}]


def test_a_method_asks_and_the_recipe_adds_and_replaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS._targets, "asking", Asking)
    assert [one["top_k"] for one in said(parsed({"method": "asking"}))] == [3]
    assert [one["top_k"] for one in said(parsed({"method": "asking", "objective": {"kind": "eaft", "top_k": 9}}))] == [
        9
    ]
    assert said(parsed({"method": "asking", "objective": {"kind": "eaft", "weight": 0}})) == []


SOFT = {"method": "radis", "params": {"targets": "soft"}}


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ({"objective": "eaf"}, ["unknown objective 'eaf'", "did you mean 'eaft'"]),
        ({"objective": [{"kind": "eaft", "on": ["replays"]}]}, ["stages.0.objective.0.on", "replay"]),
        ({"objective": [{"kind": "eaft", "on": []}]}, ["stages.0.objective.0.on"]),
        ({"objective": [{"kind": "eaft", "weight": 2}]}, ["stages.0.objective.0.weight"]),
        ({"objective": [{"kind": "eaft", "k": 2}]}, ["stages.0.objective.0.k"]),
        ({"objective": ["eaft", {"kind": "eaft", "on": "replay"}]}, ["'eaft' is listed twice"]),
        ({**SOFT, "objective": {"kind": "eaft", "on": "both"}}, ["'eaft'", "'radis'", "recorded", "on: translation"]),
        ({"objective": "kl_base", "tuner": "full"}, ["'kl_base'", "base's own logits", "'full'"]),
        ({"objective": "stm", "tuner": {"kind": "lora", "embeddings": "all"}}, ["'stm'", "head learns"]),
        ({"objective": "cc", "tuner": {"kind": "lora", "targets": ["q_proj", "lm_head"]}}, ["'cc'", "head learns"]),
    ],
)
def test_what_cannot_be_is_one_sentence(stage: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(stage)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factor_on_references_goes_with_soft_targets() -> None:
    assert len(said(parsed({**SOFT, "objective": "eaft"}))) == 1


def test_what_compares_answers_needs_a_method_that_makes_pairs_of_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'dpo' compares a chosen with a rejected answer, and 'vanilla' makes no"):
        parsed({"objective": "dpo"})
    file = tmp_path / "pairs.jsonl"
    file.write_text(
        '{"source": "Ja.", "chosen": "Yes.", "rejected": "No.", "source_lang": "de", "target_lang": "en"}\n'
    )
    preferences = {"method": "preferences", "params": {"path": str(file)}}
    (own,) = said(parsed(preferences))
    assert own == {"kind": "cpo", "weight": 1.0, "beta": 0.1, "alpha": 1.0}
    (own,) = said(parsed({**preferences, "objective": {"kind": "cpo", "beta": 0.3}}))
    assert own["beta"] == 0.3
    assert [one["kind"] for one in said(parsed({**preferences, "objective": "dpo"}))] == ["cpo", "dpo"]
    (own,) = said(parsed({**preferences, "params": {"path": str(file), "loss": "dpo"}}))
    assert own["kind"] == "dpo"
    with pytest.raises(UsageError, match=r"'preferences' makes preference pairs, and no objective compares them"):
        parsed({**preferences, "objective": {"kind": "cpo", "weight": 0}})
    with pytest.raises(UsageError, match=r"'dpo' needs the base's own logits.*'full'"):
        parsed({**preferences, "objective": "dpo", "tuner": "full"})
    with pytest.raises(UsageError, match="it has no file of pairs; give its parameter `path`"):
        parsed({"method": "preferences"})


def test_what_looks_at_the_bases_own_answers_needs_some() -> None:
    with pytest.raises(UsageError, match=r"'ewc' looks at the base's own answers to general.*'vanilla' has"):
        parsed({"objective": "ewc"})
    beside = [{"method": "recovery", "share": 0.2}]
    (own,) = said(parsed({"objective": "ewc", "beside": beside}))
    assert own == {"kind": "ewc", "weight": 1.0, "samples": 256}
    assert [one["kind"] for one in said(parsed({"objective": ["l2_init", "spd"]}))] == ["l2_init", "spd"]


@pytest.mark.parametrize(
    ("method", "params", "own"),
    [
        ("recovery", {"answers": "reference"}, False),
        ("recovery", {"prompts": "self"}, True),
        ("mix", {}, False),
        ("self_critique_chat", {}, True),
        ("self_critique_chat", {"teach": "preferences"}, False),
    ],
)
def test_answers_of_others_are_not_the_bases_own(method: str, params: dict[str, Any], own: bool) -> None:
    asked = {"objective": "ewc", "beside": [{"method": method, "share": 0.2, "params": params}]}
    if own:
        assert "ewc" in [one["kind"] for one in said(parsed(asked))]
    else:
        with pytest.raises(UsageError, match=r"'ewc' looks at the base's own answers to general.*has none"):
            parsed(asked)


def test_replayed_work_on_pairs_is_the_bases_own() -> None:
    assert said(parsed({"method": "cft", "objective": "ewc"}))[0]["kind"] == "ewc"
    with pytest.raises(UsageError, match=r"'ewc' looks at the base's own answers to general.*'cft' has none"):
        parsed({"method": "cft", "params": {"replay_share": 0}, "objective": "ewc"})
