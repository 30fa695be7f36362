"""One model for many clients: they wait in a bounded queue, and the model works in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import anyio

from lingraft.serving.request import ApiError, later

T = TypeVar("T")

TOKENS = 131_072
"""Of all requests in the queue."""


class Ticket:
    """A place in the queue.

    Args:
        tokens: about how many the request may come to.
        client: its address.

    Attributes:
        scope: of the work on the request; it is cancelled when the place is lost.
        called: set when its turn has come.
        since: the desk's clock when it came.
        served: whether it has its turn.
        left: set when nobody waits for the work any more, for what is within an item.
        refusal: what to tell the client where the place was lost.
    """

    def __init__(self, tokens: int, client: str) -> None:
        self.tokens, self.client = tokens, client
        self.scope = anyio.CancelScope()
        self.called, self.since = asyncio.Event(), 0
        self.served, self.left = False, threading.Event()
        self.refusal: ApiError | None = None

    def lose(self, refusal: ApiError) -> None:
        """End the work on the request."""
        self.refusal = refusal
        self.scope.cancel()


class RequestQueue:
    """Serves one after the other: each client's requests in the order in which they came, and clients in turn.

    Whose turn it is tells start-time fair queueing (Goyal, Vin and Cheng 1996): a client's next request starts where
    its last one ended on a clock that counts the tokens of one client, or now if that is later; the earliest start is
    next. However many requests a client has in the queue, another one waits for no more than one of them beside the
    one that is answered.

    All work is done in one thread, because PyTorch keeps a team of threads for each thread that calls it. Where the
    queue is full, the last request of the client that has most in it gives way to one of a client that has fewer: one
    client alone cannot fill it.

    Args:
        waiting: most that wait while one is served.
        tokens: of all requests in the queue, read and written; a single one is always taken.
    """

    def __init__(self, waiting: int = 16, tokens: int = TOKENS) -> None:
        self._most, self._tokens = waiting + 1, tokens
        self._at: Ticket | None = None
        self._waiting: list[Ticket] = []
        self._clock, self._ends = 0, dict[str, int]()  # of clients whose last request ended later than now
        self._thread = ThreadPoolExecutor(1, "lingraft-serve")
        self._places: list[Ticket] = []
        self._ending = False

    @property
    def inside(self) -> int:
        """How many wait or are served."""
        return len(self._places)

    @property
    def served(self) -> int:
        """How many are answered."""
        return sum(place.served for place in self._places)

    @contextmanager
    def place(self, tokens: int = 0, client: str = "") -> Generator[Ticket, None, None]:
        """Hold a place in the queue for the time of the block.

        Args:
            tokens: about how many the request may come to.
            client: its address.

        Raises:
            ApiError: there is none, or the server is ending.
        """
        if self._ending:
            raise ending()
        place = Ticket(tokens, client)
        if not self._room(place):
            other = self._greediest(client)
            if other is None or not self._room(place, without=other):
                raise self._full()
            self._places.remove(other)
            other.lose(self._full())
        self._places.append(place)
        try:
            yield place
        finally:
            if place in self._places:
                self._places.remove(place)

    def _room(self, place: Ticket, without: Ticket | None = None) -> bool:
        others = [one for one in self._places if one is not without]
        return not others or (
            len(others) < self._most and sum(one.tokens for one in others) + place.tokens <= self._tokens
        )

    def _greediest(self, client: str) -> Ticket | None:
        """Return the last waiting place of the client that has most, if another client may have it."""
        counts = Counter(one.client for one in self._places)
        most = max(counts, key=lambda name: counts[name])
        if counts[most] <= counts[client] + 1:
            return None
        return next((one for one in reversed(self._places) if one.client == most and not one.served), None)

    def _full(self) -> ApiError:
        return later(
            f"the queue is full: one request is answered, {self.inside - 1} wait; try again later", "queue_full"
        )

    async def serve(self, work: Callable[[], Generator[T, None, None]], place: Ticket) -> AsyncGenerator[T, None]:
        """Yield what the work, begun when its turn has come, yields; no item is None.

        The turn lasts until all items are taken: take them without waiting for anybody. Closing this generator, or
        cancelling it, ends the work after the item that it is at, or within it where it looks at `place.left`; the next
        one waits until then.
        """
        place.since = self._clock
        self._waiting.append(place)
        self._call()
        try:
            await place.called.wait()
            place.served = True
            loop, items = asyncio.get_running_loop(), work()
            try:
                while (item := await loop.run_in_executor(self._thread, next, items, None)) is not None:
                    yield item
            finally:
                place.left.set()
                self._thread.submit(items.close)  # behind the item that it is at
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
            if self._at is place:
                self._at = None
                self._call()

    def _call(self) -> None:
        """Give the turn to the next place, if nobody has it."""
        if self._at is not None or not self._waiting:
            return
        self._at = place = min(self._waiting, key=self._start)  # of equal ones the first that came
        self._waiting.remove(place)
        self._clock = self._start(place)
        ends = {name: end for name, end in self._ends.items() if end > self._clock}
        self._ends = {**ends, place.client: self._clock + max(1, place.tokens)}
        place.called.set()

    def _start(self, place: Ticket) -> int:
        return max(place.since, self._ends.get(place.client, 0))

    def end(self, *, now: bool) -> None:
        """Take no more requests and send away those that wait, or also the one that is served."""
        self._ending = True
        for place in self._places:
            if now or not place.served:
                place.lose(ending())

    def close(self) -> None:
        """Wait for the thread, which is at its last item."""
        self._thread.shutdown(wait=True)


def ending() -> ApiError:
    """Return what clients are told when the server ends."""
    return ApiError(503, "the server is being shut down; try again later", code="shutting_down")
