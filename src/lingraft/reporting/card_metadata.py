"""What a card's front matter tells the hub: results as a model index, and whether the hub would take it all.

The hub checks a card when it is pushed, which needs a network; what its rules say of the keys that are written here is
checked before (https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lingraft.core.validation import HUB_ID
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.reporting.numbers import decimals_for, interval

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_DIGITS = 4
"""Decimals of the values: the intervals are wider by far."""
_TASKS = {"translation": "translation", "summary": "summarization"}


def model_index(scorecard: Scorecard, system: str, name: str) -> list[dict[str, Any]]:
    """Return the results of a system as the hub's model index: each test set and metric, what was kept of each suite,
    and over all. The 95 % intervals stand in the names, which the hub shows, and as numbers among `args`.

    Args:
        scorecard: of the run.
        system: whose results they are.
        name: of the model.
    """
    from huggingface_hub.repocard_data import eval_results_to_model_index

    results = list(evaluation_results(scorecard, system))
    return eval_results_to_model_index(name, results) if results else []


def evaluation_results(scorecard: Scorecard, system: str) -> Iterator[EvalResult]:
    """Yield the results of a system as the hub's library has them; see `model_index`."""
    from huggingface_hub import EvalResult

    for score in (one for one in scorecard.translation if one.system == system and one.facts.better is not None):
        facts, places = score.facts, decimals_for(score.facts, [score.score])
        found = score.delta
        change = {"change_from_base": _rounded(found.value), "change_ci95": _pair(found.ci95)} if found else {}
        yield EvalResult(
            task_type=_TASKS.get(score.task, "text-generation"),
            task_name=f"{score.task} {score.direction}",
            dataset_type=score.test_set,
            dataset_name=f"{score.test_set} ({score.direction})",
            dataset_config=score.direction,
            metric_type=score.metric,
            metric_name=f"{facts.title}, 95 % interval {interval(score.ci95, places)}",
            metric_value=_rounded(score.score),
            metric_args={"ci95": _pair(score.ci95), "n": score.n, "signature": score.signature, **change},
        )
    for row in (one for one in scorecard.general if one.system == system and one.retention is not None):
        assert row.retention is not None, "filtered"
        yield EvalResult(
            task_type="text-generation",
            task_name="General ability kept",
            dataset_type=row.suite,
            dataset_name=row.suite,
            metric_type="retention",
            metric_name=f"{row.facts.title}: % of the base's, 95 % interval {interval(row.retention.ci95)}",
            metric_value=_rounded(row.retention.percent),
            metric_args={"ci95": _pair(row.retention.ci95), "n": row.n, "metric": row.metric},
            metric_config=row.metric,
        )
    summary = next((one for one in scorecard.summary if one.system == system), None)
    if summary is None:
        return
    if gain := summary.gain:
        facts = gain_facts(gain.metric, scorecard.translation)
        places = decimals_for(facts, [gain.value])
        yield EvalResult(
            task_type="translation",
            dataset_type="all",
            dataset_name="all test sets",
            metric_type="gain",
            metric_name=f"{facts.title} over the base, 95 % interval {interval(gain.ci95, places, signed=True)}",
            metric_value=_rounded(gain.value),
            metric_args={"ci95": _pair(gain.ci95), "metric": gain.metric},
        )
    if summary.retention_mean is not None:
        kept = summary.retention_mean_ci95
        yield EvalResult(
            task_type="text-generation",
            task_name="General ability kept",
            dataset_type="all",
            dataset_name="all suites",
            metric_type="retention",
            metric_name="Mean % of the base's" + (f", 95 % interval {interval(kept)}" if kept else ""),
            metric_value=_rounded(summary.retention_mean),
            metric_args={"ci95": _pair(kept)} if kept else None,
        )


def _rounded(value: float) -> float:
    return round(value, _DIGITS)


def _pair(bounds: tuple[float, float]) -> list[float]:
    return [_rounded(bound) for bound in bounds]


_FORMS: dict[str, str] = {
    "base_model": HUB_ID,
    "license": r"[a-z0-9][a-z0-9.+-]*",
    "language": r"[a-z]{2,3}|code|multilingual",
    "tags": r"[^\s].{0,99}",
    "library_name": r"[a-z0-9][a-z0-9._-]*",
    "pipeline_tag": r"[a-z0-9-]+",
}
"""Key -> what each of its values has to look like."""


def problems_of(values: Mapping[str, Any]) -> list[str]:
    """Return what the hub would not take of a front matter, a sentence each; an empty list: nothing.

    Args:
        values: of its YAML.
    """
    from huggingface_hub import ModelCardData

    found = []
    for key, form in _FORMS.items():
        for one in values[key] if isinstance(values.get(key), list) else [values[key]] if key in values else []:
            if not isinstance(one, str) or not re.fullmatch(form, one):
                found.append(f"`{key}` cannot be {str(one)[:80]!r}")
    tags = values.get("tags") or []
    found += [f"the tag {tag!r} is there twice" for tag in dict.fromkeys(tags) if tags.count(tag) > 1]
    for result in (one for index in values.get("model-index") or [] for one in index.get("results", [])):
        for part, key in (("task", "type"), ("dataset", "type"), ("dataset", "name")):
            if not (result.get(part) or {}).get(key):
                found.append(f"a result of `model-index` has no {part}.{key}")
        for metric in result.get("metrics") or []:
            if not metric.get("type") or not isinstance(metric.get("value"), int | float) or _odd(metric["value"]):
                found.append(f"a metric of `model-index` has no type or no number: {str(metric)[:80]}")
    try:
        ModelCardData(**{str(key): value for key, value in values.items()})
    except (KeyError, TypeError, ValueError) as error:
        found.append(f"`model-index` cannot be read: {error}")
    return found


def _odd(value: float) -> bool:
    return value != value or abs(value) == float("inf")
