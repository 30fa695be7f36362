"""The page of a server: its files, and what it asks beside the endpoint.

Answers come from `/v1/chat/completions`. The page is told which systems there are and for which languages, how a text
or a document is asked for with the terms of a glossary, and what of an answer is the translation, all by the rules of
`lingraft translate`. No file has a script or a style within it, and browsers take both from this server alone, so that
what a model writes is text whatever it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property
from importlib.resources import files
from typing import Any, Literal

import anyio
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lingraft.core.errors import UsageError
from lingraft.data.glossary import Glossary
from lingraft.data.records import Generation
from lingraft.decoders.glossary import with_terms
from lingraft.language.characters import is_blank
from lingraft.language.codes import COMMON, language, language_name
from lingraft.serving.document import suffixes
from lingraft.serving.page_terms import read_terms
from lingraft.serving.reply import Json
from lingraft.serving.request import ApiError
from lingraft.serving.systems import ServedSystem
from lingraft.translation.blocks import TextBlock, document_blocks
from lingraft.translation.by_sentence import stops_for
from lingraft.translation.direct import Source, extract
from lingraft.translation.wording import TranslationSystem, ask

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
MOST_STOPS = 4
"""Stop strings that a request to the endpoint may have; the translation ends at all of them."""
_LONGEST = 1_000_000

Guard = Callable[[Callable[[Request], Awaitable[Response]]], Callable[[Request], Awaitable[Response]]]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    model: str = Field(max_length=512)
    text: str = Field(max_length=_LONGEST)
    source: str = Field(max_length=64)
    target: str = Field(max_length=64)
    terms: str = Field("", max_length=_LONGEST)


class _Document(_Asked):
    document: bool = False


class _Answered(_Asked):
    answer: str = Field(max_length=_LONGEST)
    finish_reason: Literal["stop", "length"] = "stop"


class Page:
    """The page and what it asks.

    Args:
        systems: that are served, the first one first.
        most_written: tokens that a translation may have.
    """

    def __init__(self, systems: Sequence[ServedSystem], most_written: int) -> None:
        self._systems, self._most = {one.name: one for one in systems}, most_written

    def routes(
        self,
        guarded: Guard,
        admit: Callable[..., None],
        body: Callable[[Request, Callable[[bytes], bytes]], Awaitable[bytes]],
        counting: anyio.CapacityLimiter,
    ) -> list[Route]:
        """Return the page's routes.

        Args:
            guarded: lets an endpoint fail without telling what a client wrote.
            admit: refuses clients that may not ask; with `open_to_all` those alone that come by a wrong name.
            body: gives a body of JSON as what is given with it reads it.
            counting: lets one client at a time have its text cut into parts.
        """

        async def file(request: Request) -> Response:
            admit(request, open_to_all=True)  # there is no secret in it, and it asks for the key
            name = request.path_params.get("name", "index.html")
            found = self._files.get(name)
            if found is None:
                raise ApiError(404, f"the page has no file {name[:80]!r}")
            content, kind = found
            return Response(content, headers={**HEADERS, "Content-Type": f"{kind}; charset=utf-8"})

        async def systems(request: Request) -> Response:
            admit(request)
            return Json(self.systems())

        def asked(answer: Callable[[bytes], dict[str, Any]]) -> Callable[[Request], Awaitable[Response]]:
            async def respond(request: Request) -> Response:
                admit(request)
                data = await body(request, bytes)
                return Json(await anyio.to_thread.run_sync(answer, data, limiter=counting))

            return guarded(respond)

        return [
            Route("/", guarded(file)),
            Route("/page/systems", guarded(systems)),
            Route("/page/parts", asked(self.parts), methods=["POST"]),
            Route("/page/translation", asked(self.translation), methods=["POST"]),
            Route("/page/{name}", guarded(file)),
        ]

    @cached_property
    def _files(self) -> dict[str, tuple[bytes, str]]:
        folder = files("lingraft.shipped").joinpath("page")
        return {
            one.name: (one.read_bytes(), KINDS[f".{one.name.rpartition('.')[2]}"])
            for one in folder.iterdir()
            if f".{one.name.rpartition('.')[2]}" in KINDS
        }

    def systems(self) -> dict[str, Any]:
        """Return names, chats and directions of the systems, languages, and the ends of names of documents."""
        found, codes = [], dict.fromkeys(COMMON)
        for one in self._systems.values():
            directions = [(each.source, each.target) for each in one.info.directions] if one.info else []
            codes |= dict.fromkeys(code for pair in directions for code in pair)
            chain = ["en", *one.markers.languages] if one.markers else []
            codes |= dict.fromkeys(chain)
            found.append(
                {
                    "name": one.name,
                    "graft": one.info is not None,
                    "method": one.info.method if one.info else "",
                    "chain": chain,
                    "directions": directions,
                }
            )
        named = sorted((language_name(code), code) for code in codes)
        listed = [{"code": code, "name": name} for name, code in named]
        return {"systems": found, "languages": listed, "documents": suffixes()}

    def parts(self, data: bytes) -> dict[str, Any]:
        """Return how a text is asked for: its parts in order, and what is copied between them.

        Raises:
            ApiError: no such system or language, the glossary cannot be read, or there is nothing to translate.
        """
        given = _read(_Document, data)
        system, source, target, glossary = self._chosen(given)
        text = given.text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        if is_blank(text):
            raise ApiError(400, "there is no text to translate", param="text")
        blocks = [TextBlock(1, text, "")]
        if given.document:
            # A translation takes up to twice the tokens of its source; longer paragraphs are cut.
            lines = text.removesuffix("\n").split("\n")
            count = system.loaded.renderer.count
            blocks = document_blocks(lines, max(1, self._most // 2), count, source, target)
        how = system.info.translating if system.info else TranslationSystem()
        found = []
        for block in blocks:
            part: dict[str, Any] = {"text": block.text, "end": block.end, "translate": block.translate}
            if block.translate:
                terms = glossary.terms_in(block.text, source, target)
                (message,) = ask(with_terms(how, terms).instruction, block.text, source, target)
                part |= {"prompt": message.content, "stop": stops_for(block.text, how.stop)[:MOST_STOPS]}
            found.append(part)
        return {"parts": found, "max_tokens": self._most}

    def translation(self, data: bytes) -> dict[str, Any]:
        """Return the translation in an answer, what went wrong with it, and the terms of the text that it lacks.

        Raises:
            ApiError: as `parts`.
        """
        given = _read(_Answered, data)
        system, source, target, glossary = self._chosen(given)
        how = system.info.translating if system.info else TranslationSystem()
        generation = Generation("page", given.answer, (), given.finish_reason)
        found = extract(Source("page", given.text, source, target), generation, how.stop)
        terms = glossary.terms_in(given.text, source, target)
        missing = [term.target for term in terms if not term.is_in(found.text, target)]
        return {"text": found.text, "failure": found.failure, "terms": len(terms), "missing": missing}

    def _chosen(self, given: _Asked) -> tuple[ServedSystem, str, str, Glossary]:
        system = self._systems.get(given.model)
        if system is None:
            raise ApiError(404, f"the model {given.model!r} does not exist here", param="model", code="model_not_found")
        try:
            source, target = language(given.source), language(given.target)
        except UsageError as error:
            raise ApiError(400, str(error), param="source") from error
        if source == target:
            raise ApiError(400, "source and target are the same language; choose two", param="target")
        return system, source, target, read_terms(given.terms)


def _read(form: type[Any], data: bytes) -> Any:
    try:
        return form.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        raise ApiError(400, f"{place or 'the body'}: {str(first['msg'])[:200]}", param=place) from error
