"""What a test set asks for: the task that its metrics measure, and that its decoders do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

Task = Literal["translation", "code", "summary"]

TASKS: tuple[Task, ...] = get_args(Task)

NOUNS: Mapping[str, str] = {
    "translation": "translations",
    "code": "programs in another language",
    "summary": "summaries in another language",
}
"""What a test set of each task is answered with, in the plural."""

PLURAL: Mapping[Task, str] = {"translation": "translations", "code": "programs", "summary": "summaries"}
ONE: Mapping[Task, str] = {"translation": "a translation", "code": "a program", "summary": "a summary"}
"""What one request of each task is answered with."""

ONLY_TRANSLATION: frozenset[Task] = frozenset({"translation"})
ALL_TASKS: frozenset[Task] = frozenset(TASKS)


def task_in_use(tasks: Collection[Task]) -> Task:
    """Return what something is used for where no test set says so: translations, if it can be."""
    return "translation" if "translation" in tasks else next(task for task in TASKS if task in tasks)


def misfit(kind: str, name: str, tasks: Collection[str], wanted: str, fitting: Collection[str]) -> str:
    """Return the sentence about a registered thing that is not for a task, with the remedy; "" if it is.

    Args:
        kind: of the registry ("metric").
        name: registered name.
        tasks: that it is for.
        wanted: the task.
        fitting: names of the registry that are for the task.
    """
    if wanted in tasks:
        return ""
    own = " and ".join(NOUNS[task] for task in TASKS if task in tasks)
    remedy = f"take one of {', '.join(fitting)}" if fitting else f"no {kind} is for them; install a plugin that has one"
    return f"the {kind} {name!r} is for {own}, and not for {NOUNS[wanted]} (task {wanted}); {remedy}"
