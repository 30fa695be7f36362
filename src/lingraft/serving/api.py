"""The HTTP interface: `/health`, `/v1/models`, `/v1/chat/completions`.

Responses are JSON or server-sent events. There is no CORS header, and requests must say that they are JSON, so that
pages of other origins can neither ask nor read; without a key, a server of this machine alone takes requests only under
this machine's names, so that a name of the attacker's that leads here (DNS rebinding) does not help them either.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from lingraft.engines.wire import is_loopback
from lingraft.serving.answers import Answer, Answerer, Piece
from lingraft.serving.asked import MAX_BODY, ApiError, Question, read_question
from lingraft.serving.desk import Desk, Place, ending
from lingraft.serving.protocol import COMMENT, DONE, Completion, sse, to_json

KEEP_ALIVE = 10.0
"""Seconds without an event after which a stream gets a comment: proxies and clients take silence for an end after 30
and more, and the English parts, or the queue, may take longer."""
_SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Json(Response):
    """A JSON response."""

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(to_json(content), status, {**_SAFE, **(headers or {})})


class Api:
    """The endpoint of one model.

    Args:
        answerer: answers. name: of the model, for clients. desk: where requests wait.
        key: that clients must present; empty for none.
        local_only: take requests only under names of this machine.
        log: gets a line about each answer; never its content.
        keep_alive: seconds of silence after which a stream gets a comment.

    Attributes:
        failures: what went wrong first in each chain so far; "" counts those without failure, and direct answers.
    """

    def __init__(
        self,
        answerer: Answerer,
        name: str,
        desk: Desk,
        *,
        key: str = "",
        local_only: bool = False,
        log: Callable[[str], None] = lambda line: None,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self.answerer, self.name, self.desk, self.log, self.keep_alive = answerer, name, desk, log, keep_alive
        self.failures: Counter[str] = Counter()
        self._key, self._local_only = key.encode("utf-8"), local_only
        self._created = int(time.time())

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/v1/models", self._models),
                Route("/v1/models/{name:path}", self._model),
                Route("/v1/chat/completions", self._completions, methods=["POST"]),
            ],
            exception_handlers={ApiError: _refused, HTTPException: _no_route, Exception: _broken},
        )

    async def _health(self, request: Request) -> Response:
        self._admit(request, open_to_all=True)
        failures = {name: count for name, count in sorted(self.failures.items()) if name}
        answered = self.failures.total()
        return Json({"status": "ok", "requests": self.desk.inside, "answered": answered, "failures": failures})

    async def _models(self, request: Request) -> Response:
        self._admit(request)
        return Json({"object": "list", "data": [self._card()]})

    async def _model(self, request: Request) -> Response:
        self._admit(request)
        self._check_model(request.path_params["name"])
        return Json(self._card())

    async def _completions(self, request: Request) -> _Reply:
        self._admit(request)
        question = read_question(await _body(request))
        self._check_model(question.model)
        self.answerer.check(question)
        return _Reply(self, question)

    def _card(self) -> dict[str, Any]:
        markers = self.answerer.markers
        chat = {"chat": "tcot", "languages": ["en", *markers.languages]} if markers else {"chat": "direct"}
        return {
            "id": self.name,
            "object": "model",
            "created": self._created,
            "owned_by": "lingraft",
            "lingraft": chat,
        }

    def _admit(self, request: Request, *, open_to_all: bool = False) -> None:
        """Check that the client may ask at all."""
        if self._local_only and not _names_this_machine(request.headers.get("host", "")):
            raise ApiError(403, "this server answers only to names of its own machine, such as 127.0.0.1")
        if open_to_all or not self._key:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = hmac.compare_digest(given.strip().encode("latin-1"), self._key)
        if scheme.lower() != "bearer" or not right:
            message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def _check_model(self, name: str) -> None:
        if name not in ("", self.name):
            message = f"the model {name!r} does not exist here; this server has {self.name!r}"
            raise ApiError(404, message, param="model", code="model_not_found")


class _Reply(Response):
    """The response to a question; the model works while it is sent, and stops when the client is gone."""

    def __init__(self, api: Api, question: Question) -> None:
        self._api, self._question = api, question
        self._completion = Completion(question, api.name)
        self._began = time.perf_counter()
        self._sending = anyio.Lock()
        self._sent = self._began  # when the stream last got something
        self._started = False  # whether anything was sent
        self._answered = False  # whether the model has come to the end
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        failed: Exception | None = None
        with self._api.desk.place() as place, place.scope:
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_when_gone, receive, place.scope)
                if self._question.stream:
                    group.start_soon(self._keep_alive, send)
                try:
                    await (self._stream if self._question.stream else self._whole)(scope, receive, send, place)
                except Exception as error:
                    failed = error
                group.cancel_scope.cancel()
        if place.ended and not self._answered:
            failed = ending()
        if failed is not None:
            await self._fail(failed, send)
        elif not self._answered:
            self._log("the client left")

    async def _whole(self, scope: Scope, receive: Receive, send: Send, place: Place) -> None:
        """Send the answer as one object."""

        async def keep(piece: Piece) -> None:
            if isinstance(piece, Answer):
                response = Json(self._completion.whole(piece))
                await response(scope, receive, send)

        await self._pieces(keep, place)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, place: Place) -> None:
        """Send the answer as server-sent events.

        Nothing is sent before its first token, so that errors have their status, unless that takes longer than clients
        wait; they are then told as an event.
        """

        async def pass_on(piece: Piece) -> None:
            await self._put(send, b"".join(map(sse, self._completion.chunks(piece))))

        await self._pieces(pass_on, place)
        async with self._sending:
            await _send_part(send, DONE, more=False)

    async def _put(self, send: Send, data: bytes) -> None:
        """Send a part of the stream, which begins with the first."""
        async with self._sending:
            if not self._started:
                self._started = True
                headers = {**_SAFE, "Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
                raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
                await send({"type": "http.response.start", "status": 200, "headers": raw})
                data = sse(self._completion.first()) + data
            if data:
                await _send_part(send, data)
                self._sent = time.perf_counter()

    async def _keep_alive(self, send: Send) -> None:
        """Send a comment, which clients pass over, whenever there was nothing else for a while."""
        while not self._answered:
            left = self._sent + self._api.keep_alive - time.perf_counter()
            if left <= 0:
                await self._put(send, COMMENT)
            else:
                await anyio.sleep(left)

    async def _pieces(self, take: Callable[[Piece], Awaitable[None]], place: Place) -> None:
        """Wait for the model and hand over the pieces of the answer."""

        def work() -> Generator[Piece, None, None]:
            self._completion.begin()
            return self._api.answerer.answer(self._question)

        async with aclosing(self._api.desk.serve(work, place)) as pieces:
            async for piece in pieces:
                self._answered = isinstance(piece, Answer)
                await take(piece)
                if isinstance(piece, Answer):
                    self._api.failures[piece.failure if piece.language else ""] += 1
                    written = " + ".join(str(count) for count in piece.tokens.values())
                    problem = f" ({piece.failure})" if piece.language and piece.failure else ""
                    read, reason = piece.timing.prompt_tokens, piece.finish_reason
                    self._log(f"{written} tokens after {read} read, {reason}{problem}")

    async def _fail(self, error: Exception, send: Send) -> None:
        """Say what went wrong: as an event if the response has begun, else by raising it.

        Raises:
            ApiError: where nothing was sent. Exception: what nobody expects, for the server's log.
        """
        expected = isinstance(error, ApiError)
        self._log(error.message if isinstance(error, ApiError) else f"failed ({type(error).__name__})")
        if self._started:
            told = error if isinstance(error, ApiError) else _unexpected()
            await _send_part(send, sse(told.to_dict()), more=False)
        if not (self._started and expected):
            raise error

    def _log(self, what: str) -> None:
        self._api.log(f"chat: {what}; {time.perf_counter() - self._began:.2f} s")


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _send_part(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def _body(request: Request) -> bytes:
    """Return the body of a request.

    Raises:
        ApiError: not JSON by its own word, or too long.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "send JSON, with the header `Content-Type: application/json`")
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY:
            raise ApiError(413, f"the body is longer than {MAX_BODY:,} bytes; shorten the conversation")
    return bytes(data)


def _names_this_machine(host: str) -> bool:
    """Whether the header Host names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = dict(error.headers)
    if error.status == 413:
        headers["Connection"] = "close"  # the rest of the body is not read
    return Json(error.to_dict(), error.status, headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
    return Json(found.to_dict(), error.status_code, dict(error.headers or {}))


async def _broken(request: Request, error: Exception) -> Response:
    found = _unexpected()
    return Json(found.to_dict(), found.status)


def _unexpected() -> ApiError:
    return ApiError(500, "the server failed at this request; its log says why")
