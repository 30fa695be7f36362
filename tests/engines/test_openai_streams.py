"""Answers of a server as they are written: whole tokens or text, and what may go wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from chains import loaded
from lingraft.conversation.writing import TokenWriter
from lingraft.core.errors import DataError, EngineError, UsageError
from lingraft.data.records import Message
from lingraft.engines.base import EngineModel
from lingraft.engines.exchange_faults import ContextExceeded, Unanswered
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.token_streams import StreamEnd, StreamRequest, StreamToken, TokenStream, TokenStreams
from openai_model import ModelAnswers, ModelStream
from openai_server import STATUS, STREAM_FAULTS, FakeServer, choice
from processes import HANGING

MODEL = loaded(3)
RENDERER = MODEL.renderer
PROMPT = RENDERER.prompt_ids((Message("user", "Guten Tag, wie geht es dir? สวัสดี"),)).ids


class Server(FakeServer):
    """A tiny model that is served; the first request, by which a server is tried, goes well."""

    def __init__(self, fault: str = "", stream: Any = None, **options: Any) -> None:
        written = stream or ModelStream(MODEL)
        super().__init__(ModelAnswers(MODEL), lambda number, body: fault if number else "", stream=written, **options)


@contextmanager
def opened(server: FakeServer, **params: Any) -> Iterator[TokenStreams]:
    with server:
        engine = OpenAIEngine.create(EngineModel.of(MODEL), OpenAIEngine.Params(base_url=server.url, **params))
        with engine.token_streams({None: RENDERER}) as streams:
            yield streams


def asked(ids: Sequence[int] = PROMPT, most: int = 20, **fields: Any) -> StreamRequest:
    return StreamRequest(ids=tuple(ids), ends=RENDERER.end_ids, most=most, **fields)


def taken(stream: TokenStream) -> list[StreamToken | StreamEnd]:
    found, until = list[StreamToken | StreamEnd](), time.monotonic() + HANGING
    while not found or not isinstance(found[-1], StreamEnd):
        assert time.monotonic() < until
        if (item := stream.take()) is None:
            time.sleep(0.001)
        else:
            found.append(item)
    return found


def own(most: int, top: int | None = None) -> list[Any]:
    """What the model writes in this process."""
    writer, found = TokenWriter(MODEL, PROMPT, most=most, top=top), []
    while writer.room > 0:
        found.append((writer.propose(), writer.noted))
        if found[-1][0] in RENDERER.end_ids:
            break
        writer.accept(found[-1][0])
    return found


def test_tokens_come_as_the_model_writes_them() -> None:
    with opened(Server()) as streams:
        assert streams.gives_ids
        *tokens, end = taken(streams.begin(None, asked()))
        assert [one.id for one in tokens if isinstance(one, StreamToken)] == [id_ for id_, _ in own(20)]
        assert isinstance(end, StreamEnd)
        *tokens, _ = taken(streams.begin(None, asked(most=6, top=2)))
        assert [one.noted for one in tokens if isinstance(one, StreamToken)] == [noted for _, noted in own(6, 2)]


def test_a_server_of_text_is_sent_text_and_gives_the_same_text() -> None:
    server = Server(owned_by="someone")
    with opened(server) as streams:
        assert not streams.gives_ids
        *tokens, _ = taken(streams.begin(None, asked()))
        text = "".join(one.text or "" for one in tokens if isinstance(one, StreamToken))
        assert text == RENDERER.decode([id_ for id_, _ in own(20)])
        assert isinstance(server.bodies[-1]["prompt"], str)
        assert "stop_token_ids" not in server.bodies[-1]
        with pytest.raises(DataError, match="read it as other tokens"):
            streams.begin(None, asked(ids=[id_ for letter in "the" for id_ in RENDERER.plain_ids(letter)]))


def test_a_server_that_does_not_stream_answers_whole() -> None:
    with opened(FakeServer(ModelAnswers(MODEL))) as streams:
        *tokens, end = taken(streams.begin(None, asked(most=5)))
        assert [one.id for one in tokens if isinstance(one, StreamToken)] == [id_ for id_, _ in own(5)]
        assert end == StreamEnd(cut=len(tokens) == 5 and own(5)[-1][0] not in RENDERER.end_ids)


@pytest.mark.parametrize("fault", [*STREAM_FAULTS, "drop", "reset", "drop_headers", "no_http"])
def test_what_breaks_off_or_is_spoilt_is_no_answer(fault: str) -> None:
    with opened(Server(fault), timeout=0.5) as streams, pytest.raises(Unanswered) as found:
        taken(streams.begin(None, asked()))
    assert found.value.cause == ("timeout" if fault == "silent" else found.value.cause)


@pytest.mark.parametrize("status", STATUS)
def test_statuses_are_causes_and_what_it_asks_to_wait_is_known(status: str) -> None:
    with opened(Server(status)) as streams, pytest.raises(Unanswered) as found:
        taken(streams.begin(None, asked()))
    assert found.value.cause == status[:3]
    assert (found.value.wait > 0) == status.startswith("429")


def test_too_much_is_the_server_s_fault_or_a_cut() -> None:
    def endless(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        number = 0
        while True:
            number += 1
            event = choice(" word", [7], "")
            event["choices"][0]["finish_reason"] = "length" if body["max_tokens"] == number == 1 else None
            yield event

    with opened(Server(stream=endless)) as streams, pytest.raises(Unanswered, match="more tokens"):
        taken(streams.begin(None, asked(most=4)))
    with opened(Server(stream=endless, owned_by="someone")) as streams:
        *tokens, end = taken(streams.begin(None, asked(most=4)))
        assert end == StreamEnd(cut=True)
        assert len(tokens) < 100


def test_what_does_not_fit_is_told_apart() -> None:
    def full(body: dict[str, Any]) -> dict[str, Any]:
        if body["max_tokens"] == 1:
            return choice("x", [7], "length")
        return {"error": {"message": "This model's maximum context length is 8 tokens."}}

    with opened(FakeServer(full)) as streams, pytest.raises(ContextExceeded):
        taken(streams.begin(None, asked()))


def test_closing_breaks_the_connection_off() -> None:
    server = Server()
    with opened(server) as streams:
        stream = streams.begin(None, asked(most=1500))
        while stream.take() is None:
            time.sleep(0.001)
        stream.close()
        assert server.aborted.wait(HANGING)


def test_what_cannot_be_is_found_before_anybody_is_served() -> None:
    with pytest.raises(UsageError, match="api: chat"), opened(Server(), api="chat"):
        pass
    with pytest.raises(EngineError, match="another tokenizer"), opened(Server(tokenize=lambda text: [1, 2, 3])):
        pass
    with pytest.raises(EngineError, match="status 401"), opened(Server(key="secret")):
        pass
    closed = Server()
    port_closed = closed.url
    closed._http.server_close()
    engine = OpenAIEngine.create(EngineModel.of(MODEL), OpenAIEngine.Params(base_url=port_closed))
    with pytest.raises(EngineError, match="no server answers"), engine.token_streams({None: RENDERER}):
        pass
