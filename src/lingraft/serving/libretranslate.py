"""Translations in the form of LibreTranslate: `/translate`, `/languages`, `/detect`, `/frontend/settings`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lingraft.language.codes import language_name
from lingraft.serving.bodies import Fields
from lingraft.serving.document import DocumentJob, DocumentOutcome, suffixes
from lingraft.serving.documents import Documents
from lingraft.serving.reply import Json
from lingraft.serving.request import ApiError
from lingraft.serving.services import Services
from lingraft.serving.translation import Outcome, PreparedJob, TranslationJob
from lingraft.serving.translation_endpoint import (
    NAME,
    Answering,
    Host,
    TranslationEndpoint,
    as_file,
    figures,
    named,
    told,
    wishes,
)
from lingraft.serving.translation_reply import TranslationReply
from lingraft.translation.markup import TagRules

AUTO = "auto"
MOST_ALTERNATIVES = 5


class LibreError(ApiError):
    """A request is not answered, in LibreTranslate's form."""

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"error": self.message}


class LibreTranslate(TranslationEndpoint):
    """The endpoints that LibreTranslate's clients use.

    Args:
        host: the server.
        service: translates texts.
        documents: of the clients.
    """

    def __init__(self, host: Host, service: Services[TranslationJob, PreparedJob], documents: Documents) -> None:
        super().__init__(host, service)
        self._documents = documents

    def paths(self) -> Iterator[tuple[str, list[str], Answering]]:
        """Yield path, methods and what answers; see `TranslationEndpoint.paths`."""
        yield "/translate", ["POST"], self._translate
        yield "/detect", ["POST"], self._detect
        yield "/languages", ["GET"], self._languages
        yield "/frontend/settings", ["GET"], self._settings
        yield "/translate_file", ["POST"], self._file
        yield "/download_file/{id}", ["GET"], self._download

    def refusal(self, error: ApiError) -> ApiError:
        """Return an error in LibreTranslate's form."""
        return LibreError(error.status, error.message, code=error.code, headers=error.headers)

    def key(self, request: Request, fields: Fields) -> bytes:
        """Return the field `api_key`, else the key of the header Authorization."""
        given = fields.text("api_key", most=1000).encode()
        return given or request.headers.get("authorization", "").partition(" ")[2].encode("latin-1")

    async def _translate(self, request: Request) -> Response:
        fields = await self.asked(request)
        for name in ("q", "source", "target"):
            if name not in fields:
                raise ApiError(400, f"Invalid request: missing {name} parameter")
        kind = fields.text("format", "text")
        if kind not in ("text", "html"):
            raise ApiError(400, f"{kind[:50]} format is not supported; send text or html")
        source = fields.text("source", most=NAME)
        rationale, partial = wishes(fields)
        job = TranslationJob(
            texts=fields.texts("q"),
            source="" if source == AUTO else source,
            target=fields.text("target", most=NAME),
            rules=TagRules() if kind == "html" else None,
            alternatives=fields.number("alternatives", MOST_ALTERNATIVES),
            rationale=rationale,
            partial=partial,
        )
        several = isinstance(fields.raw("q"), list)

        def form(outcome: Outcome) -> dict[str, Any]:
            def each(values: list[Any]) -> Any:
                return values if several else values[0]

            found = {"translatedText": each([one.text for one in outcome.texts])}
            if not job.source:
                pairs = zip(outcome.texts, outcome.sure, strict=True)
                found["detectedLanguage"] = each([_detected(one.source, sure) for one, sure in pairs])
            if job.alternatives:
                found["alternatives"] = each([list(others) for others in outcome.alternatives])
            own = [figures(one) for one in outcome.texts]
            return {**found, "lingraft": each(own)} if any(own) else found

        return await self.reply(request, job, form, named(fields))

    async def _detect(self, request: Request) -> Response:
        fields = await self.asked(request)
        if "q" not in fields:
            raise ApiError(400, "Invalid request: missing q parameter")
        text = "\n".join(fields.texts("q"))
        found, sure = await self.aside(lambda: self._service.languages.detect(text))
        return Json([_detected(found, sure)] if found else [])

    async def _languages(self, request: Request) -> Response:
        self._host.check_host(request)
        known = self._service.languages
        codes = list(dict.fromkeys((*known.sources(), *known.targets())))
        return Json([{"code": code, "name": language_name(code), "targets": known.targets(code)} for code in codes])

    async def _settings(self, request: Request) -> Response:
        self._host.check_host(request)
        target = self._service.languages.targets()[:1]
        own = {"code": target[0], "name": language_name(target[0])} if target else {}
        needs = not self._host.has_key(b"")
        return Json(
            {
                "charLimit": -1,
                "frontendTimeout": 500,
                "apiKeys": needs,
                "keyRequired": needs,
                "suggestions": False,
                "supportedFilesFormat": suffixes() if self._service.languages.task == "translation" else [],
                "language": {"source": {"code": AUTO, "name": "Auto Detect"}, "target": own},
            }
        )

    async def _file(self, request: Request) -> Response:
        fields, file = await self.uploaded(request)
        for name in ("source", "target"):
            if name not in fields:
                raise ApiError(400, f"Invalid request: missing {name} parameter")
        source = fields.text("source", most=NAME)
        job = DocumentJob(
            name=file.name,
            data=file.data,
            source="" if source == AUTO else source,
            target=fields.text("target", most=NAME),
        )
        prepared, work = await self.prepared(
            lambda: self._documents.services.prepare(job, named(fields, ("model",))), document=True
        )

        def form(outcome: DocumentOutcome) -> dict[str, Any]:
            made = self._documents.keep(prepared, outcome)
            found: dict[str, Any] = {"translatedFileUrl": f"{request.base_url}download_file/{made.id}"}
            if not job.source:
                found["detectedLanguage"] = _detected(outcome.source, 1.0)
            return {**found, "lingraft": told(made)}

        client = request.client.host if request.client else ""
        return TranslationReply(self._host, work, DocumentOutcome, prepared.tokens, client, form, self.refusal)

    async def _download(self, request: Request) -> Response:
        self._host.check_host(request)  # who knows the name of a file has translated it
        return as_file(self._documents.get(request.path_params["id"]))


def _detected(code: str, sure: float) -> dict[str, Any]:
    return {"confidence": round(100 * sure, 1), "language": code}
