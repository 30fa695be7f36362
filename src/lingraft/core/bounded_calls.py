"""Functions called in processes of their own, which end where a call takes too long or too much memory.

What reads the files of strangers may take time that grows faster than they do, in a library as well: within a server it
would hold the interpreter, and no thread can be ended. A process can.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from lingraft.core.errors import LingraftError

P = ParamSpec("P")
R = TypeVar("R")

POLL_SECONDS = 0.1
"""So often it is asked whether anybody still waits for a call."""
PATIENCE = 20
"""Seconds on the clock for each second of processor time that a call may take, before its process is ended."""
NICE = 5
"""Calls give way to whoever makes them."""
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}
"""On a machine of many cores the threads of NumPy's libraries alone would take the memory that a process may hold."""
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lingraft.core.bounded_calls import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)


class OutOfBoundsError(LingraftError):
    """A call took too long, or too much memory; or its process was ended by somebody else."""


class CallGivenUp(Exception):
    """Nobody waits for the call any more."""


class BoundedCalls:
    """Calls functions in processes of their own; for any thread, and any number at a time.

    One process is kept for the next call, so that only the first one waits for its start.

    Args:
        memory: bytes that a process may hold.
    """

    def __init__(self, memory: int = 2 << 30) -> None:
        self._memory = memory
        self._idle: list[_Process] = []
        self._guard = threading.Lock()

    def call(
        self,
        seconds: float,
        given_up: Callable[[], bool],
        function: Callable[P, R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Return what a function returns.

        Args:
            seconds: of processor time that it may take.
            given_up: whether nobody waits for it any more; asked now and then.
            function: of a module, so that the process finds it.
            args: of the function; they are pickled, as is what it returns.
            kwargs: likewise.

        Raises:
            OutOfBoundsError: it took more time or memory.
            CallGivenUp: so it was.
            LingraftError: that the function raised.
        """
        with self._guard:
            process = self._idle.pop() if self._idle else None
        if process is not None and not process.alive:
            process.end()
            process = None
        process = process or _Process(self._memory)
        whole = False
        try:
            done, found = process.answer(seconds, given_up, pickle.dumps((function, args, kwargs)))
            whole = True
        finally:
            with self._guard:
                kept = whole and not self._idle
                if kept:
                    self._idle.append(process)
            if not kept:
                process.end()
        if not done:
            raise found
        return found

    def close(self) -> None:
        """End the process that waits for calls; later ones start another."""
        with self._guard:
            idle, self._idle = self._idle, []
        for process in idle:
            process.end()


class _Process:
    """A process that answers one call after the other."""

    def __init__(self, memory: int) -> None:
        ours, its = socket.socketpair()
        with ours, its:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", PROGRAM, json.dumps(sys.path), str(its.fileno()), str(memory)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                env={**os.environ, **THREADS},
                start_new_session=True,  # Ctrl-C is for whoever started it, who ends it
            )
            self._connection = Connection(ours.detach())

    @property
    def alive(self) -> bool:
        """Whether nobody has ended it."""
        return self._process.poll() is None

    def answer(self, seconds: float, given_up: Callable[[], bool], call: bytes) -> tuple[bool, Any]:
        """Return whether a call returned, and what it returned or raised; see `BoundedCalls.call`."""
        last = time.monotonic() + PATIENCE * (seconds + 1)
        try:
            self._connection.send((seconds, call))
            while not self._connection.poll(POLL_SECONDS):
                if given_up():
                    raise CallGivenUp
                if time.monotonic() > last:
                    raise OutOfBoundsError(_too_long(seconds))
            return self._connection.recv()
        except (EOFError, OSError) as error:
            code = self._process.wait()
            raise OutOfBoundsError(_too_long(seconds) if code == -signal.SIGPROF else _ended(code)) from error

    def end(self) -> None:
        """End it, whatever it is at."""
        self._connection.close()
        self._process.kill()
        self._process.wait()


def _too_long(seconds: float) -> str:
    return f"took more than {seconds:.0f} seconds of processor time"


def _ended(code: int) -> str:
    return f"needs too much memory, or was ended (exit code {code})"


def main(descriptor: int, memory: int) -> None:
    """Answer calls until whoever started this process has ended.

    Args:
        descriptor: of the connection by which they come.
        memory: bytes that this process may hold.
    """
    with suppress(OSError):
        os.nice(NICE)
    with suppress(OSError, ValueError):  # where a bound is set already, or not to be had
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    connection = Connection(descriptor)
    with suppress(EOFError, OSError):
        while True:
            seconds, call = connection.recv()
            connection.send(_answer(seconds, call))


def _answer(seconds: float, call: bytes) -> tuple[bool, Any]:
    function, args, kwargs = pickle.loads(call)  # by whoever started this process
    signal.setitimer(signal.ITIMER_PROF, seconds)  # its signal ends the process, whatever library it is in
    try:
        return True, function(*args, **kwargs)
    except LingraftError as error:
        return False, error
    except MemoryError:
        return False, OutOfBoundsError("needs too much memory")
    except Exception as error:
        return False, RuntimeError(f"{type(error).__name__}: {error}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
