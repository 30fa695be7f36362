"""Translations through a decoder whose client leaves: the work ends between and within steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chain_grafts import base, make_graft  # noqa: F401  (fixture)
from decoder_endpoints import ASKED, SOURCE, Improved, answering, decoder_of, left_after_its_request
from endpoints import CAPS, asking, served, serving, until
from lingraft.conversation.opening import open_model
from lingraft.conversation.writing import Event, never
from lingraft.data.records import Generation, Sampling
from lingraft.decoders.base import Decoder, DecoderInputs
from lingraft.decoders.direct import drafts
from lingraft.engines.base import EngineModel
from lingraft.models.graft import read_info
from lingraft.serving import decoding
from lingraft.serving.answerer import Answerer
from lingraft.serving.batching import Batching
from lingraft.serving.decoder import Decoded
from lingraft.serving.queue import RequestQueue
from lingraft.serving.rounds import End, Rounds
from lingraft.serving.server import bound
from lingraft.serving.systems import ServedSystem
from lingraft.serving.translation import Outcome, TranslationJob, TranslationService
from lingraft.serving.translator import Translator
from lingraft.translation.direct import Translation, requests
from lingraft.translation.wording import TranslationSystem
from nursery import born
from processes import HANGING

PATH = "/v1/chat/completions"
QUESTION = "What is the capital of France?"


class Waiting(Improved):
    """Waits before its second step."""

    def __init__(self) -> None:
        super().__init__()
        self.may, self.waits = threading.Event(), threading.Event()

    def run(self, sources: Any, system: TranslationSystem, inputs: DecoderInputs) -> Iterator[Translation]:
        found = list(drafts(sources, system, inputs))
        self.waits.set()
        assert self.may.wait(HANGING)
        inputs.ask("second", list(requests(sources, system, inputs.sampling)))
        yield from found


@pytest.fixture(scope="module")
def graft(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("direct") / "graft", "direct")


def test_a_client_that_leaves_ends_the_work_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    own = decoding.ServedEngine.generate

    def generate(self: Any, requests: Any, graft: Path | None = None) -> Iterator[Generation]:
        steps.extend(one.id for one in requests)
        return own(self, requests, graft)

    monkeypatch.setattr(decoding.ServedEngine, "generate", generate)
    decoder = Waiting()
    with served(answering(decoder)) as (url, desk), httpx2.Client(timeout=HANGING) as http:
        with left_after_its_request(url):
            assert decoder.waits.wait(HANGING)
        until(lambda: desk.inside == 0)
        decoder.may.set()
        found = http.post(url + PATH, json=asking(QUESTION)).json()  # behind what is left of the other
        assert len(steps) == 1
        assert found["choices"][0]["message"]["content"]
        assert http.post(url + PATH, json=asking(ASKED)).json()["lingraft"]["decoder"]["name"] == "improved"
        assert len(steps) == 3


def test_the_command_serves_a_decoder_that_asks_the_base(graft: Path) -> None:
    options = ["--decoder", "tear", "--param", "estimator=base", "--param", "max_estimate_tokens=16"]
    process = born("", "serve", "--graft", graft, "--port", "0", "--name", "mine", "--max-native-tokens", "9", *options)
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if " at http://" in line)
        assert "translations by tear" in line
        with httpx2.Client(base_url=line.split(" at ")[1].split("/v1")[0], timeout=HANGING) as http:
            found = http.post(PATH, json={**asking(ASKED), "model": "mine"}).json()
            card = http.get("/v1/models/mine").json()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=HANGING)
    finally:
        process.kill()
    assert found["lingraft"]["decoder"]["name"] == card["lingraft"]["decoder"] == "tear"
    assert sum(found["lingraft"]["tokens"].values()) == found["usage"]["completion_tokens"]
    assert (process.returncode, err.splitlines()[-1]) == (0, "Ended.")
    assert SOURCE.text not in err


def test_it_ends_within_a_step_too_and_the_graft_is_on_again(graft: Path) -> None:
    with open_model(graft, None) as (loaded, _):
        decoder = decoder_of(Improved(), loaded, graft)

        def events(most: float = float("inf")) -> tuple[list[Event], int]:
            asked = 0

            def left() -> bool:
                nonlocal asked
                asked += 1
                return asked > most

            return list(decoder.events(SOURCE, Sampling(12), left)), asked

        (_, whole), all_asked = events()
        for most in (0, 1, 5, 14, all_asked - 1):  # before the first step, within the draft, and with the graft off
            assert events(most) == ([], most + 1)
            (_, again), _ = events()
            assert replace(again, timing=whole.timing) == whole  # type: ignore[call-overload,union-attr]


@contextmanager
def beside_others(decoder: Decoder, graft: Path) -> Iterator[tuple[str, RequestQueue]]:
    """Serve a graft whose translations are made beside other answers."""
    with open_model(graft, None) as (loaded, _):
        system = ServedSystem("tiny", loaded, None, read_info(graft))
        batching = Batching.of([system], 8, 4096, base_too=True)
        desk, on = RequestQueue(at_once=batching.at_once, step=batching.step), bound("127.0.0.1", 0)
        made = decoder_of(decoder, loaded, graft, batching.side(system, desk.rounds.wake))
        answers = Answerer(loaded, None, CAPS, decoder=made, writing=batching.writing("tiny"))
        try:
            with serving(answers, desk, on) as url:
                yield url, desk
        finally:
            batching.close()
            made.close()


def test_translations_beside_other_answers_are_those_made_alone(graft: Path) -> None:
    with open_model(graft, None) as (loaded, _):
        *_, alone = decoder_of(Improved(), loaded, graft).events(SOURCE, Sampling(CAPS.native))
    with (
        beside_others(Improved(), graft) as (url, _),
        httpx2.Client(timeout=HANGING) as http,
        ThreadPoolExecutor(6) as threads,
    ):
        bodies = [asking(ASKED if number % 2 else QUESTION) for number in range(6)]
        first, *others = threads.map(lambda body: http.post(url + PATH, json=body).json(), bodies)
        again = http.post(url + PATH, json=bodies[0]).json()
    assert isinstance(alone, Decoded)
    for found in others[::2]:
        assert found["choices"][0]["message"]["content"] == alone.text
        assert found["usage"]["completion_tokens"] == sum(one.tokens for one in alone.segments)
        assert found["lingraft"]["decoder"]["calls"] == alone.calls
    assert {one["choices"][0]["message"]["content"] for one in (first, again, *others[1::2])} == {
        first["choices"][0]["message"]["content"]
    }


def test_others_are_answered_while_a_translation_waits_and_its_client_may_leave(graft: Path) -> None:
    decoder = Waiting()
    with beside_others(decoder, graft) as (url, desk), httpx2.Client(timeout=HANGING) as http:
        with left_after_its_request(url):
            assert decoder.waits.wait(HANGING)
            assert http.post(url + PATH, json=asking(QUESTION)).status_code == 200
            assert desk.inside == 1
        until(lambda: desk.inside == 0)
        assert http.post(url + PATH, json=asking(QUESTION)).status_code == 200
        decoder.may.set()
        assert http.post(url + PATH, json=asking(ASKED)).json()["lingraft"]["decoder"]["name"] == "improved"


def test_texts_are_translated_beside_other_answers(graft: Path) -> None:
    with open_model(graft, None) as (loaded, _):
        system = ServedSystem("tiny", loaded, None, read_info(graft))
        options = (system.info, graft, EngineModel.of(loaded))
        job = TranslationJob(texts=("Good day.", "How are you?"), target="th", source="en", partial=True)
        own = TranslationService(Translator(loaded, *options, most=9))
        *_, alone = own.work(own.prepare(job))
        batching = Batching.of([system], 8, 4096, base_too=False)
        rounds = Rounds(batching.step)
        service = TranslationService(Translator(loaded, *options, most=9, side=batching.side(system, rounds.wake)))
        found: list[Any] = []
        try:
            with batching.packed():
                for number in range(3):
                    items = service.work(service.prepare(job), (lambda: True) if number == 1 else never)
                    rounds.begin(items, found.append, threading.Event())
                until(lambda: sum(isinstance(one, End) for one in found) == 3)
        finally:
            rounds.close()
            batching.close()
    assert [one for one in found if isinstance(one, Outcome)] == [alone] * 2
    assert [one.error for one in found if isinstance(one, End)] == [None] * 3
