"""Layouts of task files: every known one becomes the published row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from harness_files import PUBLISHED, write_rows
from lingraft.core.errors import DataError
from lingraft.suites.harness_local import read_local

OTHERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "arc_easy",
        {"query": "Question: Why?", "choices": ["a", "b", "c"], "gold": 2},
        {"question": "Why?", "choices": {"text": ["a", "b", "c"], "label": ["A", "B", "C"]}, "answerKey": "C"},
    ),
    (
        "arc_challenge",
        {
            "question": {"stem": "Why?", "choices": [{"text": "a", "label": "1"}, {"text": "b", "label": "2"}]},
            "answerKey": "2",
        },
        {"question": "Why?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
    ),
    (
        "arc_challenge",
        {
            "instruction": "Please choose the correct answer to the question: A. So: why?\n\nAnswer1: It is 1. "
            "Answer2: Not at all.\n\nAnswer format: answer1/answer2",
            "answer": "answer2",
        },
        {"question": "A. So: why?", "choices": {"text": ["It is 1.", "Not at all."], "label": ["1", "2"]}}
        | {"answerKey": "2"},
    ),
    (
        "piqa",
        {"query": "Question: Open it", "choices": ["pull", "push"], "gold": 1},
        {"goal": "Open it", "sol1": "pull", "sol2": "push", "label": 1},
    ),
    (
        "winogrande",
        {"context_options": ["so Ann", "so Eve"], "continuation": "left.", "gold": 1},
        {"sentence": "_ left.", "option1": "so Ann", "option2": "so Eve", "answer": "2"},
    ),
    (
        "boolq",
        {"question": "is it", "title": "It", "passage": "It is.", "answer": True},
        {"question": "is it", "passage": "It -- It is.", "label": 1},
    ),
    (
        "mmlu",
        {"subject": "high school Physics", "question": "Why?", "answer": "D"}
        | {f"choice{k}": text for k, text in enumerate("wxyz")},
        {"question": "Why?", "choices": ["w", "x", "y", "z"], "answer": 3},
    ),
    (
        "truthfulqa_mc1",
        {"Question": "Why?", "Best Answer": "b", "Correct Answers": "b; c;", "Incorrect Answers": "d; e"},
        {
            "question": "Why?",
            "mc1_targets": {"choices": ["b", "d", "e"], "labels": [1, 0, 0]},
            "mc2_targets": {"choices": ["b", "c", "d", "e"], "labels": [1, 1, 0, 0]},
        },
    ),
    (
        "mgsm_th",
        {"question": "Why?", "answer": None, "answer_number": 1200},
        {"question": "Why?", "answer": None, "answer_number": 1200},
    ),
    (
        "mgsm",
        {"lang": "th", "question": "Why?", "answer": "1,200"},
        {"question": "Why?", "answer": None, "answer_number": 1200},
    ),
]


@pytest.mark.parametrize(("task", "row", "published"), OTHERS)
def test_other_layouts_become_published_rows(
    tmp_path: Path, task: str, row: dict[str, Any], published: dict[str, Any]
) -> None:
    (found,) = read_local(f"local:{task}", write_rows(tmp_path / "rows.jsonl", [row])).values()
    assert found == [published]


@pytest.mark.parametrize("task", sorted(PUBLISHED.keys() - {"mgsm", "mmlu"}))  # those two are cut, see below
def test_published_rows_are_kept(tmp_path: Path, task: str) -> None:
    assert read_local(f"local:{task}", write_rows(tmp_path / "rows.jsonl", PUBLISHED[task])) == {task: PUBLISHED[task]}


def test_files_are_cut_into_lm_evals_tasks(tmp_path: Path) -> None:
    subjects = read_local("local:mmlu", write_rows(tmp_path / "mmlu.jsonl", PUBLISHED["mmlu"]))
    assert {task: len(rows) for task, rows in subjects.items()} == {"mmlu_anatomy": 2, "mmlu_virology": 1}
    path = write_rows(tmp_path / "mgsm.jsonl", PUBLISHED["mgsm"])
    assert set(read_local("local:mgsm", path)) == {"mgsm_direct_de", "mgsm_direct_en"}
    assert {task: len(rows) for task, rows in read_local("local:mgsm_de", path).items()} == {"mgsm_direct_de": 2}
    with pytest.raises(DataError, match="no row with lang 'th'; local:mgsm_th needs at least one"):
        read_local("local:mgsm_th", path)


def test_json_arrays_and_compressed_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.json.gz"
    path.write_bytes(gzip.compress(json.dumps(PUBLISHED["piqa"]).encode()))
    assert read_local("local:piqa", str(path)) == {"piqa": PUBLISHED["piqa"]}


@pytest.mark.parametrize(
    ("task", "row", "words"),
    [
        ("piqa", {"text": "x", "id": 1}, r"its rows have the fields \{text, id\}, but local:piqa reads \{goal, sol1"),
        ("piqa", {"goal": "x", "sol1": "a", "sol2": "b", "label": 2}, r"line 1: not a row of local:piqa \(2 is not an"),
        ("piqa", {"goal": "x", "sol1": "a", "sol2": 3, "label": 1}, "3 is not a text"),
        ("gsm8k", {"question": "x", "answer": "5"}, "not a row of local:gsm8k"),
        ("arc_easy", {"question": "x", "choices": {"text": ["a", "b"]}, "answerKey": "A"}, "there is no 'label'"),
        ("winogrande", {"sentence": "x", "option1": "a", "option2": "b", "answer": "1"}, "not a row of"),
        ("mgsm", {"lang": "", "question": "x", "answer": "1"}, "lang is empty"),
        ("ifeval", {"key": 1, "prompt": "x", "instruction_id_list": ["a"], "kwargs": []}, "not lists of one length"),
    ],
)
def test_other_rows_are_refused_in_a_sentence(tmp_path: Path, task: str, row: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_local(f"local:{task}", write_rows(tmp_path / "rows.jsonl", [row]))


def test_broken_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(PUBLISHED["piqa"][0]) + "\n{broken\n", "utf-8")
    with pytest.raises(DataError, match=r"rows.jsonl, line 2: not JSON"):
        read_local("local:piqa", str(path))
