"""The `openai` engine: any server that speaks the OpenAI protocol (vLLM, llama.cpp, TGI, Ollama, hosted services).

Where the server takes token ids, prompts go out as the ids that training uses; else as the same text, or as messages.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from lingraft.core.errors import EngineError, TooLongError, UsageError
from lingraft.data.records import Generation, Request
from lingraft.engines.address import (
    address_from_environment,
    key_for,
    key_name,
    may_have_key,
)
from lingraft.engines.base import Engine, EngineModel
from lingraft.engines.exchange_faults import ContextExceeded
from lingraft.engines.finishing import before_stop, finished, without_lead
from lingraft.engines.openai_http import Patience, ServerAddress, Wire, connected
from lingraft.engines.openai_params import OpenAIParams
from lingraft.engines.openai_replies import ServerAnswer, read_reply
from lingraft.engines.openai_servers import DIALECTS, Server, ServerRequest, dialect_of
from lingraft.engines.served_grafts import ANY, AskedGraft, refuse_unloadable, unserved
from lingraft.language.thinking import said

if TYPE_CHECKING:
    from lingraft.engines.token_streams import TokenStreams
    from lingraft.rendering.renderer import Renderer


class OpenAIEngine(Engine):
    """Keeps `concurrency` requests under way and yields answers as they come.

    Args:
        renderer: of the local model's prompts; the server must serve the same model, except with `api: chat`.
        params: address, protocol and limits, see `Params`.
    """

    name: ClassVar[str] = "openai"
    summary: ClassVar[str] = "a server that speaks the OpenAI protocol: vLLM, llama.cpp, TGI, Ollama, hosted"
    local: ClassVar[bool] = False
    loads_base: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    as_judge: ClassVar[Mapping[str, Any]] = {"api": "chat", "server": "other", "withheld": "empty"}
    as_served: ClassVar[Mapping[str, Any]] = {"timeout": 60.0}
    idle_served: ClassVar[Sequence[str]] = (
        "chat_prefill",
        "attempts",
        "backoff",
        "longest_wait",
        "withheld",
        "budget",
        "price_prompt",
        "price_completion",
    )

    class Params(OpenAIParams):
        """Parameters of the openai engine."""

    def __init__(self, renderer: Renderer, params: Params) -> None:
        self._renderer = renderer
        self._params = params
        self._root = params.base_url or address_from_environment()
        self._key = key_for(params.key_env, self._root)
        self._vocabulary = len(renderer.tokenizer)
        self._sole_graft: Path | None = None
        self._spent = 0.0
        self._counts: Counter[str] = Counter()
        self._retries: Counter[str] = Counter()
        self._cost = 0.0

    @classmethod
    def acts(cls, params: Any) -> list[str]:
        """Return which host gets the texts, and which variable as a key; a server on this machine gets its own user's
        texts, and is worth a word only for a key that is named."""
        root = params.base_url or address_from_environment()
        address = ServerAddress.of(root)
        host = address.origin
        found = [] if address.is_loopback else [f"sends texts to {host}"]
        if params.key_env:
            key_name(params.key_env, root)
            found.append(f"sends the environment variable {params.key_env} as a key to {host}")
        elif found and may_have_key(root):
            found.append(f"sends the environment variable OPENAI_API_KEY, where it is set, as a key to {host}")
        return found

    @classmethod
    def model_named(cls, choice: Mapping[str, Any]) -> str:
        """Return the only model of its server; see `Engine.model_named`."""
        return f"the only model at {choice.get('base_url') or 'the default server'}"

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> OpenAIEngine:
        """Make the engine; nothing is sent before the first request."""
        return cls(model.renderer, params)

    @classmethod
    def identity(cls, params: Any) -> dict[str, Any]:
        """Return what decides the output: the served model and the form of requests.

        The address counts only where it alone says which model answers: a server may move, or be one of several.
        """
        decides = {"model", "server", "api", "prompt", "chat_prefill", "limit_field", "extra_body", "grafts"}
        address = {} if params.model else {"base_url": params.base_url or address_from_environment()}
        emptied = {"withheld": "empty"} if params.withheld == "empty" else {}
        return {"engine": cls.name, **params.model_dump(mode="json", include=decides), **address, **emptied}

    @classmethod
    def loads(cls, params: Any, named: bool = True) -> bool:
        """Servers load low-rank updates alone; what they have under a name may be an export."""
        return named and ANY in params.grafts

    @classmethod
    def unserved(cls, params: Any, asked: Sequence[AskedGraft]) -> str:
        """Return which graft the server has no name for and cannot load; see `Engine.unserved`."""
        return unserved(params.grafts, params.load_grafts, asked)

    @classmethod
    def base_only(cls, params: Any) -> str:
        """Return why no graft can be asked; see `Engine.base_only`."""
        if params.load_grafts or params.grafts:
            return ""
        return (
            "neither load_grafts (vLLM started with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True) nor grafts (names that the "
            "server has for them) is set; set one of them"
        )

    @classmethod
    def without_logprobs(cls, params: Any) -> str:
        """Return that the kind of server it is set to tells no token ids; one it has to ask is known then."""
        if params.server == "auto" or DIALECTS[params.server].gives_ids:
            return ""
        return f"a server of kind {params.server!r} tells no token ids; take vllm or llama.cpp, or another engine"

    def usage(self) -> dict[str, Any]:
        """Return requests, tokens, failed attempts by cause and, where prices are given, the cost since last asked."""
        found: dict[str, Any] = dict(self._counts)
        if self._retries:
            found["retries"] = dict(sorted(self._retries.items()))
        if found and (self._params.price_prompt or self._params.price_completion):
            found["cost"] = round(self._cost, 6)
        self._counts, self._cost = Counter(), 0.0
        self._retries.clear()
        return found

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield generations as they arrive; see `Engine.generate`.

        Requests are drawn and answers decoded in the caller's thread; a thread of its own keeps the connections busy
        meanwhile. Closing the generator cancels what is under way.
        """
        from lingraft.models.graft import as_trained

        renderer = as_trained(self._renderer, graft) if graft else self._renderer
        with (
            start_blocking_portal(name="lingraft-openai") as portal,
            portal.wrap_async_context_manager(self._opened(graft)) as (wire, server),
        ):
            yield from self._answers(portal, wire, server, requests, renderer)

    def token_streams(self, renderers: Mapping[Path | None, Renderer]) -> AbstractContextManager[TokenStreams]:
        """Give what lets the server write; see `Engine.token_streams`."""
        from lingraft.engines.openai_streams import ServerAccess, open_streams

        if self._params.api == "chat":
            raise UsageError(
                "engine openai: prompts of clients are rendered here, as in training, which `api: chat` cannot take; "
                "leave api out"
            )
        return open_streams(ServerAccess(self._root, self._key, self._params, self._graft_name), renderers)

    @asynccontextmanager
    async def _opened(self, graft: Path | None) -> AsyncIterator[tuple[Wire, Server]]:
        """Give the connection and what is known of the server; a graft that it loads is unloaded afterwards."""
        params = self._params
        patience = Patience(params.timeout, params.attempts, params.backoff, params.longest_wait)
        async with connected(self._root, self._key, patience, params.concurrency) as wire:
            wire.attempts_failed = self._retries
            dialect, model, known = await dialect_of(wire, params.server, params.model)
            by_ids = params.prompt == "tokens" or (params.prompt == "auto" and dialect.takes_ids)
            if params.api == "completions" and by_ids:
                await dialect.compare_tokenizers(wire, self._renderer, model)
            server = Server(dialect, model, by_ids)
            if graft is None:
                yield wire, server
            elif (named := self._graft_name(graft)) is not None:
                yield wire, Server(dialect, named, by_ids)
            else:
                refuse_unloadable(self._root, graft, wanted=self._params.load_grafts, able=dialect.loads_grafts)
                async with dialect.loaded(wire, graft, known) as named:
                    yield wire, Server(dialect, named, by_ids)

    def _graft_name(self, graft: Path) -> str | None:
        """Return the server's name of a graft as the parameters have it."""
        wanted = graft.resolve()
        for folder, name in self._params.grafts.items():
            if folder != ANY and Path(folder).expanduser().resolve() == wanted:
                return name
        if ANY not in self._params.grafts:
            return None
        if self._sole_graft not in (None, wanted):
            raise EngineError(
                f"engine.grafts names one graft for any folder, but both {self._sole_graft} and {wanted} are asked "
                f"for; name each folder, or set engine.load_grafts"
            )
        self._sole_graft = wanted
        return self._params.grafts[ANY]

    def _answers(
        self, portal: BlockingPortal, wire: Wire, server: Server, requests: Iterable[Request], renderer: Renderer
    ) -> Iterator[Generation]:
        """Keep a window of requests under way, as many waiting as are at the server, and yield what is finished."""
        rows = iter(requests)
        done: SimpleQueue[Future[ServerAnswer]] = SimpleQueue()
        pending: dict[Future[ServerAnswer], tuple[ServerRequest, float]] = {}
        held: ServerRequest | None = None
        more = True
        budget = math.inf if self._params.budget is None else self._params.budget
        try:
            while True:
                while more and len(pending) < 2 * self._params.concurrency:
                    if held is None:
                        request = next(rows, None)
                        if request is None:
                            more = False
                            break
                        held = ServerRequest.of(request, server, renderer, self._params)
                    reserve = self._price(held.prompt_tokens, held.request.sampling.max_new_tokens)
                    if self._spent + reserve + sum(value for _, value in pending.values()) > budget:
                        if pending:
                            break  # what is under way may cost less than reserved
                        raise self._over_budget(held, reserve)
                    future = portal.start_task_soon(self._ask, wire, held)
                    pending[future] = (held, reserve)
                    future.add_done_callback(done.put)
                    held = None
                if not pending:
                    return
                future = done.get()
                asked, _ = pending.pop(future)
                yield self._generation(asked, future.result())
        finally:
            for future in pending:
                future.cancel()

    async def _ask(self, wire: Wire, asked: ServerRequest) -> ServerAnswer:
        request = asked.request
        limit = request.sampling.max_new_tokens

        def read(data: bytes, mark: str) -> ServerAnswer:
            return read_reply(
                data,
                chat=self._params.api == "chat",
                mark=mark if asked.server.dialect.repeats_mark else "",
                max_tokens=limit,
                top_logprobs=request.top_logprobs,
                vocabulary=self._vocabulary,
            )

        max_bytes = 1_048_576 + limit * (request.top_logprobs + 4) * 256
        try:
            return await wire.ask(f"request {request.id!r}", asked.path, asked.body, read, max_bytes=max_bytes)
        except ContextExceeded as error:
            raise TooLongError(request.id, f"{self._root} refused it with {error.told}", str(error)) from error

    def _generation(self, asked: ServerRequest, reply: ServerAnswer) -> Generation:
        """Count the answer and bring it into the form of all engines."""
        request = asked.request
        self._count(asked, reply)
        if reply.withheld and self._params.withheld == "empty":
            self._counts.update(withheld=1)
            return Generation(request.id, "", (), "stop")
        thoughts = reply.thoughts or ""
        count, thought = (0, 0) if reply.tokens is not None else map(self._renderer.count, (reply.text, thoughts))
        spoilt = reply.complaint(
            request.sampling.max_new_tokens,
            count,
            thought,
            asked.sent_tokens,
            exact=asked.server.by_ids,
        )
        if spoilt:
            raise EngineError(f"request {request.id!r}: the server at {self._root} {spoilt}")
        if reply.tokens is not None:
            found = finished(self._renderer, request, asked.prompt, reply.tokens, reply.logprobs or ())
            if found is not None and (found.finish_reason != "length" or reply.reason == "length"):
                beside = "" if said(found.text, request.given).thought else reply.beside(found.text, request)
                return replace(found, text=beside + found.text) if beside else found
        # No ids, or none for the end: the server's text and word for it.
        text, stop = before_stop(reply.text, request.sampling.stop)
        unclear = reply.reason == "stop" and bool(request.sampling.stop) and not reply.stop_told
        reason = "stop_string" if stop or unclear else reply.reason
        text = without_lead(asked.without_prefill(text), request, asked.prompt)
        text = reply.beside(text, request) + text
        tokens = reply.tokens
        if tokens is None:  # as in running text, where a blank after a prefill belongs to the next word
            tokens = tuple(
                self._renderer.plain_ids((asked.prompt.dropped if request.prefill or request.turn else "") + text)
            )
        best = reply.logprobs if request.top_logprobs else None
        return Generation(request.id, text, tokens, reason, best)

    def _count(self, asked: ServerRequest, reply: ServerAnswer) -> None:
        prompt = reply.prompt_tokens if reply.prompt_tokens is not None else asked.prompt_tokens
        written = reply.completion_tokens
        if written is None:
            written = len(reply.tokens) if reply.tokens is not None else self._renderer.count(reply.text)
        self._counts.update(requests=1, prompt_tokens=prompt, completion_tokens=written)
        cost = self._price(prompt, written)
        self._cost += cost
        self._spent += cost

    def _price(self, prompt: int, written: int) -> float:
        return (prompt * self._params.price_prompt + written * self._params.price_completion) / 1e6

    def _over_budget(self, asked: ServerRequest, reserve: float) -> EngineError:
        return EngineError(
            f"request {asked.request.id!r} may cost {reserve:.4g} and the answers so far cost {self._spent:.4g}, more "
            f"than the budget of {self._params.budget:.4g}; raise engine.budget, finished parts are kept"
        )
