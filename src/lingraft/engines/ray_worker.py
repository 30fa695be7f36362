"""An engine in a process of its own, for the engines that spread requests over several: it knows nothing of how.

The methods are called from several threads at once; one thread owns the inner engine and keeps it busy.
"""

from __future__ import annotations

import os
import platform
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.core import __version__
from lingraft.core.errors import EngineError, ModelError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import ENGINES, Engine, EngineModel

if TYPE_CHECKING:
    from lingraft.models.files import ModelFiles


@dataclass(frozen=True)
class WorkerState:
    """What a worker holds.

    Attributes:
        files: the base as the driver sees it.
        precision: of its weights.
        kind: of the inner engine.
        params: of the inner engine.
        threads: cores to compute with.
        version: of the driver's package.
        variables: of the base's chat template.
    """

    files: ModelFiles
    precision: str
    kind: str
    params: dict[str, Any]
    threads: int
    version: str = __version__
    variables: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkerEngine:
    """What the driver must know of the inner engine: see `Engine`."""

    part_size: int
    streams: bool


@dataclass(eq=False)
class _Batch:
    """Requests whose answers are given back together, with what the inner engine's `usage` says then."""

    requests: Sequence[Request]
    graft: Path | None
    answers: list[Generation] = field(default_factory=list)
    result: Future[tuple[list[Generation], dict[str, Any]]] = field(default_factory=Future)


class Worker:
    """Answers batches with one inner engine; batches wait their turn.

    An inner engine that streams draws the next batch while the last requests of the one before are being answered.
    Any other gets one batch at a time, as it would alone, so that its answers are the same.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Batch | None] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def place(self) -> str:
        """Return the name of the machine this is on."""
        return platform.node()

    def start(self, work: WorkerState) -> WorkerEngine:
        """Load model and engine.

        Raises:
            ModelError: the base is not here, or is another one.
            UsageError, EngineError: see `Engine.create`.
        """
        ready: Future[WorkerEngine] = Future()
        self._thread = threading.Thread(target=self._run, args=(work, ready), daemon=True)
        self._thread.start()
        return ready.result()

    def answer(self, requests: Sequence[Request], graft: Path | None) -> tuple[list[Generation], dict[str, Any]]:
        """Return one generation per request, in the order the engine gave them, and its usage since the last batch.

        Raises:
            ModelError: the graft is not on this machine.
            LingraftError: see `Engine.generate`.
        """
        if graft is not None and not graft.is_dir():
            raise ModelError(f"{_here()} has no graft at {graft}; put it on a file system that all workers share")
        batch = _Batch(requests, graft)
        with self._changed:
            self._waiting.append(batch)
            self._changed.notify_all()
        return batch.result.result()

    def stop(self) -> None:
        """Close the inner engine, once it has answered what it was given."""
        with self._changed:
            self._waiting.append(None)
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self, work: WorkerState, ready: Future[WorkerEngine]) -> None:
        import torch

        try:
            os.environ["OMP_NUM_THREADS"] = str(work.threads)  # of processes that the engine starts
            os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else all workers bind to the same cores
            torch.set_num_threads(work.threads)
            engine = _engine(work)
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(WorkerEngine(engine.part_size, engine.streams))
        try:
            while (batch := self._next()) is not None:
                self._serve(engine, batch)
        finally:
            engine.close()

    def _next(self) -> _Batch | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def _following(self, graft: Path | None) -> _Batch | None:
        """Return the next batch if it is here already and for the same graft."""
        with self._changed:
            batch = self._waiting[0] if self._waiting else None
            return self._waiting.popleft() if batch is not None and batch.graft == graft else None

    def _serve(self, engine: Engine, first: _Batch) -> None:
        feed = _Feed(first, lambda: self._following(first.graft) if engine.streams else None)
        try:
            for generation in engine.generate(feed, first.graft):
                batch = feed.asked.pop(generation.id, None)
                if batch is None:
                    raise EngineError(f"engine {engine.name!r} answered request {generation.id!r} twice or unasked")
                batch.answers.append(generation)
                if len(batch.answers) == len(batch.requests):
                    feed.drawn.remove(batch)
                    batch.result.set_result((batch.answers, engine.usage()))
            if feed.drawn:
                missing = next((id_ for id_ in feed.asked), feed.drawn[0].requests[-1].id)
                raise EngineError(f"engine {engine.name!r} left out requests, such as {missing!r}")
        except BaseException as error:
            for batch in feed.drawn:
                batch.result.set_exception(error)


class _Feed(Iterator[Request]):
    """The requests of one batch and of those that `following` gives meanwhile.

    It ends when there are none at the moment. An engine that asks again, as those do that fill a window before each
    step, gets what has come since; for another the rest waits for the next call.
    """

    def __init__(self, first: _Batch, following: Callable[[], _Batch | None]) -> None:
        self._following = following
        self._rows = iter(first.requests)
        self.drawn = [first]
        self.asked: dict[str, _Batch] = {}

    def __next__(self) -> Request:
        request = next(self._rows, None)
        if request is None:
            batch = self._following()
            if batch is None:
                raise StopIteration
            self.drawn.append(batch)
            self._rows = iter(batch.requests)
            request = next(self._rows)
        self.asked[request.id] = self.drawn[-1]
        return request


def _here() -> str:
    return f"the worker on {platform.node()}"


def _engine(work: WorkerState) -> Engine:
    """Make the inner engine with the base that the driver means."""
    from lingraft.models.files import find_model

    if work.version != __version__:
        raise EngineError(
            f"{_here()} has lingraft {__version__}, this process {work.version}; install one version on all machines"
        )
    entry, params = ENGINES.read({"kind": work.kind, **work.params})
    if missing := entry.missing():
        raise EngineError(f"{_here()} cannot use the engine {work.kind!r}: {missing}")
    shared = (work.files.folder / "config.json").exists()
    try:
        # A file system that is shared has been read by the driver just now.
        found = find_model(str(work.files.folder) if shared else work.files.name, remembered=shared)
    except ModelError as error:
        raise ModelError(f"{_here()} does not find the base: {error}") from error
    if found.sha256 != work.files.sha256:
        raise ModelError(
            f"{_here()} found another model in {found.folder} (hash {found.sha256[:12]}, not "
            f"{work.files.sha256[:12]}); put the base on a file system that all workers share"
        )
    model = EngineModel.at(replace(work.files, folder=found.folder), work.precision, work.variables)
    return entry.create(model, params)
