"""Answers that an engine elsewhere writes, such as a server behind this one: its tokens as they come, its errors."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, cast

from lingraft.conversation.text_pieces import TextStream
from lingraft.conversation.writing import Clock, PromptProgress, TextPieces, Waits, Written, never, room_behind
from lingraft.core.errors import EngineError, TooLongError
from lingraft.core.hashing import seed_of
from lingraft.data.records import Generation, Request
from lingraft.engines.exchange_faults import ContextExceeded, Unanswered
from lingraft.engines.finishing import TopLogprobs, before_stop, finished, prompt_within, without_lead
from lingraft.engines.token_streams import StreamEnd, StreamRequest, StreamToken, TokenStream, TokenStreams
from lingraft.models.loading import AskedModel
from lingraft.rendering.renderer import PromptIds, Renderer
from lingraft.routing.base import BASE, GRAFT, Route
from lingraft.serving.bridge import Asked, Bridge, Left
from lingraft.serving.decoding import AnsweringEngine
from lingraft.serving.request import ApiError, later
from lingraft.serving.rounds import side_by_side

BUSY = ("429", "503")
"""What a server answers that may take the request later."""
LEAST_TOP_P = 1e-6
"""Stands for 0, the most probable token alone, which engines refuse."""
LONGEST_WAIT = 3600
"""Seconds that clients are told to wait, at most."""
_TAIL = 64
"""Last tokens in which a stop string is looked for; those before have been looked through."""
_TOO_LONG = "the conversation does not fit the context of the model, its answer included; shorten it, or ask for less"


@contextmanager
def told_to_clients() -> Iterator[None]:
    """Let what goes wrong behind this server be told to clients as it should, without the words of what is behind.

    Raises:
        ApiError: there is no answer: 502, 503 with `Retry-After`, or 504.
        EngineError: what was asked does not fit.
    """
    try:
        yield
    except ContextExceeded as error:
        raise EngineError(_TOO_LONG) from error
    except Unanswered as error:
        if error.cause in BUSY:
            message, code = "the engine that writes the answers is busy; try again later", "engine_busy"
            if not error.wait:
                raise later(message, code) from error
            wait = str(max(1, min(LONGEST_WAIT, ceil(error.wait))))
            raise ApiError(503, message, code=code, headers={"Retry-After": wait}) from error
        if error.cause == "timeout":
            message = "the engine that writes the answers was silent for too long; try again later"
            raise ApiError(504, message, code="engine_timeout") from error
        message = "the engine that writes the answers does not answer, or has broken off; try again later"
        raise ApiError(502, message, code="engine_failed") from error
    except EngineError as error:
        message = "the engine that writes the answers refuses this; whoever runs this server should look at it"
        raise ApiError(502, message, code="engine_refused") from error


class GivenText:
    """Text as the engine gives it; see `TextStream`.

    Args:
        last: gives the text of the last token.
        bare: whether white space at the ends is left out.
    """

    def __init__(self, last: Callable[[], str], *, bare: bool) -> None:
        self._last, self._bare, self._begun, self._waiting = last, bare, False, ""

    def step(self, token: int) -> str:
        """Return the text that a token completes; white space waits for what follows it."""
        self._waiting += self._last()
        if self._bare and not self._begun:
            self._waiting = self._waiting.lstrip()
        ready = self._waiting.rstrip() if self._bare else self._waiting
        self._waiting = self._waiting[len(ready) :]
        self._begun = self._begun or bool(ready)
        return ready

    def rest(self) -> str:
        """Return nothing: what is left is white space."""
        return ""


class StreamWriter:
    """Writes an answer by the streams of an engine; see `lingraft.conversation.writing.Writer`.

    Where another token is put in the place of one that came, the engine goes on behind it in a stream of its own.

    Args:
        streams: of the engine.
        graft: folder of the one that writes; None for the base.
        renderer: of the tokens.
        request: for the whole answer.

    Attributes:
        room: tokens that may still be written.
        noted: the token that came, with its log-probability.
        renderer: of the tokens.
        given: text of the last accepted token, where the engine gives text.
    """

    def __init__(self, streams: TokenStreams, graft: Path | None, renderer: Renderer, request: StreamRequest) -> None:
        self._streams, self._graft, self.renderer, self._request = streams, graft, renderer, request
        self.room, self.noted = request.most, cast("Written | None", None)
        self._ids = list(request.ids)
        self._stream: TokenStream | None = None
        self._first: StreamToken | StreamEnd | None = None
        self._came: StreamToken | None = None
        self.given = ""

    def read(self) -> Iterator[PromptProgress | Waits]:
        """Wait for the first token: what goes wrong before has its status.

        Raises:
            ApiError, EngineError: see `told_to_clients`.
        """
        while (item := self._taken()) is None:
            yield Waits()
        self._first = item

    def next(self) -> Generator[Waits, None, int | None]:
        """Return the token that comes next; see `Writer.next`.

        Raises:
            ApiError, EngineError: see `told_to_clients`.
        """
        item, self._first = self._first, None
        while item is None and (item := self._taken()) is None:
            yield Waits()
        if isinstance(item, StreamEnd):
            self.noted, self.room = None, 0 if item.cut else self.room
            return None if item.cut else self.renderer.end_of_turn_id
        self._came, self.noted = item, item.noted
        return item.id

    def _taken(self) -> StreamToken | StreamEnd | None:
        with told_to_clients():
            if self._stream is None:
                self._stream = self._begun()
            return self._stream.take()

    def _begun(self) -> TokenStream:
        request = self._request
        return self._streams.begin(
            self._graft,
            StreamRequest(
                ids=tuple(self._ids),
                ends=request.ends,
                most=self.room,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
                top=request.top,
            ),
        )

    def accept(self, token: int) -> None:
        """Go on behind a token, be it the one that came or another."""
        came = self._came
        if came is None or token != came.id:
            self.close()
        self.given = (came.text if came is not None else None) or ""
        self._came = None
        self._ids.append(token)
        self.room -= self._streams.gives_ids  # else the engine counts by tokens of its own

    def text(self, behind: Sequence[int] | None = None) -> TextPieces:
        """Return what makes text of the tokens."""
        if self._streams.gives_ids:
            return TextStream(self.renderer, behind)
        return GivenText(lambda: self.given, bare=behind is None)

    def close(self) -> None:
        """Want no more of the engine."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class StreamWriting:
    """Begins to write by the streams of an engine; see `lingraft.conversation.writing.MakeWriter`.

    Args:
        streams: of the engine.
        graft: folder of the one that writes; None for the base.
    """

    def __init__(self, streams: TokenStreams, graft: Path | None) -> None:
        self.streams, self._graft = streams, graft

    def writer(self, renderer: Renderer, request: StreamRequest) -> StreamWriter:
        """Return the writer of an answer."""
        return StreamWriter(self.streams, self._graft, renderer, request)

    def __call__(
        self,
        loaded: AskedModel,
        prompt: Sequence[int],
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        most: int | None = None,
        top: int | None = None,
    ) -> StreamWriter:
        """Return the writer.

        Raises:
            EngineError: the prompt fills the context.
        """
        request = StreamRequest(
            ids=tuple(prompt),
            ends=loaded.renderer.end_ids,
            most=room_behind(loaded, prompt, most),
            temperature=temperature,
            top_p=max(top_p, LEAST_TOP_P),
            seed=seed,
            top=top,
        )
        return self.writer(loaded.renderer, request)


class StreamedEngine(AnsweringEngine):
    """Answers the steps of decoders, and other translations, by the streams of an engine.

    Args:
        writing: begins to write as the graft, or as what is served, and as its base where there is one.
        models: what is known of these.
        bridge: to the thread in which streams are taken.
        graft: whether there is one.
    """

    name: ClassVar[str] = "streamed"
    summary: ClassVar[str] = "an engine behind `lingraft serve`"
    listed: ClassVar[bool] = False
    local: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    bridge: Bridge

    def __init__(
        self, writing: Mapping[Route, StreamWriting], models: Mapping[Route, AskedModel], bridge: Bridge, *, graft: bool
    ) -> None:
        self._writing, self._models, self._graft, self.bridge = writing, models, graft, bridge
        self.left, self.clock = never, Clock()

    @classmethod
    def create(cls, model: Any, params: Any) -> StreamedEngine:
        """Never called: a server makes it."""
        raise NotImplementedError

    @property
    def renderer(self) -> Renderer:
        """Of the prompts."""
        return self._models[GRAFT].renderer

    @property
    def context(self) -> int:
        """Tokens that the model can hold, prompt and answer together."""
        return self._models[GRAFT].context or 1 << 30

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield generations; see `Engine.generate`.

        Raises:
            Left: nobody waits for them any more.
            ApiError: there is no answer, see `told_to_clients`.
        """
        route = BASE if graft is None and self._graft else GRAFT
        works = {number: self._written(request, route) for number, request in enumerate(requests)}
        asked = cast(Asked[dict[int, Generation]], side_by_side(works))  # it yields nothing but that it waits
        yield from self.bridge.ask(asked).values()

    def _written(self, request: Request, route: Route) -> Generator[Waits, None, Generation]:
        """Answer a request; in the thread in which streams are taken.

        Raises:
            TooLongError: it leaves no room for its answer.
            Left, ApiError: as `generate`.
        """
        model, writing, sampling = self._models[route], self._writing[route], request.sampling
        prompt = prompt_within(model.renderer, request, model.context or 1 << 30)
        if sampling.max_new_tokens < 1:
            return Generation(request.id, "", (), "length")
        writer = writing.writer(
            model.renderer,
            StreamRequest(
                ids=prompt.ids,
                ends=(*model.renderer.end_ids, *request.ends),
                most=sampling.max_new_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=seed_of([sampling.seed, request.id]),
                top=request.top_logprobs or None,
            ),
        )
        with closing(writer):
            try:
                written = yield from (self._ids if writing.streams.gives_ids else self._texts)(writer, request, prompt)
            except EngineError as error:  # what else may be is told to clients
                raise TooLongError(request.id, "it is too long for the engine that answers", str(error)) from error
        return written

    def _ids(self, writer: StreamWriter, request: Request, prompt: PromptIds) -> Generator[Waits, None, Generation]:
        """Return what the tokens of an engine are."""
        renderer, stops = writer.renderer, request.sampling.stop
        tokens, logprobs, ends = list[int](), list[TopLogprobs](), (*renderer.end_ids, *request.ends)
        while True:
            token = yield from writer.next()
            self._count()
            tokens += [] if token is None else [token]
            logprobs += [writer.noted.top] if writer.noted else []
            over = token is None or token in ends or len(tokens) == request.sampling.max_new_tokens
            tail = renderer.decode(tokens[-_TAIL:]) if stops and not over else ""
            if over or any(stop in tail for stop in stops):
                if token is None:
                    request = replace(request, sampling=replace(request.sampling, max_new_tokens=len(tokens)))
                if (found := finished(renderer, request, prompt, tokens, logprobs)) is not None:
                    return found
            assert token is not None
            writer.accept(token)

    def _texts(self, writer: StreamWriter, request: Request, prompt: PromptIds) -> Generator[Waits, None, Generation]:
        """Return what the pieces of text of an engine are."""
        tokens, text, stop = list[int](), "", ""
        while True:
            token = yield from writer.next()
            self._count()
            if token is None or token == writer.renderer.end_of_turn_id:
                reason = "length" if token is None else "stop"
                break
            writer.accept(token)
            tokens.append(token)
            text, stop = before_stop(text + writer.given, request.sampling.stop)
            if stop:
                reason = "stop_string"
                break
        return Generation(request.id, without_lead(text, request, prompt), tuple(tokens), reason)

    def _count(self) -> None:
        self.clock.token()
        if self.left():
            raise Left
