"""Many answers in one thread: each goes on until it waits for the model, which then computes for all at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any, TypeVar

from lingraft.conversation.writing import Waits

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")

PAUSE = 0.02
"""Seconds until those who wait for something else than the model look again, where nobody has told them."""


@dataclass(frozen=True)
class End:
    """Work has ended. `error`: of which, None where it is complete."""

    error: BaseException | None = None


@dataclass(eq=False)
class _Job:
    items: Generator[Any, None, None]
    deliver: Callable[[Any], None]
    left: threading.Event


class Rounds:
    """A thread in which work goes on in turn. All of it is there: PyTorch keeps a team of threads for each thread that
    calls it.

    Args:
        step: computes for all that wait, and says whether there was anything to do.
    """

    def __init__(self, step: Callable[[], bool] = lambda: False) -> None:
        self._step = step
        self._news = threading.Condition()
        self._new: list[_Job] = []
        self._jobs: list[_Job] = []
        self._woken = self._ending = False
        self._thread: threading.Thread | None = None

    def begin(self, items: Generator[Any, None, None], deliver: Callable[[Any], None], left: threading.Event) -> None:
        """Begin some work.

        Args:
            items: the work; an item `Waits` says that it goes on after the next step.
            deliver: is given all other items and at last an `End`, in the thread.
            left: set when nobody waits for the work any more; `wake` has it noticed at once.
        """
        with self._news:
            self._new.append(_Job(items, deliver, left))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lingraft-serve", daemon=True)
                self._thread.start()
            self._news.notify()

    def wake(self) -> None:
        """Say that something that work waits for has come."""
        with self._news:
            self._woken = True
            self._news.notify()

    def close(self) -> None:
        """End all work at its next item, and the thread."""
        with self._news:
            self._ending = True
            self._news.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._new or self._jobs or self._ending)
                self._jobs += self._new
                self._new.clear()
                self._woken, ending = False, self._ending
            if ending:
                for job in list(self._jobs):
                    self._end(job, None)
                return
            went_on = [self._advance(job) for job in list(self._jobs)]
            try:
                stepped = self._step()
            except Exception as error:  # nobody would be answered any more: all who wait are told, and others may come
                for job in list(self._jobs):
                    self._end(job, error)
                continue
            if not stepped and not any(went_on):
                with self._news:
                    self._news.wait_for(lambda: self._woken or self._new or self._ending, PAUSE)

    def _advance(self, job: _Job) -> bool:
        """Let work go on until it waits; return whether it has gone on."""
        went_on = False
        try:
            while not job.left.is_set():
                item = next(job.items)
                if isinstance(item, Waits):
                    return went_on
                went_on = True
                job.deliver(item)
        except StopIteration:
            self._end(job, None)
        except Exception as error:
            self._end(job, error)
        else:
            self._end(job, None)
        return True

    def _end(self, job: _Job, error: BaseException | None) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
        try:
            job.items.close()
        except Exception as other:
            error = error or other
        try:
            job.deliver(End(error))
        except RuntimeError:  # the event loop of whom it is for has ended
            return


def side_by_side(
    works: Mapping[K, Generator[T | Waits, None, R]],
) -> Generator[tuple[K, T] | Waits, None, dict[K, R]]:
    """Let several pieces of work go on in turn, as one: yield what they yield, with their names, and `Waits` where all
    wait; return what they return."""
    with ExitStack() as stack:
        going = {key: stack.enter_context(closing(work)) for key, work in works.items()}
        found: dict[K, R] = {}
        while going:
            for key, work in list(going.items()):
                try:
                    while not isinstance(item := next(work), Waits):
                        yield key, item
                except StopIteration as end:
                    found[key] = end.value
                    del going[key]
            if going:
                yield Waits()
        return found
