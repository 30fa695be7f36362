"""The translation metrics of a run."""

from __future__ import annotations

from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.recipe.schema import Recipe


def open_metrics(recipe: Recipe) -> list[OpenMetric]:
    """Return the recipe's translation metrics, able to measure all of its test sets.

    Raises:
        UsageError: one of them cannot measure a direction, or needs something that is not installed.
    """
    opened = [
        open_metric({"kind": one.kind, "name": one.name, **one.params}) for one in recipe.evaluate.translation.metrics
    ]
    for one in opened:
        for source in recipe.pairs.test:
            one.metric.build(source.source, source.target, ())
    return opened
