"""Entry points of the server for strangers' bytes: a connection without a socket, and bodies of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from starlette.requests import Request
from uvicorn.server import ServerState

from endpoints import tiny
from lingraft.conversation.writing import TextDelta, Timing, never
from lingraft.core.errors import LingraftError
from lingraft.evaluation.raters import findings
from lingraft.evaluation.thumbs import read_thumbs
from lingraft.serving.answerer import Answer, Answerer, Piece
from lingraft.serving.app import Api
from lingraft.serving.bodies import read_upload
from lingraft.serving.connection import WORKING, Config, Connection
from lingraft.serving.document import DocumentJob, DocumentService
from lingraft.serving.limits import Limits
from lingraft.serving.page import Page
from lingraft.serving.queue import RequestQueue
from lingraft.serving.request import ApiError, ChatRequest, read_question
from lingraft.serving.response import to_json
from lingraft.serving.systems import ServedSystem
from page_systems import INFO
from translation_endpoints import Rule, translations

BODY = (
    b'{"model": "m", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": [{"type": '
    b'"text", "text": "a"}]}, {"role": "user", "content": "b"}], "max_tokens": 3, "temperature": 0.5, "stop": ["x"], '
    b'"stream": true, "stream_options": {"include_usage": true}, "lingraft": {"chain": true}}'
)
PAGE_BODIES = [
    b'{"model": "mine", "text": "# Titel\\n\\nGuten Tag.", "source": "de", "target": "en", "terms": "Tag = day\\nA =", '
    b'"document": true}',
    b'{"model": "mine", "text": "Guten Tag.", "source": "de", "target": "en", "answer": "Good day.", '
    b'"finish_reason": "stop"}',
]
RATINGS = (
    b'{"schema": "lingraft.ratings/1", "rater": "a", "ratings": [{"task": "t", "source": "s", "left": "base", '
    b'"right": "b", "a": "x", "b": "y", "blind": true, "rating": "tie"}]}'
)
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
REQUESTS = [
    REQUEST + f"Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY,
    REQUEST + b'Transfer-Encoding: chunked\r\n\r\n4\r\n{"me\r\n0\r\n\r\n',
    b"GET /v1/models/m HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n\r\nGET /health HTTP/1.0\r\n\r\n",
]


class Parrot(Answerer):
    """Answers without a model."""

    def __init__(self) -> None:
        self.markers = self.router = self.decoder = None

    def check(self, question: ChatRequest) -> None:
        """Take everything."""

    def size(self, question: ChatRequest) -> int:
        """Return any number."""
        return 1

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        """Yield an answer of one piece."""
        yield TextDelta("text", "x", True)
        yield Answer(
            text="x",
            finish_reason="stop",
            segments=(),
            state="complete",
            failure="",
            language="",
            timing=Timing(0, 0, 0, 1),
            seed=None,
            turns=0,
            known=0,
        )


class Wire(asyncio.Transport):
    """A transport without a network.

    Attributes:
        sent: what the server wrote. closed: whether it has closed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed = bytearray(), False

    def write(self, data: Any) -> None:
        """Keep what is written."""
        assert not self.closed, "it writes after it has closed"
        self.sent += data

    def close(self) -> None:
        """Note that it is closed."""
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Do nothing: what is read is given."""

    def resume_reading(self) -> None:
        """Do nothing: what is read is given."""


@cache
def _server() -> tuple[asyncio.AbstractEventLoop, Api, Config, list[str]]:
    lines: list[str] = []
    loop = asyncio.new_event_loop()
    api = Api(Parrot(), "m", RequestQueue(), local_only=True, log=lines.append)
    config = Config(
        api.app(), Limits(), log_config=None, log_level="critical", access_log=False, ws="none", lifespan="off"
    )
    config.load()
    return loop, api, config, lines


def ask_server(data: bytes, folder: Path) -> bytes:
    """Give bytes to a connection in two parts, let it work, and leave; returns what it answered."""
    loop, _, config, lines = _server()
    lines.clear()
    return loop.run_until_complete(_session(data, config, lines))


async def _session(data: bytes, config: Config, lines: list[str]) -> bytes:
    troubles: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: troubles.append(context))
    state, wire = ServerState(), Wire()
    connection = Connection(config, state, {}, asyncio.get_running_loop())
    connection.connection_made(wire)
    cut = len(data) * 2 // 3
    for part in (data[:cut], data[cut:]):
        if part and not wire.closed:
            connection.data_received(part)
        await asyncio.sleep(0)
        while connection.doing == WORKING and state.tasks:
            await asyncio.wait(state.tasks)
            await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.gather(*state.tasks)
    await asyncio.sleep(0)
    assert connection._timer is connection._stall is connection.timeout_keep_alive_task is None  # it can be forgotten
    assert not troubles, troubles
    assert not [line for line in lines if "failed" in line], lines
    assert not wire.sent or wire.sent.startswith(b"HTTP/1.1 "), bytes(wire.sent[:100])
    assert b"HTTP/1.1 500" not in wire.sent
    return bytes(wire.sent)


def read_body(data: bytes, folder: Path) -> ChatRequest | None:
    """Read bytes as the body of a request; what is understood can be written again."""
    refusal, question = None, None
    try:
        question = read_question(data)
    except ApiError as error:
        refusal = error
    if question is None:
        assert refusal is not None
        assert refusal.status == 400
        assert len(refusal.message) < 2000
        to_json(refusal.to_dict())
        return None
    for message in question.messages:
        message.content.encode("utf-8")
    return question


def read_page_body(data: bytes, folder: Path) -> None:
    """Let the page's two requests read `data`; what is refused is told in one sentence."""
    page = _page()
    for asked in (page.parts, page.translation):
        with suppress(ApiError):
            to_json(asked(data))


def read_ratings(data: bytes, folder: Path) -> None:
    """Read `data` as the ratings that the page saved."""
    (folder / "ratings.json").write_bytes(data)
    with suppress(LingraftError):
        findings(*read_thumbs([folder / "ratings.json"]), n=10)


@cache
def _page() -> Page:
    return Page([ServedSystem("mine", tiny(), None, INFO)], 24)


def read_document(data: bytes, folder: Path) -> None:
    """Read bytes as a form with a document, and the document by its format; what is refused is told in a sentence."""
    scope = {"type": "http", "method": "POST", "path": "/v2/document", "query_string": b"", "headers": UPLOAD_HEADERS}
    refusal, prepared = None, None
    try:
        fields, file = read_upload(Request(scope), data)
        source, target = (fields.text(name, most=63) for name in ("source_lang", "target_lang"))
        prepared = _documents().prepare(DocumentJob(name=file.name, data=file.data, source=source, target=target))
    except ApiError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status < 500
        to_json(refusal.to_dict())
    else:
        assert prepared is not None
        assert prepared.document.written({})


@cache
def _documents() -> DocumentService:
    texts = translations(Rule())
    return DocumentService(texts.translator, texts)


def _form(name: str, content: bytes) -> bytes:
    fields = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % pair
        for pair in ((b"source_lang", b"DE"), (b"target_lang", b"EN"))
    )
    head = f'--xyz\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\nContent-Type: text/x\r\n\r\n'
    return fields + head.encode() + content + b"\r\n--xyz--\r\n"


UPLOAD_HEADERS = [(b"content-type", b"multipart/form-data; boundary=xyz"), (b"host", b"127.0.0.1")]
UPLOADS = [
    _form("a.md", b"# Der *Vertrag*\n\n- Er gilt, siehe `code`.\n"),
    _form("a.srt", b"1\n00:00:01,000 --> 00:00:02,000\nGuten Tag.\n"),
    _form("a.json", b'{"a": {"b": "Guten Tag {name}"}}'),
    _form("C:\\dir\\a.txt", "Grüße.\r\n\r\nBis bald.".encode()),
]
SERVER_ENTRY_POINTS = {
    "server": (ask_server, REQUESTS),
    "server-body": (read_body, [BODY]),
    "page-body": (read_page_body, PAGE_BODIES),
    "server-upload": (read_document, UPLOADS),
}
"""As `ENTRY_POINTS` of `hostile.py`."""
