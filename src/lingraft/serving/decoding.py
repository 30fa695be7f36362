"""A decoder's steps, answered by the model that an endpoint has in memory, as long as their client is there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from lingraft.conversation.decoding import Decoding, engine_kind, no_room, windows
from lingraft.conversation.writing import PADDING, Clock, Waits, never
from lingraft.core.allowance import Allowance, allowing
from lingraft.core.errors import EngineError, ModelError, TooLongError
from lingraft.core.tasks import Task
from lingraft.data.records import Generation, Pair, Request
from lingraft.decoders.base import Of
from lingraft.engines.base import Engine
from lingraft.engines.finishing import prompt_of, prompt_within
from lingraft.engines.slot_batch import BatchRow, SlotBatch
from lingraft.engines.slot_decoder import SlotRow
from lingraft.engines.transformers import TransformersEngine
from lingraft.language.code_calls import made_calls
from lingraft.models.loading import AskedModel, LoadedModel
from lingraft.rendering.renderer import Renderer
from lingraft.routing.router import graft_off
from lingraft.serving.bridge import Asked, Bridge, Left, at_once
from lingraft.serving.rounds import side_by_side
from lingraft.translation.direct import Source, Translation

AT_ONCE = 8192
"""Tokens, padding and answers included, that are written side by side: memory that one request may take."""


@dataclass(frozen=True)
class Side:
    """Where a decoder's steps are answered beside others.

    Attributes:
        bridge: to the model's thread.
        system: answers as the graft, or as what is served.
        base: answers as the base of the graft.
        put_on: lets the model in memory be the one that is asked, for what is not written in batches.
    """

    bridge: Bridge
    system: SlotBatch
    base: SlotBatch
    put_on: Callable[[], None]


class AnsweringEngine(Engine):
    """Answers the steps of decoders beside the clients of a server.

    Attributes:
        left: asked after each token; True ends all.
        clock: notes the first token.
        bridge: to the thread that answers clients; None: nothing else is answered meanwhile.
    """

    left: Callable[[], bool]
    clock: Clock
    bridge: Bridge | None

    @property
    @abstractmethod
    def renderer(self) -> Renderer:
        """Of the prompts."""

    @property
    @abstractmethod
    def context(self) -> int:
        """Tokens that the model can hold, prompt and answer together."""


class ServedEngine(TransformersEngine, AnsweringEngine):
    """Answers with a model whose graft is on it already, and is off while the base is asked.

    Lengths of prompts are padded, because oneDNN keeps memory for every length that it has met, and weights are not
    packed, which takes longer than one text.

    Args:
        loaded: the model, its graft on.
        graft: whether there is one.
        side: to answer in batches, beside others; None: it has the model for itself.
    """

    worth_packing = float("inf")
    padding = PADDING

    def __init__(self, loaded: LoadedModel, graft: bool, side: Side | None = None) -> None:
        super().__init__(loaded, batch_tokens=AT_ONCE)
        self._on, self.side, self.bridge = graft, side, side.bridge if side is not None else None
        self.left, self.clock = never, Clock()

    @property
    def renderer(self) -> Renderer:
        """Of the prompts."""
        return self._renderer

    @property
    def context(self) -> int:
        """Tokens that the model can hold, prompt and answer together."""
        return self._context

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield generations as they end; see `Engine.generate`.

        Raises:
            Left: see there.
        """
        if self.side is None:
            with self.as_base() if graft is None else nullcontext():
                yield from self._answers(requests)
            return
        batch = self.side.base if graft is None and self._on else self.side.system
        works: dict[int, Generator[Any | Waits, None, Generation]] = {
            number: self._written(request, batch) for number, request in enumerate(requests)
        }
        asked = cast(Asked[dict[int, Generation]], side_by_side(works))  # it yields nothing but that it waits
        yield from self.side.bridge.ask(asked).values()

    def _written(self, request: Request, batch: SlotBatch) -> Generator[Waits, None, Generation]:
        """Answer a request in a batch; in the model's thread.

        Raises:
            Left: see there.
            ModelError: the model computes what is no number.
        """
        row = SlotRow(request, prompt_within(self._renderer, request, self._context))
        sampling = request.sampling
        if sampling.max_new_tokens < 1:
            return self._generation(row)
        mine = BatchRow(
            ids=list(row.prompt.ids),
            room=row.room,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            draws=row.draws,
            top=request.top_logprobs or None,
            owner=self,
        )
        batch.add(mine)
        try:
            while True:
                while mine.token is None:
                    if self.left():
                        raise Left
                    if mine.error is not None:
                        raise mine.error
                    yield Waits()
                token, mine.token = mine.token, None
                row.tokens.append(token)
                row.logprobs += [mine.noted.top] if mine.noted else []
                if self._ended(row):
                    return self._generation(row)
                mine.ids.append(token)
        finally:
            batch.remove(mine)

    def as_base(self) -> AbstractContextManager[None]:
        """Switch the graft off for the block."""
        return graft_off(self._base) if self._on else nullcontext()

    @contextmanager
    def keeping(self, graft: Path | None) -> Iterator[None]:
        """Do nothing: the graft stays on."""
        yield

    def _ended(self, row: SlotRow) -> bool:
        self.clock.token()
        if self.left():
            raise Left
        return super()._ended(row)


def engine_here(loaded: AskedModel, graft: bool, side: Side | None = None) -> ServedEngine:
    """Return what answers with a model in memory; see `ServedEngine`."""
    return ServedEngine(cast(LoadedModel, loaded), graft, side)


@dataclass(kw_only=True)
class ServedDecoding(Decoding):
    """A decoder on a served model: texts end at the model's context, and steps with the client.

    Attributes:
        read: tokens of all prompts of a text.
    """

    engine: AnsweringEngine
    read: int = 0

    def __call__(self, step: str, requests: Iterable[Request], of: Of = "system") -> Mapping[str, Generation]:
        """Return the answers to a step; see `lingraft.decoders.base.Ask`.

        Raises:
            Left: nobody waits for the answer any more.
            TooLongError: a request leaves no room for its answer.
        """
        if self.engine.left():
            raise Left
        return super().__call__(step, [self._fitted(request, of) for request in requests], of)

    def several(self, sources: Sequence[Source]) -> Iterator[Translation | TooLongError]:
        """Yield the translation of each source, or why it has none, as `translations` does; metrics and engines stay
        open until `close`.

        Raises:
            EngineError: an answer fails, or the decoder leaves a text out.
            Left: nobody waits for the answers any more.
        """
        for window in windows(sources, self.engine):
            self.known.clear()
            yield from self._decoded(window)

    def _fitted(self, request: Request, of: Of) -> Request:
        """Return a request for a translation with no more tokens than the context leaves, as answers end there in a
        conversation. What a step wants otherwise it must have room for."""
        length = len(prompt_of(self.engine.renderer, request).ids)
        self.read += length
        sampling = request.sampling
        if sampling.max_new_tokens != self.sampling.max_new_tokens or not isinstance(of, str):
            return request
        room = max(1, self.engine.context - length)
        return replace(request, sampling=replace(sampling, max_new_tokens=min(sampling.max_new_tokens, room)))

    def _other(self, choice: Mapping[str, Any]) -> Engine:
        """Return the engine that a decoder names; one that would load the base in this process is that which answers
        here."""
        kind, _ = engine_kind(choice)
        return self.engine if issubclass(kind, TransformersEngine) else super()._other(choice)

    def _embed(self, texts: Sequence[str], embedder: str | None) -> np.ndarray:
        """Embed texts; see `lingraft.decoders.base.Embed`. The base's own states are those without the graft."""
        engine = self.engine
        if embedder is not None or not isinstance(engine, ServedEngine):
            with _untold():
                return super()._embed(texts, embedder)
        if (side := engine.side) is not None:
            return side.bridge.ask(at_once(lambda: self._embed_as_base(engine, texts)))
        return self._embed_as_base(engine, texts)

    def _embed_as_base(self, engine: ServedEngine, texts: Sequence[str]) -> np.ndarray:
        """Embed by the base's own states; in the model's thread."""
        if engine.side is not None:
            engine.side.put_on()
        with _untold(), engine.as_base():
            return super()._embed(texts, None)

    def _score(self, metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
        """Score texts; see `DecoderInputs.score`."""
        with _untold():
            return super()._score(metric, pairs, texts)


@contextmanager
def _untold() -> Iterator[None]:
    """Let another model than the one that is served fail as an engine does: clients are not told where it lies."""
    try:
        yield
    except ModelError as error:
        raise EngineError(str(error)) from error


PROGRAM_SECONDS = 120.0
"""That the programs of one request may run together; each has the limits of the sandbox beside."""


@contextmanager
def within_limits(task: Task, left: Callable[[], bool]) -> Iterator[None]:
    """Let programs of one request run within `PROGRAM_SECONDS`, and no longer than its client waits; what they did is
    forgotten behind it.

    Args:
        task: of the decoder.
        left: whether nobody waits any more.

    Raises:
        Left: so it is, and a program was running.
    """
    if task != "code":
        yield
        return

    def asked() -> None:
        if left():
            raise Left

    try:
        with allowing(Allowance(seconds=PROGRAM_SECONDS, asked=asked)):
            yield
    finally:
        made_calls.cache_clear()  # clients' programs, some hundred KB each


def too_long(engine: AnsweringEngine) -> Callable[[Request, str], str]:
    """Return what says why a request leaves no room for its answer, "" if it does; see `Decoding`."""

    def reason(request: Request, of: str) -> str:
        return no_room(len(prompt_of(engine.renderer, request).ids), request.sampling.max_new_tokens, engine.context)

    return reason
