"""The interface of a metric of a task: one file a family, registered by name in `METRICS`.

A metric gives statistics per segment that add up, and a score of their sum: intervals and paired differences
(`evaluation/translation.py`) follow from these alone, so that a metric contains no resampling.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from lingraft.core.errors import UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.registry import Registry
from lingraft.core.tasks import ONLY_TRANSLATION, Task, misfit
from lingraft.core.validation import Settings, validated
from lingraft.data.records import Pair
from lingraft.statistics.items import aggregation
from lingraft.statistics.metric_facts import Better, MetricFacts


class CorpusMetric(ABC):
    """A metric of one translation direction: statistics per segment, and scores from their sums.

    `keeps_lines`: hypotheses keep their line breaks; for all other metrics they have been made spaces.
    `aggregation`: name of the function from sums to scores, see `lingraft.statistics.items.aggregation`.
    """

    keeps_lines: bool = False
    aggregation: str = "mean"

    def segments(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Return the segments it is measured on, which may not depend on any system's output; by default all.

        A set on which there is nothing to measure has no score.
        """
        return list(pairs)

    @abstractmethod
    def statistics(self, hypotheses: Sequence[str], pairs: Sequence[Pair]) -> np.ndarray:
        """Return the sufficient statistics, shape (segments, k)."""

    def aggregate(self, totals: np.ndarray) -> np.ndarray:
        """Return the scores of summed statistics: (m, k) -> (m,)."""
        return aggregation(self.aggregation)(totals)

    @abstractmethod
    def signature(self, resamples: int, seed: int) -> str:
        """Return what defines the number; call after `statistics`, which fixes the number of references."""


class MeanMetric(CorpusMetric):
    """Weighted mean of a value per segment.

    Args:
        values: of hypotheses and pairs: (value, weight) for each segment.
        signature: of the metric, without the resampling.
        applies: whether a segment is measured at all.
        keeps_lines: see `CorpusMetric`.
        aggregation: "percent" for values of 0 and 1 whose share is shown in percent.
    """

    def __init__(
        self,
        values: Callable[[Sequence[str], Sequence[Pair]], Iterable[tuple[float, float]]],
        signature: str,
        applies: Callable[[Pair], bool] | None = None,
        keeps_lines: bool = False,
        aggregation: Literal["mean", "percent"] = "mean",
    ) -> None:
        self._values = values
        self._signature = signature
        self._applies = applies
        self.keeps_lines = keeps_lines
        self.aggregation = aggregation

    def segments(self, pairs: Sequence[Pair]) -> list[Pair]:
        return [pair for pair in pairs if self._applies is None or self._applies(pair)]

    def statistics(self, hypotheses: Sequence[str], pairs: Sequence[Pair]) -> np.ndarray:
        rows = [(value * weight, weight) for value, weight in self._values(hypotheses, pairs)]
        return np.array(rows, dtype=np.float64).reshape(-1, 2)

    def signature(self, resamples: int, seed: int) -> str:
        return f"{self._signature}|bs:{resamples}|seed:{seed}"


class Metric(ABC):
    """A metric with its parameters, for the whole run: what it holds open is shared by all directions and systems.

    Attributes:
        name: registered name.
        summary: one line.
        paper: where it comes from.
        tasks: of test sets that it can measure; texts of the other ones mean nothing to it.
        label, better, decimals, unit, cite, retains, role: what it says about itself, see `MetricFacts`; reports show
            it so. An object may say otherwise than its class, by its parameters.
        references: whether it compares with references; else it estimates quality from source and text alone, and may
            choose between translations where there are none.
        asks_judge: whether another model gives its scores, which the pipeline asks at the end; so that it can select
            nothing before.
        progress: is told how many of how many texts are scored, where that takes long.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str] = ""
    tasks: ClassVar[frozenset[Task]] = ONLY_TRANSLATION
    label: str = ""
    better: Better = "higher"
    decimals: int | None = None
    unit: str = ""
    cite: tuple[str, ...] = ()
    retains: bool = True
    role: str = ""
    references: bool = True
    asks_judge: ClassVar[bool] = False

    class Params(Settings):
        """Typed parameters; every field has a default and a description."""

    def __init__(self, params: Any) -> None:
        self.params = params
        self.progress: Callable[[int, int], None] = lambda done, total: None

    @property
    def facts(self) -> MetricFacts:
        """What this metric says about itself."""
        return _facts(self)

    @classmethod
    def declared(cls, signature: str = "") -> MetricFacts:
        """Return what the metric says about itself whatever its parameters, for rows that do not carry it themselves.

        Args:
            signature: of such a row, which may say more.
        """
        return _facts(cls)

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return what it runs that whoever starts a recipe has to allow, as `Engine.acts` does."""
        return []

    def measures(self) -> dict[str, Any]:
        """Return the parameters that decide what it measures, by name; how it is computed and shown is none of it.

        By default all; two choices with the same kind and these are the same metric.
        """
        return dict(self.params.model_dump(mode="json"))

    def identity(self) -> str:
        """Return a hash of all that decides its scores beside texts and code; by default of `measures`."""
        return content_hash(self.measures())

    @abstractmethod
    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        """Make it for one direction of a run in `languages`; cheap, so that a run can ask before it starts.

        Args:
            source_lang: language code.
            target_lang: language code.
            languages: of the run, candidates for identification.

        Raises:
            UsageError: it cannot be measured for this direction, or something it needs is not installed.
        """

    def close(self) -> None:
        """Give back what was held open."""
        return


def _facts(of: Metric | type[Metric]) -> MetricFacts:
    return MetricFacts(
        label=of.label or of.name,
        better=of.better,
        decimals=of.decimals,
        unit=of.unit,
        cite=of.cite,
        retains=of.retains,
        role=of.role,
    )


@dataclass(frozen=True)
class OpenMetric:
    """A metric of a run under its name there."""

    name: str
    metric: Metric

    @property
    def facts(self) -> MetricFacts:
        """What it says about itself; one with a name of its own is called by that, unless it was given a label."""
        own = self.metric.facts
        renamed = self.name != self.metric.name and own.label in (type(self.metric).label, self.metric.name)
        return replace(own, label=self.name) if renamed else own


METRICS: Registry[type[Metric]] = Registry(
    "metric",
    {
        "bleu": "lingraft.metrics.sacrebleu:Bleu",
        "chrf": "lingraft.metrics.sacrebleu:Chrf",
        "chrf++": "lingraft.metrics.sacrebleu:ChrfPlusPlus",
        "ter": "lingraft.metrics.sacrebleu:Ter",
        "spbleu": "lingraft.metrics.sacrebleu:SpBleu",
        "comet": "lingraft.metrics.comet:Comet",
        "metricx": "lingraft.metrics.metricx:MetricX",
        "command": "lingraft.metrics.command:Command",
        "off_target": "lingraft.metrics.surface:OffTarget",
        "length_ratio": "lingraft.metrics.surface:LengthRatio",
        "copied_source": "lingraft.metrics.surface:CopiedSource",
        "numbers": "lingraft.metrics.preserved:Numbers",
        "urls": "lingraft.metrics.preserved:Urls",
        "placeholders": "lingraft.metrics.preserved:Placeholders",
        "completeness": "lingraft.metrics.surface:Completeness",
        "computational_accuracy": "lingraft.metrics.code:ComputationalAccuracy",
        "syntax_errors": "lingraft.metrics.code:SyntaxErrors",
        "terms": "lingraft.metrics.terms:Terms",
        "esa": "lingraft.metrics.esa:Esa",
        "faithfulness": "lingraft.metrics.faithfulness:Faithfulness",
        "rouge1": "lingraft.metrics.rouge:Rouge1",
        "rouge2": "lingraft.metrics.rouge:Rouge2",
        "rougeL": "lingraft.metrics.rouge:RougeL",
        "rougeLsum": "lingraft.metrics.rouge:RougeLsum",
    },
)
"""What a recipe may list under `metrics` of `evaluate.translation`, `evaluate.summary` and `evaluate.code`."""


def metrics_for(task: Task) -> list[str]:
    """Return the registered metrics that are for a task; a plugin that cannot be imported here is none of them."""
    found = []
    for name in METRICS:
        with suppress(UsageError):
            found += [name] if task in METRICS.get(name).tasks else []
    return found


def metric_misfit(name: str, task: Task) -> str:
    """Return the sentence about a metric that is not for a task, with the remedy; "" if it is.

    Raises:
        UsageError: there is no such metric.
    """
    tasks = METRICS.get(name).tasks
    return misfit("metric", name, tasks, task, () if task in tasks else metrics_for(task))


def open_metric(choice: str | Mapping[str, Any] | OpenMetric) -> OpenMetric:
    """Return a metric from its name, or from its `kind`, `name` and parameters.

    Raises:
        UsageError: unknown metric or parameter, with the nearest known one.
    """
    if isinstance(choice, OpenMetric):
        return choice
    values = {"kind": choice} if isinstance(choice, str) else dict(choice)
    if not isinstance(values.get("kind"), str):
        raise UsageError("a metric has a `kind`, see `lingraft list metrics`, and its parameters beside it")
    kind = values.pop("kind")
    name = values.pop("name", "") or kind
    if not isinstance(name, str):
        raise UsageError(f"metric {kind}: its `name` is {name!r}, and no text; give one, or drop it")
    entry = METRICS.get(kind)
    return OpenMetric(name, entry(validated(entry.Params, values, f"metric {name}")))
