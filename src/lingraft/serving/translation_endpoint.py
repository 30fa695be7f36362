"""What the endpoints in the forms of translation services share: who may ask, what is asked, and the answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

import anyio
from starlette.requests import Request
from starlette.responses import Response

from lingraft.serving.bodies import Fields, Upload, read_fields, read_upload
from lingraft.serving.document import MOST_BYTES
from lingraft.serving.documents import ServedDocument
from lingraft.serving.reply import SAFE, Endpoint
from lingraft.serving.request import ApiError, later
from lingraft.serving.services import Services
from lingraft.serving.translating import Translated
from lingraft.serving.translation import Outcome, PreparedJob, TranslationJob
from lingraft.serving.translation_reply import KIND, TranslationReply

T = TypeVar("T")
Answering = Callable[[Request], Awaitable[Response]]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
NAME = 63
"""Characters of the longest language code that is looked at."""
OWN = "lingraft"
"""The object of a request that holds what no service's form has."""
OF_TEXTS = ("model", "partial", "rationale")
"""Its fields."""


class Host(Endpoint, Protocol):
    """The server, see `lingraft.serving.app.Api`."""

    origins: Sequence[str]

    def check_host(self, request: Request) -> None: ...

    def has_key(self, given: bytes) -> bool: ...

    async def read(self, request: Request, understood: Callable[[bytes], T], most: int = ...) -> T: ...


class TranslationEndpoint(ABC):
    """The endpoints of one service's form.

    Args:
        host: the server.
        service: translates.
    """

    def __init__(self, host: Host, service: Services[TranslationJob, PreparedJob]) -> None:
        self._host, self._service = host, service
        self._counting, self._reading = anyio.CapacityLimiter(1), anyio.CapacityLimiter(1)

    @abstractmethod
    def paths(self) -> Iterator[tuple[str, list[str], Answering]]:
        """Yield path, methods and what answers."""

    @abstractmethod
    def refusal(self, error: ApiError) -> ApiError:
        """Return an error in the form of the service."""

    @abstractmethod
    def key(self, request: Request, fields: Fields) -> bytes:
        """Return the key that a client presents."""

    def routes(self) -> Iterator[tuple[str, Answering]]:
        """Yield path and what answers, whatever the method, its errors in the form of the service."""
        for path, methods, answer in self.paths():
            yield path, self._in_form(methods, answer)

    def _in_form(self, methods: Sequence[str], answer: Answering) -> Answering:
        allowed = [*methods, *(["HEAD"] if "GET" in methods else [])]

        async def answered(request: Request) -> Response:
            try:
                if request.method not in allowed:
                    said = f"{request.method} {request.url.path[:80]}: send {' or '.join(methods)}"
                    raise ApiError(405, said, headers={"Allow": ", ".join(allowed)})
                return await answer(request)
            except ApiError as error:
                self._host.metrics.refused(KIND, error.status)
                raise self.refusal(error) from error

        return answered

    async def asked(self, request: Request) -> Fields:
        """Return the fields of a request from a client that may ask.

        Raises:
            ApiError: it may not, or the body cannot be read.
        """
        self._host.check_host(request)
        fields = await self._host.read(request, lambda data: read_fields(request, data, origins=self._host.origins))
        self._check_key(request, fields)
        return fields

    async def aside(self, work: Callable[[], T], *, document: bool = False) -> T:
        """Do what takes a moment in another thread than the model's, for one client at a time; texts do not wait for
        documents, which take seconds to read."""
        return await anyio.to_thread.run_sync(work, limiter=self._reading if document else self._counting)

    async def prepared(self, work: Callable[[], T], *, document: bool = False) -> T:
        """Do what makes a request ready for the model; a refusal is told in the log.

        Raises:
            ApiError: it is refused.
        """
        try:
            return await self.aside(work, document=document)
        except ApiError as error:
            self._host.log.line(f"translate: {error.status} {error.code or 'refused'}")
            raise

    async def uploaded(self, request: Request) -> tuple[Fields, Upload]:
        """Return the fields of a request with a file, from a client that may ask.

        Raises:
            ApiError: it may not, or the body cannot be read.
        """
        self._host.check_host(request)
        fields, file = await self._host.read(
            request, lambda data: read_upload(request, data, origins=self._host.origins), MOST_BYTES
        )
        self._check_key(request, fields)
        return fields, file

    def _check_key(self, request: Request, fields: Fields) -> None:
        if not self._host.has_key(self.key(request, fields)):
            raise ApiError(403, "the API key is missing or wrong", code="invalid_api_key")

    async def reply(
        self, request: Request, job: TranslationJob, form: Callable[[Outcome], Any], model: str = ""
    ) -> Response:
        """Return the response to a request for translations.

        Args:
            request: of the client.
            job: that is asked for.
            model: name of the graft that is to do it; "": the first that was trained for the direction.
            form: makes the body of the response.

        Raises:
            ApiError: see `TranslationService.prepare`.
        """
        prepared, work = await self.prepared(lambda: self._service.prepare(job, model))
        client = request.client.host if request.client else ""
        return TranslationReply(self._host, work, Outcome, prepared.tokens, client, form, self.refusal)


def wishes(fields: Fields) -> tuple[bool, bool]:
    """Return what the field `lingraft` asks for beyond the service's form: the rationale, and what failed as well.

    Raises:
        ApiError: neither yes nor no.
    """
    own = fields.part(OWN, OF_TEXTS)
    return own.flag("rationale"), own.flag("partial")


def named(fields: Fields, known: Collection[str] = OF_TEXTS) -> str:
    """Return the name of the graft that is to translate; "" where the field `lingraft` names none.

    Args:
        fields: of the request.
        known: fields that `lingraft` may have.

    Raises:
        ApiError: it is no short text, or there is a field that is not known.
    """
    return fields.part(OWN, known).text("model", most=512)


def figures(one: Translated) -> dict[str, Any]:
    """Return what a translation tells beyond the service's form; nothing where all is well."""
    return {name: value for name in ("failure", "tags", "rationale") if (value := getattr(one, name))}


def told(document: ServedDocument) -> dict[str, Any]:
    """Return what a translated document tells beyond the service's form: its segments, and how many were lost."""
    return {"segments": document.segments, "lost": document.lost}


def as_file(document: ServedDocument) -> Response:
    """Return a translated document as a file to be kept: no browser shows it, or runs what is in it.

    Raises:
        ApiError: it is not translated yet, or will not be.
    """
    if document.failed is not None:
        raise document.failed
    if document.data is None:
        raise later("the document is not translated yet; try again later", "not_ready")
    name = quote(document.name, safe="")
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Response(document.data, headers={**SAFE, **headers}, media_type="application/octet-stream")
