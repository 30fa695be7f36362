"""Rows of a bench handed out to whoever runs them: this process, worker processes, or the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from lingraft.core.board import Board
from lingraft.core.errors import LingraftError
from lingraft.core.progress import Reporter
from lingraft.pipeline.bench_choice import Choice
from lingraft.pipeline.bench_jobs import RowJob
from lingraft.pipeline.bench_news import News


class Crew(Protocol):
    """Whoever runs rows."""

    size: int
    """How many it runs at once."""
    remote: bool
    """Whether on other machines, which may have another base."""

    def start(self, job: RowJob) -> None:
        """Begin a row, which `news` then tells of; no more than `size` at once."""

    def news(self) -> Sequence[News]:
        """Wait until there is something to tell, and return it; of each row "done", "failed" or "lost" comes last."""

    def close(self) -> None:
        """End all that still goes on, and return when nobody works any more."""


class Here:
    """This process: one row at a time.

    Args:
        reporter: is told what happens.
    """

    size, remote = 1, False

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._news: list[News] = []

    def start(self, job: RowJob) -> None:
        """Run a row to its end."""
        try:
            self._news.append(News(job.name, "done", job.run(self._reporter)))
        except LingraftError as error:
            self._news.append(News(job.name, "failed", error))

    def news(self) -> Sequence[News]:
        """Return how the row has ended."""
        news, self._news = self._news, []
        return news

    def close(self) -> None:
        """Do nothing: nothing goes on."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Rows that are to be run, and what follows from how they end.

    Attributes:
        names: in their order.
        needed: the rows without which a row cannot be run.
        awaited: the rows that a row waits for, given the names of those that failed.
        job: what a row is, given the names of those that failed; asked when it begins.
        begun: is told of each row that begins.
        done: is told of each row that is finished, with what was chosen for it.
    """

    names: Sequence[str]
    needed: Callable[[str], Collection[str]]
    awaited: Callable[[str, Collection[str]], Collection[str]]
    job: Callable[[str, Collection[str]], RowJob]
    begun: Callable[[str], None]
    done: Callable[[str, Choice | None], None]


def run_rows(
    rows: Rows, crew: Crew, showing: Callable[[], AbstractContextManager[Board]]
) -> Mapping[str, LingraftError]:
    """Have rows run, each when those that it waits for are finished; return what was wrong with those that failed.

    One after the other, the first that fails ends it. Where several are run at once, the others go on; a row that needs
    one that failed is not run.

    Args:
        rows: to be run.
        crew: runs them.
        showing: opens what shows their progress.
    """
    waiting, running = list(rows.names), set[str]()
    finished, failed = set[str](), dict[str, LingraftError]()
    with showing() as board:
        while True:
            for name in [] if failed and crew.size == 1 else list(waiting):
                lacking = next((other for other in rows.needed(name) if other in failed), None)
                if lacking is not None:
                    waiting.remove(name)
                    failed[name] = LingraftError(f"it needs the row {lacking!r}, which failed")
                elif len(running) < crew.size and finished.issuperset(rows.awaited(name, failed)):
                    waiting.remove(name)
                    running.add(name)
                    rows.begun(name)
                    board.begin(name)
                    crew.start(rows.job(name, failed))
            if not running:
                return failed
            for one in crew.news():
                if one.kind == "said":
                    board.told(one.name, *one.value)
                    continue
                running.discard(one.name)
                board.end(one.name)
                if one.kind == "done":
                    finished.add(one.name)
                    rows.done(one.name, one.value)
                    continue
                failed[one.name] = one.value if one.kind == "failed" else LingraftError(lost(one.value))
                if crew.size > 1:
                    board.told(one.name, f"failed: {failed[one.name]}", True, False)


def lost(last: str) -> str:
    """Return what is said of a row whose process has ended.

    Args:
        last: how it ended, and what it last said.
    """
    return (
        f"its process ended ({last}), as where memory is short; run the same command again to continue, with fewer "
        f"workers if need be"
    )
