"""What a dry run can know of judges: verdicts, tokens and price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lingraft.metrics.base import OpenMetric
from lingraft.metrics.judged import JudgedMetric
from lingraft.recipe.choices import SuiteChoice
from lingraft.suites.base import Workload
from lingraft.suites.judging import judge_name

_WORDING = 250
"""Tokens, about, of what a metric's judge is told beside the texts."""


@dataclass(frozen=True, kw_only=True)
class JudgeEstimate:
    """What the verdicts of one suite take, over all systems. `price` where the judge's engine has prices."""

    suite: str
    name: str
    verdicts: int
    reads: float
    writes: float
    retries: int
    price: float | None = None

    @classmethod
    def of(cls, suite: SuiteChoice, judge: Mapping[str, Any], work: Workload, systems: int) -> JudgeEstimate:
        """Return what a suite's judge reads and writes for so many systems.

        Args:
            suite: as the recipe has it.
            judge: the engine that gives the verdicts, as the suite has it.
            work: of the suite, for one system.
            systems: that are judged.
        """
        read, written = systems * work.judge_reads, systems * work.judge_writes
        retries = int(suite.params.get("retries", 0))
        price = None
        if judge.get("price_prompt") or judge.get("price_completion"):
            price = (read * judge.get("price_prompt", 0.0) + written * judge.get("price_completion", 0.0)) / 1e6
        return cls(
            suite=suite.label,
            name=judge_name(judge),
            verdicts=systems * work.verdicts,
            reads=read,
            writes=written,
            retries=retries,
            price=price,
        )

    @classmethod
    def of_metric(cls, opened: OpenMetric, segments: float, shown: float, systems: int) -> JudgeEstimate:
        """Return what a metric's judge reads and writes: an annotation and a score for each translation.

        Args:
            opened: the metric.
            segments: of all test sets.
            shown: tokens of a segment and its translation, with what is asked for.
            systems: whose translations are judged.
        """
        metric = opened.metric
        assert isinstance(metric, JudgedMetric)
        written = 0.25 * metric.params.verdict_tokens
        judge, each = metric.judge, systems * segments
        read = each * (2 * (shown + _WORDING) + written)
        price = None
        if judge.get("price_prompt") or judge.get("price_completion"):
            price = (read * judge.get("price_prompt", 0.0) + each * written * judge.get("price_completion", 0.0)) / 1e6
        return cls(
            suite=opened.name,
            name=judge_name(judge),
            verdicts=round(2 * each),
            reads=read,
            writes=each * written,
            retries=metric.params.retries,
            price=price,
        )

    def __str__(self) -> str:
        cost = "" if self.price is None else f", about {self.price:,.2f} by the prices given"
        again = f"; one that cannot be read is asked for again, at most {self.retries} times" if self.retries else ""
        return (
            f"{self.suite}: at most {self.verdicts:,} verdicts of {self.name}, which reads about {self.reads:,.0f} "
            f"tokens and writes {self.writes:,.0f}{cost}{again}"
        )
