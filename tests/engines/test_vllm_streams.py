"""Streams of vLLM: as the model in memory writes, beside each other, and what happens when it dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

import serving_engines
from chains import MARKERS
from endpoints import CAPS, THAI, ask, asking, client, content, streamed, tiny
from lingraft.conversation.writing import TokenWriter
from lingraft.core.errors import EngineError
from lingraft.engines.exchange_faults import ContextExceeded, Unanswered
from lingraft.engines.token_streams import StreamEnd, StreamRequest, StreamToken, TokenStream, TokenStreams
from lingraft.engines.vllm import VllmEngine
from lingraft.engines.vllm_streams import VllmStreams
from lingraft.routing.base import GRAFT
from lingraft.serving.answerer import Answerer
from lingraft.serving.streamed import StreamWriting


class Stepped:
    """Writes one number after the other to each text; what vLLM is taken for."""

    def __init__(self, broken: bool = False) -> None:
        self.broken, self.died, self.texts, self.aborted = broken, False, dict[str, list[int]](), list[str]()

    def add(self, key: str, request: StreamRequest, way: Any) -> None:
        self.texts[key] = [request.most, 0]

    def abort(self, key: str) -> None:
        self.aborted.append(key)
        del self.texts[key]

    def step(self) -> list[Any]:
        if self.broken:
            raise EngineError("vLLM failed")
        found = []
        for key, state in list(self.texts.items()):
            state[1] += 1
            over = state[0] == state[1]
            written = SimpleNamespace(token_ids=[state[1]], finish_reason="length" if over else None, logprobs=None)
            found.append(SimpleNamespace(request_id=key, finished=over, outputs=[written]))
            if over:
                del self.texts[key]
        return found


def streams_of(engine: Stepped) -> VllmStreams:
    return VllmStreams(engine, {None: None}, 100)


def asked(most: int = 3, ids: tuple[int, ...] = (1, 2)) -> StreamRequest:
    return StreamRequest(ids=ids, ends=(0,), most=most)


def all_of(stream: TokenStream) -> list[Any]:
    found = []
    while (item := stream.take()) is not None:
        found.append(item)
    return found


def test_texts_come_and_go_between_steps() -> None:
    engine = Stepped()
    streams = streams_of(engine)
    first = streams.begin(None, asked(4))
    assert streams.step()
    second, third = streams.begin(None, asked(2)), streams.begin(None, asked(50))
    streams.step()
    third.close()
    assert engine.aborted == ["2"]
    while streams.step():
        pass
    assert [one.id for one in all_of(first)[:-1]] == [1, 2, 3, 4]
    assert all_of(second) == [StreamToken(1), StreamToken(2), StreamEnd(cut=True)]
    assert all_of(third) == [StreamToken(1)]
    assert not streams.step()
    with pytest.raises(ContextExceeded):
        streams.begin(None, asked(99))


def test_when_it_dies_all_are_told_and_whoever_runs_it_once() -> None:
    streams, said = streams_of(Stepped(broken=True)), list[str]()
    streams.tell = said.append
    waiting = [streams.begin(None, asked()), streams.begin(None, asked())]
    assert streams.step()
    for stream in waiting:
        with pytest.raises(Unanswered):
            stream.take()
        stream.close()
    for _ in range(2):
        with pytest.raises(Unanswered):
            streams.begin(None, asked())
    assert said == ["vLLM failed; start the server again"]
    assert not streams.step()


def test_a_server_whose_engine_has_died_is_in_no_good_health() -> None:
    streams = streams_of(Stepped(broken=True))
    answers = Answerer(tiny(), None, CAPS, writing={GRAFT: StreamWriting(streams, None)})
    with client(answers, batches=streams, ended=lambda: streams.ended) as http:
        assert (http.get("/health").status_code, http.get("/health").json()["status"]) == (200, "ok")
        assert "lingraft_engine_up 1\n" in http.get("/metrics").text
        assert http.post("/v1/chat/completions", json=asking("Hello")).status_code == 502
        assert (http.get("/health").status_code, http.get("/health").json()["status"]) == (503, "engine_ended")
        assert "lingraft_engine_up 0\n" in http.get("/metrics").text


def test_an_engine_that_died_while_nobody_asked_is_noticed() -> None:
    engine = Stepped()
    streams = streams_of(engine)
    assert not streams.ended
    engine.died = True
    assert streams.ended


@contextmanager
def vllm() -> Iterator[TokenStreams]:
    before = serving_engines.CHOSEN
    serving_engines.CHOSEN = "vllm"
    try:
        yield serving_engines.writing(tiny, 5)[GRAFT].streams
    finally:
        serving_engines.CHOSEN = before


@pytest.mark.engines
@pytest.mark.skipif(bool(VllmEngine.missing()), reason=VllmEngine.missing() or "installed")
def test_vllm_writes_what_the_model_in_memory_writes_side_by_side() -> None:
    with vllm() as streams:
        loaded = tiny()
        prompts = [loaded.renderer.plain_ids(text) for text in ("Guten Tag.", "The weather is", "x")]
        texts = [
            streams.begin(None, StreamRequest(ids=tuple(ids), ends=loaded.renderer.end_ids, most=12, top=2))
            for ids in prompts
        ]
        while streams.step():
            pass
        for ids, stream in zip(prompts, texts, strict=True):
            writer, own = TokenWriter(loaded, ids, most=12, top=2), []
            while writer.room > 0:
                own.append(writer.propose())
                if own[-1] in loaded.renderer.end_ids:
                    break
                writer.accept(own[-1])
            assert [one.id for one in all_of(stream) if isinstance(one, StreamToken)] == own
        writing = {GRAFT: StreamWriting(streams, None)}
        own_answers, questions = Answerer(loaded, MARKERS, CAPS), (THAI, "How are you?")
        with client(own_answers) as http:
            own_texts = [ask(http, text)["choices"][0]["message"]["content"] for text in questions]
        with client(Answerer(loaded, MARKERS, CAPS, writing=writing), batches=streams) as http:
            assert [ask(http, text)["choices"][0]["message"]["content"] for text in questions] == own_texts
            assert [content(streamed(http, text)) for text in questions] == own_texts
