"""Work that knows nothing of rounds, such as the steps of a decoder, beside answers that are written in them.

It runs in a thread of its own; what it wants of the model is done in the model's thread, together with all others'.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lingraft.conversation.writing import Waits

T = TypeVar("T")
Asked = Generator[Waits, None, T]
"""What the model's thread is to do; it yields while others' steps are waited for."""


class Left(Exception):
    """Nobody waits for the answer any more."""


@dataclass(eq=False)
class _Talk:
    """What one piece of work asks of the model's thread."""

    asked: deque[tuple[Asked[Any], Future[Any]]] = field(default_factory=deque)
    open: bool = True


class Bridge:
    """Between the model's thread and that of one piece of work at a time.

    Args:
        wake: tells the model's thread that something is asked.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._thread = ThreadPoolExecutor(1, "lingraft-decoder")
        self._free, self._guard = threading.Lock(), threading.Lock()
        self._talk = _Talk(open=False)

    def run(self, work: Callable[[], T], left: Callable[[], bool]) -> Asked[T]:
        """Return what some work returns, doing meanwhile what it asks for; in the model's thread.

        Args:
            work: is done in the other thread, when the work before it has ended.
            left: whether nobody waits for it any more.

        Raises:
            Left: so it is.
        """
        while not self._free.acquire(blocking=False):
            if left():
                raise Left
            yield Waits()
        talk = self._talk = _Talk()
        done = self._thread.submit(work)
        done.add_done_callback(self._ended)
        asked: Asked[Any] | None = None
        reply: Future[Any] = Future()
        try:
            while not done.done():
                if asked is None and talk.asked:
                    asked, reply = talk.asked.popleft()
                if asked is not None:
                    try:
                        next(asked)
                    except StopIteration as end:
                        asked = None
                        reply.set_result(end.value)
                        continue
                    except Exception as error:
                        asked = None
                        reply.set_exception(error)
                        continue
                yield Waits()
            return done.result()
        finally:
            with self._guard:
                talk.open = False
            if asked is not None:
                asked.close()
                reply.set_exception(Left())
            for _, waiting in talk.asked:
                waiting.set_exception(Left())

    def ask(self, asked: Asked[T]) -> T:
        """Have something done in the model's thread, and return what it returns; in the thread of the work.

        Raises:
            Left: nobody waits for the work any more.
        """
        reply: Future[T] = Future()
        with self._guard:
            if not self._talk.open:
                raise Left
            self._talk.asked.append((asked, reply))
        self._wake()
        return reply.result()

    def close(self) -> None:
        """End the thread, once its work has ended."""
        self._thread.shutdown(wait=True)

    def _ended(self, done: Future[Any]) -> None:
        self._free.release()
        self._wake()


def at_once(work: Callable[[], T]) -> Asked[T]:
    """Return work that waits for nothing, as what a bridge can be asked for."""
    yield from ()
    return work()
