"""Prompts that the base writes itself: what is asked, what is kept, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Message, Prompt, UserTurn
from lingraft.methods.base import METHODS, MethodInputs, Tally
from lingraft.methods.recovery import Recovery
from lingraft.methods.self_prompts import SelfPromptParams, written_prompts

SYSTEM = "You are a helpful assistant that was made by the harbour company."
BEFORE = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
TURN = UserTurn(BEFORE, (1, 2, 3), (9,), ("[/INST]",))
WRITTEN = [
    ("What can I do on a rainy day in a small harbour town?", "stop"),
    (" what can I do, on a rainy day in a small harbour town ?\n", "stop"),
    ("What can I do on a rainy day in a small fishing town?", "stop"),
    ("Explain to me how a compass works and who made the first one.", "stop"),
    ("", "stop"),
    ("Hello", "stop"),
    ("Tell me about the history of the", "length"),
    ("and again " * 40, "stop"),
    ("12 + 34 * 5 - (6 / 7) = ? 89 !", "stop"),
    ("Was kann ich an einem regnerischen Tag in einer kleinen Stadt am Hafen unternehmen?", "stop"),
    ("I'm sorry, but I cannot help you with this request today.", "stop"),
    ("You are a helpful assistant that was made by the harbour company. What now?", "stop"),
    ("Please translate this sentence into German for me: I like fish.", "stop"),
    ("<think>What would they ask?</think>How do boats stay afloat in the sea?", "stop"),
    ("Which measured question is not to be learnt here at all?", "stop"),
]
DROPPED = {
    "duplicate": 1,
    "near_duplicate": 1,
    "empty": 1,
    "too_short": 1,
    "too_long": 1,
    "looping": 1,
    "few_letters": 1,
    "wrong_language": 1,
    "refusal": 1,
    "echo": 1,
    "translation": 1,
    "thinking": 1,
    "held_out": 1,
}


def held_out(text: str) -> bool:
    return "measured question" in text


def inputs(**changes: Any) -> MethodInputs:
    return replace(MethodInputs((), seed=7, user_turn=lambda system: TURN, held_out=held_out), **changes)


def answers(written: list[tuple[str, str]]) -> dict[str, Generation]:
    found = [Generation(f"self:{number}", text, (1,), reason) for number, (text, reason) in enumerate(written)]
    return {one.id: one for one in found}


def made(name: str = "recovery", **params: Any) -> Any:
    entry: Any = METHODS.get(name)
    return entry(entry.Params.model_validate({"prompts": "self", "self_prompts": len(WRITTEN), **params}))


def test_each_reason_against_a_prompt_is_counted() -> None:
    params = SelfPromptParams(self_prompts=len(WRITTEN), prompt_system="Be brief.")
    found = written_prompts(params, TURN, answers(WRITTEN), len(WRITTEN), held_out)
    assert dict(found.dropped) == DROPPED
    assert list(found) == [
        Prompt(f"self:{number}", (Message("system", "Be brief."), Message("user", WRITTEN[number][0])))
        for number in (0, 3)
    ]
    assert (len(found), found[1].id, [one.id for one in found[:1]]) == (2, "self:3", ["self:0"])


def test_prompts_in_the_language_asked_for_are_kept() -> None:
    params = SelfPromptParams(self_prompts=len(WRITTEN), prompt_language="de")
    assert [prompt.lang for prompt in written_prompts(params, TURN, answers(WRITTEN), len(WRITTEN))] == ["de"]


def test_a_prompt_that_only_begins_like_another_is_none_of_its_duplicates() -> None:
    written = [("Give me a list of five cheap meals for a week.", "stop"), ("Give me a list of all the kings.", "stop")]
    assert len(written_prompts(SelfPromptParams(self_prompts=2), TURN, answers(written), 2)) == 2


def test_the_base_is_asked_for_prompts_and_then_for_answers_to_those_that_are_fit() -> None:
    method = made(prompt_temperature=0.7, prompt_top_p=0.5, max_prompt_tokens=40, max_answer_tokens=60)
    first = method.round(0, inputs(), {})
    requests = list(first.requests())
    assert (first.of, len(requests)) == ("base", len(WRITTEN))
    assert [request.id for request in requests[:2]] == ["self:0", "self:1"]
    one = requests[0]
    assert (one.prompt_ids, one.ends, one.messages) == (TURN.ids, TURN.ends, ())
    assert (one.sampling.temperature, one.sampling.top_p, one.sampling.seed) == (0.7, 0.5, 7)
    assert (one.sampling.max_new_tokens, one.sampling.stop) == (40, ("[/INST]",))
    second = method.round(1, inputs(), answers(WRITTEN))
    asked = list(second.requests())
    assert [(request.id, request.messages[-1].content) for request in asked] == [
        (f"recovery:self:{number}", WRITTEN[number][0]) for number in (0, 3)
    ]
    assert second.name == "recovery"
    few = list(method.round(0, inputs(most_prompts=2), {}).requests())  # a preview needs no more
    assert few == requests[:2]


def test_examples_are_the_prompts_with_the_answers() -> None:
    given = answers(WRITTEN)
    for number, text in ((0, "Read a book."), (3, "It points north.")):
        given[f"recovery:self:{number}"] = Generation(f"recovery:self:{number}", text, (1,), "stop")
    tally = Tally()
    found = list(made().examples(inputs(), given, tally))
    assert [(example.messages[-1].content, example.spans[0].text) for example in found] == [
        (WRITTEN[0][0], "Read a book."),
        (WRITTEN[3][0], "It points north."),
    ]
    assert tally.filters == {"kept": 2, **{f"prompt_{reason}": count for reason, count in DROPPED.items()}}


def test_it_is_told_before_anything_is_answered_that_no_prompt_is_fit() -> None:
    method = made(self_prompts=3)
    bad = answers([("", "stop"), ("", "stop"), ("Hello", "stop")])
    assert method.shortfall(inputs(), bad).startswith(
        "none of 3 prompts that the base has written is fit (2 empty, 1 too_short); give some: `prompts:`"
    )
    assert made().shortfall(inputs(), answers(WRITTEN)) == ""  # the answers are asked for next
    given = answers(WRITTEN)
    given |= {f"recovery:self:{n}": Generation(f"recovery:self:{n}", "", (), "stop") for n in (0, 3)}
    assert made().shortfall(inputs(), given).startswith("none of 2 answers is fit (2 empty)")


@pytest.mark.parametrize("name", ["recovery", "native_sft", "tcot"])
def test_all_methods_of_prompts_ask_alike_so_that_answers_are_shared(name: str) -> None:
    params = {} if name == "recovery" else {"languages": ["th"], "translator": {"kind": "scripted"}}
    method, same = made(name, **params), made()
    for number in (0, 1):
        mine, others = (one.round(number, inputs(), answers(WRITTEN)) for one in (method, same))
        assert (mine.name, list(mine.requests())) == (others.name, list(others.requests()))
    assert not method.needs_prompts
    assert method.own_prompts == len(WRITTEN)


def test_the_recipes_prompts_are_neither_needed_nor_used() -> None:
    given = inputs(prompts=[Prompt("p", (Message("user", "What is given here?"),))])
    assert not any(request.id == "recovery:p" for request in made().round(1, given, answers(WRITTEN)).requests())
    method = Recovery(Recovery.Params())
    assert method.needs_prompts
    assert [request.id for request in method.round(0, given, {}).requests()] == ["recovery:p"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"answers": "reference"}, "takes answers that came with given prompts"),
        ({"prompt_temperature": 0}, "prompt_temperature"),
        ({"prompt_language": "klingonese"}, "prompt_language"),
        ({"prompt_system": " "}, "says nothing"),
    ],
)
def test_what_cannot_be_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Recovery.Params.model_validate({"prompts": "self", **params})


def test_without_a_chat_template_it_says_what_it_needs() -> None:
    with pytest.raises(UsageError, match="`prompts: self` needs the base's chat template"):
        list(made().round(0, MethodInputs(()), {}).requests())
