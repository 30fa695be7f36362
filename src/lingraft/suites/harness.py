"""Suite "harness": the tasks of EleutherAI's lm-eval, asked together with everything else a run asks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import file_hash
from lingraft.core.packages import install_command, is_installed
from lingraft.core.validation import IS_PATH
from lingraft.data.files import open_file
from lingraft.data.records import Continuation, Request
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload
from lingraft.suites.harness_local import PREFIX, local_task
from lingraft.suites.harness_papers import task_papers

if TYPE_CHECKING:
    from lingraft.rendering.renderer import Renderer
    from lingraft.suites.harness_bridge import Harness
    from lingraft.suites.harness_loading import Entry

WRITTEN = ("gsm8k", "mgsm", "ifeval")
"""Local tasks in which the model writes; in the others log-likelihoods are compared."""
USUAL_LIMIT = 512
BYTES_PER_TOKEN = 4.0
"""Of a row in its file, for estimates."""

_PERCENT = ("acc", "exact_match", "mc1", "mc2", "f1", "em", "pass@1")
_HEADLINES = (
    "acc_norm",
    "acc",
    "exact_match,flexible-extract",
    "exact_match",
    "prompt_level_strict_acc",
    "bits_per_byte",
)


_LM_EVAL = "lm-eval:"
"""How signatures begin."""


def in_percent(metric: str) -> bool:
    """Whether a metric of lm-eval, a share there, is shown in percent."""
    return metric.partition(",")[0].startswith(_PERCENT) or metric.endswith("_acc")


class HarnessSuite(Suite):
    """Any task of lm-eval: one row for each task and metric, an item being a document of the task.

    lm-eval makes the prompts and scores the answers. Multiple choice is corrected for chance, which is the score of a
    choice taken at random. Of a task's metrics one counts for retention (`metrics` says which), the others are shown.

    Source: Biderman et al. 2024, "Lessons from the Trenches on Reproducible Evaluation of Language Models" (arXiv
    2405.14782).
    """

    name: ClassVar[str] = "harness"
    paper: ClassVar[str] = "arXiv 2405.14782"

    class Params(Suite.Params):
        """Parameters of the suite."""

        tasks: list[str] = Field(
            default=["local:hellaswag"],
            min_length=1,
            description="names lm-eval knows, or `local:NAME` for one over the file `path`",
        )
        path: Annotated[str | None, IS_PATH] = Field(default=None, description="JSON Lines file of a local task")
        fewshot_path: Annotated[str | None, IS_PATH] = Field(
            default=None, description="file from which a local task takes its few-shot examples; without it: none"
        )
        include: Annotated[str | None, IS_PATH] = Field(default=None, description="folder of your own lm-eval tasks")
        limit: int | None = Field(default=None, ge=1, description="items of each task, from the first on")
        num_fewshot: int | None = Field(default=None, ge=0, description="examples before each question")
        apply_chat_template: bool | None = Field(
            default=None, description="default: where the model writes, not where log-likelihoods are compared"
        )
        max_new_tokens: int | None = Field(default=None, ge=1, description="longest answer in tokens")
        metrics: list[str] = Field(default_factory=list, description="metrics that count for retention")

        @model_validator(mode="after")
        def _together(self) -> HarnessSuite.Params:
            local = [name for name in self.tasks if name.startswith(PREFIX)]
            for name in local:
                local_task(name)
            if local and len(self.tasks) > 1:
                raise ValueError(f"{local[0]} reads one file and stands alone; give each such task a suite of its own")
            if local and not self.path:
                raise ValueError(f"{local[0]} needs `path:`, the file with its rows")
            if not local and (self.path or self.fewshot_path):
                raise ValueError("path and fewshot_path belong to a task over a local file, such as local:hellaswag")
            if local and self.num_fewshot and not self.fewshot_path:
                raise ValueError(f"num_fewshot: {self.num_fewshot} with {local[0]} needs `fewshot_path:`")
            if not is_installed("lm_eval"):
                raise ValueError(f"the suite needs lm-eval; run `{install_command('lm_eval')}`")
            return self

    params: Params

    def __init__(self, params: Suite.Params) -> None:
        super().__init__(params)
        self._opened: dict[Renderer, Harness] = {}
        """One for each tokenizer: systems with an extended vocabulary are asked in their own tokens."""
        self._ifeval = ""

    @property
    def fetches(self) -> bool:
        """Whether the tasks are lm-eval's own, whose rows are on the hub."""
        return not self.params.path or super().fetches

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return that tasks of one's own run: their YAML names Python functions of the folder, which lm-eval calls."""
        return [f"runs the lm-eval tasks in {params.include}, which are programs"] if params.include else []

    @classmethod
    def declared(cls, metric: str, signature: str = "") -> MetricFacts | None:
        """Return what a metric of lm-eval says about itself, by its name and the task, which the signature names."""
        task = next((part.removeprefix("task:") for part in signature.split("|") if part.startswith("task:")), None)
        if task is None or not signature.startswith(_LM_EVAL):
            return None
        percent = in_percent(metric.rpartition(" ")[2])
        return MetricFacts(
            label=metric, decimals=1 if percent else None, unit="%" if percent else "", cite=task_papers(task)
        )

    def _harness(self, inputs: SuiteInputs) -> Harness:
        if inputs.renderer is None:
            raise UsageError("suite 'harness' needs the base's tokenizer; give SuiteInputs a renderer")
        if inputs.renderer not in self._opened:
            from lingraft.suites.harness_bridge import Harness
            from lingraft.suites.harness_loading import load_entries, prepare_ifeval

            own = self.params
            if any("ifeval" in name for name in own.tasks):
                self._ifeval = prepare_ifeval()
            entries = load_entries(
                own.tasks,
                path=own.path,
                fewshot_path=own.fewshot_path,
                include=own.include,
                num_fewshot=own.num_fewshot,
                templated=own.apply_chat_template,
                max_new_tokens=own.max_new_tokens,
            )
            harness = Harness(entries, inputs.renderer, inputs.context_tokens, limit=own.limit, seed=inputs.seed)
            self._opened[inputs.renderer] = harness
        return self._opened[inputs.renderer]

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask what the tasks let a model write.

        Raises:
            UsageError: an unknown task.
            DataError: its data cannot be had, or it decodes in a way no engine knows.
        """
        return self._harness(inputs).requests

    def continuations(self, inputs: SuiteInputs) -> list[Continuation]:
        """Return the choices of multiple-choice items, and texts whose perplexity is measured."""
        return self._harness(inputs).continuations

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Let lm-eval score the answers; items are documents.

        Raises:
            DataError: a task has no metric that is a mean over its items.
        """
        harness = self._harness(inputs)
        rows: list[ItemScores] = []
        for entry in harness.entries:
            found = _Table(entry, harness.samples(entry, system.generations, system.likelihoods))
            label = f"{entry.name} " if len(harness.entries) > 1 else ""
            rows += found.rows(label, self._signature(entry), self.params.metrics)
        return rows

    def workload(self, at_hand: AtHand) -> Workload:
        """Count the rows of a local file. A dry run fetches nothing: of other tasks nothing is known.

        Raises:
            DataError: the file cannot be read.
        """
        own = self.params
        if not own.path:
            return Workload(0.0)
        try:
            with open_file(Path(own.path), own.path) as file:
                sizes = [len(line) for line in islice(file, own.limit)]
        except OSError as error:
            raise DataError(f"{own.path} cannot be read ({error.strerror}); give the file of {own.tasks[0]}") from error
        if own.tasks[0].removeprefix(PREFIX).startswith(WRITTEN):
            return Workload(0.5 * len(sizes) * (own.max_new_tokens or USUAL_LIMIT))
        return Workload(0.0, likelihood_tokens=sum(sizes) / BYTES_PER_TOKEN)

    def _signature(self, entry: Entry) -> str:
        from lingraft.suites.harness_loading import VERSION

        own = self.params
        first = next(iter(entry.tasks.values()))
        shots = {task.get_config("num_fewshot") for task in entry.tasks.values()}
        parts = [
            f"{_LM_EVAL}{VERSION}",
            f"task:{entry.name}",
            f"version:{first.VERSION}",
            f"shots:{'/'.join(map(str, sorted(shots)))}",
            f"chat-template:{'yes' if entry.templated else 'no'}",
        ]
        if own.path:
            parts.append(f"file:{Path(own.path).name}-{file_hash(Path(own.path))[:8]}")
        if own.limit:
            parts.append(f"limit:{own.limit}")
        if first.OUTPUT_TYPE == "generate_until":
            kwargs = first.get_config("generation_kwargs") or {}
            digest = hashlib.sha256(repr(sorted(kwargs.items())).encode()).hexdigest()[:8]
            parts.append(f"decoding:{'sampled' if kwargs.get('do_sample') else 'greedy'}-{digest}")
        if self._ifeval and "ifeval" in entry.name:
            parts.append(self._ifeval)
        return "|".join(parts)


class _Table:
    """The values of one system on one entry, by metric and item.

    Args:
        entry: whose tasks were answered.
        results: of `Harness.samples`.
    """

    def __init__(self, entry: Entry, results: Mapping[str, Any]) -> None:
        from lingraft.suites.harness_bridge import chance_of, is_mean

        self.values: dict[str, dict[str, float]] = {}
        self.weights: dict[str, dict[str, float]] = {}
        self._chances: dict[str, list[float]] = {}
        self._higher: dict[str, bool] = {}
        self._left_out: set[str] = set()
        self._entry = entry
        for name, task in entry.tasks.items():
            samples = results["samples"][name]
            aggregation, higher = task.aggregation(), task.higher_is_better()
            for sample in samples:
                item = f"{name}/{sample['doc_id']}" if len(entry.tasks) > 1 else str(sample["doc_id"])
                for metric in sample["metrics"]:
                    reduced = _reduced(metric, sample[metric], mean=is_mean(aggregation.get(metric)))
                    if reduced is None:
                        self._left_out.add(metric)
                        continue
                    key = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
                    self.values.setdefault(key, {})[item], weight = reduced
                    share = len({each["doc_id"] for each in samples}) if entry.macro else 1
                    self.weights.setdefault(key, {})[item] = weight / share
                    self._higher[key] = bool(higher.get(metric, True))
                if task.OUTPUT_TYPE == "multiple_choice":
                    for metric, value in chance_of(task, sample["doc"], len(sample["arguments"])).items():
                        self._chances.setdefault(metric, []).append(value)

    def rows(self, label: str, signature: str, retained: list[str]) -> list[ItemScores]:
        """Return the rows; `retained` names the metrics that count for retention."""
        if not self.values:
            raise DataError(
                f"task {self._entry.name!r}: none of its metrics ({', '.join(sorted(self._left_out))}) is a mean over "
                f"its items; choose another task"
            )
        if unknown := [metric for metric in retained if metric not in self.values]:
            raise DataError(f"task {self._entry.name!r} has no metric {unknown[0]!r}; it has {', '.join(self.values)}")
        chosen = retained or [next((metric for metric in _HEADLINES if metric in self.values), next(iter(self.values)))]
        rows = []
        for metric, values in self.values.items():
            weights = self.weights[metric]
            chances = self._chances.get(metric, [])
            facts = HarnessSuite.declared(label + metric, signature) or MetricFacts()
            rows.append(
                ItemScores(
                    label + metric,
                    values,
                    replace(facts, better="higher" if self._higher[metric] else "lower", retains=metric in chosen),
                    chance=round(math.fsum(chances) / len(chances), 9) if chances else 0.0,
                    weights=weights if len(set(weights.values())) > 1 else None,
                    scale=100.0 if in_percent(metric) else 1.0,
                    signature=signature,
                )
            )
        return rows


def _reduced(metric: str, value: Any, *, mean: bool) -> tuple[float, float] | None:
    """Return an item's value and weight in the weighted mean that the metric is; None where it is no such mean.

    Args:
        metric: by lm-eval's name.
        value: what lm-eval has of the item: a number, or what its own aggregation reads.
        mean: whether lm-eval takes the plain mean of the values.
    """
    if isinstance(value, list) and value and all(isinstance(each, bool) for each in value):
        return sum(value) / len(value), float(len(value))  # the share of all instructions that are followed (IFEval)
    if metric == "bits_per_byte" and isinstance(value, tuple):
        nats, size = value
        return -nats / size / math.log(2), float(size)
    if mean and not isinstance(value, list | tuple | dict | str) and value is not None:
        return float(value), 1.0
    return None
