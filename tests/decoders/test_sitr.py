"""SITR: the four steps see each other's answers, and a step that fails costs no more than itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from decoding import Asked, decoder_inputs, made
from lingraft.data.records import Sampling
from lingraft.decoders.base import decoded
from lingraft.engines.scripted import Rule
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

SOURCES = [
    Source("t/1", "The ferry stops in May. It is old.\n\nA bridge is new.", "en", "de"),
    Source("t/2", "Bees dance. They tell where flowers are.", "en", "th"),
]
SYSTEM = TranslationSystem("Into {target_name}: {source}", stop=("\nNote:",))
STEPS = [
    Rule(pattern="^Summarise the following English text in English", answer="Here is the summary:\nA ferry stops."),
    Rule(pattern="^Here is a English text, and a summary", answer="An old ferry stops."),
    Rule(pattern="^Into (German|Thai): An old ferry stops", answer="Eine alte Fähre hält.\nNote: short"),
    Rule(pattern="^Here is a English text, and its translation", answer="Eine alte Fähre stellt den Betrieb ein."),
]
EMPTY = Rule(answer="")


def run(
    rules: Sequence[Rule], sources: Sequence[Source] = SOURCES, **params: object
) -> tuple[dict[str, Translation], Asked]:
    asked = Asked(rules)
    inputs = decoder_inputs(asked, task="summary", sampling=Sampling(40, seed=3))
    return decoded(made("sitr", **params), list(sources), SYSTEM, inputs), asked


def prompts(asked: Asked, step: str) -> list[str]:
    return [one.messages[-1].content for name, _, listed in asked.steps if name == step for one in listed]


def test_each_step_sees_what_the_steps_before_have_written() -> None:
    found, asked = run(STEPS)
    assert [(name, of) for name, of, _ in asked.steps] == [
        (name, "system") for name in ("summaries", "improved", "translations", "refined")
    ]
    assert [step.name for step in made("sitr").expected_steps()] == [name for name, _, _ in asked.steps]
    assert SOURCES[0].text in prompts(asked, "summaries")[0]
    assert f"Text:\n{SOURCES[0].text}\n\nSummary:\nA ferry stops.\n\n" in prompts(asked, "improved")[0]
    assert prompts(asked, "translations") == ["Into German: An old ferry stops.", "Into Thai: An old ferry stops."]
    (refine, _) = prompts(asked, "refined")
    assert "Text:\nAn old ferry stops.\n\nTranslation:\nEine alte Fähre hält.\n\n" in refine
    assert SOURCES[0].text not in refine
    one = found["t/1"]
    assert (one.text, one.failure, one.calls) == ("Eine alte Fähre stellt den Betrieb ein.", "", 4)
    assert one.steps == {
        "summaries": "A ferry stops.",
        "improved": "An old ferry stops.",
        "translations": "Eine alte Fähre hält.",
        "refined": "Eine alte Fähre stellt den Betrieb ein.",
    }
    assert sum(each.tokens for each in found.values()) == asked.written


@pytest.mark.parametrize(
    ("fails", "text", "failure", "calls"),
    [
        (0, "", "summaries_empty", 1),
        (1, "Eine Fähre hält.", "improved_empty", 4),
        (2, "", "translations_empty", 3),
        (3, "Eine alte Fähre hält.", "refined_empty", 4),
    ],
)
def test_a_step_that_writes_nothing_is_counted_and_leaves_what_there_was(
    fails: int, text: str, failure: str, calls: int
) -> None:
    rules = [Rule(pattern=rule.pattern, answer="") if i == fails else rule for i, rule in enumerate(STEPS)]
    rules.append(Rule(pattern="^Into German: A ferry stops", answer="Eine Fähre hält."))
    if fails == 1:
        rules[3] = Rule(pattern="and its translation", answer="Eine Fähre hält.")
    (found,) = run(rules, SOURCES[:1])[0].values()
    assert (found.text, found.failure, found.calls) == (text, failure, calls)


def test_an_unfinished_step_is_counted_first() -> None:
    rules = [Rule(pattern=STEPS[0].pattern, answer="A ferry", finish_reason="length"), *STEPS[1:3], EMPTY]
    (found,) = run(rules, SOURCES[:1])[0].values()
    assert (found.text, found.failure) == ("Eine alte Fähre hält.", "summaries_unfinished")


def test_the_pipelines_of_the_paper_are_modes() -> None:
    translate = Rule(pattern="^Into German: A ferry stops", answer="Eine Fähre hält.")
    found, asked = run([*STEPS, translate], SOURCES[:1], mode="summarise-translate")
    assert [name for name, _, _ in asked.steps] == ["summaries", "translations"]
    assert found["t/1"].text == "Eine Fähre hält."
    rules = [
        Rule(pattern="^Into German: The ferry", answer="Die Fähre hält im Mai.\n\nSie ist alt."),
        Rule(pattern="^Summarise the following German text in German", answer="Die Fähre hält."),
    ]
    found, asked = run(rules, SOURCES[:1], mode="translate-summarise", document_tokens=99)
    assert [name for name, _, _ in asked.steps] == ["documents", "summarised"]
    assert [listed[0].sampling.max_new_tokens for _, _, listed in asked.steps] == [99, 40]
    assert "Sie ist alt." in prompts(asked, "summarised")[0]
    assert (found["t/1"].text, found["t/1"].calls) == ("Die Fähre hält.", 2)
    found, _ = run([*rules[:1], EMPTY], SOURCES[:1], mode="translate-summarise")
    assert (found["t/1"].text, found["t/1"].failure) == ("", "summarised_empty")  # a translation is no summary


@pytest.mark.parametrize(("words", "kept"), [(0, 3), (12, 3), (11, 2), (3, 1)])
def test_long_documents_are_cut_behind_a_sentence_and_counted(words: int, kept: int) -> None:
    found, asked = run(STEPS, SOURCES[:1], max_words=words)
    sentences = ["The ferry stops in May.", "It is old.", "A bridge is new."]
    shown = prompts(asked, "summaries")[0]
    assert [sentence in shown for sentence in sentences] == [place < kept for place in range(3)]
    assert found["t/1"].failure == ("cut" if kept < 3 else "")


def test_direct_asks_for_a_summary_in_one_step() -> None:
    asked = Asked([Rule(pattern="^Kurz: The ferry", answer="Die Fähre hält.\n\nSie ist alt.\nNote: x")])
    inputs = decoder_inputs(asked, task="summary", summarising="Kurz: {source}", sampling=Sampling(40))
    found = decoded(made("direct"), SOURCES[:1], SYSTEM, inputs)
    assert [name for name, _, _ in asked.steps] == ["drafts"]
    assert found["t/1"].text == "Die Fähre hält.\n\nSie ist alt."
