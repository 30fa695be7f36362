"""An engine for tests of engines with several workers: it dies, fails or waits when a request says so."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel, EngineParams


class MortalEngine(Engine):
    """Answers in capitals; with `streams` it has 6 requests at work and answers the newest first.

    "die once FILE" kills this process unless the file is there; "die" always does; "fail" raises; "wait once FILE"
    waits for the file. With `gate`, each process answers `free` requests, and the others only when the file `gate` is
    there; it makes `gate`.waiting and `gate`.waiting-PID before.
    """

    name: ClassVar[str] = "mortal"
    summary: ClassVar[str] = "dies on request"
    local: ClassVar[bool] = False

    class Params(EngineParams):
        streams: bool = False
        part_size: int = 4
        gate: str = ""
        free: int = 0

    def __init__(self, params: Params) -> None:
        self.streams = params.streams  # type: ignore[misc]
        self.part_size = params.part_size
        self._gate, self._free = params.gate, params.free
        self._begun = self._answered = 0

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> MortalEngine:
        return cls(params)

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        rows = iter(requests)
        held = list(islice(rows, 6 if self.streams else None))
        while held:
            asked = held.pop()
            order, _, path = asked.messages[-1].content.partition(" once ")
            if order == "die" and not (path and Path(path).exists()):
                if path:
                    Path(path).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if order == "fail":
                raise EngineError(f"request {asked.id!r}: told to fail")
            while order == "wait" and not Path(path).exists():
                time.sleep(0.01)
            self._begun += 1
            if self._gate and self._begun > self._free:
                for waiting in (f"{self._gate}.waiting", f"{self._gate}.waiting-{os.getpid()}"):
                    Path(waiting).touch()
                while not Path(self._gate).exists():
                    time.sleep(0.01)
            self._answered += 1
            yield Generation(asked.id, asked.messages[-1].content.upper(), (1,), "stop")
            held += islice(rows, 1) if self.streams else ()

    def usage(self) -> dict[str, Any]:
        answered, self._answered = self._answered, 0
        return {"answered": answered, "by": {"age": {"newest": answered}}}
