"""What is written and not yet sent: the model never waits for a client that reads slowly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from lingraft.serving.limits import Budget

PORTION = 1 << 16
"""Bytes that are handed to the connection at once, which keeps them in memory until the client has read them."""


class Outbox:
    """What waits to be sent to one client.

    Attributes:
        scope: of the work for this client.
    """

    def __init__(self, budget: Outboxes) -> None:
        self._budget = budget
        self._data = bytearray()
        self._news, self._end = anyio.Event(), anyio.Event()
        self.scope = anyio.CancelScope()

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return len(self._data)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self._end.is_set()

    def put(self, data: bytes) -> None:
        """Add to what waits."""
        self._data += data
        self._news.set()
        self._budget.add(len(data))

    def take(self) -> bytes:
        """Return the next bytes to send."""
        data = bytes(self._data[:PORTION])
        del self._data[:PORTION]
        self._budget.used -= len(data)
        if not self._data and not self.ended:
            self._news = anyio.Event()
        return data

    def end(self) -> None:
        """Say that nothing more will come."""
        self._end.set()
        self._news.set()

    async def wait(self) -> None:
        """Wait until there is something to send, or nothing more."""
        await self._news.wait()

    async def wait_for_end(self) -> None:
        """Wait until nothing more will come."""
        await self._end.wait()


class Outboxes(Budget):
    """All outboxes of a server; where they hold too much together, the client that has left most unread is cut off."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._open: list[Outbox] = []

    @contextmanager
    def opened(self) -> Iterator[Outbox]:
        """Yield an outbox for the time of the block."""
        box = Outbox(self)
        self._open.append(box)
        try:
            yield box
        finally:
            self._open.remove(box)
            self.used -= box.size

    def add(self, size: int) -> None:
        """Count what was put into one of them."""
        self.used += size
        if self.exceeded:
            max(self._open, key=lambda box: box.size).scope.cancel()
