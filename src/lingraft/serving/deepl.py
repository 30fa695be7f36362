"""Translations in the form of DeepL's API: `/v2/translate`, `/v2/languages`, `/v2/usage`, `/v2/glossaries`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from lingraft.core.code_languages import NAMES
from lingraft.core.errors import UsageError
from lingraft.data.glossary import Glossary
from lingraft.language.codes import base_language, language, language_name, same_language
from lingraft.serving.bodies import Fields
from lingraft.serving.document import DocumentJob
from lingraft.serving.documents import Documents, ServedDocument
from lingraft.serving.glossaries import Glossaries, ServedGlossary
from lingraft.serving.page_terms import read_terms
from lingraft.serving.reply import SAFE, Json
from lingraft.serving.request import ApiError
from lingraft.serving.services import Services
from lingraft.serving.translating import Split
from lingraft.serving.translation import Outcome, PreparedJob, TranslationJob
from lingraft.serving.translation_endpoint import (
    NAME,
    OWN,
    Answering,
    Host,
    TranslationEndpoint,
    as_file,
    figures,
    named,
    told,
    wishes,
)
from lingraft.translation.markup import TagRules

SPLITS: dict[str, Split] = {"0": "none", "1": "lines", "nonewlines": "paragraphs"}
REFUSED = ("style_id", "translation_memory_id", "custom_instructions")
"""What would change the translation, and is not supported."""
REGIONS = {"en": ("EN-GB", "EN-US"), "pt": ("PT-BR", "PT-PT")}
"""What clients call target languages; some refuse them without a region."""
UNLIMITED = 1_000_000_000_000
MOST_GLOSSARIES = 5
MOST_WRITTEN = 1 << 18
"""Characters of terms that come with a document."""
OF_DOCUMENTS = ("model", "terms")
"""Fields of `lingraft` in a request for a document."""
TSV = "text/tab-separated-values"


class DeepLError(ApiError):
    """A request is not answered, in DeepL's form."""

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"message": self.message, **({"detail": self.code} if self.code else {})}


class DeepL(TranslationEndpoint):
    """The endpoints that DeepL's clients use.

    Args:
        host: the server.
        service: translates.
        glossaries: of the clients.
        documents: likewise.
    """

    def __init__(
        self,
        host: Host,
        service: Services[TranslationJob, PreparedJob],
        glossaries: Glossaries,
        documents: Documents,
    ) -> None:
        super().__init__(host, service)
        self._glossaries, self._documents = glossaries, documents
        self._characters = 0

    def paths(self) -> Iterator[tuple[str, list[str], Answering]]:
        """Yield path, methods and what answers; see `TranslationEndpoint.paths`."""
        yield "/v2/translate", ["POST"], self._translate
        yield "/v2/languages", ["GET", "POST"], self._languages
        yield "/v2/usage", ["GET", "POST"], self._usage
        yield "/v2/glossary-language-pairs", ["GET"], self._pairs
        yield "/v2/glossaries", ["GET", "POST"], self._all_glossaries
        yield "/v2/glossaries/{id}", ["GET", "DELETE"], self._glossary
        yield "/v2/glossaries/{id}/entries", ["GET"], self._entries
        yield "/v2/document", ["POST"], self._document
        yield "/v2/document/{id}", ["POST"], self._document_status
        yield "/v2/document/{id}/result", ["POST"], self._document_result

    def refusal(self, error: ApiError) -> ApiError:
        """Return an error in DeepL's form."""
        return DeepLError(error.status, error.message, code=error.code, headers=error.headers)

    def key(self, request: Request, fields: Fields) -> bytes:
        """Return the key of the header Authorization, else the field `auth_key`."""
        given = request.headers.get("authorization", "").partition(" ")[2].encode("latin-1")
        return given or fields.text("auth_key", most=1000).encode()

    async def _translate(self, request: Request) -> Response:
        fields = await self.asked(request)
        job = self._job(fields)

        def form(outcome: Outcome) -> dict[str, Any]:
            self._characters += sum(map(len, job.texts))
            return {
                "translations": [
                    {
                        "detected_source_language": shown(one.source),
                        "text": one.text,
                        "billed_characters": len(text),
                        **({"lingraft": own} if (own := figures(one)) else {}),
                    }
                    for one, text in zip(outcome.texts, job.texts, strict=True)
                ]
            }

        return await self.reply(request, job, form, named(fields))

    def _job(self, fields: Fields) -> TranslationJob:
        """Return what is asked for.

        Raises:
            ApiError: it is not understood, or not supported.
        """
        if "text" not in fields:
            raise ApiError(400, "Parameter 'text' not specified", param="text")
        source, target, glossary = self._asked_for(fields)
        given = fields.raw("split_sentences")
        split = str(int(given)) if isinstance(given, int) else fields.text("split_sentences", "1")
        if split not in SPLITS:
            raise ApiError(400, "split_sentences: give 0, 1 or nonewlines", param="split_sentences")
        kind = fields.text("tag_handling")
        if kind not in ("", "xml", "html"):
            raise ApiError(400, "tag_handling: give xml or html", param="tag_handling")
        rationale, partial = wishes(fields)
        return TranslationJob(
            texts=fields.texts("text"),
            source=source,
            target=target,
            rules=_rules(fields, kind) if kind else None,
            split="paragraphs" if kind else SPLITS[split],
            glossary=glossary,
            rationale=rationale,
            partial=partial,
        )

    def _asked_for(self, fields: Fields) -> tuple[str, str, Glossary | None]:
        """Return the languages and the terms that texts and documents are asked for in.

        Raises:
            ApiError: they are not understood, or something else is asked for that is not supported.
        """
        if "target_lang" not in fields:
            raise ApiError(400, "Parameter 'target_lang' not specified", param="target_lang")
        for name in REFUSED:
            if name in fields:
                raise ApiError(400, f"{name} is not supported here; leave it out", param=name)
        formality = fields.text("formality", "default")
        if formality not in ("default", "prefer_more", "prefer_less"):
            raise ApiError(
                400,
                "formality is not supported for this target_lang; send prefer_more or prefer_less, or leave it out",
                param="formality",
            )
        source, target = fields.text("source_lang", most=NAME), fields.text("target_lang", most=NAME)
        ids = (*fields.texts("glossary_id"), *(one for ids in fields.texts("glossary_ids") for one in ids.split(",")))
        ids = tuple(filter(None, ids))
        if ids and not source:
            raise ApiError(400, "source_lang is needed where a glossary is used", param="source_lang")
        if len(ids) > MOST_GLOSSARIES:
            raise ApiError(400, f"glossary_ids: at most {MOST_GLOSSARIES}", param="glossary_ids")
        direction = self._service.languages.direction
        return source, target, self._glossaries.together(ids, *direction(source, target)) if ids else None

    async def _languages(self, request: Request) -> Response:
        fields = await self.asked(request)
        kind = fields.text("type", "source")
        if kind not in ("source", "target"):
            raise ApiError(400, "type: give source or target", param="type")
        found: dict[str, dict[str, Any]] = {}
        if kind == "source":
            for code in self._service.languages.sources():
                name = language_name(code if code in NAMES else base_language(code))
                found.setdefault(shown(code), {"language": shown(code), "name": name})
            return Json(list(found.values()))
        for code in self._service.languages.targets():
            regions = REGIONS.get(code, (code.upper(),))
            for one in regions:
                name = language_name(language(one)) if len(regions) > 1 else language_name(code)
                found.setdefault(one, {"language": one, "name": name, "supports_formality": False})
        return Json(list(found.values()))

    async def _usage(self, request: Request) -> Response:
        await self.asked(request)
        return Json({"character_count": self._characters, "character_limit": UNLIMITED})

    async def _pairs(self, request: Request) -> Response:
        await self.asked(request)
        pairs = self._service.languages.directions or [
            (one, two) for one in self._service.languages.sources() for two in self._service.languages.targets(one)
        ]
        codes = dict.fromkeys((base_language(one), base_language(two)) for one, two in pairs)
        return Json({"supported_languages": [{"source_lang": one, "target_lang": two} for one, two in codes]})

    async def _all_glossaries(self, request: Request) -> Response:
        fields = await self.asked(request)
        if request.method == "GET":
            return Json({"glossaries": [_described(one) for one in self._glossaries]})
        given = {name: fields.text(name, most=NAME) for name in ("source_lang", "target_lang")}
        for name, code in given.items():
            if not code:
                raise ApiError(400, f"Parameter '{name}' not specified", param=name)
        entries = fields.texts("entries")
        try:
            source, target = map(language, given.values())
        except UsageError as error:
            raise ApiError(400, str(error), code="language_not_supported") from error
        if same_language(source, target):
            raise ApiError(400, "source_lang and target_lang are the same", param="target_lang")
        name, form = fields.text("name", most=1 << 16), fields.text("entries_format", "tsv")
        made = await self.aside(lambda: self._glossaries.add(name, source, target, "\n".join(entries), form))
        return Json(_described(made), 201)

    async def _glossary(self, request: Request) -> Response:
        await self.asked(request)
        id_ = request.path_params["id"]
        if request.method == "GET":
            return Json(_described(self._glossaries.get(id_)))
        await self.aside(lambda: self._glossaries.delete(id_))
        return Response(status_code=204, headers=SAFE)

    async def _entries(self, request: Request) -> Response:
        await self.asked(request)
        found = self._glossaries.get(request.path_params["id"])
        return Response(found.tsv, headers=SAFE, media_type=TSV)

    async def _document(self, request: Request) -> Response:
        fields, file = await self.uploaded(request)
        source, target, glossary = self._asked_for(fields)
        if terms := fields.part(OWN, OF_DOCUMENTS).text("terms", most=MOST_WRITTEN):  # the page's
            glossary = read_terms(terms)
        name = fields.text("filename", most=1000) or file.name
        wanted = fields.text("output_format").lower().lstrip(".")
        if wanted and wanted != PurePath(name).suffix.lower().lstrip("."):
            raise ApiError(400, "output_format: a document keeps its format here; leave it out", param="output_format")
        job = DocumentJob(name=name, data=file.data, source=source, target=target, glossary=glossary)
        prepared, work = await self.prepared(
            lambda: self._documents.services.prepare(job, named(fields, OF_DOCUMENTS)), document=True
        )
        made = self._documents.begin(self._host, prepared, work, request.client.host if request.client else "")
        return Json({"document_id": made.id, "document_key": made.key})

    async def _its_document(self, request: Request) -> ServedDocument:
        fields = await self.asked(request)
        return self._documents.get(request.path_params["id"], fields.text("document_key", most=1000))

    async def _document_status(self, request: Request) -> Response:
        one = await self._its_document(request)
        found: dict[str, Any] = {"document_id": one.id, "status": one.state}
        if one.state == "translating":
            found["lingraft"] = {"done": round(one.done, 3)}
        if one.state == "translating" and (seconds := self._documents.seconds(one)) is not None:
            found["seconds_remaining"] = seconds
        if one.state == "done":
            found |= {"billed_characters": one.characters, "lingraft": told(one)}
        if one.failed is not None:
            found["error_message"] = one.failed.message
        return Json(found)

    async def _document_result(self, request: Request) -> Response:
        return as_file(await self._its_document(request))


def shown(code: str) -> str:
    """Return a language as DeepL calls it as a source: without its region, in capitals."""
    if code in NAMES:
        return code.upper()
    return base_language(code).upper()


def _rules(fields: Fields, kind: str) -> TagRules:
    def names(name: str) -> frozenset[str]:
        return frozenset(part.strip() for one in fields.texts(name) for part in one.split(",") if part.strip())

    return TagRules(
        kind="xml" if kind == "xml" else "html",
        kept=names("ignore_tags"),
        splitting=names("splitting_tags"),
        within=names("non_splitting_tags"),
        outline=fields.flag("outline_detection", True),
    )


def _described(glossary: ServedGlossary) -> dict[str, Any]:
    return {
        "glossary_id": glossary.id,
        "name": glossary.name,
        "ready": True,
        "source_lang": glossary.source.lower(),
        "target_lang": glossary.target.lower(),
        "creation_time": glossary.created.replace("+00:00", "Z"),
        "entry_count": len(glossary.entries),
    }
