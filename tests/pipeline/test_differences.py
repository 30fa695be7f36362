"""What the report says that compared systems differ in: only what is so, and all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lingraft.pipeline.differences import Subject, difference_notes
from lingraft.recipe.load import parse_recipe
from lingraft.translation.wording import DEFAULT, TranslationSystem

MINIMAL: dict[str, Any] = {
    "name": "run",
    "pairs": {
        "train": {"path": "starter:train.de-en.jsonl", "source": "de", "target": "en"},
        "test": {"path": "starter:test.de-en.jsonl", "source": "de", "target": "en"},
    },
    "prompts": {"path": "starter:prompts.jsonl"},
    "texts": {"path": "starter:texts.en.jsonl", "lang": "en"},
}
BASE = Subject(name="base", translating=TranslationSystem())
OTHER = "Say in {target_name}: {source}"


def notes(compared: dict[str, Any], *others: Subject, own: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    """Return the notes of a run of vanilla with one compared system, which differs as told."""
    stages = [{"name": "own", "method": "vanilla", "tuner": {"kind": "lora", "rank": 8}, **(own or {})}]
    recipe = parse_recipe({**MINIMAL, "stages": stages, "compare": [{"name": "x", **compared}]}, "test", Path("/"))
    x, mine = (
        Subject(name=one.name, translating=TranslationSystem(), stages=one.stages, tokens=900, steps=3)
        for one in recipe.systems()
    )
    return difference_notes(mine, [BASE, replace(x, **changes), *others])


def test_systems_that_differ_in_their_method_alone_are_said_to() -> None:
    assert notes({"method": "radis"}) == [
        "Training: every system sees the same pairs with the same settings.",
        "Asking: all systems are asked for translations in the same words and with the same stop strings, and hold "
        "conversations directly.",
    ]


@pytest.mark.parametrize(
    ("compared", "changes", "said"),
    [
        ({"method": "vanilla", "train": {"epochs": 2}}, {}, "train.epochs 2 (1)"),
        ({"tuner": {"kind": "lora", "rank": 4}}, {}, "tuner.rank 4 (8)"),
        ({"objective": "kl_base"}, {}, "objective kl_base (weight 0.1, on translation+replay) ("),
        ({"method": "vanilla", "params": {"instructions": "varied"}}, {}, "on 5 wordings of the request (1 wording)"),
        (
            {"method": "radis", "params": {"instructions": [OTHER]}},
            {"translating": TranslationSystem(OTHER)},
            f"it is asked for translations by {OTHER!r} ({DEFAULT!r})",
        ),
        (
            {"method": "radis"},
            {"translating": TranslationSystem(stop=("\nNote:",))},
            r"its translations end at '\nNote:' (with the turn)",
        ),
        (
            {"method": "vanilla", "train": {"epochs": 2}},
            {"chat": "tcot"},
            "it answers conversations through the translation chain of thought (directly)",
        ),
        ({"method": "radis"}, {"vocabulary": True}, "it has an extended vocabulary"),
    ],
)  # fmt: skip
def test_what_differs_is_named_with_both_values(compared: dict[str, Any], changes: dict[str, Any], said: str) -> None:
    first, *others = notes(compared, **changes)
    assert any(note.startswith("x differs from own, beside the methods: ") and said in note for note in others)
    in_training = not changes or "train" in compared or "vocabulary" in changes or "params" in compared
    assert first == f"Training: every system sees the same pairs{'' if in_training else ' with the same settings'}."
    assert any(note.startswith("Asking: all") for note in others) == (
        "translating" not in changes and "chat" not in changes
    )


def test_budgets_that_differ_are_given() -> None:
    assert notes({"method": "radis"}, tokens=1900, steps=6)[1] == (
        "Longer examples are more tokens and, at the same tokens a step, more steps (see Cost): "
        "own 900 tokens in 3 steps, x 1,900 tokens in 6 steps."
    )


def test_what_saw_no_pairs_and_what_was_trained_elsewhere_is_said() -> None:
    given = Subject(name="given", translating=TranslationSystem(OTHER), given=True)
    first, *others = notes({"method": "pretraining"}, given)
    assert first == "Training: every system but x sees the same pairs with the same settings."
    assert others == [
        f"given differs from own, beside the training: it was trained elsewhere, which may differ in anything; it is "
        f"asked for translations by {OTHER!r} ({DEFAULT!r})."
    ]


def test_stages_that_are_left_out_are_named() -> None:
    stage = {"tuner": {"kind": "lora"}}
    stages = [{"name": "first", "method": "pretraining", **stage}, {"name": "own", "method": "vanilla", **stage}]
    compare = [{"name": "x", "without": ["first"]}, {"name": "y", "in_stages": {"first": {"train": {"epochs": 3}}}}]
    recipe = parse_recipe({**MINIMAL, "stages": stages, "compare": compare}, "test", Path("/"))
    x, y, own = (Subject(name=one.name, translating=TranslationSystem(), stages=one.stages) for one in recipe.systems())
    found = difference_notes(own, [x, y])
    assert "x differs from own, beside the methods: it lacks the stage 'first'." in found
    assert "y differs from own, beside the methods: first: train.epochs 3 (1)." in found
