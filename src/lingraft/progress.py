"""Progress for people, on stderr: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 15.0


class Task:
    """One long piece of work; `update` says how far it is."""

    def __init__(self, reporter: Reporter, title: str, total: int, live: Progress | None, task: TaskID | None) -> None:
        self._reporter = reporter
        self._title = title
        self._total = total
        self._live = live
        self._task = task
        self._start = self._printed = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._start

    def update(self, done: int, detail: str = "", total: int | None = None) -> None:
        """Show that `done` of the total (given anew where it was not known before) is done.

        `detail` is free text such as a rate.
        """
        self._total = total or self._total
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, detail=detail, total=self._total)
            return
        now = time.monotonic()
        if now - self._printed >= LINE_EVERY_SECONDS:
            self._printed = now
            self._reporter.say(f"  {self._title}: {done:,}/{self._total:,} {detail}".rstrip())


class Reporter:
    """Where words and progress go.

    Args:
        quiet: say nothing but what `say(..., always=True)` says.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(file=sys.stderr, highlight=False)
        self.quiet = quiet

    def say(self, text: str, *, always: bool = False) -> None:
        """Print one line to stderr."""
        if always or not self.quiet:
            self.console.print(text, soft_wrap=True, markup=False)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Show a piece of work with `total` steps while the block runs."""
        if self.quiet or not self.console.is_terminal:
            yield Task(self, title, total, None, None)
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as live:
            yield Task(self, title, total, live, live.add_task(title, total=total, detail=""))
