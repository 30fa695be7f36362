"""The program of a worker process of a bench: rows in, one after the other, and what is to be told of them out.

It ends with whoever started it, however that ended: a worker that went on would hold the folders of its rows.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import threading
import time
import traceback
from multiprocessing.connection import Connection
from types import FrameType
from typing import NoReturn

from lingraft.core.board import Relay
from lingraft.core.errors import LingraftError, first_line
from lingraft.core.hub_kernels import keep_out

GRACE = 5.0
"""Seconds in which a worker whose bench has ended may end its engines."""


class _Ended(BaseException):
    """SIGTERM; raised so that engines are closed and temporary files are removed."""


def _end(signum: int, frame: FrameType | None) -> NoReturn:
    raise _Ended


def main(descriptor: int, threads: int) -> None:
    """Run rows as they come, until there are no more.

    Args:
        descriptor: of the connection by which they come.
        threads: with which the rows compute.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that is asked ends the others
    signal.signal(signal.SIGTERM, _end)
    keep_out()
    connection = Connection(descriptor)
    jobs: queue.SimpleQueue[tuple[str, bytes] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(connection, jobs), name="bench", daemon=True).start()
    try:
        _work(connection, jobs, threads)
    except (_Ended, BrokenPipeError, ConnectionResetError) as ended:
        raise SystemExit(143) from ended


def _listen(connection: Connection, jobs: queue.SimpleQueue[tuple[str, bytes] | None]) -> None:
    """Pass on what comes; end the process where whoever started it is gone."""
    try:
        while True:
            jobs.put(connection.recv())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os.kill(os.getpid(), signal.SIGKILL)


def _work(connection: Connection, jobs: queue.SimpleQueue[tuple[str, bytes] | None], threads: int) -> None:
    lock = threading.Lock()

    def send(*message: object) -> None:
        with lock:  # progress is told by a thread of its own
            connection.send(message)

    while (job := jobs.get()) is not None:
        name, data = job
        relay = Relay(lambda text, always, note, name=name: send(name, "said", (text, always, note)))  # type: ignore[misc]
        try:
            send(name, "done", _run(data, relay, threads))
        except LingraftError as error:
            send(name, "failed", error)
        except Exception as error:
            send(name, "failed", _unexpected(error))


def _run(data: bytes, relay: Relay, threads: int) -> object:
    import torch

    torch.set_num_threads(threads)
    return pickle.loads(data).run(relay)


def _unexpected(error: Exception) -> LingraftError:
    """Return what is said of an error that nobody explained; its traceback is on stderr."""
    from lingraft.store.disk import failure

    if isinstance(error, MemoryError):
        return LingraftError("out of memory; use smaller batches, fewer workers, or a machine with more")
    if said := failure(error):
        return LingraftError(said)
    traceback.print_exception(error)
    return LingraftError(f"an error of the program itself ({type(error).__name__}: {first_line(error)})")
