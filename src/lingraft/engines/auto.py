"""`engine: auto`: the fastest engine that is installed and needs no address of a server."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from lingraft.data.records import Generation, Request
from lingraft.engines.base import ENGINES, Engine, EngineModel

PREFERRED = ("vllm", "transformers")
"""In this order. Engines that need a cluster or a server are chosen by name only."""


def choose() -> tuple[str, str]:
    """Return the name of the best engine here, and why in one sentence."""
    lacking: list[str] = []
    for name in PREFERRED:
        if name not in ENGINES:
            continue
        missing = ENGINES.get(name).missing()
        if not missing:
            why = "the fastest that is installed" if not lacking else "; ".join(lacking)
            return name, f"engine {name}: {why}"
        lacking.append(f"{name} is not used ({missing})")
    raise AssertionError("the transformers engine needs nothing that is not installed")


class AutoEngine(Engine):
    """Stands for the engine that `choose` names."""

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "the fastest engine installed here: vllm, else transformers"
    for_workers: ClassVar[bool] = False

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> Engine:
        """Make the chosen engine with its default parameters."""
        chosen, own, _ = cls.chosen(params)
        return chosen.create(model, own)

    @classmethod
    def chosen(cls, params: Any) -> tuple[type[Engine], Any, str]:
        """Return the best engine here with its default parameters, and why."""
        name, why = choose()
        return *ENGINES.read({"kind": name}), why

    @classmethod
    def identity(cls, params: Any) -> dict[str, Any]:
        """Return the chosen engine's identity: what it generates does not depend on how it was chosen."""
        chosen, own, _ = cls.chosen(params)
        return chosen.identity(own)

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Never called: `create` returns another engine."""
        raise NotImplementedError
