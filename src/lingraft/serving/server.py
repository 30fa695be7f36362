"""The server's process: a socket before the model is loaded, uvicorn, and a clean end."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from lingraft.core.errors import UsageError
from lingraft.serving.connection import Config
from lingraft.serving.limits import BACKLOG, Limits
from lingraft.serving.log import OFTEN, Handler, Log
from lingraft.serving.queue import RequestQueue

GRACE = 10
"""Seconds that the answer under way has when the server is to end."""


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket: who connects waits until requests are answered, and no other server can have it.

    Args:
        host: name or address of this machine.
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
            found.listen(BACKLOG)  # two may bind an address of which neither listens yet
        except OSError:
            found.close()
            raise
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot serve on {host} port {port} ({reason}); choose another --port or --host") from error
    return found


def server_of(app: Starlette, limits: Limits | None = None, log: Log | None = None) -> uvicorn.Server:
    """Return a server that is not running yet.

    Args:
        app: what answers requests.
        limits: of its connections.
        log: for what uvicorn says of itself; None: nothing.
    """
    handler = {"()": lambda: Handler(log or Log(lambda line: None))}
    loggers = {"uvicorn": {"handlers": ["ours"], "level": "ERROR", "propagate": False}}
    config = Config(
        app,
        limits or Limits(),
        log_config={
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"ours": handler},
            "loggers": loggers,
        },
        log_level="error",
        access_log=False,
        server_header=False,
        ws="none",
        proxy_headers=False,
        lifespan="off",
        backlog=BACKLOG,
        timeout_graceful_shutdown=2 * GRACE,  # `running` ends all work before
    )
    return uvicorn.Server(config)


async def running(
    server: uvicorn.Server,
    desk: RequestQueue,
    on: socket.socket,
    grace: float = GRACE,
    log: Log | None = None,
    until: threading.Event | None = None,
) -> None:
    """Answer requests on a listening socket until `server.should_exit`, or `until` is set.

    Requests that wait are then sent away, and the one that is answered has some time to be completed.

    Args:
        server: from `server_of`.
        desk: where requests wait.
        on: the listening socket, from `bound`.
        grace: seconds that the answered request has to be completed.
        log: for closed connections and unexpected failures; None: nothing.
        until: set by another thread to end the server.
    """
    log = log or Log(lambda line: None)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: _trouble(log, context))
    tasks = [asyncio.create_task(_end(server, desk, grace, until)), asyncio.create_task(_closings(server, log))]
    try:
        await server.serve(sockets=[on])
    finally:
        for task in tasks:
            task.cancel()
        desk.end(now=True)
        for _ in range(100):  # a second signal ends the server before its requests have
            if not desk.inside:
                break
            await asyncio.sleep(0.01)


async def _end(server: uvicorn.Server, desk: RequestQueue, grace: float, until: threading.Event | None) -> None:
    while not server.should_exit:
        if until is not None and until.is_set():
            server.should_exit = True
        await asyncio.sleep(0.05)
    desk.end(now=False)
    await asyncio.sleep(grace)
    desk.end(now=True)


async def _closings(server: uvicorn.Server, log: Log) -> None:
    """Say now and then how many connections were closed, and why."""
    config, told = server.config, Counter[str]()
    assert isinstance(config, Config)
    while True:
        await asyncio.sleep(OFTEN)
        if more := config.closed - told:
            told = Counter(config.closed)
            log.line("connections closed: " + ", ".join(f"{count} ({why})" for why, count in sorted(more.items())))


def _trouble(log: Log, context: dict[str, Any]) -> None:
    """Say what failed outside of any request; the loop's own words and tracebacks may come thousands of times."""
    error = context.get("exception")
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        log.seldom("accept", f"no connection can be accepted ({error.strerror}); raise `ulimit -n`")
    elif isinstance(error, BaseException):
        log.failure("the server", error)


def serve(
    app: Starlette,
    desk: RequestQueue,
    on: socket.socket,
    limits: Limits,
    log: Log,
    until: threading.Event | None = None,
) -> None:
    """Answer requests until SIGINT or SIGTERM, where this is the main thread, or until an event is set; see `running`.

    Raises:
        UsageError: an event loop runs in this thread already, as in a notebook.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        server = server_of(app, limits, log)
        with _ended_by_signals(server):
            asyncio.run(running(server, desk, on, log=log, until=until))
        return
    raise UsageError(
        "an event loop runs in this thread, as in a notebook; serve in a thread of its own, with `until` to end it"
    )


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let signals end the server and nothing else: uvicorn raises them again when it has ended."""

    def end(signum: int, frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
