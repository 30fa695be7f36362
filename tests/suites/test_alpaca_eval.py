"""The suite "alpaca_eval": both orders, ties, opponents from a file, single grading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from judges import answers, by_metric, converse, judge
from lingraft.core.errors import DataError, UsageError
from lingraft.core.validation import validated
from lingraft.data.records import Request
from lingraft.evaluation.retention import general_scores
from lingraft.statistics.length_control import length_controlled
from lingraft.suites.alpaca_eval import AlpacaEvalSuite, read_instructions
from lingraft.suites.base import SuiteInputs

INPUTS = SuiteInputs([], ["en"], seed=3)
IDS = [f"own-{n}" for n in range(1, 11)]


def _suite(**params: Any) -> AlpacaEvalSuite:
    return AlpacaEvalSuite(AlpacaEvalSuite.Params(judge="scripted", **params))


def _shown(request: Request) -> tuple[str, str]:
    first, second = request.messages[1].content.split('"output": """')[1:]
    return first.split('"""')[0], second.split('"""')[0]


def test_both_orders_are_asked_and_identical_answers_need_no_verdict() -> None:
    suite = _suite(retries=1)
    base = answers({id_: f"base {id_}" for id_ in IDS})
    texts = {id_: f"a much longer answer {id_}" for id_ in IDS}
    texts["own-1"] = "base own-1"
    system = answers(texts)

    def writes(request: Request) -> str:
        first, _ = _shown(request)
        item = request.id.partition(":")[2].partition("/")[0]
        if item == "own-2":
            return "m"  # whatever comes first
        if item == "own-3":
            return "M and here is why"
        if item in ("own-4", "own-5"):
            return ' "m"\n' if first.startswith("base") else "M"
        return "M" if first.startswith("base") else "m"

    judged, rounds = judge(suite, INPUTS, base, system, writes)
    assert rounds == 2
    assert len(judged.verdicts) == 9 * 2 + 2
    rows = by_metric(suite.score(INPUTS, base, judged))
    expected = dict.fromkeys(IDS, 1.0) | {"own-1": 0.5, "own-2": 0.5, "own-3": 0.0, "own-4": 0.0, "own-5": 0.0}
    assert rows["win_rate"].values == expected
    assert [id_ for id_, weight in (rows["win_rate"].weights or {}).items() if not weight] == ["own-3"]
    assert rows["unreadable"].values == dict.fromkeys(IDS, 0.0) | {"own-3": 1.0}
    assert rows["consistent"].values == dict.fromkeys([*IDS[3:], "own-2"], 1.0) | {"own-2": 0.0}
    reference = suite.score(INPUTS, base, base)
    scored = {row.metric: row for row in general_scores("x", "a", [*rows.values()], reference, n_bootstrap=100)}
    assert scored["win_rate"].score == pytest.approx(100 * 6 / 9)
    assert scored["win_rate"].retention is not None
    assert scored["win_rate"].retention.percent == pytest.approx(100 * (6 / 9) / 0.5)
    assert "win_rate_lc" not in scored  # too few pairs


def test_length_control_is_fitted_on_the_pairs_that_count(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps({"id": i, "instruction": f"Do {i}."}) + "\n" for i in range(40)), "utf-8")
    suite = _suite(prompts=str(path), retries=0)
    base = answers({str(i): "b" * 30 for i in range(40)})
    texts = {str(i): "s" * (10 + (i * 17) % 45) for i in range(40)}

    def writes(request: Request) -> str:
        first, second = _shown(request)
        number = int(request.id.partition(":")[2].partition("/")[0])
        if number < 4:
            return "?"
        longer = len(first) > len(second)
        return "m" if longer != (number % 5 == 0) else "M"

    judged, _ = judge(suite, INPUTS, base, answers(texts), writes)
    rows = by_metric(suite.score(INPUTS, base, judged))
    wins, counted = rows["win_rate"].values, [str(i) for i in range(4, 40)]
    result, _ = length_controlled([wins[id_] for id_ in counted], [len(texts[id_]) - 30 for id_ in counted])
    reference = suite.score(INPUTS, base, base)
    scored = {row.metric: row for row in general_scores("x", "a", [*rows.values()], reference, n_bootstrap=100)}
    assert scored["win_rate_lc"].score == pytest.approx(100 * result)
    assert scored["win_rate_lc"].score != pytest.approx(scored["win_rate"].score, abs=0.5)


def test_the_base_against_itself_is_half_without_a_request() -> None:
    suite = _suite()
    base = converse(suite, INPUTS, lambda request: request.id)
    assert suite.verdict_requests(INPUTS, base, base, {}) == []
    rows = by_metric(suite.score(INPUTS, base, base))
    assert set(rows["win_rate"].values.values()) == {0.5}
    assert "consistent" not in rows


def test_opponent_from_a_file_in_another_order(tmp_path: Path) -> None:
    prompts = tmp_path / "p.json"
    prompts.write_text(json.dumps([{"instruction": "One?"}, {"instruction": "Two?"}]), "utf-8")
    references = tmp_path / "r.jsonl"
    references.write_text(
        '{"instruction": "Two?", "output": "2", "generator": "g"}\n{"instruction": "One?", "output": "1"}\n', "utf-8"
    )
    suite = _suite(prompts=str(prompts), references=str(references), retries=0)
    base, system = answers({"line-1": "bad", "line-2": "2"}), answers({"line-1": "good", "line-2": "good"})

    def writes(request: Request) -> str:
        worth = {"good": 3, "1": 2, "2": 2, "bad": 1}
        first, second = _shown(request)
        return "m" if worth[first] > worth[second] else "M"

    base, _ = judge(suite, INPUTS, base, base, writes)
    assert set(base.verdicts) == {"1:line-1/1", "1:line-1/2"}
    system, _ = judge(suite, INPUTS, base, system, writes)
    assert by_metric(suite.score(INPUTS, base, base))["win_rate"].values == {"line-1": 0.0, "line-2": 0.5}
    rows = by_metric(suite.score(INPUTS, base, system))
    assert rows["win_rate"].values == {"line-1": 1.0, "line-2": 1.0}
    assert "against:r.jsonl|both orders" in rows["win_rate"].signature


def test_no_readable_verdict_leaves_only_the_count_of_them() -> None:
    suite = _suite(retries=0)
    base, system = answers(dict.fromkeys(IDS, "x")), answers(dict.fromkeys(IDS, "y"))
    judged, _ = judge(suite, INPUTS, base, system, lambda request: "Both are fine.")
    rows = by_metric(suite.score(INPUTS, base, judged))
    assert list(rows) == ["unreadable"]
    assert set(rows["unreadable"].values.values()) == {1.0}


def test_single_grading_in_another_language(tmp_path: Path) -> None:
    prompts = tmp_path / "th.jsonl"
    prompts.write_text('{"Instruct_id": 0, "instruction": "One?", "instruction_th": "หนึ่ง?"}\n', "utf-8")
    suite = _suite(prompts=str(prompts), grading="single", language="th")
    assert suite.requests(INPUTS)[0].messages[0].content == "หนึ่ง?"
    assert suite.verdict_tokens == 2048
    base = converse(suite, INPUTS, lambda request: "คำตอบ")
    asked: list[Request] = []
    base, _ = judge(suite, INPUTS, base, base, lambda request: asked.append(request) or "[[4]]")  # type: ignore[func-returns-value]
    assert "the Thai response" in asked[0].messages[1].content
    assert by_metric(suite.score(INPUTS, base, base))["score"].values == {"0": 4.0}


def test_a_column_of_another_script_is_not_taken_nor_the_english_one_for_it(tmp_path: Path) -> None:
    prompts = tmp_path / "zh.jsonl"
    prompts.write_text('{"instruction": "One?", "instruction_zh-TW": "一？", "instruction_cmn": "一吗？"}\n', "utf-8")
    assert (
        _suite(prompts=str(prompts), grading="single", language="zh").requests(INPUTS)[0].messages[0].content
        == "一吗？"
    )
    prompts.write_text('{"instruction": "One?", "instruction_zh-TW": "一？"}\n', "utf-8")
    with pytest.raises(UsageError, match="'zh-TW' is in the script Hant, 'zh' in Hans"):
        _suite(prompts=str(prompts), grading="single", language="zh").requests(INPUTS)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a judge"):
        validated(AlpacaEvalSuite.Params, {}, "")
    with pytest.raises(UsageError, match="single grading compares with nothing"):
        validated(AlpacaEvalSuite.Params, {"judge": "scripted", "grading": "single", "references": "x"}, "")
    path, references = tmp_path / "p.jsonl", tmp_path / "r.jsonl"
    references.write_text('{"instruction": "One?", "output": "1"}\n', "utf-8")
    for text, message in (
        ('{"instruction": "Two?"}\n', "holds no answer to this instruction"),
        ('{"prompt": "Two?"}\n', "has no text `instruction`"),
        ('{"id": 1, "instruction": "One?"}\n{"id": 1, "instruction": "One?"}\n', "line 2 repeats the id '1'"),
        ("[1]\n", "line 1 cannot be used .malformed."),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(DataError, match=message):
            read_instructions(str(path), str(references))
    (tmp_path / "p.txt").write_text("One?\n", "utf-8")
    with pytest.raises(DataError, match=r"p\.txt has the format text"):
        read_instructions(str(tmp_path / "p.txt"))
