"""The HTTP interface: `/health`, `/metrics`, `/v1/models`, `/v1/chat/completions`, `/v1/completions`, those of
translation services, and the page where there is one.

Responses are JSON or server-sent events. Requests must say that they are JSON, so that pages of other origins than
those that are allowed can neither ask nor read; without a key, a server of this machine alone takes requests only
under this machine's names, so that a name of the attacker's that leads here (DNS rebinding) does not help them either.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lingraft.engines.openai_http import is_loopback
from lingraft.serving.answerer import Answerer
from lingraft.serving.deepl import DeepL
from lingraft.serving.document import DocumentService
from lingraft.serving.documents import Documents
from lingraft.serving.glossaries import Glossaries
from lingraft.serving.libretranslate import LibreTranslate
from lingraft.serving.limits import Budget, Limits
from lingraft.serving.log import Log
from lingraft.serving.metrics import MEDIA_TYPE, Metrics
from lingraft.serving.origins import middleware
from lingraft.serving.outbox import Outboxes
from lingraft.serving.page import Page
from lingraft.serving.queue import RequestQueue
from lingraft.serving.reply import SAFE, Json, Reply
from lingraft.serving.request import MAX_BODY, ApiError, later, read_question, unexpected
from lingraft.serving.services import Services
from lingraft.serving.text_request import read_prompts
from lingraft.serving.translation import TranslationService
from lingraft.serving.translation_endpoint import METHODS

KEEP_ALIVE = 10.0
"""Seconds without an event after which a stream gets a comment: proxies and clients take silence for an end after 30
and more, and the English parts, or the queue, may take longer."""
T = TypeVar("T")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class Api:
    """The endpoint of one model in memory, which may answer as several systems.

    Args:
        answerer: answers where a client names no model.
        name: of that model, for clients.
        desk: where requests wait.
        key: that clients must present; empty for none.
        local_only: take requests only under names of this machine.
        literal_only: take requests only under addresses, names of this machine, and `own_name`.
        own_name: further name that counts with `literal_only`; empty for none.
        log: gets a line about each answer; never its content. Where it fails, lines are lost and nothing else.
        keep_alive: seconds of silence after which a stream gets a comment.
        limits: of memory.
        beside: further models by the names by which clients ask for them.
        translations: answers in the forms of translation services as well; None: they have no place here.
        documents: translates their documents; None: as one of the texts, which then wait for it.
        translations_beside: what translates texts and documents as further models, by their names.
        glossaries: of these.
        page: the page that the server has beside its endpoint; None for none.
        origins: of pages elsewhere that may ask, as `read_origins` returns them.
        ended: whether the engine has ended, so that nothing will be answered any more.

    Attributes:
        answerers: of all models by name, the one without a name first.
        failures: what went wrong first in each chain, or in a translation by the decoder, so far; "" counts those
            without failure, and direct answers.
        outcomes: of the decoder's translations so far.
        metrics: all that is counted beside.
        origins: of pages elsewhere that may ask.
    """

    def __init__(
        self,
        answerer: Answerer,
        name: str,
        desk: RequestQueue,
        *,
        key: str = "",
        local_only: bool = False,
        literal_only: bool = False,
        own_name: str = "",
        log: Callable[[str], None] = lambda line: None,
        keep_alive: float = KEEP_ALIVE,
        limits: Limits | None = None,
        beside: Mapping[str, Answerer] | None = None,
        translations: TranslationService | None = None,
        documents: DocumentService | None = None,
        translations_beside: Mapping[str, tuple[TranslationService, DocumentService]] | None = None,
        glossaries: Glossaries | None = None,
        page: Page | None = None,
        origins: Sequence[str] = (),
        ended: Callable[[], bool] = lambda: False,
    ) -> None:
        limits, self.origins, self._ended = limits or Limits(), origins, ended
        self._translations, self._documents = translations, documents
        self._translations_beside = translations_beside or {}
        self._glossaries = glossaries or Glossaries()
        self.answerer, self.name, self.desk, self.log, self.keep_alive = answerer, name, desk, Log(log), keep_alive
        self.answerers, self._page = {name: answerer, **(beside or {})}, page
        self.outboxes, self._bodies = Outboxes(limits.unsent), Budget(limits.bodies)
        self._counting = anyio.CapacityLimiter(1)
        self.failures: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.metrics = Metrics()
        self._key, self._local_only = key.encode("utf-8"), local_only
        self._literal_only, self._own_name = literal_only, own_name.lower()
        self._created = int(time.time())

    def app(self) -> Starlette:
        """Return the application."""
        return Starlette(
            routes=[
                Route("/health", self._guarded(self._health)),
                Route("/metrics", self._guarded(self._metrics)),
                Route("/v1/models", self._guarded(self._models)),
                Route("/v1/models/{name:path}", self._guarded(self._model)),
                Route("/v1/chat/completions", self._guarded(self._answers("chat")), methods=["POST"]),
                Route("/v1/completions", self._guarded(self._answers("completion")), methods=["POST"]),
                *self._translating(),
                *(self._page.routes(self._guarded, self._admit, self._body, self._counting) if self._page else ()),
            ],
            middleware=middleware(self.origins),
            exception_handlers={ApiError: _refused, HTTPException: _no_route, Exception: _broken},
        )

    def _translating(self) -> Iterator[Route]:
        """Yield the routes of translation services."""
        if self._translations is None:
            return
        own = self._translations
        files = self._documents or DocumentService(own.translator, own)
        beside = self._translations_beside
        texts = Services({self.name: own, **{name: service for name, (service, _) in beside.items()}})
        documents = Documents(Services({self.name: files, **{name: service for name, (_, service) in beside.items()}}))
        for spoken in (LibreTranslate(self, texts, documents), DeepL(self, texts, self._glossaries, documents)):
            for path, answer in spoken.routes():
                yield Route(path, self._guarded(answer), methods=[*METHODS])

    def _guarded(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint whose unexpected failures are told without what the client wrote."""

        async def asked(request: Request) -> Response:
            try:
                return await endpoint(request)
            except (ApiError, HTTPException):
                raise
            except ClientDisconnect:
                self.log.seldom("left", "a client left while it sent its request")
                return Response(status_code=408)  # to nobody
            except Exception as error:
                self.log.failure("a request", error)
                return Json(unexpected().to_dict(), 500)

        return asked

    async def _health(self, request: Request) -> Response:
        self._admit(request, open_to_all=True)
        failures = {name: count for name, count in sorted(self.failures.items()) if name}
        answered = self.failures.total()
        ended = self._ended()
        status = "engine_ended" if ended else "ok"
        figures = {"status": status, "requests": self.desk.inside, "answered": answered, "failures": failures}
        if self.answerer.decoder is not None:
            figures["outcomes"] = dict(sorted(self.outcomes.items()))
        return Json(figures, 503 if ended else 200)

    async def _models(self, request: Request) -> Response:
        self._admit(request)
        return Json({"object": "list", "data": [self._card(name) for name in self.answerers]})

    async def _model(self, request: Request) -> Response:
        self._admit(request)
        return Json(self._card(self._model_name(request.path_params["name"])))

    async def _metrics(self, request: Request) -> Response:
        self._admit(request)
        running = self.desk.served
        waiting = self.desk.inside - running
        text = self.metrics.text(running, waiting, self.failures, self.outcomes, up=not self._ended())
        return Response(text, headers={**SAFE, "Content-Type": MEDIA_TYPE})

    def _answers(self, kind: str) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers requests, and counts those that it refuses.

        Args:
            kind: "chat" for conversations, "completion" for running text.
        """
        read = {"chat": read_question, "completion": read_prompts}[kind]

        async def answered(request: Request) -> Response:
            try:
                self._admit(request)
                question = await self._body(request, read)
                question = replace(question, model=self._model_name(question.model))
                answerer = self.answerers[question.model]
                answerer.check(question)
                # In no thread of the model's, which may be busy, and for one client at a time, which is enough.
                try:
                    tokens = await anyio.to_thread.run_sync(answerer.size, question, limiter=self._counting)
                except ApiError as error:
                    self.log.line(f"{kind}: {error.status} {error.code}")
                    raise
            except ApiError as error:
                self.metrics.refused(kind, error.status)
                raise
            return Reply(self, question, tokens, request.client.host if request.client else "")

        return answered

    async def _body(self, request: Request, read: Callable[[bytes], T]) -> T:
        """Return the body of a request as it is read.

        Raises:
            ApiError: not JSON by its own word, too long, or there is no memory for it; or as `read`.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise ApiError(415, "send JSON, with the header `Content-Type: application/json`")
        return await self.read(request, read)

    async def read(self, request: Request, understood: Callable[[bytes], T], most: int = MAX_BODY) -> T:
        """Return the body of a request as it is understood.

        Args:
            request: of a client.
            understood: reads it.
            most: bytes that it may have.

        Raises:
            ApiError: it is too long, or there is no memory for it; or what understands it refuses it.
        """
        data = bytearray()
        try:
            async for part in request.stream():
                data += part
                self._bodies.used += len(part)
                if len(data) > most:
                    raise ApiError(413, f"the body is longer than {most:,} bytes; send less at once")
                if self._bodies.exceeded:
                    raise later("too many requests are being read; try again later", "busy")
            return understood(bytes(data))
        finally:
            self._bodies.used -= len(data)

    def _card(self, name: str) -> dict[str, Any]:
        answerer = self.answerers[name]
        markers = answerer.markers
        chat = {"chat": "tcot", "languages": ["en", *markers.languages]} if markers else {"chat": "direct"}
        if answerer.router is not None:
            chat["route"] = answerer.router.by
        if answerer.decoder is not None:
            chat["decoder"] = answerer.decoder.name
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "lingraft",
            "lingraft": chat,
        }

    def _admit(self, request: Request, *, open_to_all: bool = False) -> None:
        """Check that the client may ask at all."""
        self.check_host(request)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        right = self.has_key(given.encode("latin-1")) and (not self._key or scheme.lower() == "bearer")
        if not (open_to_all or right):
            message = "the API key is missing or wrong; send it as `Authorization: Bearer KEY`"
            raise ApiError(401, message, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    def check_host(self, request: Request) -> None:
        """Check that the server may be asked under the name that the client uses.

        Raises:
            ApiError: it may not.
        """
        name = _host_name(request.headers.get("host", ""))
        if self._local_only and not _is_own(name):
            raise ApiError(403, "this server answers only to names of its own machine, such as 127.0.0.1")
        if self._literal_only and not (_is_own(name) or _is_address(name) or (name and name == self._own_name)):
            raise ApiError(403, "this server has no key and answers only to addresses, such as 192.0.2.1, not to names")

    def has_key(self, given: bytes) -> bool:
        """Say whether a key is that of the server, or it has none."""
        return not self._key or hmac.compare_digest(given.strip(), self._key)

    def _model_name(self, given: str) -> str:
        if given and given not in self.answerers:
            known = ", ".join(map(repr, self.answerers))
            message = f"the model {given!r} does not exist here; this server has {known}"
            raise ApiError(404, message, param="model", code="model_not_found")
        return given or self.name


def _host_name(host: str) -> str:
    """Return the name or address that the header Host gives, empty if it gives none."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower() if found else ""


def _is_own(name: str) -> bool:
    """Say whether a browser takes a name for its own machine; names below localhost it never asks the network for."""
    return is_loopback(name) or name.endswith(".localhost")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    headers = dict(error.headers)
    if error.status in (413, 503):
        headers["Connection"] = "close"  # the rest of the body is not read
    return Json(error.to_dict(), error.status, headers)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    found = ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}")
    return Json(found.to_dict(), error.status_code, dict(error.headers or {}))


async def _broken(request: Request, error: Exception) -> Response:
    found = unexpected()
    return Json(found.to_dict(), found.status)
