"""What a recipe measures on test sets of each task: metrics that are for it, and nothing that would be ignored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import UsageError
from lingraft.core.tasks import TASKS, Task
from lingraft.metrics.base import METRICS, metric_misfit, metrics_for
from lingraft.recipe.choices import MetricChoice
from lingraft.recipe.evaluation import Evaluate, SummarySettings

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe


def with_tasks(recipe: Recipe) -> Evaluate:
    """Return what is measured, with the settings of each task of which there is a test set.

    Raises:
        UsageError: settings of a task without a test set, a test set of a task without metrics, or a metric that is not
            for its task.
    """
    evaluate, tasks = recipe.evaluate, recipe.pairs.tasks
    for task in TASKS:
        if task not in tasks and task != "translation" and getattr(evaluate, task) is not None:
            raise UsageError.at(
                f"evaluate.{task}",
                f"evaluate.{task}: no test set has `task: {task}`, so that nothing is measured by it; give the task to "
                f"one under `pairs.test`, or drop `evaluate.{task}`",
            )
    if "summary" in tasks and evaluate.summary is None:
        evaluate = evaluate.model_copy(update={"summary": SummarySettings()})
    if "code" in tasks and evaluate.code is None:
        known = metrics_for("code")
        raise UsageError.at(
            "evaluate",
            f"pairs.test has a test set with `task: code`, and no metric for it; add `evaluate: {{code: {{metrics: "
            f"[...]}}}}` with some of {', '.join(known)}",
        )
    for place, task, choice in _listed(evaluate, described(evaluate)):
        if choice.kind in METRICS and (reason := metric_misfit(choice.kind, task)):
            raise UsageError.at(place, f"{place}: {reason}")
    return evaluate


def described(evaluate: Evaluate) -> list[Task]:
    """Return the tasks of which the recipe says how they are measured."""
    return [task for task in TASKS if getattr(evaluate, task) is not None]


def reported_metrics(recipe: Recipe) -> Iterator[tuple[str, Task, MetricChoice]]:
    """Yield the metrics by which the test sets are measured, each with its key in the recipe and its task."""
    return _listed(recipe.evaluate, recipe.pairs.tasks)


def with_metrics(evaluate: Evaluate, changed: Callable[[MetricChoice, str], MetricChoice]) -> Evaluate:
    """Return what is measured with each metric changed.

    Args:
        evaluate: of the recipe.
        changed: is given a metric and its key in the recipe.
    """
    tasks: dict[str, Any] = {}
    for task in described(evaluate):
        settings = evaluate.measured(task)
        metrics = [changed(one, f"evaluate.{task}.metrics.{i}") for i, one in enumerate(settings.metrics)]
        tasks[task] = settings.model_copy(update={"metrics": metrics})
    return evaluate.model_copy(update=tasks)


def with_judge(choice: MetricChoice, where: str) -> MetricChoice:
    """Return a metric with the defaults of the engine that is its judge, if it has one.

    Args:
        choice: as the recipe has it.
        where: its key in the recipe.

    Raises:
        UsageError: no such engine, or wrong parameters of it.
    """
    if choice.kind not in METRICS or not METRICS.get(choice.kind).asks_judge:
        return choice
    if choice.params.get("judge") is None:
        return choice  # the metric itself says what it needs
    from lingraft.suites.judging import judge_engine

    try:
        judge = judge_engine(choice.params["judge"])
    except UsageError as error:
        raise UsageError.at(f"{where}.judge", f"{where}.judge: {error}") from error
    return MetricChoice.model_validate({**choice.model_dump(), "judge": judge})


def _listed(evaluate: Evaluate, tasks: Iterable[Task]) -> Iterator[tuple[str, Task, MetricChoice]]:
    for task in tasks:
        for number, choice in enumerate(evaluate.measured(task).metrics):
            yield f"evaluate.{task}.metrics.{number}", task, choice
