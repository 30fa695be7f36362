"""SDFT: what the base is asked, which of its answers take the reference's place, and what is learnt of them."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Generation, Pair, Teacher
from lingraft.methods.base import METHODS, MethodInputs, Tally
from lingraft.methods.sdft import SDFT, SDFTParams
from lingraft.methods.vanilla import Vanilla

PAIR = Pair("a", "Das Wetter ist heute schön.", "The weather is nice today.", "de", "en")
BACK = Pair("b", "The weather is nice today.", "Das Wetter ist heute schön.", "en", "de")
NAME = Pair("c", "Angela Merkel", "Angela Merkel", "de", "en")
TASK = Pair("d", "Das ist deine Antwort, oder?", "That is your answer, isn't it?", "de", "en")
TOMMY = Pair("e", "Tommy hat erwidert.", "Tommy replied.", "de", "en")
MANY = [Pair(f"p{i}", f"Wir gehen um {i} Uhr.", f"We walk at {i} o'clock.", "de", "en") for i in range(2000)]


def examples(pair: Pair, answer: str, finish: str = "stop", **params: Any) -> tuple[Example, Counter[str]]:
    method, tally = SDFT(SDFTParams(**params)), Tally()
    inputs = MethodInputs([pair], seed=1)
    answers = {request.id: Generation(request.id, answer, (1,), finish) for request in method.requests(inputs)}
    (example,) = method.examples(inputs, answers, tally)
    return example, tally.filters


def plain(pairs: list[Pair], seed: int = 1) -> list[Example]:
    return list(Vanilla(Vanilla.Params()).examples(MethodInputs(pairs, seed=seed), {}, Tally()))


def test_the_base_sees_the_reference_and_the_example_the_request_alone() -> None:
    """Worked out by hand: request and reference in the question, the answer behind the request."""
    method = SDFT(SDFTParams(rewrite="{request}\n[{reference}]\nAgain, in braces {{}}:", max_answer_tokens=9))
    (request,) = method.requests(MethodInputs([PAIR], seed=4))
    question = f"Translate the following text from German into English.\n\n{PAIR.source}"
    assert [message.content for message in request.messages] == [f"{question}\n[{PAIR.target}]\nAgain, in braces {{}}:"]
    assert (request.sampling.max_new_tokens, request.sampling.temperature, request.sampling.seed) == (9, 0.0, 4)
    assert (request.prefill, request.top_logprobs) == ("", 0)
    example, tally = examples(PAIR, " It is nice weather today.")
    assert [message.content for message in example.messages] == [question]
    assert [(span.text.strip(), span.role, span.loss, span.weight) for span in example.spans] == [
        ("It is nice weather today.", "translation", "ce", 1.0)
    ]
    assert example.end_turn
    assert tally == {"kept": 1}


@pytest.mark.parametrize(
    ("pair", "answer", "reason"),
    [
        (PAIR, "", "empty"),
        (PAIR, " \n", "empty"),
        (PAIR, "- ...", "empty"),
        (PAIR, "<think>The weather</think>It is nice.", "thinking"),
        (PAIR, "As in the Reference Translation: nice.", "banned"),
        (PAIR, "My answer is: nice weather today.", "banned"),
        (TASK, "That's your answer, right?", ""),  # the pair speaks of answers itself
        (TOMMY, "Tommy answered.", ""),  # "my answer" is no word of it
        (PAIR, "it is nice " * 12, "looping"),
        (BACK, "The weather is nice today!", "echo"),
        (NAME, "Angela Merkel", ""),  # so does the reference
        (
            PAIR,
            "The weather is nice today. The subject, das Wetter, comes first in German and English.",
            "length_ratio",
        ),
        (PAIR, "Heute ist ein schöner Tag draußen.", "wrong_language"),
        (BACK, "Heute ist das Wetter schön.", ""),
        (PAIR, "It's fine today.", ""),
    ],
)
def test_an_answer_that_is_no_translation_gives_way_to_the_reference(pair: Pair, answer: str, reason: str) -> None:
    example, tally = examples(pair, answer)
    assert tally == {reason or "kept": 1}
    assert (example == plain([pair])[0]) == (bool(reason) or answer == pair.target)
    if not reason:
        assert example.spans[0].text == answer


def test_an_answer_that_was_cut_is_never_taken_and_other_checks_can_be_left_out() -> None:
    assert examples(PAIR, "The weather is", "length")[1] == {"truncated": 1}
    assert examples(PAIR, "Das Wetter ist schön heute.", filters=[])[1] == {"kept": 1}
    assert examples(PAIR, "My answer: nice.", banned=["weather forecast"])[1] == {"kept": 1}
    assert examples(PAIR, "", filters=[])[1] == {"empty": 1}


def test_a_share_of_the_pairs_is_asked_and_none_is_vanilla() -> None:
    asked = list(SDFT(SDFTParams(share=0.25)).requests(MethodInputs(MANY, seed=1)))
    assert 0.22 * len(MANY) < len(asked) < 0.28 * len(MANY)
    assert SDFT.expected_tokens(SDFTParams(share=0.25)) == SDFT.expected_tokens(SDFTParams()) / 4
    none = SDFT(SDFTParams(share=0))
    assert not list(none.requests(MethodInputs(MANY, seed=1)))
    assert list(none.examples(MethodInputs(MANY, seed=1), {}, Tally())) == plain(MANY)


def test_soft_targets_are_the_distributions_of_the_base_that_saw_the_reference() -> None:
    method = SDFT(SDFTParams(targets="soft", top_k=2))
    inputs = MethodInputs([PAIR], seed=1)
    (request,) = method.requests(inputs)
    assert request.top_logprobs == 2
    best = (((5, -0.1), (6, -2.5)), ((7, -0.2), (8, -2.0)))
    answers = {request.id: Generation(request.id, "Nice weather today.", (5, 7), "stop", logprobs=best)}
    (example,) = method.examples(inputs, answers, Tally())
    assert [(span.loss, span.teacher) for span in example.spans] == [("kl", Teacher((5, 7), best))]


@pytest.mark.parametrize(
    ("params", "complaint"),
    [
        ({"rewrite": "{request}"}, "rewrite: it needs {request} and {reference}, each once, and no other field"),
        ({"rewrite": "{request:>99999999} {reference}"}, "no other field"),
        ({"rewrite": "{request} {reference} {source}"}, "no other field"),
        ({"rewrite": "{request} {reference} {"}, "write {{ and }} for braces"),
        ({"banned": [" "]}, "banned: words without letters would be in every answer"),
        ({"truncated": "keep"}, "truncated: .*'drop'"),
        ({"max_length_ratio": 1}, "max_length_ratio: .*greater than 1"),
    ],
)
def test_what_cannot_be_asked_is_refused(params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        METHODS.create({"kind": "sdft", **params})


@pytest.mark.parametrize(
    ("metric", "epsilon", "scores", "kept"),
    [
        ("chrf", 0.0, (50.0, 60.0), False),
        ("chrf", 10.0, (50.0, 60.0), True),
        ("chrf", 0.0, (60.0, 60.0), True),
        ("ter", 5.0, (46.0, 40.0), False),
        ("ter", 5.0, (44.0, 40.0), True),
        ("chrf", 100.0, (math.nan, 60.0), False),
    ],
)
def test_an_answer_may_score_worse_by_epsilon_at_most(
    metric: str, epsilon: float, scores: tuple[float, float], kept: bool
) -> None:
    """score(own) >= score(reference) - epsilon, and the other way round where less is better."""
    own = "Nice weather today."

    def score(by: Any, pairs: Any, texts: Any) -> list[float]:
        assert (by, pairs) == (metric, [PAIR])
        return [scores[0] if text == own else scores[1] for text in texts]

    method, tally = SDFT(SDFTParams(metric=metric, epsilon=epsilon)), Tally()
    assert method.selects_by == (metric,)
    inputs = MethodInputs([PAIR, NAME], seed=1, score=score)
    answers = {"sdft:a": Generation("sdft:a", own, (1,), "stop"), "sdft:c": Generation("sdft:c", "", (1,), "stop")}
    first, second = method.examples(inputs, answers, tally)
    assert [span.text for span in first.spans] == [own if kept else PAIR.target]
    assert second == plain([NAME])[0]
    assert tally.filters == {"kept" if kept else "quality": 1, "empty": 1}
