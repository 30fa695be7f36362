"""Metrics of translated programs: what passes, what does not compile, and what is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from lingraft.core import sandbox
from lingraft.core.errors import UsageError
from lingraft.core.toolchains import missing_toolchain
from lingraft.data.records import Pair
from lingraft.metrics.base import open_metric

HERE = sandbox.refusal() or missing_toolchain("javascript")
shut_in = pytest.mark.skipif(bool(HERE), reason=HERE)
TESTS = "const testDouble = () => {\n  console.assert(double([1, 2]) === 6)\n}\n\ntestDouble()\n"
RIGHT = "const double = (xs) => {\n  return xs.reduce((a, b) => a + 2 * b, 0)\n}\n"
PROBLEM = Pair(
    "0",
    "def double(xs):\n    return 2 * sum(xs)\n",
    RIGHT,
    "python",
    "javascript",
    declaration="const double = (xs) => {\n",
    tests=TESTS,
)


def score(kind: str, texts: Sequence[str], pairs: Sequence[Pair] | None = None) -> list[float]:
    """Return the value of each text that is measured."""
    built = open_metric({"kind": kind, "run_code": True}).metric.build("python", "javascript", ())
    given = list(pairs or [replace(PROBLEM, id=str(n)) for n in range(len(texts))])
    measured = built.segments(given)
    kept = [text for text, pair in zip(texts, given, strict=True) if pair in measured]
    return [float(value) for value in built.statistics(kept, measured)[:, 0]]


@shut_in
def test_programs_count_that_pass_and_those_that_do_not_compile_are_told() -> None:
    texts = [
        RIGHT,
        "function double(xs) { return 2 * (xs[0] + xs[1]) }",
        "const double = (xs) => xs[0]",  # only reported by console.assert, and a failure all the same
        "const double = (xs) => { return 6",
        "const other = (xs) => 6",
        "const double = (xs) => { process.exit(0) }",
        "",
    ]
    assert score("computational_accuracy", texts) == [1, 1, 0, 0, 0, 0, 0]
    assert score("syntax_errors", texts) == [0, 0, 0, 1, 1, 0, 1]


@shut_in
def test_a_problem_whose_own_solution_fails_is_left_out() -> None:
    broken = replace(PROBLEM, id="1", tests=TESTS.replace("6", "[6]"))
    assert score("computational_accuracy", [RIGHT, RIGHT], [PROBLEM, broken]) == [1]


def test_it_is_off_until_it_is_allowed() -> None:
    with pytest.raises(UsageError, match="allow that with run_code: true"):
        open_metric("computational_accuracy")


def test_what_cannot_be_run_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    metric = open_metric({"kind": "computational_accuracy", "run_code": True}).metric
    monkeypatch.setattr("lingraft.metrics.code.missing_toolchain", lambda language: "Java is run by javac; install it")
    with pytest.raises(UsageError, match="metric computational_accuracy: Java is run by javac"):
        metric.build("python", "java", ())
    monkeypatch.setattr("lingraft.metrics.code.missing_toolchain", lambda language: "")
    monkeypatch.setattr("lingraft.metrics.code.refusal", lambda: "they cannot be shut in; take Linux")
    with pytest.raises(UsageError, match="cannot be shut in"):
        metric.build("python", "javascript", ())
