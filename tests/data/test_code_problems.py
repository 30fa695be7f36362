"""Programming problems of HumanEval and HumanEval-X: read row by row, or refused with the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError, UsageError
from lingraft.core.validation import validated
from lingraft.data.code_problems import read_code_problems
from lingraft.data.files import Row
from lingraft.data.readers import MeasuredSource, read_pairs
from lingraft.language.codes import language_name

OF_OPENAI = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """Add."""\n',
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}
OF_X = {
    "task_id": "JavaScript/7",
    "prompt": "/* Add. */\nconst addUp = (a, b) => {\n",
    "declaration": "\nconst addUp = (a, b) => {\n",
    "canonical_solution": "  return a + b\n}\n",
    "test": "const testAdd = () => {\n  console.assert(addUp(1, 2) === 3)\n}\ntestAdd()\n",
    "example_test": "",
}


def written(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_both_published_forms_are_read(tmp_path: Path) -> None:
    found = read_code_problems(written(tmp_path / "p.jsonl", OF_OPENAI, OF_X))
    one, other = found.values()
    assert (one.id, one.language, one.entry_point, one.number) == ("HumanEval/0", "python", "add", "0")
    assert one.program == OF_OPENAI["prompt"] + OF_OPENAI["canonical_solution"]
    assert (other.id, other.language, other.entry_point, other.number) == ("JavaScript/7", "javascript", "addUp", "7")
    assert other.program == "\nconst addUp = (a, b) => {\n  return a + b\n}\n"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{**OF_OPENAI, "test": ""}], "no text under 'test'"),
        ([{**OF_OPENAI, "prompt": 3}], "no text under 'prompt'"),
        ([OF_OPENAI, OF_OPENAI], "'HumanEval/0' is there twice"),
        ([{**OF_OPENAI, "entry_point": "a b"}], "declares no function of Python"),
        ([{**OF_OPENAI, "entry_point": "", "prompt": "x = 1"}], "declares no function of Python"),
        ([], "empty"),
    ],
)
def test_what_is_no_problem_is_refused_with_its_place(rows: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read_code_problems(written(tmp_path / "p.jsonl", *rows))
    assert "p.jsonl" in str(caught.value)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("task_id,prompt\n1,2\n", "utf-8")
    with pytest.raises(UsageError, match="jsonl, json, parquet and hub"):
        read_code_problems(str(tmp_path / "p.csv"))


def of_task(**values: Any) -> Any:
    return validated(MeasuredSource, {"path": "p.jsonl", "task": "code", **values}, "pairs.test.0")


def test_problems_of_two_languages_are_programs_to_translate(tmp_path: Path) -> None:
    both = {**OF_OPENAI, "task_id": "Python/7"}
    path = written(tmp_path / "p.jsonl", OF_OPENAI, OF_X, both)
    rows = list(read_pairs(of_task(path=path, source="python", target="javascript")))
    assert [type(row) for row in rows] == [Row]
    pair = rows[0].record  # type: ignore[union-attr]
    assert pair.source == OF_OPENAI["prompt"] + OF_OPENAI["canonical_solution"]
    assert (pair.id, pair.source_lang, pair.target_lang) == ("7", "python", "javascript")
    assert (pair.declaration, pair.tests) == (OF_X["declaration"], OF_X["test"])
    with pytest.raises(DataError, match=r"no problem both in Python and in C\+\+"):
        list(read_pairs(of_task(path=path, source="python", target="cpp")))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"source": "de", "target": "python"}, "source and target are programming languages"),
        ({"source": "python", "target": "cpp", "task": "translation"}, "is a programming language; set `task: code`"),
        ({"source": "python", "target": "cpp", "fields": {"source": "x"}}, "fields does nothing with `task: code`"),
        ({"source": "python", "target": "python"}, "a pair needs two languages"),
        ({"source": "python", "target": "rust"}, "unknown language code 'rust'"),
    ],
)
def test_languages_and_task_have_to_fit(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        of_task(**values)


def test_programming_languages_have_names() -> None:
    assert [language_name(code) for code in ("python", "cpp", "javascript")] == ["Python", "C++", "JavaScript"]
