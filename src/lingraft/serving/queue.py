"""One model for many clients: some are answered at once, others wait in a bounded queue, and the model has a thread."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio

from lingraft.conversation.writing import Waits
from lingraft.serving.request import ApiError, later
from lingraft.serving.rounds import End, Rounds

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
    """Serves one after the other, or some at once: each client's requests in their order, and clients in turn.

    Whose turn it is tells start-time fair queueing (Goyal, Vin and Cheng 1996): a client's next request starts where
    its last one ended on a clock that counts the tokens of one client, or now if that is later; the earliest start is
    next. However many requests a client has in the queue, another one waits for no more than one of them beside the
    one that is answered.

    All work is done in one thread, see `Rounds`. Where the queue is full, the last request of the client that has most
    in it gives way to one of a client that has fewer: one client alone cannot fill it.

    Args:
        waiting: most that wait while others are served.
        tokens: of all requests in the queue, read and written; a single one is always taken.
        at_once: most that are served at the same time.
        step: computes for all of these, see `Rounds`.

    Attributes:
        over: whether the server waits for nothing any more.
    """

    def __init__(
        self, waiting: int = 16, tokens: int = TOKENS, at_once: int = 1, step: Callable[[], bool] = lambda: False
    ) -> None:
        self._most, self._tokens, self._at_once = waiting + at_once, tokens, at_once
        self._at: list[Ticket] = []
        self._waiting: list[Ticket] = []
        self._clock, self._ends = 0, dict[str, int]()  # of clients whose last request ended later than now
        self.rounds = Rounds(step)
        self._places: list[Ticket] = []
        self._ending, self.over = False, False

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
        served = self.served
        told = "one request is answered" if served == 1 else f"{served} requests are answered"
        return later(f"the queue is full: {told}, {self.inside - served} wait; try again later", "queue_full")

    async def serve(
        self, work: Callable[[], Generator[T | Waits, None, None]], place: Ticket
    ) -> AsyncGenerator[T, None]:
        """Yield what the work, begun when its turn has come, yields; where it waits for a step it yields `Waits`.

        The turn lasts until all items are taken: take them without waiting for anybody. Closing this generator, or
        cancelling it, ends the work after the item that it is at, or within it where it looks at `place.left`.
        """
        place.since = self._clock
        self._waiting.append(place)
        self._call()
        try:
            await place.called.wait()
            place.served = True
            loop, items, news = asyncio.get_running_loop(), deque[Any](), asyncio.Event()

            def take(item: Any) -> None:
                items.append(item)
                news.set()

            def deliver(item: Any) -> None:
                loop.call_soon_threadsafe(take, item)

            self.rounds.begin(work(), deliver, place.left)
            try:
                while True:
                    await news.wait()
                    news.clear()
                    while items:
                        if not isinstance(item := items.popleft(), End):
                            yield item
                        elif item.error is not None:
                            raise item.error
                        else:
                            return
            finally:
                place.left.set()
                self.rounds.wake()
        finally:
            if place in self._waiting:
                self._waiting.remove(place)
            if place in self._at:
                self._at.remove(place)
                self._call()

    def _call(self) -> None:
        """Give turns to the next places, as many as may have them."""
        while self._waiting and len(self._at) < self._at_once:
            place = min(self._waiting, key=self._start)  # of equal ones the first that came
            self._at.append(place)
            self._waiting.remove(place)
            self._clock = self._start(place)
            ends = {name: end for name, end in self._ends.items() if end > self._clock}
            self._ends = {**ends, place.client: self._clock + max(1, place.tokens)}
            place.called.set()

    def _start(self, place: Ticket) -> int:
        return max(place.since, self._ends.get(place.client, 0))

    def end(self, *, now: bool) -> None:
        """Take no more requests and send away those that wait, or also those that are served."""
        self._ending, self.over = True, self.over or now
        for place in self._places:
            if now or not place.served:
                place.lose(ending())

    def close(self) -> None:
        """Wait for the thread, which is at its last item."""
        self.rounds.close()


def ending() -> ApiError:
    """Return what clients are told when the server ends."""
    return ApiError(503, "the server is being shut down; try again later", code="shutting_down")
