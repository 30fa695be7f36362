"""Worker processes on this machine, each of which runs rows of a bench, one after the other.

Each computes with an equal share of the threads, also while it is alone: how sums are divided among threads is seen in
their last digits, and no row may depend on what ran beside it.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from lingraft.core.environment import BESIDE
from lingraft.pipeline.bench_news import News

if TYPE_CHECKING:
    from lingraft.pipeline.bench_jobs import RowJob

POLL_SECONDS = 1.0
"""Processes are looked at so often: what one has forked may keep its connection open when it is dead."""
END_SECONDS = 15.0
"""Seconds in which a worker that is told to end may end its engines."""
PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from lingraft.pipeline.bench_worker import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
"""What a worker runs: it finds modules where this process does, and what it starts does not inherit that."""
LAST_WORDS = 200
"""Characters of what a process last said that are passed on when it has died."""


class Processes:
    """Worker processes; each is started when there is a row for it, and a new one in place of one that died.

    Args:
        size: how many rows are run at once.
        threads: with which each computes.
        visible: the GPUs that each may see, one list of names for each worker; () where they are not divided.
        together: rows of the bench that are run at once, here or elsewhere; by default `size`.
    """

    remote = False

    def __init__(self, size: int, threads: int, visible: Sequence[str] = (), together: int = 0) -> None:
        self.size = size
        self._threads, self._visible, self._together = threads, visible, together or size
        self._workers: list[_Worker] = []

    def start(self, job: RowJob) -> None:
        """Give a row to a worker that is idle, or to a new one."""
        self.hand(job.name, pickle.dumps(job))

    def hand(self, name: str, job: bytes) -> None:
        """Do so with a job that is pickled already.

        Args:
            name: of the row.
            job: pickled.
        """
        idle = next((worker for worker in self._workers if not worker.row), None)
        if idle is None:
            taken = {worker.place for worker in self._workers}
            place = next(place for place in range(self.size) if place not in taken)
            variables = environment(self._threads, self._together, self._visible[place] if self._visible else None)
            idle = _Worker(place, self._threads, variables)
            self._workers.append(idle)
        idle.take(name, job)

    def news(self) -> Sequence[News]:
        """Wait until a worker tells something, or ends, and return it."""
        heard: list[News] = []
        while not heard:
            sources = {source: worker for worker in self._workers for source in worker.sources}
            for source in wait(list(sources), POLL_SECONDS):
                heard += sources[source].heard(source)
            for worker in self._workers:
                heard += worker.lost()
            self._workers = [worker for worker in self._workers if worker.alive]
        return heard

    def close(self) -> None:
        """End all workers: those that are idle at once, the others when they have closed their engines."""
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.end()
        for worker in workers:
            worker.ended()


class _Worker:
    """A process, the connection to it, and what it prints."""

    def __init__(self, place: int, threads: int, variables: Mapping[str, str]) -> None:
        self.place, self.row, self.alive = place, "", True
        ours, its = socket.socketpair()
        reading, writing = os.pipe()
        with ours, its:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-P", "-c", PROGRAM, json.dumps(sys.path), str(its.fileno()), str(threads)],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                pass_fds=(its.fileno(),),
                env={**os.environ, **variables},
            )
            self._connection = Connection(ours.detach())
        os.close(writing)
        os.set_blocking(reading, False)
        self._noise = os.fdopen(reading, "rb", buffering=0)
        self._rest, self._last = b"", ""

    @property
    def sources(self) -> list[Any]:
        """What is to be listened to."""
        return [self._connection, *([] if self._noise.closed else [self._noise])]

    def take(self, name: str, job: bytes) -> None:
        """Begin a row; that the process has died is found when it is listened to."""
        self.row = name
        with suppress(OSError):
            self._connection.send((name, job))

    def heard(self, source: Any) -> list[News]:
        """Return what a source has to tell."""
        if not self.alive:  # found dead by its other source
            return []
        if source is self._noise:
            return self._printed()
        try:
            name, kind, value = self._connection.recv()
        except (EOFError, OSError):
            return self._died()
        if kind != "said":
            self.row = ""
        return [News(name, kind, value)]

    def _printed(self) -> list[News]:
        """Return the lines that libraries have printed, as what the row says."""
        data = self._noise.read(1 << 16)
        if data == b"":
            self._noise.close()
        if not data:
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        shown = [line.rsplit(b"\r", 1)[-1].decode("utf-8", "replace").rstrip() for line in lines]
        self._last = next((line for line in reversed(shown) if line), self._last)
        return [News(self.row, "said", (line, False, False)) for line in shown if line and self.row]

    def lost(self) -> list[News]:
        """Return that the process has died, if it has and nothing that it has told is left to be heard."""
        if not self.alive or self._process.poll() is None or self._connection.poll():
            return []
        return self._died()

    def _died(self) -> list[News]:
        self.alive = False
        code = self._process.wait()
        said = [] if self._noise.closed else self._printed()
        self._close()
        how = next((one.name for one in signal.Signals if one == -code), f"exit code {code}")
        last = f": {self._last[:LAST_WORDS]}" if self._last else ""
        return [*said, *([News(self.row, "lost", f"{how}{last}")] if self.row else [])]

    def end(self) -> None:
        """Tell the process to end."""
        self._process.send_signal(signal.SIGTERM)

    def ended(self) -> None:
        """Wait for its end, for some time, and make one."""
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        self._connection.close()
        self._noise.close()


def environment(threads: int, together: int, visible: str | None) -> Mapping[str, str]:
    """Return what a worker's environment has beside that of this process.

    Args:
        threads: with which it computes.
        together: workers that share the cache.
        visible: the GPUs that it may see; None: all.
    """
    found = {"OMP_NUM_THREADS": str(threads), BESIDE: str(together)}
    return {**found, "CUDA_VISIBLE_DEVICES": visible} if visible is not None else found


def divided(workers: int) -> tuple[int, list[str]]:
    """Return the threads of each of so many workers, and the GPUs that each may see, where there are several.

    Args:
        workers: at once.
    """
    import torch

    threads = max(1, torch.get_num_threads() // workers)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count < 2:
        return threads, []
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    gpus = named if len(named) == count else [str(number) for number in range(count)]
    each = max(1, count // workers)
    chosen = ([gpus[(place * each + k) % count] for k in range(each)] for place in range(workers))
    return threads, [",".join(names) for names in chosen]
