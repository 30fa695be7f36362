"""The interface of a text generation back end: one file an engine, registered by name in `ENGINES`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from lingraft.data.records import Generation, Request
from lingraft.models import LoadedModel
from lingraft.registry import Registry


class EngineParams(BaseModel):
    """Typed parameters of an engine; every field has a default and a description."""

    model_config = ConfigDict(extra="forbid")


class Engine(ABC):
    """Answers requests.

    Attributes:
        name: registered name. summary: one line for `lingraft list engines`. Params: the engine's parameters.
        local: whether it computes with the loaded model in this process.
        part_size: requests a killed job may have to answer again: large enough to keep the engine busy.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Params: ClassVar[type[EngineParams]] = EngineParams
    local: ClassVar[bool] = True
    part_size: int = 512

    @classmethod
    @abstractmethod
    def create(cls, loaded: LoadedModel, params: Any) -> Engine:
        """Make the engine for a loaded model (with a graft or without) and parameters of type `cls.Params`."""

    @abstractmethod
    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Yield one generation per request, in any order, matched by id.

        The text does not repeat the request's prefill. The same requests give the same generations, also when sampled.

        Raises:
            EngineError: a request cannot be answered; names it.
        """

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what, besides model and requests, decides the output: for the hash of what is generated."""

    def close(self) -> None:  # noqa: B027  (an engine without resources has nothing to do)
        """Free memory and processes."""


ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {
        "transformers": "lingraft.engines.transformers:TransformersEngine",
        "scripted": "lingraft.engines.scripted:ScriptedEngine",
    },
)
