"""Texts that an OpenAI-compatible server writes for clients of ours: each token, or piece of text, as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anyio.from_thread import BlockingPortal, start_blocking_portal

from lingraft.core.errors import DataError, EngineError
from lingraft.core.hashing import seed_of
from lingraft.data.records import Message
from lingraft.engines.bodies import Body, CompletionChoice, Listed, parsed, refuse_error
from lingraft.engines.exchange_faults import Garbled, Unanswered
from lingraft.engines.openai_http import Patience, Wire, connected
from lingraft.engines.openai_replies import ENDS
from lingraft.engines.openai_servers import Server, dialect_of, text_of
from lingraft.engines.served_grafts import refuse_unloadable
from lingraft.engines.slot_batch import Written
from lingraft.engines.token_streams import StreamEnd, StreamRequest, StreamToken, TokenStreams
from lingraft.rendering.renderer import Renderer

MAX_EVENT = 4_194_304
"""Bytes of one event."""
KEPT = 2
"""Connections that stay open: a server may wait for days until somebody asks."""
EVENTS_BEHIND = 4
"""That are read behind the end of an answer, such as what was used."""


@dataclass(frozen=True)
class ServerAccess:
    """Where a server is and how it is asked.

    Attributes:
        root: its address.
        key: secret of the server, or "".
        params: of the `openai` engine.
        graft_name: gives the server's name of a graft; None where it has none.
    """

    root: str
    key: str
    params: Any
    graft_name: Callable[[Path], str | None]


@contextmanager
def open_streams(access: ServerAccess, renderers: Mapping[Path | None, Renderer]) -> Iterator[OpenAIStreams]:
    """Yield what lets a server write; each system has then written a token.

    Args:
        access: to the server.
        renderers: of the prompts of each system, by the folder of its graft; None for the base.

    Raises:
        EngineError: no server answers, it does not serve a graft, reads other tokens, or gives no usable answer.
    """
    with (
        start_blocking_portal(name="lingraft-openai") as portal,
        portal.wrap_async_context_manager(_opened(portal, access, renderers)) as streams,
    ):
        yield streams


@asynccontextmanager
async def _opened(
    portal: BlockingPortal, access: ServerAccess, renderers: Mapping[Path | None, Renderer]
) -> AsyncIterator[OpenAIStreams]:
    params, root = access.params, access.root
    patience = Patience(params.timeout, params.attempts, params.backoff, params.longest_wait)
    async with connected(root, access.key, patience, params.concurrency, KEPT) as wire, AsyncExitStack() as stack:
        dialect, model, known = await dialect_of(wire, params.server, params.model)
        by_ids = params.prompt == "tokens" or (params.prompt == "auto" and dialect.takes_ids)
        servers = dict[Path | None, Server]()
        for graft, renderer in renderers.items():
            name = model if graft is None else access.graft_name(graft)
            if graft is not None and name is None:
                refuse_unloadable(root, graft, wanted=params.load_grafts, able=dialect.loads_grafts)
                name = await stack.enter_async_context(dialect.loaded(wire, graft, known))
            servers[graft] = Server(dialect, str(name), by_ids)
            if by_ids:
                await dialect.compare_tokenizers(wire, renderer, str(name))
        streams = OpenAIStreams(portal, wire, servers, renderers, params, known)
        for graft in renderers:
            await streams.check(graft)
        yield streams


class OpenAIStreams(TokenStreams):
    """See `open_streams`."""

    def __init__(
        self,
        portal: BlockingPortal,
        wire: Wire,
        servers: Mapping[Path | None, Server],
        renderers: Mapping[Path | None, Renderer],
        params: Any,
        known: list[Listed],
    ) -> None:
        self._portal, self._wire, self._servers, self._renderers = portal, wire, servers, renderers
        self._params, self._known = params, {card.id: card for card in known}
        dialects = [server.dialect for server in servers.values()]
        self.gives_ids = self.gives_logprobs = all(dialect.streams_ids for dialect in dialects)

    def context(self, graft: Path | None) -> int | None:
        """Return what the server's list of models says of a system."""
        card = self._known.get(self._servers[graft].model)
        return card.max_model_len if card is not None else None

    def begin(self, graft: Path | None, request: StreamRequest) -> OpenAIStream:
        """Let a text be written; see `TokenStreams.begin`."""
        stream = self._stream(graft, request)
        stream.future = self._portal.start_task_soon(stream.run, self._wire)
        return stream

    async def check(self, graft: Path | None) -> None:
        """Let a system write a token; in the portal's own thread.

        Raises:
            EngineError: it does not.
        """
        renderer = self._renderers[graft]
        ids = renderer.prompt_ids((Message("user", "Hello"),)).ids
        stream = self._stream(graft, StreamRequest(ids=ids, ends=renderer.end_ids, most=1))
        await stream.run(self._wire)
        stream.take()

    def _stream(self, graft: Path | None, request: StreamRequest) -> OpenAIStream:
        renderer, server = self._renderers[graft], self._servers[graft]
        reader = _Reader(renderer, request, ids=self.gives_ids)
        return OpenAIStream(self._body(server, renderer, request), reader, lambda: self.wake())

    def _body(self, server: Server, renderer: Renderer, request: StreamRequest) -> dict[str, Any]:
        """Return the fields of a call.

        Raises:
            DataError: a text would be read as other tokens than the prompt's.
        """
        sampled = request.temperature > 0
        prompt = list(request.ids) if server.by_ids else text_of(request.ids, renderer)
        if prompt is None:
            raise DataError(
                "this prompt can only be sent as a text to the server that answers, which would read it as other "
                "tokens; leave control tokens and blanks at its ends out"
            )
        body: dict[str, Any] = {
            "model": server.model,
            "prompt": prompt,
            self._params.limit_field: request.most,
            "temperature": request.temperature,
            "top_p": request.top_p if sampled else 1.0,
            "stream": True,
            **server.dialect.neutral,
        }
        if server.dialect.streams_ids:
            body["stop_token_ids"] = list(request.ends)
        if sampled:
            body["seed"] = seed_of([request.seed, list(request.ids)], digits=7)  # 28 bits: fits any server
        if request.top is not None:
            body |= {"logprobs": request.top, "return_tokens_as_token_ids": True}
        return {**body, **self._params.extra_body}


class OpenAIStream:
    """A text on its way; see `TokenStream`.

    Args:
        body: of the call.
        reader: makes tokens of the events.
        wake: says that there is something to take.

    Attributes:
        future: of the work.
    """

    def __init__(self, body: dict[str, Any], reader: _Reader, wake: Callable[[], None]) -> None:
        self._body, self._reader, self._wake = body, reader, wake
        self._ready: deque[StreamToken | StreamEnd | Exception] = deque()
        self.future: Future[None] | None = None

    def take(self) -> StreamToken | StreamEnd | None:
        """Return what comes next; see `TokenStream.take`."""
        if not self._ready:
            return None
        if isinstance(item := self._ready.popleft(), Exception):
            raise item
        return item

    def close(self) -> None:
        """Break the connection off, where the text is still being written."""
        if self.future is not None:
            self.future.cancel()

    async def run(self, wire: Wire) -> None:
        """Put into the line what the server gives, and at last the end or an error."""
        try:
            async with aclosing(wire.events("an answer", "/completions", self._body, max_bytes=MAX_EVENT)) as events:
                behind = 0
                async for data in events:  # to the last, so that the connection can be used again
                    if not self._reader.ended:
                        self._ready.extend(self._reader.read(data))
                        self._wake()
                    elif (behind := behind + 1) == EVENTS_BEHIND:
                        break
                    if self._reader.too_much:
                        break
            if not self._reader.ended:
                raise Garbled("malformed", "an answer that does not say how it ended")
        except Garbled as error:
            self._ready.append(Unanswered(f"{wire.root} gives what cannot be used: {error.detail}", error.cause))
        except Exception as error:  # it is the reader's, in the other thread
            if not self._reader.ended:
                self._ready.append(error)
        finally:
            self._wake()


class _Reader:
    """Makes tokens of the events of an answer.

    Args:
        renderer: of the model's tokenizer.
        request: what was asked.
        ids: whether the server gives token ids; else the tokens are those of each piece of text.

    Attributes:
        ended: whether the text has ended.
        too_much: whether the server has written more than it may.
    """

    def __init__(self, renderer: Renderer, request: StreamRequest, *, ids: bool) -> None:
        self._renderer, self._request, self._ids = renderer, request, ids
        self._vocabulary = len(renderer.tokenizer)
        self._count, self._left = 0, ""
        self.ended = self.too_much = False

    def read(self, data: bytes) -> list[StreamToken | StreamEnd]:
        """Return what an event adds.

        Raises:
            Garbled: it is none of an answer.
            EngineError: the server withholds the answer.
        """
        refuse_error(data)
        body = parsed(Body, data)
        if not body.choices:  # what was used
            return []
        choice = body.choices[0]
        found: list[StreamToken | StreamEnd] = [*(self._own(choice) if self._ids else self._of(choice.text or ""))]
        self._count += len(found)
        reason = (choice.finish_reason or "").strip().lower()
        # Pieces of a text may have some tokens more than the text; a server that knows no limit has no end.
        limit = self._request.most if self._ids else 2 * self._request.most + 16
        self.too_much = self._count > limit
        if self.too_much and self._ids:
            raise Garbled("malformed", f"more tokens than the {limit} asked for")
        if reason and ENDS.get(reason) not in ("stop", "stop_string", "length"):
            raise EngineError(f"the server ended an answer with {reason!r}")
        if reason or self.too_much:
            self.ended = True
            found.append(StreamEnd(cut=self.too_much or ENDS[reason] == "length"))
        return found

    def _own(self, choice: CompletionChoice) -> Iterator[StreamToken]:
        """Yield the server's own tokens."""
        ids, top = choice.token_ids, self._request.top
        if ids is None:
            if choice.text:
                raise Garbled("malformed", "no token ids; set engine.server to other")
            return
        rows = (choice.logprobs.top_logprobs or []) if choice.logprobs is not None else []
        if top is not None and len(rows) != len(ids):
            raise Garbled("malformed", "no log-probabilities for each token")
        for number, token in enumerate(ids):
            if token >= self._vocabulary:
                raise Garbled("malformed", f"token id {token}, outside the vocabulary of {self._vocabulary}")
            yield StreamToken(token, None if top is None else _noted(token, rows[number] or {}, top))

    def _of(self, text: str) -> Iterator[StreamToken]:
        """Yield the tokens of a piece of text; the last of them has it."""
        text, self._left = self._left + text, ""
        ids = self._renderer.plain_ids(text) if text else []
        if not ids:
            self._left = text
            return
        for token in ids[:-1]:
            yield StreamToken(token, text="")
        yield StreamToken(ids[-1], text=text)


def _noted(token: int, row: Mapping[str, float], top: int) -> Written:
    """Return a token with the log-probabilities of its place, in vLLM's spelling."""
    values = {int(name.removeprefix("token_id:")): value for name, value in row.items() if name[9:].isdecimal()}
    if token not in values:
        raise Garbled("malformed", "no log-probability of a token")
    best = sorted(values.items(), key=lambda item: -item[1])[:top]
    return Written(token, round(values[token], 4), tuple((id_, round(value, 4)) for id_, value in best))
