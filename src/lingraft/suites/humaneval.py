"""Suite "humaneval": Python functions that a system writes, run against the tests of each problem."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from lingraft.core.consent import RunsPrograms
from lingraft.core.errors import DataError, UsageError
from lingraft.core.sandbox import refusal
from lingraft.core.toolchains import versions_of
from lingraft.core.validation import IS_PATH
from lingraft.data.code_problems import CodeProblem, read_code_problems
from lingraft.data.records import Message, Request, Sampling
from lingraft.data.sampling import draw
from lingraft.language.program_tests import verdict
from lingraft.language.programs import code_in, defines
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload

ASK = (
    "Complete this Python function. Answer with the whole function in one block of code, and with nothing else.\n\n"
    "```python\n{prompt}\n```"
)
_CITE = ("chen-2021-evaluating",)


class HumanEvalSuite(Suite):
    """Share of problems whose function, as the system writes it, passes all of its tests, in %: `pass_at_1`, retained.

    Diagnostics: `no_code` (answers without the function), `not_python` (that Python cannot read), `out_of_time`.

    Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374), pass@1 of one
    greedy answer. Departures: a chat model is asked for the whole function, which is taken from the first block of code
    in Python (or without a language), and put behind what the prompt has before it; standard library only. The problems
    shipped are ten of our own; give `problems` the path of HumanEval or of HumanEval-X's Python (or
    `hub:openai/openai_humaneval`) for published figures.

    What the system wrote is run, in the sandbox of docs/sandbox.md or not at all.
    """

    name: ClassVar[str] = "humaneval"
    paper: ClassVar[str] = "arXiv 2107.03374"
    metrics: ClassVar[Mapping[str, MetricFacts]] = {
        "pass_at_1": MetricFacts(label="HumanEval pass@1", decimals=1, unit="%", cite=_CITE),
        "no_code": MetricFacts(label="Without the function", better="lower", decimals=1, unit="%", retains=False),
        "not_python": MetricFacts(label="No Python", better="lower", decimals=1, unit="%", retains=False),
        "out_of_time": MetricFacts(label="Out of time", better="lower", decimals=1, unit="%", retains=False),
    }

    class Params(RunsPrograms, Suite.Params):
        """Parameters of the suite."""

        problems: Annotated[str, IS_PATH] = Field(
            default="starter:humaneval.jsonl", description="file of problems, as HumanEval or HumanEval-X publish them"
        )
        max_prompts: int = Field(default=164, ge=1, description="problems asked, drawn by seed when there are more")
        max_new_tokens: int = Field(default=512, ge=1, description="longest answer, in tokens")

    params: Params

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return that programs of models are run."""
        return ["runs Python programs that its models write, in a sandbox without network and files"]

    def check(self) -> None:
        """Refuse problems that cannot be read, and a machine on which programs cannot be shut in.

        Raises:
            DataError: the file is missing or a row of it is no problem.
            UsageError: the machine does not allow the sandbox.
        """
        if not self.fetches:
            _ = self._problems
        if why := refusal():
            raise UsageError(f"suite 'humaneval': {why}")

    @cached_property
    def _problems(self) -> dict[str, CodeProblem]:
        known = read_code_problems(self.params.problems)
        found = {id_: one for id_, one in known.items() if one.language == "python"}
        if not found:
            raise DataError(f"suite 'humaneval': {self.params.problems} holds no problem in Python; give one that does")
        return found

    def _asked(self, inputs: SuiteInputs) -> list[CodeProblem]:
        return [self._problems[id_] for id_ in draw(self._problems, self.params.max_prompts, inputs.seed)]

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask for each function.

        Raises:
            DataError: the problems cannot be read.
        """
        sampling = Sampling(max_new_tokens=self.params.max_new_tokens, seed=inputs.seed)
        return [
            Request(one.id, (Message("user", ASK.format(prompt=one.prompt.rstrip())),), sampling)
            for one in self._asked(inputs)
        ]

    def unseen_texts(self, inputs: SuiteInputs) -> Mapping[str, tuple[str, ...]]:
        """Return the solutions of the problems' authors."""
        return {f"{one.id}/solution": (one.solution,) for one in self._asked(inputs)}

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Run what the system wrote.

        Raises:
            DataError: an answer is missing.
            SandboxError: the machine does not allow the sandbox.
        """
        verdicts: dict[str, str] = {}
        for one in self._asked(inputs):
            verdicts[one.id] = self._verdict(one, self.answer_to(system.generations, one.id).text)
        rules = (
            f"problems:{Path(self.params.problems).name}|greedy|max_new_tokens:{self.params.max_new_tokens}"
            f"|first block of Python|{versions_of('python')}|5 s, 512 MiB"
        )
        kinds = {"pass_at_1": "passed", "no_code": "no_code", "not_python": "not_built", "out_of_time": "out_of_time"}
        return [
            self.item_scores(
                metric, {id_: float(got == kind) for id_, got in verdicts.items()}, scale=100.0, signature=rules
            )
            for metric, kind in kinds.items()
        ]

    @staticmethod
    def _verdict(problem: CodeProblem, answer: str) -> str:
        code = code_in(answer, "python")
        if not defines(code, problem.entry_point, "python"):
            return "no_code"
        return verdict(code, problem.test, problem.entry_point, "python", problem.prompt)

    def workload(self, at_hand: AtHand) -> Workload | None:
        """Count answers of half the longest; nothing is fetched from the hub for that."""
        count = self.params.max_prompts
        if not self.fetches:
            count = min(count, len(self._problems))
        return Workload(0.5 * count * self.params.max_new_tokens)
