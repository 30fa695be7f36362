"""Recovery: the base's own answers to general prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lingraft.data.records import Example, Generation, Message, Prompt
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.recovery import Recovery
from lingraft.translation.markers import Markers

PROMPTS = [Prompt(f"p{i}", (Message("system", "Be brief."), Message("user", f"Say {i}."))) for i in range(5)]
INPUTS = MethodInputs((), PROMPTS, seed=7)


def made(**params: Any) -> Recovery:
    return Recovery(Recovery.Params.model_validate(params))


def examples(answers: list[tuple[str, str]], **params: Any) -> tuple[list[Example], dict[str, int]]:
    """Return the examples made of (text, finish reason) for each prompt, and the tally."""
    generations = {
        f"recovery:p{i}": Generation(f"recovery:p{i}", text, (1,), reason) for i, (text, reason) in enumerate(answers)
    }
    tally = Tally()
    return list(made(**params).examples(INPUTS, generations, tally)), dict(tally.filters)


ANSWERS = [("Zero. ", "stop"), ("One and", "length"), ("", "stop"), ("again and " * 60, "stop"), ("Four.", "stop")]


def test_the_prompts_themselves_are_asked() -> None:
    requests = list(made(max_answer_tokens=40, temperature=0.5).requests(INPUTS))
    assert [(request.id, request.messages) for request in requests] == [
        (f"recovery:{prompt.id}", prompt.messages) for prompt in PROMPTS
    ]
    sampling = requests[0].sampling
    assert (sampling.max_new_tokens, sampling.temperature, sampling.seed) == (40, 0.5, 7)
    assert not any(request.prefill for request in requests)
    assert len(list(made(max_prompts=2).requests(INPUTS))) == 2


def test_answers_are_learnt_and_empty_or_looping_ones_dropped() -> None:
    found, tally = examples(ANSWERS)
    assert [(example.id, example.spans[0].text, example.end_turn) for example in found] == [
        ("recovery:p0", "Zero.", True),
        ("recovery:p1", "One and", False),
        ("recovery:p4", "Four.", True),
    ]
    assert {span.role for example in found for span in example.spans} == {"reply"}
    assert tally == {"kept": 2, "kept_truncated": 1, "empty": 1, "looping": 1}


def test_answers_with_thoughts_are_dropped_and_an_empty_block_is_taken_off() -> None:
    answers = [
        ("<think>\nHm.\n</think>\n\nZero.", "stop"),
        ("<think>\nOne is", "length"),
        ("<think>\n\n</think>\n\nTwo.", "stop"),
        ("Three. <think>Or four?</think>", "stop"),
        ("Okay.</think>Four.", "stop"),
    ]
    for params in ({}, {"drop_looping": False}):
        found, tally = examples(answers, **params)
        assert [(example.id, example.spans[0].text) for example in found] == [("recovery:p2", "Two.")]
        assert tally == {"kept": 1, "thinking": 4}


def test_an_answer_about_the_tags_of_its_question_is_no_thought() -> None:
    prompt = Prompt("p", (Message("user", "What does <think> mean, and </think>?"),), "en")
    method, inputs = Recovery(Recovery.Params()), MethodInputs([], [prompt], 3)
    text = "<think> opens thoughts, </think> closes them."
    (found,) = method.examples(inputs, {"recovery:p": Generation("recovery:p", text, (1,), "stop")}, Tally())
    assert found.spans[0].text == text


def test_filters_follow_the_parameters() -> None:
    found, tally = examples(ANSWERS, truncated="drop", drop_looping=False)
    assert [example.id for example in found] == ["recovery:p0", "recovery:p3", "recovery:p4"]
    assert tally == {"kept": 3, "truncated": 1, "empty": 1}


def test_english_answers_come_behind_their_marker_where_there_are_markers() -> None:
    prompts = [PROMPTS[0], replace(PROMPTS[1], lang="de")]
    inputs = MethodInputs((), prompts, markers=Markers.for_languages(["th"]))
    generations = {f"recovery:p{i}": Generation(f"recovery:p{i}", "Yes.", (1,), "stop") for i in range(2)}
    english, german = made().examples(inputs, generations, Tally())
    assert [(span.role, span.text) for span in english.spans] == [("marker", "<RESPONSE>"), ("reply", "Yes.")]
    assert [(span.role, span.text) for span in german.spans] == [("reply", "Yes.")]
    direct = replace(inputs, english_opening=False)  # where the graft will be asked without it
    assert [len(example.spans) for example in made().examples(direct, generations, Tally())] == [1, 1]


def test_given_answers_take_the_place_of_the_bases() -> None:
    prompts = [replace(PROMPTS[0], reference=" Given. "), PROMPTS[1]]
    inputs = MethodInputs((), prompts)
    method, tally = made(answers="reference"), Tally()
    assert not list(method.requests(inputs))
    assert method.expected_tokens(method.params) == 0
    (example,) = method.examples(inputs, {}, tally)
    assert (example.id, example.spans[0].text, example.end_turn) == ("recovery:p0", "Given.", True)
    assert dict(tally.filters) == {"kept": 1, "no_reference": 1}
    assert example.spans[0].role == "given_reply"


def test_a_rehearsal_may_lose_answers_but_not_all() -> None:
    def shortfall(answers: list[tuple[str, str]], **params: Any) -> str:
        found = [Generation(f"recovery:p{i}", text, (1,), reason) for i, (text, reason) in enumerate(answers)]  # type: ignore[arg-type]
        generations = {one.id: one for one in found}
        return made(**params).shortfall(INPUTS, generations)

    cut = [("One and", "length")] * 4
    assert shortfall([*cut, ("Four.", "stop")], truncated="drop") == ""
    assert shortfall([*cut, ("Four", "length")]) == ""  # what was cut is kept
    found = shortfall([*cut, ("Four", "length")], truncated="drop", max_answer_tokens=9)
    assert found.startswith("5 of 5 answers exceed 9 tokens; raise `max_answer_tokens`")
    assert shortfall([*cut, ("", "stop")], truncated="drop").startswith(
        "none of 5 answers is fit (4 truncated, 1 empty)"
    )
    thoughts = shortfall([("<think>Hm", "length")] * 5)
    assert thoughts.startswith("none of 5 answers is fit (5 thinking); switch the base's thinking off")


def test_references_with_thoughts_are_no_answers() -> None:
    given = ["<think>Hm.</think>Zero.", "<think>\n</think>\nOne.", "Two."]
    prompts = [replace(PROMPTS[number], reference=text) for number, text in enumerate(given)]
    tally = Tally()
    found = list(made(answers="reference").examples(replace(INPUTS, prompts=prompts), {}, tally))
    assert [example.spans[-1].text for example in found] == ["One.", "Two."]
    assert dict(tally.filters) == {"kept": 2, "thinking": 1}
