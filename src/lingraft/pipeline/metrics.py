"""The metrics of a run: those that are reported, and those by which methods select."""

from __future__ import annotations

from lingraft.core.tasks import Task
from lingraft.metrics.base import OpenMetric, open_metric
from lingraft.recipe.asking import methods_of
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tasks import reported_metrics


def check_selecting(recipe: Recipe) -> None:
    """Refuse a metric by which a method selects, and which cannot measure the training pairs.

    Raises:
        UsageError: there is one; or something it needs is not installed.
    """
    for system in recipe.systems():
        for stage in system.stages:
            for method in methods_of(stage):
                for choice in method.selects_by:
                    for source in recipe.pairs.train:
                        open_metric(choice).metric.build(source.source, source.target, ())


def open_metrics(recipe: Recipe) -> dict[Task, list[OpenMetric]]:
    """Return the metrics of the tasks of the recipe's test sets, able to measure all of these.

    Raises:
        UsageError: one of them cannot measure a direction, or needs something that is not installed.
    """
    opened: dict[Task, list[OpenMetric]] = {task: [] for task in recipe.pairs.tasks}
    for _, task, one in reported_metrics(recipe):
        opened[task].append(open_metric({"kind": one.kind, "name": one.name, **one.params}))
    for source in recipe.pairs.test:
        for metric in opened[source.task]:
            metric.metric.build(source.source, source.target, ())
    return opened
