"""Progress for people, on stderr: a live bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from lingraft.core.printable import printable

MOST = 2000
"""Characters of a line that is said."""
LINE_EVERY_SECONDS = 10.0
"""Nobody waits longer for a sign that the work goes on."""
BEAT_SECONDS = 1.0
BAR = 20
"""Characters of a bar."""
TIMES = 21
"""Characters of the two times behind it, and of all spaces between columns."""


class Task:
    """One long piece of work; `update` says how far it is."""

    def __init__(
        self, reporter: Reporter, title: str, total: int, live: Progress | None = None, task: TaskID | None = None
    ) -> None:
        self._reporter = reporter
        self._title = title
        self._done, self._total = 0, total
        self._detail = ""
        self._describe: Callable[[], str] | None = None
        self._live = live
        self._task = task
        self._start = time.monotonic()

    @property
    def title(self) -> str:
        """What the work is."""
        return self._title

    @property
    def progress(self) -> tuple[int, int, str]:
        """How much is done, of how much (0: not known), and a free text such as a rate."""
        return self._done, self._total, self._describe() if self._describe else self._detail

    @property
    def elapsed(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._start

    def describe(self, ask: Callable[[], str]) -> None:
        """Let `ask` give the detail from now on, also between two updates; another thread calls it."""
        self._describe = ask

    def update(self, done: int, detail: str = "", total: int | None = None) -> None:
        """Show that `done` of the total (given anew where it was not known before) is done.

        `detail` is free text such as a rate.

        Args:
            done: so far.
            detail: free text such as a rate; not shown by a task that describes itself.
            total: given anew where it was not known before.
        """
        self._done, self._total = done, total or self._total
        self._detail = self._describe() if self._describe else detail
        if not self._show() and self._reporter.silent_for >= self._reporter.line_every:
            self._reporter.note(self._line())

    def beat(self) -> None:
        """Show that the work goes on, although nothing more is done."""
        if self._describe:
            self._detail = self._describe()
        if not self._show() and self._reporter.silent_for >= self._reporter.line_every:
            self._reporter.note(f"{self._line()}, {self.elapsed:.0f} s")

    def _show(self) -> bool:
        if self._live is None or self._task is None:
            return False
        detail = self._fitting(printable(self._detail))
        self._live.update(self._task, completed=self._done, detail=detail, total=self._total)
        return True

    def _fitting(self, detail: str) -> str:
        """Return what of the detail the terminal has room for: counts and times are worth more than a rate."""
        count = len(f"{self._done:,}/{self._total:,}")
        room = self._reporter.console.width - len(f"  {printable(self._title)}") - BAR - count - TIMES
        return detail if len(detail) <= room else detail[: max(0, room - 1)].rstrip(" ,") + "…" if room > 4 else ""

    def _line(self) -> str:
        count = f"{self._done:,}/{self._total:,}" if self._total else f"{self._done:,}" if self._done else ""
        return f"  {self._title}: {count} {self._detail}".rstrip().rstrip(":")


class Reporter:
    """Where words and progress go.

    Args:
        quiet: say nothing but what `say(..., always=True)` says.
    """

    line_every: ClassVar[float] = LINE_EVERY_SECONDS
    """Seconds of silence after which a line says how far a piece of work is, where there is no bar."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(file=sys.stderr, highlight=False, force_jupyter=False)  # words, in a notebook, too
        self.quiet = quiet
        self._spoken = time.monotonic()
        self._tasks: list[Task] = []

    @property
    def under_way(self) -> list[Task]:
        """The pieces of work under way, each within the one before it."""
        return list(self._tasks)  # another thread may ask

    @property
    def silent_for(self) -> float:
        """Seconds since something was said, or a task began."""
        return time.monotonic() - self._spoken

    def say(self, text: str, *, always: bool = False) -> None:
        """Print one line to stderr."""
        self._spoken = time.monotonic()
        if always or not self.quiet:
            self.console.print(Text(printable(text, MOST)), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print one line on how far a piece of work is."""
        self.say(text)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Show a piece of work with `total` steps while the block runs."""
        if self.quiet or not self.console.is_terminal:
            with self._beating(Task(self, title, total)) as task:
                yield task
            return
        columns = (
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=BAR),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
        )
        with Progress(*columns, console=self.console, transient=True) as live:
            bar = live.add_task(printable(title), total=total, detail="")
            with self._beating(Task(self, title, total, live, bar)) as task:
                yield task

    @contextmanager
    def working(self, title: str) -> Iterator[None]:
        """Say now and then that work of unknown length goes on, unless a task within it says more."""
        with self._beating(Task(self, title, 0)):
            yield

    @contextmanager
    def _beating(self, task: Task) -> Iterator[Task]:
        """Let a task beat from a thread of its own while it is the innermost one."""
        self._spoken = time.monotonic()
        if self.quiet:
            self._tasks.append(task)
            try:
                yield task
            finally:
                self._tasks.remove(task)
            return
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_SECONDS):
                if self._tasks[-1] is task:
                    task.beat()

        self._tasks.append(task)
        thread = threading.Thread(target=beat, name="progress", daemon=True)
        thread.start()
        try:
            yield task
        finally:
            ended.set()
            thread.join()
            self._tasks.remove(task)
