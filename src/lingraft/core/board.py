"""Progress of several works at once: each in a process of its own, one line for each, which this process shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from typing import ClassVar

from rich.console import Console
from rich.progress import Progress, TaskID, TextColumn, TimeElapsedColumn

from lingraft.core.printable import printable
from lingraft.core.progress import BEAT_SECONDS, LINE_EVERY_SECONDS, MOST, Reporter

Tell = Callable[[str, bool, bool], None]
"""Is told a line, whether it is said even where others are not, and whether it only says how far a work is."""


class Relay(Reporter):
    """A reporter that passes on what it is told, to be shown by another process; threads may call it at once.

    Args:
        tell: is told every line.
    """

    line_every: ClassVar[float] = BEAT_SECONDS

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self.console = Console(file=StringIO(), force_terminal=False, force_jupyter=False)  # no bars: nobody sees them
        self._tell = tell

    def say(self, text: str, *, always: bool = False) -> None:
        """Pass one line on."""
        self._spoken = time.monotonic()
        self._tell(text[:MOST], always, False)

    def note(self, text: str) -> None:
        """Pass on how far a piece of work is."""
        self._spoken = time.monotonic()
        self._tell(text[:MOST].strip(), False, True)


class Board:
    """One line for each work that goes on: live ones in a terminal; elsewhere what they say, with their names before
    it, and how far they are now and then. Made by `board`."""

    def __init__(self, reporter: Reporter, live: Progress | None) -> None:
        self._reporter, self._live = reporter, live
        self._lines: dict[str, TaskID] = {}
        self._spoken: dict[str, float] = {}

    def begin(self, name: str) -> None:
        """Show a work from now on."""
        self._spoken[name] = time.monotonic()
        if self._live is not None:
            self._lines[name] = self._live.add_task(printable(name), total=None, detail="starting")

    def end(self, name: str) -> None:
        """Show a work no longer."""
        self._spoken.pop(name, None)
        if self._live is not None and name in self._lines:
            self._live.remove_task(self._lines.pop(name))

    def told(self, name: str, text: str, always: bool, note: bool) -> None:
        """Show a line of a work; see `Tell`."""
        if self._live is not None and not always:
            if name in self._lines:
                room = max(20, self._reporter.console.width - len(name) - 14)
                line = printable(text.strip())
                self._live.update(self._lines[name], detail=line if len(line) <= room else f"{line[: room - 1]}…")
            return
        if note and time.monotonic() - self._spoken.get(name, 0.0) < LINE_EVERY_SECONDS:
            return
        if text.strip():
            self._spoken[name] = time.monotonic()
            self._reporter.say(f"{name}: {text.strip()}", always=always)


@contextmanager
def board(reporter: Reporter) -> Iterator[Board]:
    """Show several works while the block runs."""
    if reporter.quiet or not reporter.console.is_terminal:
        yield Board(reporter, None)
        return
    columns = (
        TextColumn("  {task.description}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False),
    )
    with Progress(*columns, console=reporter.console, transient=True) as live:
        yield Board(reporter, live)
