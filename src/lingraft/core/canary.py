"""The program that tries to get out: run in the sandbox, as a script, before anything else is.

It prints what it found open, one JSON list of words; an empty one lets the sandbox be used. `canary.json` beside it
says what is outside: a port that listens, files, names of environment variables, limits.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any


def reached(attempt: Callable[[], object]) -> bool:
    """Say whether an attempt succeeds."""
    try:
        attempt()
    except (OSError, MemoryError):
        return False
    return True


def found(outside: dict[str, Any]) -> Iterator[str]:
    """Yield what is open that should not be."""
    libc = ctypes.CDLL(None, use_errno=True)
    if reached(lambda: socket.create_connection(("127.0.0.1", outside["port"]), 2)):
        yield "a server on this machine"
    if [name for _, name in socket.if_nameindex() if name != "lo"]:
        yield "the network"
    if any(os.path.exists(path) for path in outside["paths"]):
        yield "files of the user"
    if set(os.listdir("/")) - set(outside["root"]):
        yield "other folders"
    if os.getpid() != 2 or os.getppid() != 1:
        yield "other processes"
    if set(os.environ) - set(outside["variables"]):
        yield "the environment"
    if os.getuid() != 65534 or set(os.getgroups()) - {65534} or reached(lambda: os.setuid(0)):
        yield "the rights of another user"
    if libc.unshare(0x10000000) == 0:  # a user namespace
        yield "new rights in a user namespace"
    if libc.mount(b"none", b"/box", b"tmpfs", 0, None) == 0:
        yield "mounting"
    writable = [place for place in ("/", *outside["bound"]) if reached(partial(os.mkdir, f"{place}/canary"))]
    if writable:
        yield f"writing to {writable[0]}"
    yield from unbounded(outside)


def unbounded(outside: dict[str, Any]) -> Iterator[str]:
    """Yield what has no limit."""
    if reached(lambda: bytearray(outside["memory"] + 1)):
        yield "more memory than allowed"
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with contextlib.suppress(OSError), open("large", "wb") as stream:
        os.truncate(stream.fileno(), outside["file_size"] + 1)
        yield "larger files than allowed"
    children: list[int] = []
    with contextlib.suppress(OSError):
        while len(children) <= outside["processes"]:
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
        yield "more processes than allowed"
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    with open("canary.json", encoding="utf-8") as given:
        print(json.dumps(list(found(json.load(given)))))
