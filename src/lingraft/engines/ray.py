"""The `ray` engine: several workers on one machine or a Ray cluster, each with an engine of its own.

Plain Ray actors, not Ray Data, whose actor pool lives as long as one execution of a dataset. Requests are drawn as they
are needed and unknown before, so that a dataset of bounded memory is a window of them, and each window (and each of a
run's synthesis and decoding stages) would load the model anew: see `workers.py` of benchmarks/README.md. Ray Data also
restarts a worker for ever that a request kills.

The driver hands out parts of the requests and keeps a second one waiting at each worker. A worker that dies, by
whatever cause, is replaced and its unanswered parts are handed out again; nothing of it arrived, since a part arrives
whole. A part that was on dying workers twice is tried alone, so that a request that kills is found and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, ValidationError, field_validator

from lingraft.core.errors import UsageError, suggestion
from lingraft.core.packages import install_command, is_installed
from lingraft.core.validation import HOLDS_ENGINE
from lingraft.data.records import Generation, Request
from lingraft.engines.base import ENGINES, Engine, EngineModel, EngineParams
from lingraft.engines.ray_pool import AHEAD, PIECES_A_PART, PIECES_AHEAD, Pool, RequestPart
from lingraft.engines.ray_worker import WorkerEngine, WorkerState
from lingraft.engines.served_grafts import AskedGraft


class RayEngine(Engine):
    """Hands parts of the requests to workers; see the module's description."""

    name: ClassVar[str] = "ray"
    summary: ClassVar[str] = "several workers on this machine or a Ray cluster, each with an engine of its own"
    local: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    for_workers: ClassVar[bool] = False

    class Params(EngineParams):
        """Parameters of the ray engine."""

        inner: dict[str, Any] = Field(
            default_factory=lambda: {"kind": "transformers"},
            validate_default=True,
            description="engine of each worker, with its parameters: {kind: vllm, ...}",
            json_schema_extra=HOLDS_ENGINE,
        )
        workers: int | None = Field(None, ge=1, description="default: as many as GPUs allow, 2 without GPUs")
        gpus: float | None = Field(None, ge=0, description="of each worker; default: 1 where there are GPUs")
        cpus: int | None = Field(None, ge=1, description="cores of each worker; default: an equal share of all")
        address: str | None = Field(
            None, description="of a Ray cluster: auto, host:port or ray://host:port; default: a local one of its own"
        )
        wait: float = Field(300, gt=0, description="seconds to wait for room on the cluster at `address`")
        object_store_mb: int = Field(256, ge=80, description="shared memory of the local cluster")

        @field_validator("inner")
        @classmethod
        def _filled(cls, value: dict[str, Any]) -> dict[str, Any]:
            kind = value.get("kind")
            known = [name for name in ENGINES if ENGINES.get(name).for_workers]
            if not isinstance(kind, str) or kind not in known:
                raise ValueError(f"the kind {kind!r} is no engine for a worker{suggestion(str(kind), known)}")
            given = {key: item for key, item in value.items() if key != "kind"}
            try:
                filled = ENGINES.get(kind).Params.model_validate(given)
            except ValidationError as error:
                problem = error.errors()[0]
                place = ".".join(map(str, problem["loc"]))
                near = suggestion(place, ENGINES.get(kind).Params.model_fields)
                unknown = problem["type"] == "extra_forbidden"
                raise ValueError(f"unknown key {place!r}{near}" if unknown else f"{place}: {problem['msg']}") from error
            return {"kind": kind, **filled.model_dump(mode="json")}

    def __init__(self, pool: Pool, started: WorkerEngine) -> None:
        self._pool = pool
        self.part_size = started.part_size
        self._size = max(1, started.part_size // PIECES_A_PART) if started.streams else started.part_size
        self._ahead = PIECES_AHEAD if started.streams else AHEAD

    @classmethod
    def missing(cls) -> str:
        """Return what is lacking; see `Engine.missing`."""
        return "" if is_installed("ray") else f"Ray is not installed; run `{install_command('ray')}`"

    @classmethod
    def loads(cls, params: Any, named: bool = True) -> bool:
        """Whether the inner engine does."""
        inner, own = ENGINES.read(params.inner)
        return inner.loads(own, named)

    @classmethod
    def unserved(cls, params: Any, asked: Sequence[AskedGraft]) -> str:
        """Return what the inner engine says."""
        inner, own = ENGINES.read(params.inner)
        return inner.unserved(own, asked)

    @classmethod
    def base_only(cls, params: Any) -> str:
        """Return what the inner engine says."""
        inner, own = ENGINES.read(params.inner)
        return inner.base_only(own)

    @classmethod
    def without_logprobs(cls, params: Any) -> str:
        """Return what the inner engine says."""
        inner, own = ENGINES.read(params.inner)
        return inner.without_logprobs(own)

    @classmethod
    def longest(cls, params: Any, model: int | None) -> int | None:
        """Return the inner engine's limit."""
        inner, own = ENGINES.read(params.inner)
        return inner.longest(own, model)

    @classmethod
    def identity(cls, params: Any) -> dict[str, Any]:
        """Return the inner engine's identity: who answered does not decide what."""
        inner, own = ENGINES.read(params.inner)
        return inner.identity(own)

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return that a cluster gets the work: whoever runs it sees the texts, and what it answers is unpickled. The
        acts of the inner engine are found by themselves."""
        if params.address is None:
            return []
        return [f"hands texts and work to the Ray cluster at {params.address}, whose answers can run any program here"]

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> RayEngine:
        """Connect, place the workers, and wait for the first to be ready; see `Engine.create`."""
        if missing := cls.missing():
            raise UsageError(f"engine ray: {missing}")
        kind, values = _inner(params)
        files = replace(model.files, folder=model.files.folder.absolute())
        pool = Pool(params)
        try:
            pool.connect()
            variables = model.renderer.template.variables
            started = pool.start(WorkerState(files, model.precision, kind, values, pool.cpus, variables=variables))
        except BaseException:
            pool.close()
            raise
        return cls(pool, started)

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield the generations of each part as it arrives; see `Engine.generate`."""
        rows = iter(requests)
        parts = (RequestPart(part) for part in iter(lambda: list(islice(rows, self._size)), []))
        yield from self._pool.answers(parts, self._ahead, graft.absolute() if graft else None)

    @property
    def ready(self) -> int:
        """How many workers were ready when last looked at, in `create` and `generate`."""
        return self._pool.ready

    def usage(self) -> dict[str, Any]:
        """Return the sum of what the workers' engines used, and how many workers were lost; see `Engine.usage`."""
        return self._pool.usage()

    def close(self) -> None:
        """Stop the workers, and the cluster if it was started here."""
        self._pool.close()


def _inner(params: Any) -> tuple[str, dict[str, Any]]:
    values = dict(params.inner)
    return values.pop("kind"), values
