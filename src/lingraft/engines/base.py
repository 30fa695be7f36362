"""The interface of a text generation back end: one file an engine, registered by name in `ENGINES`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lingraft.core.errors import UsageError
from lingraft.core.registry import Registry
from lingraft.core.validation import Settings
from lingraft.data.records import Generation, Request
from lingraft.engines.served_grafts import AskedGraft

if TYPE_CHECKING:
    from lingraft.engines.token_streams import TokenStreams
    from lingraft.models.files import ModelFiles
    from lingraft.models.loading import LoadedModel
    from lingraft.rendering.renderer import Renderer


class EngineParams(Settings):
    """Typed parameters of an engine; every field has a default and a description."""


@dataclass(frozen=True)
class EngineModel:
    """The base an engine answers with.

    Attributes:
        files: where its weights are.
        renderer: of its prompts.
        load: gives it in this process's memory, loading it at the first call.
        precision: "auto", "bf16" or "fp32", for engines that load the weights themselves.
    """

    files: ModelFiles
    renderer: Renderer
    load: Callable[[], LoadedModel]
    precision: str = "auto"

    @classmethod
    def of(cls, loaded: LoadedModel) -> EngineModel:
        """Return the description of a model that is in memory already."""
        precision = "fp32" if loaded.dtype == "float32" else "bf16"
        return cls(loaded.files, loaded.renderer, lambda: loaded, precision)

    @classmethod
    def at(cls, files: ModelFiles, precision: str = "auto", variables: Mapping[str, Any] | None = None) -> EngineModel:
        """Return the description of a model on disk; its weights are loaded when first needed.

        Args:
            files: the model.
            precision: "auto", "bf16", "fp32", or "nf4" for a base in 4 bits.
            variables: of the chat template, see `load_renderer`.
        """
        from lingraft.models.loading import load_model, load_renderer

        load = cache(lambda: load_model(files, precision, variables=variables))
        return cls(files, load_renderer(files, variables), load, precision)


class Engine(ABC):
    """Answers requests with the base, or with a graft on it.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list engines`.
        Params: the engine's parameters.
        listed: whether lists show it; what only tests use is found by its name.
        local: whether it computes with what `EngineModel.load` gives, so that training and engine share one copy.
        loads_base: whether it answers with the base's weights, in this process or in others; else with what is served
            elsewhere.
        streams: whether it wants all requests at once and keeps itself busy; else it gets `part_size` at a time.
        for_workers: whether a worker of another engine may have it.
        part_size: answers saved together: what a killed job may have to ask again.
        as_judge: parameters with other defaults where the engine judges answers.
        as_served: those with other defaults where it writes for clients of `lingraft serve`.
        idle_served: parameters that have no effect there.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    Params: ClassVar[type[EngineParams]] = EngineParams
    listed: ClassVar[bool] = True
    local: ClassVar[bool] = True
    loads_base: ClassVar[bool] = True
    streams: ClassVar[bool] = False
    for_workers: ClassVar[bool] = True
    part_size: int = 512
    as_judge: ClassVar[Mapping[str, Any]] = {}
    as_served: ClassVar[Mapping[str, Any]] = {}
    idle_served: ClassVar[Sequence[str]] = ()
    under_way: int = 0
    """Tokens written so far of answers that have not been given yet; 0 where the engine does not tell."""

    @classmethod
    @abstractmethod
    def create(cls, model: EngineModel, params: Any) -> Engine:
        """Make the engine for a base and parameters of type `cls.Params`.

        Raises:
            UsageError: the parameters do not go together, or with the model.
            EngineError: the engine cannot be started.
        """

    @classmethod
    def chosen(cls, params: Any) -> tuple[type[Engine], Any, str]:
        """Return the engine that answers for this one, its parameters, and where it is another one why."""
        return cls, params, ""

    @classmethod
    def model_named(cls, choice: Mapping[str, Any]) -> str:
        """Return what answers, for signatures, where a choice of this engine names no model."""
        return f"{cls.name}, on the base" if cls.local else cls.name

    @classmethod
    def missing(cls) -> str:
        """Return what is lacking to use the engine here and the command that gets it; empty if nothing."""
        return ""

    @classmethod
    def identity(cls, params: Any) -> dict[str, Any]:
        """Return what, besides model and requests, decides the output: for the hash of what is generated."""
        return {"engine": cls.name, **params.model_dump(mode="json")}

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return what it runs or sends that whoever starts a recipe has to allow: texts and keys to other machines,
        programs. Each as words that follow "the recipe": "sends texts to https://api.example.org"."""
        return []

    @classmethod
    def loads(cls, params: Any, named: bool = True) -> bool:
        """Whether it answers with grafts that are more than low-rank updates (`Tuner.beyond_updates`); by default it
        does.

        Args:
            params: the engine's own, see `Params`.
            named: whether a name that a server has for what is trained would do.
        """
        return True

    @classmethod
    def unserved(cls, params: Any, asked: Sequence[AskedGraft]) -> str:
        """Return why it cannot answer with all of some grafts in one run, and the remedy; empty if it can.

        Args:
            params: the engine's own, see `Params`.
            asked: grafts that it will be asked to answer with.
        """
        return ""

    @classmethod
    def base_only(cls, params: Any) -> str:
        """Return why these parameters let it answer with the base alone, and the remedy; empty if they do not."""
        return ""

    @classmethod
    def unlike_4_bits(cls, own: bool) -> bool:
        """Whether it cannot answer beside a base in 4 bits: it would load that whole, or answer for it.

        Args:
            own: whether base and grafts answer with it; else it is a teacher, a translator or a judge, which may be
                another model at a server.
        """
        return not cls.local and (own or cls.loads_base)

    @classmethod
    def without_logprobs(cls, params: Any) -> str:
        """Return why it gives no log-probabilities by token id, and what does; empty if it gives them, or if only
        asking it tells."""
        return ""

    @classmethod
    def longest(cls, params: Any, model: int | None) -> int | None:
        """Return how many tokens a prompt and its answer may have together; None: no limit is known.

        Args:
            params: the engine's own, see `Params`.
            model: longest sequence of the base, in tokens; None: not known.
        """
        return model

    @abstractmethod
    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield one generation per request, in any order, matched by id.

        The text does not repeat the request's prefill. The same requests give the same generations, also when sampled.
        An engine that `streams` draws requests as it needs them: there may be millions.

        Args:
            requests: with ids of their own.
            graft: folder of the adapter to answer with; the base alone if None.

        Raises:
            EngineError: a request cannot be answered; names it.
            ModelError: the graft does not fit the base.
        """

    def token_streams(self, renderers: Mapping[Path | None, Renderer]) -> AbstractContextManager[TokenStreams]:
        """Give, for the time of a block, what writes for clients that read along; see `lingraft.engines.token_streams`.

        Args:
            renderers: of the prompts of each system that is asked, by the folder of its graft; None for the base.

        Raises:
            UsageError: the engine does not do that.
            EngineError: it cannot be started, or does not answer.
        """
        raise UsageError(
            f"the engine {self.name!r} gives no tokens before an answer has ended, so that nobody can be served with "
            f"it; take transformers, vllm or openai"
        )

    @contextmanager
    def keeping(self, graft: Path | None) -> Iterator[None]:
        """Keep a graft on the base for the block, where putting it on takes time: several calls of `generate` with that
        graft, and with no other, put it on once."""
        yield

    def usage(self) -> dict[str, Any]:
        """Return what the answers since the last call cost beyond time: tokens billed, retries, money."""
        return {}

    def close(self) -> None:  # noqa: B027  (an engine without resources has nothing to do)
        """Free memory and processes."""


ENGINES: Registry[type[Engine]] = Registry(
    "engine",
    {
        "auto": "lingraft.engines.auto:AutoEngine",
        "openai": "lingraft.engines.openai:OpenAIEngine",
        "transformers": "lingraft.engines.transformers:TransformersEngine",
        "ray": "lingraft.engines.ray:RayEngine",
        "scripted": "lingraft.engines.scripted:ScriptedEngine",
        "vllm": "lingraft.engines.vllm:VllmEngine",
    },
)
