"""What suites with a judge share: prompts, parsing of hostile verdicts, asking again, the engine's parameters."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from judges import answers, judge
from lingraft.core.errors import UsageError
from lingraft.data.records import Message, Request
from lingraft.evaluation.retention import general_scores
from lingraft.suites.base import Answers, ItemScores, SuiteInputs
from lingraft.suites.judging import (
    RETRY_TEMPERATURE,
    Case,
    JudgedSuite,
    judge_engine,
    judge_name,
    judged_scores,
    prompt_messages,
    read_rating,
    read_yes_no,
    template,
)

# SHA-256 of "system\nuser" of each prompt in FastChat's judge_prompts.jsonl.
PUBLISHED = {
    "single-v1": "35aeace1d70a78ee",
    "single-math-v1": "f2d995633fe5b165",
    "single-v1-multi-turn": "1f5b1b2fb3592fd4",
    "single-math-v1-multi-turn": "07f1f91a7c1f8edc",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_grading_prompts_are_the_published_ones(name: str) -> None:
    parts = template(name)
    text = f"{parts['system']}\n{parts['user']}"
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == PUBLISHED[name]


def test_prompts_say_the_language_and_leave_the_answers_alone() -> None:
    answer = "quality of the response {question} {{}} to the user question"
    system, user = prompt_messages("single-math-v1", "th", question="Q {0}?", ref_answer_1="R", answer=answer)
    assert system.content == "You are a helpful assistant."
    assert "the quality of the Thai response provided by an AI assistant to the user Thai question" in user.content
    assert "You will be given an English reference answer" in user.content
    assert f"[The Start of Assistant's Answer]\n{answer}\n[The End" in user.content
    assert "[Question]\nQ {0}?\n" in user.content


@pytest.mark.parametrize(
    ("verdict", "value"),
    [
        ("Good.\nRating: [[7]]", 7.0),
        ("[[7.5]]", 7.5),
        ("Rating: [[ 10 ]] because [[10]] it is", 10.0),
        ("Rating: [[5]]\nNo: rating: [[9]]", None),  # FastChat would take 5
        ("The answer says [[10]], which I do not follow. Rating: [[2]]", None),
        ("Rating: [5]", None),
        ("Rating: 5/10", None),
        ("[[11]]", None),
        ("[[0]]", None),
        ("[[-3]]", None),
        ("[[1e1]]", None),
        ("[[rating]]", None),
        ("[[٥]]", 5.0),  # digits of another script are digits
        ("[[" + "9" * 5000 + "]]", None),
        ("[[[[4]]]]", 4.0),
        ("", None),
        ("[[", None),
    ],
)
def test_ratings(verdict: str, value: float | None) -> None:
    assert read_rating(verdict) == value


@pytest.mark.parametrize(
    ("verdict", "value"),
    [
        ("It declines. [[yes]]", 1.0),
        ("[[No]]", 0.0),
        ("Yes.", 1.0),
        (' "no" \n', 0.0),
        ("[[yes]] or [[no]]?", None),
        ("Yes, it refuses.", None),
        ("[yes]", None),
        ("", None),
    ],
)
def test_yes_or_no(verdict: str, value: float | None) -> None:
    assert read_yes_no(verdict) == value


class Simple(JudgedSuite):
    """One verdict an answer."""

    name = "simple"
    prompt_names = ("single-v1",)

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        return []

    def cases(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[Case]:
        return [Case(id_, (Message("user", one.text),)) for id_, one in system.generations.items()]

    def read(self, verdict: str) -> float | None:
        return read_rating(verdict)

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        own, theirs = self.readings(inputs, base, system), self.readings(inputs, base, base)
        return [*judged_scores("score", own, theirs), self.unreadable({k: float(v is None) for k, v in own.items()})]


INPUTS = SuiteInputs([], ["en"], seed=5)


def test_a_verdict_that_cannot_be_read_is_asked_for_again_sampled_and_then_counted() -> None:
    suite = Simple(Simple.Params(judge="scripted", retries=2))  # type: ignore[arg-type]
    asked: list[Request] = []

    def writes(request: Request) -> str:
        asked.append(request)
        good = {"a": request.id.startswith("1:"), "b": request.id.startswith("3:"), "c": False}
        return "[[6]]" if good[request.messages[0].content] else "I'd rather not."

    system, rounds = judge(suite, INPUTS, Answers({}), answers({"a": "a", "b": "b", "c": "c"}), writes)
    assert rounds == 3
    assert [request.id for request in asked] == ["1:a", "1:b", "1:c", "2:b", "2:c", "3:b", "3:c"]
    assert [request.sampling.temperature for request in asked[2:4]] == [0.0, RETRY_TEMPERATURE]
    assert [request.sampling.seed for request in asked[3:6:2]] == [6, 7]
    assert suite.readings(INPUTS, system, system) == {"a": 6.0, "b": 6.0, "c": None}
    rows = suite.score(INPUTS, system, system)
    score, unreadable = general_scores("x", "simple", rows, rows, n_bootstrap=100)
    assert score.score == 6.0
    assert unreadable.score == pytest.approx(100 / 3)
    shown = list(suite.verdict_rows(INPUTS, system, system))
    assert [(row["item"], row["attempt"], row["score"]) for row in shown[1:4]] == [
        ("b", 1, None),
        ("b", 2, None),
        ("b", 3, 6.0),
    ]
    assert shown[0]["judge"] == "scripted"
    assert shown[0]["prompts"] in unreadable.signature


def test_items_count_only_where_system_and_base_could_be_read() -> None:
    (row,) = judged_scores("score", {"a": 2.0, "b": None, "c": 8.0}, {"a": 4.0, "b": 4.0, "c": None})
    assert general_scores("x", "s", [row], [row], n_bootstrap=100)[0].score == 2.0
    assert judged_scores("score", {"a": None}, {"a": 4.0}) == []
    assert judged_scores("score", {"a": 4.0}, {"a": None}) == []


def test_an_engine_that_is_not_one_is_refused() -> None:
    for wrong, message in (
        (7, "a judge is an engine"),
        ({"model": "x"}, "a judge is an engine"),
        ({"kind": "opnai"}, "did you mean 'openai'"),
        ({"kind": "openai", "base_urll": "x"}, "judge.base_urll.*did you mean 'base_url'"),
        ({"kind": "transformers", "model": 3}, "path or a hub id"),
    ):
        with pytest.raises(UsageError, match=message):
            judge_engine(wrong)


def test_a_served_judge_is_asked_for_text_through_its_own_template() -> None:
    checked = judge_engine({"kind": "openai", "model": "judge-1", "base_url": "http://127.0.0.1:9/v1"})
    assert checked is not None
    assert (checked["api"], checked["server"], checked["withheld"]) == ("chat", "other", "empty")
    assert judge_engine(checked) == checked  # a resolved recipe feeds back
    assert judge_name(checked) == "judge-1"
    named: Any = judge_engine({"kind": "transformers", "model": "org/judge"})
    assert judge_name(named) == "org/judge"
    assert judge_name(judge_engine("transformers") or {}) == "transformers, on the base"
