"""Decoders are rehearsed: all steps are asked, with marks in place of answers, and what cannot fit is found."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from decoding import made
from lingraft.core.errors import DataError
from lingraft.data.records import Pair, Sampling
from lingraft.decoders.base import DECODERS, DecoderInputs
from lingraft.pipeline.decoder_lengths import _NoFurther, _Rehearsal, check_decoders
from lingraft.pipeline.lengths import Window
from lingraft.recipe.schema import Recipe
from lingraft.translation.direct import Source
from lingraft.translation.wording import DEFAULT, TranslationSystem
from models_support import tiny_loaded
from recipes_support import MINIMAL, parsed

SOURCES = [Source(f"t/{n}", f"Satz {n} ist da.", "de", "en") for n in range(3)]
PROGRAMS = [Source("t/0", "def f():\n    return 1\n", "python", "java", "class Solution {\n    public int f() {")]
EXEMPLARS = [Pair(f"p:{n}", f"Am {n}. Mai kam er.", f"On {n} May he came.", "de", "en") for n in range(12)]
GIVEN: dict[str, dict[str, Any]] = {
    "code": {"run_code": True},
    "glossary": {"path": str(Path(__file__).parents[1] / "support" / "terms.csv")},
    "icl": {"retriever": "embedding"},
    "pivot": {"languages": ["de"]},
}
OTHERWISE = {"code": {"drafts"}, "pivot": {"tests"}}
"""Steps that are rehearsed of those that go on by what answers say, or ask another way of what they do not know."""


@pytest.mark.parametrize("name", DECODERS)
def test_all_steps_are_rehearsed(name: str) -> None:
    decoder = made(name, **GIVEN.get(name, {})).rehearsed()
    task = "translation" if "translation" in decoder.tasks else next(iter(decoder.tasks))
    asking = _Rehearsal(decoder, Window(tiny_loaded().renderer, 1))
    inputs = DecoderInputs(
        ask=asking,
        sampling=Sampling(9),
        task=task,
        exemplars=EXEMPLARS,
        score=lambda metric, pairs, texts: [0.0] * len(texts),
    )
    try:
        list(decoder.run(PROGRAMS if task == "code" else SOURCES, TranslationSystem(), inputs))
    except _NoFurther:
        assert name == "code"
    assert set(asking.certain) == OTHERWISE.get(name, {step.name for step in decoder.expected_steps()})


def recipe(decoder: dict[str, Any]) -> Recipe:
    values = copy.deepcopy(MINIMAL)
    values["evaluate"] |= {"decoders": [decoder], "translation": {"max_new_tokens": 50}}
    return parsed(values)


def test_what_may_be_too_long_is_said_and_what_is_too_long_refused() -> None:
    renderer, made_of = tiny_loaded().renderer, recipe({"kind": "tear", "max_estimate_tokens": 30})

    def told(context: int | None) -> list[str]:
        window = Window(renderer, context)
        return check_decoders(made_of, window, {"translation": SOURCES}, [DEFAULT], EXEMPLARS)

    def fits(context: int) -> bool:
        try:
            told(context)
        except DataError:
            return False
        return True

    least, most = 1, 4000
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if fits(middle) else (middle + 1, most)
    with pytest.raises(DataError, match=r"3 requests too long, first 't/0': [0-9]+ prompt tokens leave no room for"):
        told(least - 1)
    notes = told(least)
    assert notes
    said = f"3 requests leave no room for a whole answer in the model's context of {least} if"
    assert all(said in one for one in notes)
    assert told(least + 500) == []
    assert told(None) == []
