"""One model for many clients: they wait in a bounded queue, and the model works in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import anyio

from lingraft.serving.asked import ApiError

T = TypeVar("T")


class Place:
    """A place in the queue.

    Attributes:
        scope: of the work on the request; it is cancelled when the server ends. served: whether its turn has come.
        ended: whether the server has ended the work.
    """

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.served = self.ended = False


class Desk:
    """Serves one after the other, in the order in which they came.

    All work is done in one thread, because PyTorch keeps a team of threads for each thread that calls it.

    Args:
        waiting: most that wait while one is served.
    """

    def __init__(self, waiting: int = 16) -> None:
        self._most = waiting + 1
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "lingraft-serve")
        self._places: list[Place] = []
        self._ending = False

    @property
    def inside(self) -> int:
        """How many wait or are served."""
        return len(self._places)

    @contextmanager
    def place(self) -> Generator[Place, None, None]:
        """Hold a place in the queue for the time of the block.

        Raises:
            ApiError: there is none, or the server is ending.
        """
        if self._ending:
            raise ending()
        if self.inside >= self._most:
            message = f"the queue is full: one request is answered, {self._most - 1} wait; try again later"
            raise ApiError(503, message, code="queue_full", headers={"Retry-After": "5"})
        place = Place()
        self._places.append(place)
        try:
            yield place
        finally:
            self._places.remove(place)

    async def serve(self, work: Callable[[], Generator[T, None, None]], place: Place) -> AsyncGenerator[T, None]:
        """Yield what the work, begun when its turn has come, yields; no item is None.

        Nothing is computed ahead of what is taken. Closing this generator, or cancelling it, ends the work after the
        item that it is at; the next one waits until then.
        """
        async with self._turn:
            place.served = True
            loop, items = asyncio.get_running_loop(), work()
            try:
                while (item := await loop.run_in_executor(self._thread, next, items, None)) is not None:
                    yield item
            finally:
                self._thread.submit(items.close)  # behind the item that it is at

    def end(self, *, now: bool) -> None:
        """Take no more requests and send away those that wait, or also the one that is served."""
        self._ending = True
        for place in self._places:
            if now or not place.served:
                place.ended = True
                place.scope.cancel()

    def close(self) -> None:
        """Wait for the thread, which is at its last item."""
        self._thread.shutdown(wait=True)


def ending() -> ApiError:
    """Return what clients are told when the server ends."""
    return ApiError(503, "the server is being shut down; try again later", code="shutting_down")
