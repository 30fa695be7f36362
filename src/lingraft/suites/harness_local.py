"""Reading the file of a known task: published rows, cut into tasks where the published data set is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError, UsageError, suggestion
from lingraft.data.files import SourcePlace, locate
from lingraft.data.formats import json_rows
from lingraft.data.records import Rejected
from lingraft.suites.harness_layouts import LOCAL_TASKS, LocalTask, Published, TaskLayout

PREFIX = "local:"


def local_task(name: str) -> LocalTask:
    """Return the task called `local:NAME`.

    Raises:
        UsageError: there is none.
    """
    short = name.removeprefix(PREFIX)
    if short not in LOCAL_TASKS:
        raise UsageError(f"there is no task {name!r} over a local file{suggestion(short, LOCAL_TASKS)}")
    return LOCAL_TASKS[short]


def read_local(name: str, path: str) -> dict[str, list[Published]]:
    """Return the published rows of a file by lm-eval's name of the task.

    Args:
        name: `local:NAME`.
        path: JSON Lines, or a JSON array of objects, gzipped or not.

    Raises:
        DataError: the file cannot be read, has another layout, or no row that can be used.
    """
    task = local_task(name)
    place = locate(path, "json", Path())
    layout: TaskLayout | None = None
    found: dict[str, list[Published]] = {}
    for row in json_rows(place):
        if isinstance(row, Rejected):
            raise DataError(f"{row.file}, line {row.line}: {row.detail or row.reason}; correct or delete it")
        layout = layout or _layout_of(name, task, row.record, place)
        try:
            published = layout.convert(row.record)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            cause = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"{place.shown}, line {row.line}: not a row of {name} ({cause[:200]}); correct or delete it"
            ) from error
        value = str(published.pop(task.field, "")) if task.field else ""
        if task.only:
            if value not in ("", task.only):
                continue
            value = task.only
        if task.field and not value:
            raise DataError(
                f"{place.shown}, line {row.line}: {task.field} is empty, which {name} is cut by; fill it in"
            )
        found.setdefault(task.task.format(value), []).append(published)
    if not found:
        what = f"no row with {task.field} {task.only!r}" if task.only else "no row"
        raise DataError(f"{place.shown}: {what}; {name} needs at least one")
    return found


def _layout_of(name: str, task: LocalTask, row: dict[str, Any], place: SourcePlace) -> TaskLayout:
    for layout in task.layouts:
        if all(field in row for field in layout.fields):
            return layout
    known = " or ".join("{" + ", ".join(layout.fields) + "}" for layout in task.layouts)
    raise DataError(
        f"{place.shown}: its rows have the fields {{{', '.join(map(str, row))[:200]}}}, but {name} reads {known}; "
        f"rename or convert them"
    )
