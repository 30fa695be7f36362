"""A run that translates programs by the decoder `code`, killed within its steps: it ends as one that was not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lingraft.core import sandbox
from lingraft.core.progress import Reporter
from lingraft.core.toolchains import missing_toolchain
from lingraft.evaluation.scorecard import Scorecard
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from models_support import save_tiny_model
from tiny_runs import QUIET

WHY = sandbox.refusal() or missing_toolchain("javascript")
pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(WHY), reason=WHY)]

PYTHON = "def scaled(numbers, factor):\n"
BODY = "    total = 0\n    for number in numbers:\n        total += number\n    return total * factor\n"
JAVASCRIPT = "const scaled = (numbers, factor) => {\n"
RIGHT = "  let total = 0\n  for (const number of numbers) {\n    total += number\n  }\n  return total * factor\n}\n"
TEST = "const testScaled = () => {\n  console.assert(scaled([1, 2], 3) === 9)\n}\ntestScaled()\n"


def problem(language: str, number: int, prompt: str, solution: str, test: str) -> dict[str, str]:
    named = {"python": "Python", "javascript": "JavaScript"}[language]
    return {
        "task_id": f"{named}/{number}",
        "prompt": prompt,
        "declaration": prompt,
        "canonical_solution": solution,
        "test": test,
    }


def fenced(code: str) -> str:
    return f"```javascript\n{code}```"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    root = tmp_path_factory.mktemp("code")
    save_tiny_model(root / "model")
    rows = [
        row
        for number in range(2)
        for row in (
            problem("python", number, PYTHON, BODY, "def check(scaled):\n    assert scaled([1, 2], 3) == 9\n"),
            problem("javascript", number, JAVASCRIPT, RIGHT, TEST),
        )
    ]
    (root / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    wrong = fenced(JAVASCRIPT + RIGHT.replace("+=", "="))
    broken = fenced(JAVASCRIPT + RIGHT.replace("total = 0", "total = "))
    rules = [
        {"pattern": "The compiler says", "answer": wrong},
        {"pattern": "Which blocks", "answer": "0: 0\n1: 1\n2: 2"},
        {"pattern": "does something else|stands for this block|right is", "answer": fenced(JAVASCRIPT + RIGHT)},
        {"pattern": "Write . different calls", "answer": "[[1, 2], 3]\n[[], 1]"},
        {"pattern": "scaled", "answer": broken},
        {"answer": "I cannot."},
    ]
    metrics = [{"kind": kind, "run_code": True} for kind in ("computational_accuracy", "syntax_errors")]
    values: dict[str, Any] = {
        "name": "code",
        "model": str(root / "model"),
        "pairs": {
            "test": [{"path": str(root / "problems.jsonl"), "source": "python", "target": "javascript", "task": "code"}]
        },
        "stages": [],
        "evaluate": {
            "bootstrap": 100,
            "engine": {"kind": "scripted", "rules": rules},
            "code": {"metrics": metrics, "max_new_tokens": 256},
            "retention": {"suites": [{"kind": "refusal", "max_prompts": 2, "max_new_tokens": 4}]},
            "decoders": [{"kind": "code", "run_code": True, "systems": ["base"]}],
        },
    }
    return parse_recipe(values, "test", Path("/"))


class Stopped(Exception):
    """Raised in a step."""


class Stopping(Reporter):
    """Stops a run once a stage has begun to ask."""

    def __init__(self, stage: str) -> None:
        super().__init__(quiet=True)
        self.stage = stage

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Any]:
        with super().task(title, total) as task:
            if title.replace("/", "~") == self.stage:
                raise Stopped
            yield task


@pytest.fixture(scope="module")
def finished(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(recipe, folder, QUIET, trust=True)
    return folder


def lasting(folder: Path) -> dict[str, str]:
    files = [*folder.glob("decode-*/**/*.jsonl"), folder / "outputs.jsonl", folder / "items.jsonl"]
    return {str(path.relative_to(folder)): path.read_text("utf-8") for path in files}


def test_programs_are_mended_step_by_step(finished: Path) -> None:
    scores = {(row.system, row.metric): row.score for row in Scorecard.read(finished / "scorecard.json").translation}
    assert scores["base", "syntax_errors"] == 100
    assert (scores["base/code", "computational_accuracy"], scores["base/code", "syntax_errors"]) == (100, 0)


@pytest.mark.parametrize("step", ["inputs", "syntax-1", "align-1", "values-1"])
def test_a_run_that_is_killed_within_a_step_ends_alike(
    recipe: Recipe, finished: Path, tmp_path: Path, step: str
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for path in [*folder.glob("decode-*~*"), *folder.glob("*.json")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    stage = f"decode-base~code-{step}"
    with pytest.raises(Stopped):
        run(recipe, folder, Stopping(stage), trust=True)
    assert list(folder.glob(f"{stage}-*.partial"))
    run(recipe, folder, QUIET, trust=True)
    assert lasting(folder) == lasting(finished)
