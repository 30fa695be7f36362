"""Rows of a bench as jobs on a Ray cluster: one row a job, on whichever machine has room.

A job starts a worker process as `--workers` does, and passes on what it tells. Where the machine, the job or the
process is lost, the row is resumed elsewhere: its folder is on a file system that all machines share.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.core.errors import EngineError, LingraftError, UsageError, first_line
from lingraft.core.hub_kernels import keep_out
from lingraft.core.packages import install_command, is_installed
from lingraft.engines.base import ENGINES
from lingraft.engines.ray_pool import MAX_DEATHS, imported, join, share
from lingraft.pipeline.bench_jobs import RowJob
from lingraft.pipeline.bench_news import News
from lingraft.pipeline.bench_relay import mark_of, opened
from lingraft.recipe.bench import BenchPlan
from lingraft.recipe.schema import Recipe
from lingraft.reporting.bench_contents import BENCH_FILE

ROOM_SECONDS = 300.0
"""Seconds to wait for room on the cluster, while no row is run."""


@contextmanager
def joined(address: str, plan: BenchPlan, workers: int | None) -> Iterator[Callable[[], Jobs]]:
    """Join a cluster while the block runs, and yield what gathers its machines, when the bench's file is written.

    Args:
        address: of the cluster.
        plan: the bench.
        workers: rows that are run at once; None: as many as it has GPUs for, or machines without.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at the address.
    """
    if not is_installed("ray"):
        raise UsageError(f"--ray: Ray is not installed; run `{install_command('ray')}`, or use --workers")
    ray = imported(private=False)
    own = not ray.is_initialized()
    if own:
        join(ray, address, who="--ray", instead="run the rows on this machine, with --workers")
    try:
        yield lambda: Jobs(ray, Resources.of(ray, plan, workers), plan.folder / BENCH_FILE)
    finally:
        if own:
            ray.shutdown()


@dataclass(frozen=True)
class Resources:
    """What the rows get.

    Attributes:
        rows: at once.
        cpus: cores of each, with which it computes.
        gpus: of each.
        any_gpus: whether there are GPUs in the cluster.
    """

    rows: int
    cpus: int
    gpus: int
    any_gpus: bool = False

    @classmethod
    def of(cls, ray: Any, plan: BenchPlan, workers: int | None) -> Resources:
        """Divide a cluster among rows.

        Raises:
            UsageError: a row needs more GPUs than the cluster has.
        """
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        total = sum(int(node.get("GPU", 0)) for node in machines)
        gpus = max(map(_gpus, (one.recipe for one in plan.to_run)), default=1) if total else 0
        if gpus > total:
            raise UsageError(f"--ray: a row needs {gpus} GPUs, and the cluster has {total}; lower tensor_parallel_size")
        rows = workers or max(1, total // gpus if gpus else len(machines))
        return cls(rows, share([int(node["CPU"]) for node in machines] or [1], rows), gpus, total > 0)

    @property
    def options(self) -> dict[str, Any]:
        """As Ray takes them."""
        found: dict[str, Any] = {"num_cpus": self.cpus, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"}
        found |= {"max_restarts": 0, "max_task_retries": 0}
        if self.any_gpus and not self.gpus:
            found["runtime_env"] = {"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
        return found


def _gpus(recipe: Recipe) -> int:
    """Return the GPUs that a row computes on: one, or as many as an engine of its divides the model among."""
    engines = [recipe.engine, *([recipe.evaluate.engine] if recipe.evaluate.engine else [])]
    return max(1, *(getattr(ENGINES.read(choice)[1], "tensor_parallel_size", 1) for choice in engines))


def relay_process() -> type[Any]:
    """Return the class of which Ray makes one object for each row that is run at once. It is made here, so that Ray
    sends it as it is."""

    class RelayProcess:
        def __init__(self) -> None:
            keep_out()

        def open(self, made: bytes) -> None:
            self._rows = pickle.loads(made)()

        def hand(self, name: str, job: bytes) -> None:
            self._rows.hand(name, job)

        def news(self) -> bytes:
            return pickle.dumps(self._rows.news())

    return RelayProcess


@dataclass(eq=False)
class _Place:
    """A job of the cluster.

    Attributes:
        actor: Ray's handle.
        ready: whether it has found room.
        row: that it is to run, or runs; "": none.
        job: the row, pickled.
        deaths: of jobs that had this row.
    """

    actor: Any
    row: str
    job: bytes
    deaths: int = 0
    ready: bool = False


class Jobs:
    """Rows on the machines of a cluster; see `Crew`.

    Args:
        ray: as imported, and connected.
        resources: of the rows.
        file: of the bench, which tells a machine whether it shares its folder.
    """

    remote = True

    def __init__(self, ray: Any, resources: Resources, file: Path) -> None:
        mark = mark_of(file)
        if mark is None:
            raise EngineError(f"{file} is gone; run the same command again")
        self.size = resources.rows
        self._ray, self._resources = ray, resources
        self._made = pickle.dumps(partial(opened, file, mark, resources.cpus, resources.rows))
        self._places: list[_Place] = []
        self._pending: dict[Any, _Place] = {}

    def start(self, job: RowJob) -> None:
        """Give a row to a job that is idle, or ask the cluster for one."""
        data = pickle.dumps(job)
        place = next((place for place in self._places if not place.row), None)
        if place is None:
            self._hire(_Place(None, job.name, data))
            return
        place.row, place.job, place.deaths = job.name, data, 0
        self._hand(place)

    def news(self) -> Sequence[News]:
        """Wait until there is something to tell, and return it.

        Raises:
            EngineError: the cluster has no room for any row.
            UsageError: a machine does not share the bench's folder.
        """
        heard: list[News] = []
        while not heard:
            for answer in self._arrived():
                heard += self._settled(answer, self._pending.pop(answer))
        return heard

    def close(self) -> None:
        """End all jobs; their processes end with them."""
        places, self._places = self._places, []
        self._pending.clear()
        for place in places:
            self._dismiss(place)

    def _hire(self, place: _Place) -> None:
        place.actor, place.ready = self._ray.remote(**self._resources.options)(relay_process()).remote(), False
        self._places = [*(other for other in self._places if other is not place), place]
        self._pending[place.actor.open.remote(self._made)] = place

    def _hand(self, place: _Place) -> None:
        place.actor.hand.remote(place.row, place.job)
        self._pending[place.actor.news.remote()] = place

    def _dismiss(self, place: _Place) -> None:
        with suppress(self._ray.exceptions.RayError):  # it is dead already
            self._ray.kill(place.actor)

    def _arrived(self) -> list[Any]:
        nobody = not any(place.ready and place.row for place in self._places)
        done, _ = self._ray.wait(
            list(self._pending), num_returns=1, timeout=ROOM_SECONDS if nobody else None, fetch_local=False
        )
        if not done:
            has = self._ray.cluster_resources()
            raise EngineError(
                f"the Ray cluster had no room for a row with {self._resources.cpus} cores and {self._resources.gpus} "
                f"GPUs within {ROOM_SECONDS:g} s (in all it has {has.get('CPU', 0):g} and {has.get('GPU', 0):g}); "
                f"run the same command again when others have ended"
            )
        return list(done)

    def _settled(self, answer: Any, place: _Place) -> list[News]:
        """Return what an answer of a job tells, and go on with it."""
        try:
            said = self._ray.get(answer)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LingraftError):
                raise error.cause from None
            raise EngineError(f"a job failed: {type(error.cause).__name__}: {first_line(error.cause)}") from error
        except self._ray.exceptions.RayError as error:
            return self._lost(place, first_line(error, 200))
        if not place.ready:
            place.ready = True
            self._hand(place)
            return []
        news: list[News] = pickle.loads(said)
        last = news[-1].kind if news else "said"
        if last == "lost":
            return [*news[:-1], *self._lost(place, str(news[-1].value))]
        if last == "said":
            self._pending[place.actor.news.remote()] = place
        else:
            place.row = ""
            self._relieve(place)
        return news

    def _relieve(self, idle: _Place) -> None:
        """Give a job that is idle the row of one that has found no room yet: it may wait for what this one holds."""
        waiting = next((place for place in self._places if place.row and not place.ready), None)
        if waiting is not None:
            idle.row, idle.job, idle.deaths = waiting.row, waiting.job, waiting.deaths
            self._places.remove(waiting)
            self._pending = {answer: place for answer, place in self._pending.items() if place is not waiting}
            self._dismiss(waiting)
            self._hand(idle)

    def _lost(self, place: _Place, why: str) -> list[News]:
        """Resume a row elsewhere whose job is lost, unless that was done too often."""
        name = place.row
        self._dismiss(place)
        place.deaths += 1
        if place.deaths >= MAX_DEATHS:
            self._places.remove(place)
            return [News(name, "lost", f"{place.deaths} times, the last: {why}")]
        self._hire(place)
        if idle := next((other for other in self._places if not other.row), None):
            self._relieve(idle)
        return [News(name, "said", (f"its job was lost ({why}); going on with another", True, False))]
