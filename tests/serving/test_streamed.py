"""A server before another: the same answers, its errors told to clients, and nobody who waits for one that is dead."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from chains import MARKERS
from clients import Raw, chat
from decoder_endpoints import ASKED, Improved
from decoder_endpoints import answering as by_decoder
from endpoints import CAPS, THAI, answerer, ask, asking, client, content, events, served, streamed, tiny, until
from lingraft.conversation.chain import Caps
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.token_streams import TokenStreams
from lingraft.routing.base import BASE, GRAFT
from lingraft.serving.answerer import Answerer
from lingraft.serving.app import Api
from lingraft.serving.bridge import Bridge
from lingraft.serving.decoder import ServedDecoder, decoder_plan
from lingraft.serving.queue import RequestQueue
from lingraft.serving.streamed import StreamedEngine, StreamWriting
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from openai_model import ModelStream
from openai_server import FakeServer, choice
from processes import HANGING
from translation_endpoints import PAIRS, asking_info, translations
from translation_endpoints import translating as with_service

PATH = "/v1/chat/completions"
LONG = Caps(20, 20, 600)


class Behind(FakeServer):
    """A tiny model at a server, which commits `mishap` at every request."""

    def __init__(self, owned_by: str = "vllm", **options: Any) -> None:
        self.mishap = ""
        loaded = tiny()
        super().__init__(
            lambda body: choice_of_one(),
            lambda number, body: self.mishap,
            owned_by=owned_by,
            stream=ModelStream(loaded),
            **options,
        )


@contextmanager
def streaming(behind: FakeServer, **params: Any) -> Iterator[TokenStreams]:
    """Yield what a server writes with."""
    with behind:
        loaded = tiny()
        engine = OpenAIEngine.create(EngineModel.of(loaded), OpenAIEngine.Params(base_url=behind.url, **params))
        with engine.token_streams({None: loaded.renderer}) as streams:
            yield streams


def answering(streams: TokenStreams, caps: Caps = CAPS, *, chain: bool = True, **options: Any) -> Answerer:
    writing = {route: StreamWriting(streams, None) for route in (GRAFT, BASE)}
    own = {"logprobs": streams.gives_logprobs, **options}
    return Answerer(tiny(), MARKERS if chain else None, caps, writing=writing, **own)


@pytest.mark.parametrize("chain", [True, False])
def test_answers_are_those_of_the_model_in_memory(chain: bool) -> None:
    texts = [(THAI,), ("How are you?",), ("Hello", "Hi", "And now?")]
    with client(answerer(chain=chain)) as http:
        own = [ask(http, *one)["choices"][0]["message"] for one in texts]
    with streaming(Behind()) as streams, client(answering(streams, chain=chain)) as http:
        assert [ask(http, *one)["choices"][0]["message"] for one in texts] == own
        assert [content(streamed(http, *one)) for one in texts] == [one["content"] for one in own]


def test_a_marker_that_is_missed_is_put_and_the_server_goes_on_behind_it() -> None:
    behind = Behind()
    with streaming(behind) as streams, client(answering(streams)) as http:
        found = ask(http, THAI, lingraft={"chain": True})["lingraft"]["chain"]
    with client(answerer()) as http:
        assert ask(http, THAI, lingraft={"chain": True})["lingraft"]["chain"] == found
    prompts = [body["prompt"] for body in behind.bodies[1:]]
    assert len(prompts) > 1
    assert all(later[: len(first)] == first for first, later in pairwise(prompts))


def test_text_alone_is_passed_on_and_its_end_is_the_server_s() -> None:
    with client(answerer(chain=False)) as http:
        own = ask(http, "How are you?")["choices"][0]
        short = ask(http, "How are you?", max_tokens=3)["choices"][0]
        raw = http.post("/v1/completions", json={"prompt": " The", "max_tokens": 9}).json()["choices"][0]
    with streaming(Behind("someone")) as streams, client(answering(streams, chain=False)) as http:
        for wanted, fields in ((own, {}), (short, {"max_tokens": 3})):
            found = ask(http, "How are you?", **fields)["choices"][0]
            assert (found["message"], found["finish_reason"]) == (wanted["message"], wanted["finish_reason"])
        told = http.post("/v1/completions", json={"prompt": " The", "max_tokens": 9}).json()["choices"][0]
        assert (told["text"], told["finish_reason"]) == (raw["text"], raw["finish_reason"])
        refused = http.post(PATH, json=asking("Hello", logprobs=True))
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "logprobs")


def test_log_probabilities_are_passed_on() -> None:
    fields = {"logprobs": True, "top_logprobs": 2}
    with client(answerer(chain=False)) as http:
        own = ask(http, "Hello", **fields)["choices"][0]["logprobs"]
    with streaming(Behind()) as streams, client(answering(streams, chain=False)) as http:
        assert ask(http, "Hello", **fields)["choices"][0]["logprobs"] == own


MISHAPS = {
    "503": (503, "engine_busy"),
    "429": (503, "engine_busy"),
    "500": (502, "engine_failed"),
    "504": (502, "engine_failed"),
    "reset": (502, "engine_failed"),
    "no_http": (502, "engine_failed"),
    "cut": (502, "engine_failed"),
    "bad_ids": (502, "engine_failed"),
    "slow": (504, "engine_timeout"),
    "silent": (504, "engine_timeout"),
}


@pytest.mark.parametrize("mishap", MISHAPS)
def test_what_goes_wrong_behind_has_its_status_and_the_next_is_answered(mishap: str) -> None:
    behind = Behind()
    if mishap == "slow":
        behind.stream = None
    with streaming(behind, timeout=0.4) as streams, client(answering(streams, LONG, chain=False)) as http:
        behind.mishap = mishap
        response = http.post(PATH, json=asking("Hello"))
        assert (response.status_code, response.json()["error"]["code"]) == MISHAPS[mishap]
        assert ("retry-after" in response.headers) == (response.status_code == 503)
        assert behind.url not in response.text
        assert "not now" not in response.text
        behind.mishap = ""
        assert ask(http, "Hello", max_tokens=3)["choices"]


def test_how_long_it_asks_to_wait_is_passed_on() -> None:
    def busy(body: dict[str, Any]) -> dict[str, Any]:
        wait = {"status": 503, "headers": {"Retry_After": "41"}}
        return {"error": {"message": "x"}, **wait} if body["max_tokens"] > 1 else choice_of_one()

    with streaming(FakeServer(busy)) as streams, client(answering(streams, chain=False)) as http:
        response = http.post(PATH, json=asking("Hello"))
        assert (response.status_code, response.headers["Retry-After"]) == (503, "41")


def choice_of_one() -> dict[str, Any]:
    return choice("x", [7], "length")


def test_what_does_not_fit_there_is_the_client_s_to_shorten() -> None:
    def full(body: dict[str, Any]) -> dict[str, Any]:
        error = {"error": {"message": "This model's maximum context length is 8 tokens. /secret/place"}}
        return error if body["max_tokens"] > 1 else choice_of_one()

    with streaming(FakeServer(full)) as streams, client(answering(streams, chain=False)) as http:
        response = http.post(PATH, json=asking("Hello"))
        assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert "secret" not in response.text


def test_a_server_that_died_is_told_at_once_in_a_stream_as_well() -> None:
    behind = Behind()
    with streaming(behind) as streams, client(answering(streams, chain=False)) as http:
        port = behind.stop()
        for stream in (False, True):
            response = http.post(PATH, json=asking("Hello", stream=stream))
            assert (response.status_code, response.json()["error"]["code"]) == (502, "engine_failed")
        behind.start(port)
        assert ask(http, "Hello")["choices"]


def without_end(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Write one word over and over, as often as it may."""
    for number in range(1, body["max_tokens"] + 1):
        event = choice(" word", [7], "")
        event["choices"][0]["finish_reason"] = "length" if number == body["max_tokens"] else None
        yield event
        time.sleep(0.005)


def test_one_that_dies_in_the_midst_of_a_stream_is_an_event() -> None:
    behind = Behind()
    behind.stream = without_end
    with (
        streaming(behind) as streams,
        served(answering(streams, LONG, chain=False)) as (url, desk),
        httpx2.Client(timeout=HANGING) as http,
        http.stream("POST", url + PATH, json=asking("Hello", stream=True)) as response,
    ):
        lines = response.iter_lines()
        for _ in range(5):
            next(lines)
        behind.stop()
        last = [line for line in lines if line.startswith("data: ")][-1]
        assert "engine_failed" in last
        until(lambda: desk.inside == 0)


def test_a_client_that_leaves_ends_the_work_behind() -> None:
    behind = Behind()
    behind.stream = without_end
    with streaming(behind) as streams, served(answering(streams, LONG, chain=False)) as (url, desk):
        with Raw(url) as raw:
            raw.send(chat("Hello", stream=True))
            assert b"200 OK" in raw.some()
            raw.reset()
        assert behind.aborted.wait(HANGING)
        until(lambda: desk.inside == 0)


def test_requests_go_on_at_once_and_no_more_than_may() -> None:
    behind = Behind()
    with streaming(behind, concurrency=3) as streams:
        behind.most = 0
        with served(answering(streams, chain=False), batches=streams) as (url, _), ExitStack() as stack:
            raws = [stack.enter_context(Raw(url)) for _ in range(8)]
            for raw in raws:
                raw.send(chat("Hello", max_tokens=8))
            for raw in raws:
                assert b"200 OK" in raw.some()
        assert behind.most == 3


@contextmanager
def translating(streams: TokenStreams) -> Iterator[TestClient]:
    """Yield a client of a server that translates by a decoder, which asks the base as well."""
    loaded = tiny()
    model = EngineModel.of(loaded)
    desk = RequestQueue(at_once=8, step=streams.step)
    streams.wake = desk.rounds.wake
    bridge = Bridge(desk.rounds.wake)
    writing = {route: StreamWriting(streams, None) for route in (GRAFT, BASE)}

    def engine() -> StreamedEngine:
        return StreamedEngine(writing, {GRAFT: loaded, BASE: loaded}, bridge, graft=False)

    decoder = ServedDecoder(decoder_plan(Improved(), None, None), loaded, model, engine=engine())
    info = asking_info(*PAIRS, stop=("e",))
    service = TranslationService(Translator(loaded, info, None, model, most=24, engine=engine()))
    api = Api(answering(streams, chain=False, decoder=decoder), "tiny", desk, translations=service)
    try:
        with TestClient(api.app(), base_url="http://127.0.0.1") as http:
            yield http
    finally:
        desk.close()
        bridge.close()


@pytest.mark.parametrize("owner", ["vllm", "someone"])
def test_decoders_and_other_translations_ask_it_as_well(owner: str) -> None:
    form = {"q": ["Guten Tag.", "Wie geht es?"], "source": "de", "target": "en", "lingraft": {"partial": True}}
    with client(by_decoder(Improved())) as http:
        own = ask(http, ASKED)
    with with_service(translations(info=asking_info(*PAIRS, stop=("e",)), most=24)) as http:
        texts = http.post("/translate", json=form).json()["translatedText"]
    behind = Behind(owner)
    with streaming(behind) as streams, translating(streams) as http:
        found = ask(http, ASKED)
        assert found["choices"][0]["message"] == own["choices"][0]["message"]
        assert found["lingraft"]["decoder"] == own["lingraft"]["decoder"]
        assert http.post("/translate", json=form).json()["translatedText"] == texts
        behind.mishap = "503"
        assert http.post(PATH, json=asking(ASKED)).status_code == 503
        refused = http.post("/translate", json=form)
        assert refused.status_code == 503
        assert "retry-after" in refused.headers


def test_a_stream_ends_as_the_protocol_has_it() -> None:
    with streaming(Behind()) as streams, client(answering(streams)) as http:
        response = http.post(PATH, json=asking(THAI, stream=True))
        assert events(response.text)[-1]["choices"][0]["finish_reason"] in ("stop", "length")
