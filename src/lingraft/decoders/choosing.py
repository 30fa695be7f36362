"""Metrics by which decoders choose between translations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.data.records import Pair
from lingraft.decoders.base import DecoderInputs
from lingraft.metrics.base import open_metric


def signed(
    inputs: DecoderInputs, metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]
) -> list[float]:
    """Return scores of which more is always better; NaN where the metric has nothing to measure.

    Args:
        inputs: who scores.
        metric: by name, or with its parameters.
        pairs: what the texts are compared with.
        texts: one for each pair.

    Raises:
        UsageError: nobody scores here.
    """
    if not texts:
        return []
    if inputs.score is None:
        raise UsageError(f"translations are to be chosen by {metric!r}, and nothing scores here; take another decoder")
    sign = -1.0 if open_metric(metric).facts.better == "lower" else 1.0
    return [sign * score for score in inputs.score(metric, pairs, texts)]


def unfit(metric: str | Mapping[str, Any], *, references: bool, key: str) -> str:
    """Return why a metric cannot choose, and the remedy; "" if it can.

    Args:
        metric: by name, or with its parameters.
        references: whether it is to compare texts with others; else it is to estimate quality without any.
        key: the parameter that names it, for the message.
    """
    opened = open_metric(metric)
    if opened.metric.asks_judge:
        return f"`{key}`: {opened.name} asks a judge, and that is done at the end of a run; name another metric"
    if opened.facts.better is None:
        return f"`{key}`: of {opened.name} neither end is better, so that it chooses nothing; name another metric"
    if references and not opened.metric.references:
        return (
            f"`{key}`: {opened.name} compares with nothing, and candidates are to be compared with each other; set "
            f"`choose: estimate`, or name a metric such as chrf or comet"
        )
    if not references and opened.metric.references:
        return (
            f"`{key}`: {opened.name} compares with references, of which there are none; name one that estimates "
            f"quality, such as {{kind: comet, model: Unbabel/wmt22-cometkiwi-da}}, or a program with `references: "
            f"false`"
        )
    return ""
