"""What every decoder promises, over all entries of the registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from decoding import Asked, decoder_inputs, made
from lingraft.core.errors import EngineError
from lingraft.core.sandbox import refusal
from lingraft.core.tasks import TASKS
from lingraft.data.records import Pair
from lingraft.decoders.base import DECODERS, Decoder, Surroundings, decoded
from lingraft.engines.scripted import Rule
from lingraft.reporting.citations import bibliography
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

SOURCES = [
    Source("t/1", "Das Wetter ist heute schön.", "de", "en"),
    Source("t/2", "Es sind nur 12 Minuten.", "de", "en"),
    Source("t/3", "Es sind nur 12 Minuten.", "de", "en"),
    Source("t/4", "Erster Absatz.\n\nZweiter Absatz:\n\n- ein {Punkt}", "de", "en"),
    Source("t/5", "It's only <b>5</b> minutes.", "en", "de"),
    Source("t/6", "今天天气很好。", "zh", "en"),
]
EXEMPLARS = [
    Pair(f"train:{n}", f"Am {n}. Mai kam er an.", f"On {n} May he arrived.", *direction)
    for n, direction in enumerate([("de", "en"), ("en", "de"), ("zh", "en")] * 4)
]
SYSTEM = TranslationSystem(stop=("\n\nNote:",))
GLOSSARY = str(Path(__file__).parents[1] / "support" / "terms.csv")
GIVEN: dict[str, dict[str, Any]] = {
    "code": {"run_code": True},
    "glossary": {"path": GLOSSARY},
    "pivot": {"languages": ["de"]},
}
"""Parameters of those that do not work by their defaults."""
RULES = [Rule(pattern="Minuten", answer="It is only 12 minutes."), Rule(answer="The weather is nice today.")]
BROKEN = '{"critical": 3, "major": ["x"]}'
ODD = ["", "  \n ", "<think>", "<think>It is</think>", "{}", BROKEN, "[]", "\ufffd", "x" * 500]

every_decoder = pytest.mark.parametrize("name", DECODERS)
TEXTS = {"translation", "summary"}
every_translator = pytest.mark.parametrize("name", [name for name in DECODERS if DECODERS.get(name).tasks & TEXTS])


def run(
    name: str, sources: list[Source] = SOURCES, rules: list[Rule] = RULES
) -> tuple[dict[str, Translation], Asked, Decoder]:
    asked, decoder = Asked(rules), made(name, **GIVEN.get(name, {}))
    task = "translation" if "translation" in decoder.tasks else "summary"
    return decoded(decoder, sources, SYSTEM, decoder_inputs(asked, exemplars=EXEMPLARS, task=task)), asked, decoder


@every_decoder
def test_a_decoder_says_what_it_is(name: str) -> None:
    entry: Any = DECODERS.get(name)
    assert entry.name == name
    assert entry.summary
    assert "\n" not in entry.summary
    assert name == "direct" or re.search(r"arXiv \d{4}\.\d{4,5}", entry.paper)
    assert len(entry.__doc__) > 40
    assert entry.tasks
    assert entry.tasks <= set(TASKS)
    assert set(entry.cite) <= set(bibliography())
    if name != "code" or not refusal():  # which is refused where programs cannot be shut in
        made(name, **GIVEN.get(name, {})).check()


@every_translator
def test_each_source_has_its_translation(name: str) -> None:
    found, _, decoder = run(name)
    assert list(found) == [source.id for source in SOURCES]
    assert all(isinstance(one.text, str) and one.text for one in found.values())
    assert decoder.lacks(Surroundings(directions=[("de", "en")], exemplars=[("de", "en")])) == ""


@every_translator
def test_what_is_asked_is_what_was_expected(name: str) -> None:
    _, asked, decoder = run(name)
    expected = {step.name: step.of for step in decoder.expected_steps()}
    for step, of, requests in asked.steps:
        assert re.fullmatch(r"[a-z0-9-]+", step)
        assert expected[step] == of
        assert all(request.direct and request.messages for request in requests)
        assert all(request.sampling.max_new_tokens > 0 for request in requests)
    for one in decoder.expected_steps():
        assert one.answers > 0
        assert one.tokens is None or one.tokens > 0


@every_translator
def test_an_interrupted_run_asks_the_same_again(name: str) -> None:
    (first, asked, _), (second, again, _) = run(name), run(name)
    assert asked.steps == again.steps
    assert first == second


@every_translator
def test_every_call_and_token_is_counted_with_a_segment(name: str) -> None:
    found, asked, _ = run(name)
    assert sum(one.calls for one in found.values()) == asked.calls
    assert sum(one.tokens for one in found.values()) == asked.written


@every_translator
def test_a_translation_does_not_depend_on_what_else_is_translated(name: str) -> None:
    whole, _, _ = run(name)
    for sources in (list(reversed(SOURCES)), SOURCES[1:2]):
        part, _, _ = run(name, sources)
        assert part == {source.id: whole[source.id] for source in sources}


@every_translator
def test_nothing_to_translate_is_no_error(name: str) -> None:
    found, asked, _ = run(name, [])
    assert (found, asked.calls) == ({}, 0)


@every_translator
@pytest.mark.parametrize("answer", ODD)
def test_odd_answers_are_translations_or_named_failures(name: str, answer: str) -> None:
    found, _, _ = run(name, rules=[Rule(answer=re.sub(r"\\", r"\\\\", answer), finish_reason="length")])
    assert len(found) == len(SOURCES)
    assert all(one.text or one.failure for one in found.values())


@pytest.mark.parametrize(
    ("given", "what"),
    [(["t/1", "t/1"], "'t/1' twice"), (["t/1", "x"], "'x' unasked"), (["t/1"], "no translation of 't/2'")],
)
def test_what_a_decoder_leaves_out_or_adds_is_an_error(given: list[str], what: str) -> None:
    class Odd(DECODERS.get("direct")):  # type: ignore[misc]
        def run(self, *_: object) -> Any:
            return (Translation(id_, "x", 1) for id_ in given)

    with pytest.raises(EngineError, match=what):
        decoded(Odd(None), SOURCES[:2], SYSTEM, decoder_inputs(Asked([])))
