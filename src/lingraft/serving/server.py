"""The server's process: a socket before the model is loaded, uvicorn, and a clean end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from lingraft.errors import UsageError
from lingraft.serving.desk import Desk

GRACE = 10
"""Seconds that the answer under way has when the server is to end."""


def bound(host: str, port: int) -> socket.socket:
    """Return a socket on an address, not yet listening.

    Args:
        port: 0 for any that is free.

    Raises:
        UsageError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
        except OSError:
            found.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot serve on {host} port {port} ({reason}); choose another --port or --host") from error
    return found


def server_of(app: Starlette) -> uvicorn.Server:
    """Return a server that is not running yet."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=2 * GRACE,  # `running` ends all work before
    )
    return uvicorn.Server(config)


async def running(server: uvicorn.Server, desk: Desk, on: socket.socket, grace: float = GRACE) -> None:
    """Answer requests on a listening socket until `server.should_exit`.

    Requests that wait are then sent away, and the one that is answered has some time to be completed.
    """
    ends = asyncio.create_task(_end(server, desk, grace))
    try:
        await server.serve(sockets=[on])
    finally:
        ends.cancel()
        desk.end(now=True)
        for _ in range(100):  # a second signal ends the server before its requests have
            if not desk.inside:
                break
            await asyncio.sleep(0.01)


async def _end(server: uvicorn.Server, desk: Desk, grace: float) -> None:
    while not server.should_exit:
        await asyncio.sleep(0.05)
    desk.end(now=False)
    await asyncio.sleep(grace)
    desk.end(now=True)


def serve(app: Starlette, desk: Desk, on: socket.socket) -> None:
    """Answer requests until SIGINT or SIGTERM; see `running`."""
    server = server_of(app)
    on.listen(128)
    with _ended_by_signals(server):
        asyncio.run(running(server, desk, on))


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let signals end the server and nothing else: uvicorn raises them again when it has ended."""

    def end(signum: int, frame: FrameType | None) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
