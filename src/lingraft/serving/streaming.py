"""How the systems of a server are written by an engine that has the weights elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.engines.base import ENGINES, Engine, EngineModel
from lingraft.engines.served_grafts import AskedGraft
from lingraft.engines.token_streams import TokenStreams
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.loading import AskedModel, ModelElsewhere
from lingraft.rendering.renderer import Renderer
from lingraft.routing.base import BASE, GRAFT, Decider, Route
from lingraft.serving.bridge import Bridge
from lingraft.serving.decoder import DecoderPlan
from lingraft.serving.decoding import AnsweringEngine
from lingraft.serving.streamed import StreamedEngine, StreamWriting
from lingraft.serving.systems import ServedSystem

EngineChoice = str | Mapping[str, Any]
"""An engine by its name, or by its `kind` and parameters."""


def engine_elsewhere(choice: EngineChoice) -> tuple[type[Engine], Any] | None:
    """Return the engine that writes, and its parameters; None where the model is in this process's memory.

    Args:
        choice: the engine.

    Raises:
        UsageError: unknown, not installed, or with parameters that would have no effect.
    """
    given = {"kind": choice} if isinstance(choice, str) else {"kind": "auto", **choice}
    named = ENGINES.get(str(given["kind"]))
    kind, params, _ = named.chosen(ENGINES.read({**named.as_served, **given})[1])
    if kind is TransformersEngine:
        if len(given) > 1:
            raise UsageError("engine transformers has no parameters here; set --batch and --batch-tokens")
        return None
    if idle := [name for name in kind.idle_served if name in given]:
        raise UsageError(f"engine {kind.name}: {idle[0]} has no effect where it writes for clients; leave it out")
    if lacking := kind.missing():
        raise UsageError(f"engine {kind.name}: {lacking}")
    return kind, params


class Streaming:
    """An engine that writes for the systems of a server.

    Args:
        streams: of the engine.
        systems: that are served.
        at_once: answers written at the same time.
        base: what is known of the base, where the first system's answers now and then come from it.

    Attributes:
        at_once: as given.
    """

    def __init__(
        self, streams: TokenStreams, systems: Sequence[ServedSystem], at_once: int, base: AskedModel | None
    ) -> None:
        self._streams, self._base, self.at_once = streams, base, at_once
        self._writing: dict[str, dict[Route, StreamWriting]] = {
            one.name: {GRAFT: StreamWriting(streams, one.folder)} for one in systems
        }
        if base is not None:
            self._writing[systems[0].name][BASE] = StreamWriting(streams, None)
        self._bridges: list[Bridge] = []

    @property
    def gives_logprobs(self) -> bool:
        """Whether clients can have log-probabilities."""
        return self._streams.gives_logprobs

    @property
    def ended(self) -> bool:
        """Whether the engine has ended, so that nothing will be answered any more."""
        return self._streams.ended

    def tell(self, say: Callable[[str], None]) -> None:
        """Have it said when the engine does not work any more."""
        self._streams.tell = say

    def step(self) -> bool:
        """Compute for all that wait, where that is done here."""
        return self._streams.step()

    def writing(self, name: str) -> Mapping[Route, StreamWriting]:
        """Return what begins to write as a system."""
        return self._writing[name]

    def answering(self, system: ServedSystem, wake: Callable[[], None]) -> Callable[[], AnsweringEngine]:
        """Return what makes engines for decoders and other translations, of which one works at a time.

        Args:
            system: that they are asked of.
            wake: tells the thread in which streams are taken that there is something to do.
        """
        self._streams.wake = wake
        bridge = Bridge(wake)
        self._bridges.append(bridge)
        models: dict[Route, AskedModel] = {GRAFT: system.loaded}
        if self._base is not None:
            models[BASE] = self._base
        writing, graft = self._writing[system.name], system.folder is not None
        return lambda: StreamedEngine(writing, models, bridge, graft=graft)

    def close(self) -> None:
        """Wait for work beside the streams, which is at its end."""
        for bridge in self._bridges:
            bridge.close()


@contextmanager
def streaming(
    kind: type[Engine],
    params: Any,
    systems: Sequence[ServedSystem],
    at_once: int,
    *,
    plan: DecoderPlan | None = None,
    decider: Decider | None = None,
) -> Iterator[tuple[Streaming, list[ServedSystem]]]:
    """Yield what an engine writes with, and the systems as it can hold them.

    Args:
        kind: of the engine.
        params: its parameters.
        systems: that are served, without weights.
        at_once: answers written at the same time.
        plan: of the decoder that translates.
        decider: that routes.

    Raises:
        UsageError: something that is wanted needs what the engine does not give.
        EngineError: the engine cannot be started, does not answer, or cannot answer with a graft.
    """
    first = systems[0]
    if decider is not None and decider.reads:
        raise UsageError(
            f"the route {decider.name!r} reads the base's states, which the engine {kind.name!r} does not give; take "
            f"`form` or `caller`, or the engine transformers"
        )
    if plan is not None and plan.decoder.reads_base:
        raise UsageError(
            f"the decoder {plan.decoder.name!r} chooses pairs by the base's own states, which the engine {kind.name!r} "
            f"does not give; name an `embedder`, take another `retriever`, or the engine transformers"
        )
    grafts = [AskedGraft(one.name, one.folder) for one in systems if one.folder is not None]
    if refused := kind.unserved(params, grafts) if grafts else "":
        raise UsageError(f"engine {kind.name}: {refused}")
    base_too = first.folder is not None and (decider is not None or (plan is not None and plan.decoder.asks_base))
    files = first.loaded.files
    model = EngineModel.at(files, variables=first.info.template if first.info else None)
    renderers: dict[Path | None, Renderer] = {one.folder: one.loaded.renderer for one in systems}
    if base_too:
        renderers.setdefault(None, model.renderer)
    engine = kind.create(model, params)
    try:
        with engine.token_streams(renderers) as streams:
            for one in systems:
                if one.markers is not None and not streams.gives_ids:
                    raise UsageError(
                        f"{one.name!r} answers through a translation chain of thought, whose markers this server does "
                        f"not give (vLLM does: its token ids); serve it with vLLM, or take the engine transformers"
                    )
            held = [replace(one, loaded=_held(one.loaded, streams.context(one.folder))) for one in systems]
            base = _held(ModelElsewhere.of(files, renderers[None]), streams.context(None)) if base_too else None
            yield Streaming(streams, held, at_once, base), held
    finally:
        engine.close()


def _held(model: AskedModel, context: int | None) -> ModelElsewhere:
    """Return what is known of a model where an engine says how many tokens it takes."""
    limits = [limit for limit in (model.context, context) if limit is not None]
    return ModelElsewhere(model.files, model.renderer, min(limits, default=None))
