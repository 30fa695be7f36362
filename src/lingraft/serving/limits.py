"""What clients may hold of a server: connections, time, and memory."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

BACKLOG = 64
"""Connections that wait to be accepted; as many are accepted at once before any of them can be refused."""
RESERVED = BACKLOG + 64
"""Descriptors that are kept for what is no connection, and for those that are about to be refused."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What clients may hold; times in seconds, sizes in bytes.

    Attributes:
        connections: open at once. Beyond them the one that has waited longest for its client is closed, and where all
            have a request under way, the new one is refused.
        head: for the first line and the headers.
        body: from then on for the body.
        idle: without a request.
        stall: without reading some 48 KB of an answer that is more than the system buffers.
        bodies: of requests that are being read.
        unsent: of answers that are written and not read.
        head_size: of the first line and the headers.
        parts: in which a body comes.
    """

    connections: int = 256
    head: float = 10.0
    body: float = 30.0
    idle: float = 60.0
    stall: float = 30.0
    bodies: int = 1 << 26
    unsent: int = 1 << 26
    head_size: int = 1 << 14
    parts: int = 8192

    def within(self, descriptors: int) -> Limits:
        """Return these limits with no more connections than a number of descriptors allows."""
        room = descriptors - RESERVED if descriptors > 2 * RESERVED else descriptors // 4
        return replace(self, connections=max(1, min(self.connections, room)))


def descriptors() -> int:
    """Return how many descriptors this process may have, after raising that as far as the system lets it."""
    if sys.platform == "win32":
        return 1 << 16
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 1 << 16 if hard == resource.RLIM_INFINITY else min(hard, 1 << 16)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # some systems have a further limit: what there is must do
            return int(soft)
        return wanted
    return 1 << 16 if soft == resource.RLIM_INFINITY else int(soft)


class Budget:
    """A number of bytes that many share.

    Attributes:
        used: at the moment.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.used = 0

    @property
    def exceeded(self) -> bool:
        """Whether more is used than may be."""
        return self.used > self._limit
