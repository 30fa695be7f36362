"""One model for many clients: they wait in a bounded queue, and the model works in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from lingraft.serving.asked import ApiError

T = TypeVar("T")


class Desk:
    """Serves one after the other, in the order in which they came.

    All work is done in one thread, because PyTorch keeps a team of threads for each thread that calls it.

    Args:
        waiting: most that wait while one is served.

    Attributes:
        inside: how many wait or are served.
    """

    def __init__(self, waiting: int = 16) -> None:
        self._most = waiting + 1
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "lingraft-serve")
        self.inside = 0

    @contextmanager
    def place(self) -> Generator[None, None, None]:
        """Hold a place in the queue for the time of the block.

        Raises:
            ApiError: there is none.
        """
        if self.inside >= self._most:
            message = f"{self.inside} requests are waiting already, which is as many as may; try again later"
            raise ApiError(503, message, code="queue_full", headers={"Retry-After": "5"})
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    async def serve(
        self, work: Callable[[], Generator[T, None, None]], begin: Callable[[], None]
    ) -> AsyncGenerator[T, None]:
        """Yield what the work yields, which is never None, when its turn has come; `begin` is called then.

        Nothing is computed ahead of what is taken. Closing this generator, or cancelling it, ends the work after the
        item that it is at; the next one waits until then.
        """
        async with self._turn:
            begin()
            loop, items = asyncio.get_running_loop(), work()
            try:
                while (item := await loop.run_in_executor(self._thread, next, items, None)) is not None:
                    yield item
            finally:
                self._thread.submit(items.close)  # behind the item that it is at

    def close(self) -> None:
        """End when what is under way has come to its next item."""
        self._thread.shutdown(wait=True)
