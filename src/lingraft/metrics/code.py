"""Metrics of translated programs, by running them against the tests of the target language."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from lingraft.core.consent import RunsPrograms
from lingraft.core.errors import UsageError
from lingraft.core.sandbox import refusal
from lingraft.core.tasks import Task
from lingraft.core.toolchains import NAMES, missing_toolchain, versions_of
from lingraft.data.records import Pair
from lingraft.language.program_tests import Verdict, verdict
from lingraft.language.programs import defined_last, defines
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric
from lingraft.statistics.metric_facts import Better

_CODE: frozenset[Task] = frozenset({"code"})


class _Executed(Metric):
    """Base of metrics that run programs."""

    tasks: ClassVar[frozenset[Task]] = _CODE
    decimals: int | None = 1
    unit: str = "%"
    cite: tuple[str, ...] = ("yuan-2024-transagent",)

    class Params(RunsPrograms, Metric.Params):
        """Of metrics that run programs."""

    @abstractmethod
    def counts(self, found: Verdict | None) -> bool:
        """Say whether a program counts, by what came of it; None: it does not define what is tested."""

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return that programs of models are run."""
        return ["runs programs that its models write, in a sandbox without network and files"]

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        """Make it for one pair of languages.

        Raises:
            UsageError: this machine cannot run the target language, or cannot shut programs in.
        """
        if lacking := missing_toolchain(target_lang) or refusal():
            raise UsageError(f"metric {self.name}: {lacking}")

        def values(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
            found = []
            for done, (text, pair) in enumerate(zip(texts, pairs, strict=True), start=1):
                found.append((float(self.counts(_verdict(text, pair))), 1.0))
                self.progress(done, len(texts))
            return found

        signature = f"{self.name}|{NAMES[target_lang]}: {versions_of(target_lang)}|problems whose own solution passes"
        return MeanMetric(values, signature, _solved, keeps_lines=True, aggregation="percent")


def _verdict(code: str, pair: Pair) -> Verdict | None:
    """Return what came of a program; None where it does not define what is tested."""
    entry_point = defined_last(pair.declaration, pair.target_lang)
    if not defines(code, entry_point, pair.target_lang):
        return None
    return verdict(code, pair.tests, entry_point, pair.target_lang, pair.declaration)


def _solved(pair: Pair) -> bool:
    """Whether the solution of the problem's authors passes here: some tests of HumanEval-X fail whatever is tested."""
    return _verdict(pair.target, pair) == "passed"


class ComputationalAccuracy(_Executed):
    """Share of programs, in %, that pass all tests of the target language.

    Problems whose authors' own solution does not pass on this machine are left out.
    """

    name: ClassVar[str] = "computational_accuracy"
    summary: ClassVar[str] = "% of translated programs that pass all tests, run in a sandbox"
    paper: ClassVar[str] = "arXiv 2006.03511, 2303.17568"
    label: str = "Computational accuracy"
    cite: tuple[str, ...] = ("lachaux-2020-unsupervised", "zheng-2023-codegeex")
    role: str = "headline"

    def counts(self, found: Verdict | None) -> bool:
        """Count what passes."""
        return found == "passed"


class SyntaxErrors(_Executed):
    """Share of programs, in %, that the compiler (of Python and JavaScript: the interpreter, before it runs anything)
    refuses, or that do not define what is tested."""

    name: ClassVar[str] = "syntax_errors"
    summary: ClassVar[str] = "% of translated programs that do not compile"
    label: str = "Do not compile"
    better: Better = "lower"
    cite: tuple[str, ...] = ()

    def counts(self, found: Verdict | None) -> bool:
        """Count what cannot be run."""
        return found in (None, "not_built")
