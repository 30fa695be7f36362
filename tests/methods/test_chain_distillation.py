"""Chain distillation: what teacher and student see, whose distributions are learnt, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lingraft.core.errors import UsageError
from lingraft.data.records import Example, Generation, Message, Prompt, Request, Teacher
from lingraft.methods.base import METHODS, MethodInputs, Tally
from lingraft.methods.chain_distillation import ChainDistillation, ChainDistillationParams
from lingraft.translation.markers import Markers

MARKERS = Markers.for_languages(["de"])
PROMPT = Prompt(
    "p1",
    (Message("user", "Hello."), Message("assistant", "Hi."), Message("user", "How many ships are in the harbour?")),
)
QUERY, ENGLISH = "How many ships are in the harbour?", "There are 12 ships in the harbour."
NATIVE_QUERY, NATIVE = "Wie viele Schiffe liegen im Hafen?", "Im Hafen liegen 12 Schiffe."
BEST = (((5, -0.1), (6, -2.5)), ((7, -0.2), (8, -2.0)))
SERVER = {"kind": "openai", "base_url": "http://127.0.0.1:1/v1"}


def rounds(
    native: str = NATIVE, finish: str = "stop", markers: Markers | None = MARKERS, **params: Any
) -> tuple[list[tuple[Any, list[Request]]], list[Example], Counter[str]]:
    """Return who is asked what in each round, the examples and the tally; `native`: what the teacher writes."""
    method = ChainDistillation(ChainDistillationParams(**params))
    inputs = MethodInputs((), [PROMPT], seed=1, markers=markers)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    known: dict[str, Generation] = {}
    asked: list[tuple[Any, list[Request]]] = []
    while (found := method.round(len(asked), inputs, known)) is not None:
        requests = list(found.requests())
        asked.append((found.of, requests))
        for request in requests:
            text = {0: ENGLISH, 1: NATIVE_QUERY, 2: native}[len(asked) - 1]
            logprobs = BEST if request.top_logprobs else None
            known[request.id] = Generation(request.id, text, (5, 7), finish if len(asked) == 3 else "stop", logprobs)
    tally = Tally()
    return asked, list(method.examples(inputs, known, tally)), tally.filters


def test_the_teacher_goes_on_in_the_chain_and_the_student_sees_the_question_alone() -> None:
    """Worked out by hand."""
    asked, (example,), tally = rounds(top_k=2)
    assert [(of, len(requests)) for of, requests in asked] == [("base", 1), ("before", 1), ("before", 1)]
    (english,), (question,), (native,) = (requests for _, requests in asked)
    assert (english.id, english.messages, english.top_logprobs) == ("recovery:p1", PROMPT.messages, 0)
    assert [span.text for span in question.turn] == ["<EN>", QUERY, "<DE>"]
    seen = (*PROMPT.messages[:-1], Message("user", NATIVE_QUERY))
    assert (native.messages, native.prefill, native.top_logprobs, native.direct) == (seen, "", 2, True)
    assert [(span.text, span.role) for span in native.turn] == [
        ("<EN>", "marker"),
        (QUERY, "english_query"),
        ("<RESPONSE>", "marker"),
        (ENGLISH, "english_reply"),
        ("<DE>", "marker"),
    ]
    assert example.messages == seen
    (span,) = example.spans
    assert (span.text, span.role, span.loss, span.teacher) == (NATIVE, "native_reply", "kl", Teacher((5, 7), BEST))
    assert example.end_turn
    assert tally == {"kept": 1}
    assert ChainDistillation.chat == "direct"


@pytest.mark.parametrize("markers", [MARKERS, None])
def test_a_teacher_without_the_chain_is_shown_the_english_in_words(markers: Markers | None) -> None:
    hint = "{question}|{english_question}|{english_answer}|{language}"
    params = {"teacher": "base", "targets": "hard", "hint": hint, "translator": SERVER, "languages": ["de"]}
    asked, (example,), _ = rounds(markers=markers, **params)
    assert [of for of, _ in asked] == ["base", SERVER, "base"]
    (request,) = asked[2][1]
    assert [message.content for message in request.messages] == [
        "Hello.",
        "Hi.",
        f"{NATIVE_QUERY}|{QUERY}|{ENGLISH}|German",
    ]
    assert (request.turn, request.top_logprobs, request.direct) == ((), 0, True)
    assert [message.content for message in example.messages] == ["Hello.", "Hi.", NATIVE_QUERY]
    assert [(span.text, span.loss) for span in example.spans] == [(NATIVE, "ce")]


@pytest.mark.parametrize(
    ("native", "finish", "reason"),
    [
        ("", "stop", "reply_empty"),
        ("Im Hafen liegen", "length", "reply_unfinished"),
        ("<think>12.</think>Im Hafen liegen 12.", "stop", "reply_thinking"),
        (ENGLISH, "stop", "reply_echo"),
        ("Im Hafen liegen viele Schiffe, und sie fahren bald ab.", "stop", "reply_numbers_lost"),
        ("There were 12 of the ships over in that old harbour today.", "stop", "reply_wrong_language"),
    ],
)
def test_an_answer_that_fails_the_filters_of_tcot_is_dropped(native: str, finish: str, reason: str) -> None:
    _, found, tally = rounds(native, finish)
    assert (found, tally) == ([], {reason: 1})


def test_a_question_that_was_not_carried_over_is_not_asked() -> None:
    method = ChainDistillation(ChainDistillationParams())
    inputs = MethodInputs((), [PROMPT], seed=1, markers=MARKERS, prepared={"languages": ["de"]})
    known: Mapping[str, Generation] = {
        "recovery:p1": Generation("recovery:p1", ENGLISH, (1,), "stop"),
        "translation:de:p1:query:0": Generation("translation:de:p1:query:0", QUERY, (1,), "stop"),
    }
    last = method.round(2, inputs, known)
    assert last is not None
    assert not list(last.requests())
    tally = Tally()
    assert not list(method.examples(inputs, known, tally))
    assert tally.filters == {"query_echo": 1}
    assert method.round(3, inputs, known) is None
    (known_example,) = method.known_examples(inputs, known)
    assert known_example.messages[-1].content == "a"


def test_what_cannot_work_is_refused() -> None:
    base = METHODS.create({"kind": "chain_distillation", "teacher": "base", "translator": SERVER})
    with pytest.raises(UsageError, match=r"distributions are over its own pieces.*set `targets: hard`, or `teacher: b"):
        base.check(["de"])
    with pytest.raises(UsageError, match=r"hint: it needs {question} and .*each once"):
        METHODS.create({"kind": "chain_distillation", "hint": "{question}"})
    with pytest.raises(UsageError, match="teacher: "):
        METHODS.create({"kind": "chain_distillation", "teacher": SERVER})
    with pytest.raises(UsageError, match="no language to carry to"):
        METHODS.create({"kind": "chain_distillation"}).check([])
    assert [(one.of, one.logprobs) for one in METHODS.create({"kind": "chain_distillation"}).expected_rounds()] == [
        ("base", False),
        ("before", False),
        ("before", True),
    ]
