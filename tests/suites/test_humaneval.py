"""The suite "humaneval": what is asked, what counts as the answer's code, and what came of running it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from judges import by_metric
from lingraft.core import sandbox
from lingraft.core.errors import DataError, UsageError
from lingraft.core.validation import validated
from lingraft.data.code_problems import read_code_problems
from lingraft.data.records import Generation
from lingraft.language.program_tests import verdict
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.trust import acts
from lingraft.suites.base import SUITES, Answers, SuiteInputs
from lingraft.suites.humaneval import HumanEvalSuite
from recipes_support import MINIMAL, changed

HERE = sandbox.refusal()
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)
INPUTS = SuiteInputs([], ["de", "en"], seed=3)
PROBLEM = {
    "task_id": "X/0",
    "prompt": 'import math\n\nLIMIT = 9\n\n\ndef root(n: int) -> int:\n    """Return the whole root."""\n',
    "canonical_solution": "    return math.isqrt(min(n, LIMIT))\n",
    "test": "def check(candidate):\n    assert candidate(4) == 2\n    assert candidate(100) == 3\n",
    "entry_point": "root",
}
SOLVED = "```python\ndef root(n):\n    return math.isqrt(min(n, LIMIT))\n```"


def suite(**params: Any) -> HumanEvalSuite:
    made = SUITES.create({"kind": "humaneval", "run_code": True, **params})
    assert isinstance(made, HumanEvalSuite)
    return made


def scores(folder: Path, *answers: str) -> dict[str, list[float]]:
    """Return the values of each metric for answers to copies of one problem."""
    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps({**PROBLEM, "task_id": f"X/{n}"}) + "\n" for n in range(len(answers))), "utf-8")
    given = Answers({f"X/{n}": Generation(f"X/{n}", text, (1,), "stop") for n, text in enumerate(answers)})
    rows = by_metric(suite(problems=str(path)).score(INPUTS, given, given))
    return {metric: [row.values[f"X/{n}"] for n in range(len(answers))] for metric, row in rows.items()}


@shut_in
def test_answers_are_told_apart_by_what_came_of_them(tmp_path: Path) -> None:
    answers = [
        SOLVED,
        f"Sure!\n\n{SOLVED}\n\nIt uses isqrt.",
        "def root(n):\n    return min(math.isqrt(n), 3)",  # without a block
        "```python\ndef root(n):\n    return n // 2\n```",  # right for the first test alone
        "```python\ndef root(n):\n    return math.isqrt(min(n, LIMIT)\n```",  # a bracket is missing
        "```python\nprint(root(4))\n```",
        "I cannot write programs.",
        "```python\nimport os\ndef root(n):\n    os._exit(0)\n```",  # leaves early, without an error
        "```python\nimport sys\ndef root(n):\n    sys.exit()\n```",
        "```python\ndef root(n):\n    return open('/etc/passwd').read() and 2\n```",
    ]
    found = scores(tmp_path, *answers)
    assert found["pass_at_1"] == [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert found["no_code"] == [0, 0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert found["not_python"] == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert found["out_of_time"] == [0] * 10


@pytest.mark.long
@shut_in
def test_what_does_not_end_fails_and_is_counted(tmp_path: Path) -> None:
    found = scores(tmp_path, "```python\ndef root(n):\n    while True:\n        pass\n```")
    assert (found["pass_at_1"], found["out_of_time"]) == ([0], [1])


@shut_in
def test_the_starters_solutions_pass_and_programs_without_their_body_fail() -> None:
    problems = read_code_problems("starter:humaneval.jsonl")
    assert len(problems) == 10
    for one in problems.values():
        assert verdict(one.program, one.test, one.entry_point, "python") == "passed", one.id
        if one.number in "09":
            assert verdict(one.prompt + "    return None\n", one.test, one.entry_point, "python") == "failed", one.id


def test_each_problem_is_asked_once_with_its_prompt() -> None:
    asked = suite(max_prompts=4).requests(INPUTS)
    assert len({one.id for one in asked}) == 4
    problems = read_code_problems("starter:humaneval.jsonl")
    for one in asked:
        assert problems[one.id].prompt.rstrip() in one.messages[0].content
        assert one.sampling.temperature == 0
    assert suite(max_prompts=4).requests(INPUTS) == asked
    assert {f"{one.id}/solution" for one in asked} == set(suite(max_prompts=4).unseen_texts(INPUTS))


def test_it_is_off_until_it_is_allowed_in_so_many_words() -> None:
    for given in ({}, {"run_code": False}):
        with pytest.raises(UsageError, match="allow that with run_code: true"):
            validated(HumanEvalSuite.Params, given, "suite humaneval")


def test_who_starts_it_has_to_consent() -> None:
    suites = {"suites": [{"kind": "humaneval", "run_code": True}]}
    recipe = parse_recipe(changed(MINIMAL, "evaluate.retention", suites), "<test>", Path("/data"))
    assert [act.what for act in acts(recipe)] == [
        "runs Python programs that its models write, in a sandbox without network and files"
    ]


def test_where_nothing_shuts_programs_in_it_is_refused_and_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lingraft.suites.humaneval.refusal", lambda: "it cannot be shut in; take Linux")
    with pytest.raises(UsageError, match="suite 'humaneval': it cannot be shut in"):
        suite().check()
    monkeypatch.setattr(sandbox, "refusal", lambda: "it cannot be shut in; take Linux")
    with pytest.raises(sandbox.SandboxError, match="cannot be shut in"):
        verdict("def f(): return 17", "def check(f): pass", "f", "python")


def test_a_file_without_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "java.jsonl"
    path.write_text(json.dumps({**PROBLEM, "task_id": "Java/0"}) + "\n", "utf-8")
    with pytest.raises(DataError, match="holds no problem in Python"):
        suite(problems=str(path)).requests(INPUTS)
