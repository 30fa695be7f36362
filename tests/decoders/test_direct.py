"""Direct translation through the interface of decoders is direct translation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from decoding import Asked, decoder_inputs, made
from lingraft.data.records import Sampling
from lingraft.decoders.base import decoded
from lingraft.engines.scripted import Rule, ScriptedEngine
from lingraft.translation.direct import Source, Translation, extract, requests
from lingraft.translation.wording import TranslationSystem

SOURCES = [Source("a", "Guten Tag.", "de", "en"), Source("b", "Danke sehr.", "de", "en")]
SYSTEM = TranslationSystem("Into {target_name}: {source}", stop=("\nNote:",))
RULES = [Rule(pattern="Danke", answer="Thanks.\nNote: short"), Rule(answer="Good day.\n\nIt is a greeting.")]


def test_it_asks_and_reads_as_every_system_is_asked() -> None:
    asked = Asked(RULES)
    found = decoded(made("direct"), SOURCES, SYSTEM, decoder_inputs(asked, sampling=Sampling(9, seed=3)))
    wanted = list(requests(SOURCES, SYSTEM, Sampling(9, seed=3)))
    answers = {one.id: one for one in ScriptedEngine(RULES).generate(wanted)}
    assert asked.steps == [("drafts", "system", wanted)]
    assert found == {source.id: extract(source, answers[source.id], SYSTEM.stop) for source in SOURCES}
    assert [one.failure for one in found.values()] == ["extra_text", ""]


def test_rows_of_a_translation_that_took_one_call_are_what_they_were() -> None:
    plain = Translation("a", "Good day.", 3)
    assert plain.to_dict() == {"id": "a", "text": "Good day.", "tokens": 3}
    longer = replace(plain, calls=2, candidates=("x", "y"), steps={"drafts": "x"})
    assert Translation.from_json(longer.to_json()) == longer
    assert len({plain, longer}) == 2


def test_the_decoder_of_the_docs_does_what_they_say() -> None:
    text = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")
    program = text.partition("## A decoder\n")[2].partition("```python\n")[2].partition("```")[0]
    names: dict[str, Any] = {}
    exec(program, names)
    asked = Asked([Rule(pattern="Say it shorter", answer="Hello."), *RULES])
    sources = [*SOURCES, Source("c", "Oh.", "de", "en")]
    found = decoded(names["Shorter"](None), sources, SYSTEM, decoder_inputs(asked))
    assert [one.text for one in found.values()] == ["Good day.", "Thanks.", "Hello."]
    assert [one.calls for one in found.values()] == [1, 1, 2]
    assert found["c"].steps == {"drafts": "Good day.", "shorter": "Hello."}
    assert [step for step, _, _ in asked.steps] == [one.name for one in names["Shorter"](None).expected_steps()]
