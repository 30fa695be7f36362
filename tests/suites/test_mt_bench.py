"""The suite "mt_bench": published layouts, conversations, references, clusters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from judges import by_metric, converse, judge
from lingraft.core.errors import DataError, UsageError
from lingraft.core.validation import validated
from lingraft.data.records import Request
from lingraft.suites.base import AtHand, SuiteInputs
from lingraft.suites.mt_bench import MTBenchSuite, read_questions

INPUTS = SuiteInputs([], ["en"], seed=3)


def _suite(**params: Any) -> MTBenchSuite:
    return MTBenchSuite(MTBenchSuite.Params(judge="scripted", **params))


def _file(folder: Path, name: str, rows: list[dict[str, Any]]) -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_the_second_turn_quotes_the_first_answer_and_temperatures_are_the_published_ones() -> None:
    suite = _suite()
    asked: list[Request] = []

    def writes(request: Request) -> str:
        asked.append(request)
        return f"answer to {request.id}"

    found = converse(suite, INPUTS, writes)
    assert len(found.generations) == len(asked) == 16
    second = next(request for request in asked if request.id == "own-2/2")
    assert [message.role for message in second.messages] == ["user", "assistant", "user"]
    assert second.messages[1].content == "answer to own-2/1"
    assert {request.id[:5]: request.sampling.temperature for request in asked} == {
        "own-1": 0.7,
        "own-2": 0.7,
        "own-3": 0.0,
        "own-4": 0.0,
        "own-5": 0.0,
        "own-6": 0.0,
        "own-7": 0.1,
        "own-8": 0.1,
    }
    assert {request.sampling.temperature for request in _suite(temperatures="greedy").requests(INPUTS)} == {0.0}
    assert suite.workload(AtHand(0, 0)).verdicts == 16


def test_grades_turns_and_clusters() -> None:
    suite = _suite(retries=0)
    base = converse(suite, INPUTS, lambda request: "base")
    graft = converse(suite, INPUTS, lambda request: "graft")

    def writes(request: Request) -> str:
        shown = request.messages[1].content
        if "graft" not in shown:
            return "[[8]]"
        if request.id == "1:own-4/2":
            return "no idea"
        return "[[3]]" if "Conversation with User" in shown else "[[5]]"

    base, _ = judge(suite, INPUTS, base, base, writes)
    graft, _ = judge(suite, INPUTS, base, graft, writes)
    rows = by_metric(suite.score(INPUTS, base, graft))
    assert set(rows["score"].values) == {f"own-{n}/{turn}" for n in range(1, 9) for turn in (1, 2)}
    assert rows["score"].clusters is not None
    assert rows["score"].clusters["own-4/1"] == rows["score"].clusters["own-4/2"] == "own-4"
    weights = rows["score"].weights or {}
    assert [id_ for id_, weight in weights.items() if not weight] == ["own-4/2"]
    assert set(rows["score_turn1"].values.values()) == {5.0}
    assert {rows["score_turn2"].values[id_] for id_, weight in weights.items() if weight and id_.endswith("/2")} == {
        3.0
    }
    assert sum(rows["unreadable"].values.values()) == 1
    assert [row.metric for row in rows.values() if row.retains] == ["score"]
    assert rows["score"].signature.startswith("mean of 1-10|judge:scripted|prompts:single-v1+")
    assert set(by_metric(suite.score(INPUTS, base, base))["score"].values.values()) == {8.0}


def test_the_judge_sees_references_where_the_category_has_them() -> None:
    suite = _suite()
    answers = converse(suite, INPUTS, lambda request: f"<{request.id}>")
    shown = {case.id: case.messages for case in suite.cases(INPUTS, answers, answers)}
    assert "[The Start of Reference Answer]\nThe taps deliver" in shown["own-4/1"][1].content
    assert "The drain takes away" in shown["own-4/2"][1].content
    assert "The drain takes away" not in shown["own-4/1"][1].content
    assert "Reference" not in shown["own-7/2"][1].content
    assert "### Assistant A:\n<own-7/1>" in shown["own-7/2"][1].content
    assert shown["own-7/2"][0].content.startswith("Please act as an impartial judge")


def test_published_layouts(tmp_path: Path) -> None:
    questions = _file(
        tmp_path,
        "question.jsonl",
        [
            {"question_id": 81, "category": "writing", "turns": ["One", "Two"]},
            {"question_id": 111, "category": "math", "turns": ["3?", "4?"], "reference": ["own", "own"]},
        ],
    )
    references = _file(
        tmp_path, "gpt-4.jsonl", [{"question_id": 111, "choices": [{"index": 0, "turns": ["three", "four"]}]}]
    )
    found = read_questions(questions, references)
    assert found["81"].references == ()
    assert found["111"].references == ("three", "four")
    assert read_questions(questions)["111"].references == ("own", "own")
    thai = _file(
        tmp_path,
        "thai.jsonl",
        [
            {
                "Instruct_id": 0,
                "instruction1": "One",
                "instruction1_th": "หนึ่ง",
                "instruction2": "2",
                "instruction2_th": "สอง",
            },
            {
                "Instruct_id": 30,
                "instruction1": "3?",
                "instruction1_th": "สาม",
                "instruction2": "4?",
                "instruction2_th": "สี่",
            },
        ],
    )
    adapted = read_questions(thai, references, "th")
    assert adapted["81"].turns == ("หนึ่ง", "สอง")
    assert adapted["81"].category == "writing"
    assert (adapted["111"].category, adapted["111"].references) == ("math", ("three", "four"))
    suite = _suite(questions=thai, references=references, language="th")
    given = converse(suite, INPUTS, lambda request: "คำตอบ")
    assert all("Thai" in "".join(m.content for m in case.messages) for case in suite.cases(INPUTS, given, given))
    assert suite.judge_signature().endswith("|language:th")


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"suites\.0: needs a judge; add `judge:"):
        validated(MTBenchSuite.Params, {}, "suites.0")
    with pytest.raises(UsageError, match="unknown language code"):
        validated(MTBenchSuite.Params, {"judge": "scripted", "language": "thaii"}, "")
    math = {"question_id": 111, "category": "math", "turns": ["3?", "4?"]}
    for rows, message in (
        ([math], "line 1: question 111 .math. is judged against reference answers"),
        ([{"question_id": 1, "turns": ["a", "b", "c"]}], "one or two texts"),
        ([{"question_id": 1, "turns": [" "]}], "one or two texts"),
        ([{"question_id": 1, "turns": None}], "one or two texts"),
        ([{"turns": ["a"]}], "has no `question_id`"),
        ([{"question_id": 1, "turns": ["a"]}] * 2, "line 2 repeats question 1"),
    ):
        with pytest.raises(DataError, match=message):
            read_questions(_file(tmp_path, "bad.jsonl", rows))
    with pytest.raises(DataError, match=r"refs\.jsonl, line 1 has no"):
        read_questions(_file(tmp_path, "q.jsonl", [math]), _file(tmp_path, "refs.jsonl", [{"question_id": 111}]))
    suite = _suite()
    given = converse(suite, INPUTS, lambda request: "x")
    with pytest.raises(DataError, match="no verdict on 'own-1/1'"):
        suite.score(INPUTS, given, given)
