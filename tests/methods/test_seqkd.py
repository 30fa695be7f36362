"""Sequence-level distillation: what the teacher is asked, and which of its translations are learnt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from lingraft.data.records import Example, Generation, Pair, Teacher
from lingraft.methods.base import METHODS, MethodInputs, Tally
from lingraft.methods.seqkd import SeqKD, SeqKDParams
from lingraft.methods.vanilla import Vanilla

PAIR = Pair("a", "Das Wetter ist heute schön.", "The weather is nice today.", "de", "en")
NAME = Pair("b", "Angela Merkel", "Angela Merkel", "de", "en")
MANY = [Pair(f"p{i}", f"Wir gehen um {i} Uhr.", f"We walk at {i} o'clock.", "de", "en") for i in range(2000)]
SERVER = {"kind": "openai", "model": "big"}


def examples(pair: Pair, answer: str, finish: str = "stop", **params: Any) -> tuple[list[Example], Counter[str]]:
    method, tally = SeqKD(SeqKDParams(**params)), Tally()
    inputs = MethodInputs([pair], seed=1)
    answers = {request.id: Generation(request.id, answer, (1,), finish) for request in method.requests(inputs)}
    return list(method.examples(inputs, answers, tally)), tally.filters


def plain(pairs: list[Pair], seed: int = 1) -> list[Example]:
    return list(Vanilla(Vanilla.Params()).examples(MethodInputs(pairs, seed=seed), {}, Tally()))


def test_the_teachers_translation_takes_the_references_place() -> None:
    """Worked out by hand: L = -log p(teacher's translation | request); the reference is nowhere in it."""
    method = SeqKD(
        SeqKDParams(teacher=SERVER, teacher_instruction="To {target_name}: {source}", max_translation_tokens=9)
    )
    this = method.round(0, MethodInputs([PAIR], seed=4), {})
    assert this is not None
    assert (this.of, this.name, this.kind) == (SERVER, "seqkd", "synthesis")
    assert method.round(1, MethodInputs([PAIR]), {}) is None
    (request,) = this.requests()
    assert [message.content for message in request.messages] == [f"To English: {PAIR.source}"]
    assert (request.sampling.max_new_tokens, request.sampling.temperature, request.sampling.seed) == (9, 0.0, 4)
    assert (request.prefill, request.top_logprobs, request.direct) == ("", 0, True)
    (example,), tally = examples(PAIR, " Nice weather today.\n", teacher=SERVER)
    (own,) = plain([PAIR])
    assert example == replace(own, spans=(replace(own.spans[0], text="Nice weather today."),))
    assert tally == {"kept": 1}


@pytest.mark.parametrize(
    ("pair", "answer", "finish", "reason"),
    [
        (PAIR, "", "stop", "empty"),
        (PAIR, " \n", "stop", "empty"),
        (PAIR, "<think>Weather?</think>It is nice.", "stop", "thinking"),
        (PAIR, "The weather is", "length", "truncated"),
        (PAIR, "Das Wetter ist heute schön!", "stop", "echo"),
        (PAIR, "Heute haben wir sehr gutes Wetter, und alle freuen sich.", "stop", "wrong_language"),
        (PAIR, "the weather is nice " * 40, "stop", "looping"),
        (PAIR, "Today we have nice weather.", "stop", ""),
        (NAME, "Angela Merkel", "stop", ""),  # as the reference, which is the source
    ],
)
def test_what_is_no_translation_is_left_out_or_the_reference_taken(
    pair: Pair, answer: str, finish: str, reason: str
) -> None:
    found, tally = examples(pair, answer, finish)
    assert tally == {reason or "kept": 1}
    assert len(found) == (not reason)
    found, tally = examples(pair, answer, finish, fallback="reference")
    assert tally == {reason or "kept": 1}
    assert (found == plain([pair])) == bool(reason or pair is NAME)


@pytest.mark.parametrize("name", ["echo", "looping", "wrong_language"])
def test_each_filter_can_be_left_out(name: str) -> None:
    answers = {
        "echo": "Das Wetter ist heute schön!",
        "looping": "the weather is nice " * 40,
        "wrong_language": "Heute haben wir sehr gutes Wetter, und alle freuen sich.",
    }
    others = ["echo", "looping", "wrong_language"]
    assert examples(PAIR, answers[name], filters=[name])[1] == {name: 1}
    if name != "echo":  # what repeats the source is in its language
        others.remove(name)
        assert examples(PAIR, answers[name], filters=others)[1] == {"kept": 1}
    assert examples(PAIR, answers[name], filters=[])[1] == {"kept": 1}


def test_a_share_of_the_pairs_is_translated_and_no_share_is_vanilla() -> None:
    half = SeqKD(SeqKDParams(share=0.5))
    inputs = MethodInputs(MANY, seed=3)
    assert len(list(half.requests(inputs))) == pytest.approx(1000, abs=110)  # five standard deviations
    none = SeqKD(SeqKDParams(share=0))
    assert list(none.requests(inputs)) == []
    assert list(none.examples(inputs, {}, Tally())) == plain(MANY, seed=3)
    assert none.expected_rounds() == []
    (told,) = half.expected_rounds()
    assert (told.of, told.name, told.tokens, told.logprobs) == ("base", "seqkd", 32.0, False)


def test_with_soft_targets_each_token_has_the_teachers_distribution() -> None:
    best = (((7, -0.1), (8, -3.0)),) * 4
    method, tally = SeqKD(SeqKDParams(targets="soft", top_k=2, teacher=SERVER)), Tally()
    inputs = MethodInputs([PAIR])
    (request,) = method.requests(inputs)
    assert request.top_logprobs == 2
    assert method.expected_rounds()[0].logprobs
    answers = {request.id: Generation(request.id, " Nice weather today.", (1, 2, 3), "stop", best)}
    (example,) = method.examples(inputs, answers, tally)
    (span,) = example.spans
    assert (span.text, span.loss, span.teacher) == (" Nice weather today.", "kl", Teacher((1, 2, 3), best))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"teacher": {"model": "x"}}, "an engine needs a `kind`, see `lingraft list engines`"),
        ({"teacher": "bse"}, "teacher"),
        ({"teacher_instruction": "Translate."}, "has no {source}"),
        ({"fallback": "base"}, "fallback"),
        ({"share": 2}, "share"),
        ({"truncated": "keep"}, "truncated"),
    ],
)
def test_what_cannot_be_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + said.replace("{", r"\{").replace("`", "`")):
        METHODS.get("seqkd").Params.model_validate(params)
