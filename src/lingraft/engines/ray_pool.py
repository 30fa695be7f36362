"""Workers on a Ray cluster: placed, given parts, replaced when they die. The one file that imports Ray."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lingraft.core.errors import EngineError, LingraftError, UsageError, first_line
from lingraft.core.hub_kernels import keep_out
from lingraft.data.records import Generation, Request
from lingraft.engines.ray_worker import WorkerEngine, WorkerState
from lingraft.store.spent import add_usage

AHEAD = 2
"""Parts that a worker holds: one that it answers, one that waits."""
PIECES_AHEAD, PIECES_A_PART = 64, 16
"""The same for a worker whose engine streams: small pieces balance, many keep it busy."""
MAX_DEATHS = 3
"""A part that was on so many workers when they died is given up, as is a worker that died so often while starting."""


@dataclass(eq=False)
class RequestPart:
    """Requests handed out together; `deaths` of workers that had it."""

    requests: Sequence[Request]
    deaths: int = 0

    @property
    def suspect(self) -> bool:
        """Whether it may kill workers, so that it is tried alone."""
        return self.deaths >= MAX_DEATHS - 1


@dataclass(eq=False)
class _Place:
    """A worker and its successors.

    Attributes:
        actor: Ray's handle.
        state: waiting for room in the cluster, loading its engine, or ready.
        aboard: parts it has, by Ray's reference to the answer.
        abandoned: whether it may work on some nobody waits for.
        failures: deaths in a row before it was ready.
    """

    actor: Any = None
    state: Literal["waiting", "loading", "ready"] = "waiting"
    aboard: dict[Any, RequestPart] = field(default_factory=dict)
    abandoned: bool = False
    failures: int = 0

    def room(self, ahead: int) -> bool:
        """Return whether this worker may have another part now, as one of `ahead`; a suspect stays alone."""
        alone = any(part.suspect for part in self.aboard.values())
        return self.state == "ready" and not alone and len(self.aboard) < ahead


def worker_process() -> type[Any]:
    """Return the class of which Ray makes one object in each process that it starts: a `Worker`, and no kernels of the
    hub, which only that process does without.

    It is made here, so that Ray sends it as it is: to find it by name, a process would import the libraries first.
    """

    class WorkerProcess:
        def __init__(self) -> None:
            keep_out()
            from lingraft.engines.ray_worker import Worker

            self._worker = Worker()

        def place(self) -> str:
            return self._worker.place()

        def start(self, work: WorkerState) -> WorkerEngine:
            return self._worker.start(work)

        def answer(self, requests: Sequence[Request], graft: Path | None) -> tuple[list[Generation], dict[str, Any]]:
            return self._worker.answer(requests, graft)

        def stop(self) -> None:
            self._worker.stop()

    return WorkerProcess


class Pool:
    """The workers, and the connection to the cluster they are on."""

    def __init__(self, params: Any) -> None:
        self._params = params
        self._ray = imported(private=params.address is None)
        self._own = not self._ray.is_initialized()
        self._private = self._own and params.address is None
        self._places: list[_Place] = []
        self._pending: dict[Any, _Place] = {}
        self._started: WorkerEngine | None = None
        self._usage: dict[str, Any] = {}

    def connect(self) -> None:
        """Join or start the cluster, and decide how many workers it gets and with what.

        Raises:
            UsageError: no cluster at the address, or this machine lacks the GPUs asked for.
            EngineError: no cluster can be started.
        """
        params, private = self._params, self._private
        if self._own:
            join(self._ray, params.address, params.object_store_mb)
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        total = sum(node.get("GPU", 0) for node in nodes)
        self.gpus = params.gpus if params.gpus is not None else float(total > 0)
        count = params.workers or max(1, int(total // self.gpus) if self.gpus else 2)
        if private and self.gpus * count > total:
            raise UsageError(
                f"engine ray: {count} workers with {self.gpus:g} GPUs each do not fit on this machine, which has "
                f"{total:g}; lower `workers` or `gpus`"
            )
        machines = [cores()] if private else [int(node.get("CPU", 0)) for node in nodes]
        self.cpus = params.cpus or (1 if self.gpus and not private else share(machines, count))
        self._places = [_Place() for _ in range(count)]
        # On a cluster of its own nobody competes for the cores, which may be fewer than the workers.
        self._options: dict[str, Any] = {
            "num_cpus": 0 if private else self.cpus,
            "num_gpus": self.gpus,
            "max_concurrency": PIECES_AHEAD + 2,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }
        if total and not self.gpus:
            self._options["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}

    @property
    def ready(self) -> int:
        """How many workers have said that they are ready."""
        return sum(place.state == "ready" for place in self._places)

    def start(self, work: WorkerState) -> WorkerEngine:
        """Start all workers and return what the first says that is ready; the others join when they are."""
        self._work = work
        for place in self._places:
            self._hire(place)
        while self._started is None:
            self._settle(self._arrived())
        return self._started

    def answers(self, parts: Iterator[RequestPart], ahead: int, graft: Path | None) -> Iterator[Generation]:
        """Yield the answers to all parts; at most `ahead` are with a worker.

        Args:
            parts: drawn as workers have room.
            ahead: parts that a worker holds at most, the one it works on included.
            graft: folder of the adapter to answer with; None for the base alone.

        Raises:
            EngineError: a part was on dying workers too often.
        """
        again: deque[RequestPart] = deque()
        aboard: dict[Any, tuple[_Place, Any]] = {}
        try:
            while True:
                while place := self._room_for(again[0] if again else None, ahead):
                    part = again.popleft() if again else next(parts, None)
                    if part is None:
                        break
                    asked = place.actor.answer.remote(part.requests, graft)
                    place.aboard[asked] = part
                    aboard[asked] = place, place.actor
                if not aboard and not again:
                    return
                for done in self._arrived(aboard):
                    if done not in aboard:
                        self._settle([done])
                        continue
                    place, actor = aboard.pop(done)
                    part = place.aboard.pop(done)
                    try:
                        generations, usage = self._get(done)
                    except self._ray.exceptions.RayError as error:
                        self._replace(place, actor)
                        part.deaths += 1
                        if part.deaths >= MAX_DEATHS:
                            raise EngineError(_given_up(part, error)) from error
                        again.append(part)
                        continue
                    add_usage(self._usage, usage)
                    yield from generations
        finally:
            for place in self._places:
                place.abandoned |= bool(place.aboard)
                place.aboard.clear()

    def _room_for(self, part: RequestPart | None, ahead: int) -> _Place | None:
        """Return the worker with the least to do of those that may have a part now; None stands for a new one."""
        free = [place for place in self._places if place.room(1 if part and part.suspect else ahead)]
        return min(free, key=lambda place: len(place.aboard), default=None)

    def _hire(self, place: _Place) -> None:
        """Ask the cluster for a worker; that it answers says that there was room."""
        place.actor, place.state = self._ray.remote(**self._options)(worker_process()).remote(), "waiting"
        self._pending[place.actor.place.remote()] = place

    def _replace(self, place: _Place, actor: Any) -> None:
        """Hire anew for a lost worker, unless that was done when another of its parts was found lost."""
        if place.actor is not actor:
            return
        add_usage(self._usage, {"workers_lost": 1})
        place.abandoned = False
        self._dismiss(actor)
        self._hire(place)

    def _dismiss(self, actor: Any) -> None:
        with suppress(self._ray.exceptions.RayError):  # it is dead already
            self._ray.kill(actor)

    def _arrived(self, aboard: Iterable[Any] = ()) -> list[Any]:
        """Return what Ray has answered, of parts and of workers that start; waits for it.

        Raises:
            EngineError: the cluster has no room for any worker.
        """
        nobody = all(place.state == "waiting" for place in self._places)
        # On a cluster of its own there is room, checked before: what is waited for is a process that starts.
        timeout = self._params.wait if nobody and not self._private else None
        done, _ = self._ray.wait([*self._pending, *aboard], num_returns=1, timeout=timeout, fetch_local=False)
        if not done:
            has = self._ray.cluster_resources()
            raise EngineError(
                f"the Ray cluster had no room for a worker of {self.cpus} cores and {self.gpus:g} GPUs within "
                f"{self._params.wait:g} s (in all it has {has.get('CPU', 0):g} and {has.get('GPU', 0):g}); "
                f"lower `cpus` or `gpus`, or raise `wait`"
            )
        return list(done)

    def _settle(self, done: Iterable[Any]) -> None:
        """Take note of workers that found room, are ready, or died before that."""
        for answer in done:
            place = self._pending.pop(answer)
            try:
                said = self._get(answer)
            except self._ray.exceptions.RayError as error:
                place.failures += 1
                self._dismiss(place.actor)
                if place.failures < MAX_DEATHS:
                    self._hire(place)
                    continue
                self._places.remove(place)
                if not self._places:
                    raise EngineError(f"no worker could be started: {_cause(error)}") from error
                continue
            if place.state == "waiting":
                place.state = "loading"
                self._pending[place.actor.start.remote(self._work)] = place
            else:
                self._started, place.state, place.failures = said, "ready", 0

    def _get(self, answer: Any) -> Any:
        """Return what a worker answered; its own errors become ours, Ray's are raised as they are."""
        try:
            return self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LingraftError):
                raise error.cause from None
            raise EngineError(f"a worker failed: {type(error.cause).__name__}: {first_line(error.cause)}") from error

    def usage(self) -> dict[str, Any]:
        """Return what the workers' engines used since the last call, and how many workers were lost."""
        used, self._usage = self._usage, {}
        return used

    def close(self) -> None:
        """Stop the workers, and the cluster if it was started here."""
        places, self._places = self._places, []
        self._pending.clear()
        if not self._ray.is_initialized():
            return
        idle = [place for place in places if place.state == "ready" and not place.abandoned]
        stopping = [place.actor.stop.remote() for place in idle]
        if stopping:
            self._ray.wait(stopping, num_returns=len(stopping), timeout=10)
        for place in places:
            self._dismiss(place.actor)
        if self._own:
            self._ray.shutdown()


PRIVATE = {
    # Read when Ray is imported. The first makes the node's address the loopback one (it is named after the systems on
    # which this is the default): other machines cannot reach a cluster that runs whatever it is sent.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_process_group_cleanup_enabled": "1",  # processes that the engine of a killed worker started end with it
    "RAY_AUTH_MODE": "token",  # other users of this machine cannot connect either
    # On a busy machine Ray would kill, again and again, processes that have not reported after a minute.
    "RAY_worker_register_timeout_seconds": "600",
}
"""Environment of a cluster of one's own."""
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # Ray would write to stdout that a worker died
}


def imported(private: bool) -> Any:
    """Import Ray with the environment it reads then."""
    wanted = QUIET | (PRIVATE | {"RAY_AUTH_TOKEN": secrets.token_hex(32)} if private else {})
    for key, value in wanted.items():
        os.environ.setdefault(key, value)
    import ray

    return ray


def join(
    ray: Any,
    address: str | None,
    object_store_mb: int = 0,
    who: str = "engine ray",
    instead: str = "leave `address` out for one of this run's own",
) -> None:
    """Connect to the cluster at the address, or start one on this machine, without a dashboard.

    Args:
        ray: as imported.
        address: of the cluster; None: one is started.
        object_store_mb: shared memory of one that is started.
        who: is named in messages.
        instead: what to do without a cluster, for messages.

    Raises:
        UsageError: no cluster at the address.
        EngineError: no cluster can be started.
    """
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    memory = object_store_mb << 20
    try:
        if address is None:
            ray.init("local", num_cpus=cores(), include_dashboard=False, object_store_memory=memory, **quiet)
        else:
            host, _, port = address.removeprefix("ray://").rpartition(":")
            if host and port.isdecimal():  # Ray would try for minutes, and say so at length
                socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
            ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, OSError, ImportError) as error:
        if address is None:
            raise EngineError(f"no Ray cluster could be started here: {first_line(error)}") from error
        raise UsageError(
            f"{who}: no connection to a Ray cluster at {address!r} ({first_line(error)}); "
            f"start one with `ray start --head`, or {instead}"
        ) from error


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(machines: Sequence[int], workers: int) -> int:
    """Return the most cores that each of the workers can have on machines with so many, at least 1."""
    return max((k for k in range(1, max(machines) + 1) if sum(n // k for n in machines) >= workers), default=1)


def _cause(error: BaseException) -> str:
    """Return why Ray says a worker died, without identifiers and advice on Ray."""
    text = " ".join(str(error).split())
    return text.partition("The actor is dead because ")[2].partition(". Some common causes")[0][:400] or text[:400]


def _given_up(part: RequestPart, error: BaseException) -> str:
    first, last = part.requests[0].id, part.requests[-1].id
    return (
        f"{part.deaths} workers died one after another while they answered the requests {first!r} to {last!r} "
        f"({_cause(error)}); give each worker more memory, or fewer tokens at once"
    )
