"""Odd texts and languages of sixteen clients at once, and clients that leave, against decoders and routes (`make
attacks`, the worst by default): each is answered, or refused in its form and in words, and honest ones are served."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from assaults import LANGUAGES, TEXTS, WORST_LANGUAGES, WORST_TEXTS, text_bodies
from chain_grafts import base, make_graft  # noqa: F401  (fixture)
from clients import Raw, request
from decoder_endpoints import decoder_of
from endpoints import CAPS, asking, serving, until
from lingraft.conversation.opening import open_model
from lingraft.core.sandbox import refusal
from lingraft.core.toolchains import missing_toolchain
from lingraft.engines.base import EngineModel
from lingraft.models.graft import read_info
from lingraft.routing.router import Router, decider_of
from lingraft.serving.answerer import Answerer
from lingraft.serving.batching import Batching
from lingraft.serving.limits import Limits
from lingraft.serving.queue import RequestQueue
from lingraft.serving.server import bound
from lingraft.serving.systems import ServedSystem
from lingraft.serving.translation import TranslationService
from lingraft.serving.translator import Translator
from processes import HANGING

QUESTION = "What is the capital of France?"
CLIENTS = 16
REFUSALS = {400, 413, 422}
HERE = refusal() or missing_toolchain("javascript")
TERMS = "Wetter,weather\nTag,day\n"
DECODERS: dict[str, Any] = {
    "none": None,
    "rerank": {"kind": "rerank", "samples": 2},
    "tear": {"kind": "tear", "max_estimate_tokens": 16},
    "tear by the base": {"kind": "tear", "max_estimate_tokens": 16, "estimator": "base", "accept": "always"},
    "icl": {"kind": "icl", "memory": "memory.tsv", "languages": ["en", "th"], "k": 1, "retriever": "chrf"},
    "glossary": {"kind": "glossary", "path": "terms.csv"},
    "sitr": "sitr",
    "translated first": {"kind": "sitr", "mode": "translate-summarise", "document_tokens": 4},
    "code": {"kind": "code", "run_code": True, "inputs": 1, "rounds": 1},
}


@pytest.fixture(scope="module")
def folder(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assaulted")
    make_graft(base, folder / "graft", "direct")
    (folder / "terms.csv").write_text(TERMS, "utf-8")
    (folder / "memory.tsv").write_text("Good morning.\tสวัสดีตอนเช้า\n", "utf-8")  # the graft's direction
    return folder


@contextmanager
def assaulted(
    folder: Path, name: str, *, route: bool, rows: int, lines: list[str]
) -> Iterator[tuple[str, RequestQueue]]:
    """Serve a graft with a decoder, with its base behind a route if wanted, as the command does; yield its address."""
    choice = DECODERS[name]
    if isinstance(choice, dict):
        places = {key: str(folder / choice[key]) for key in ("path", "memory") if key in choice}
        choice = {**choice, **places}
    graft = folder / "graft"
    with open_model(graft, None) as (loaded, _):
        info = read_info(graft)
        system = ServedSystem("tiny", loaded, None, info)
        batching = Batching.of([system], rows, 8192, base_too=True)
        desk = RequestQueue(256, 10**7, at_once=batching.at_once, step=batching.step)
        side = batching.side(system, desk.rounds.wake)
        decoder = decoder_of(choice, loaded, graft, side) if choice else None
        chosen = decoder._decoder if decoder else None
        own = Translator(loaded, None, graft, EngineModel.of(loaded), decoder=chosen, most=4, side=side)
        service = TranslationService(own)
        answers = Answerer(
            loaded,
            None,
            CAPS,
            router=Router(loaded, *decider_of(graft, info, "form")) if route else None,
            decoder=decoder,
            writing=batching.writing("tiny"),
        )
        options: dict[str, Any] = {"translations": service, "log": lines.append, "limits": Limits(connections=64)}
        try:
            with serving(answers, desk, bound("127.0.0.1", 0), **options) as url:
                yield url, desk
        finally:
            batching.close()
            service.close()
            if decoder is not None:
                decoder.close()


def told(response: httpx2.Response) -> str:
    """Return the sentence of a refusal, which is in the form of the service that was asked."""
    body = response.json()
    said = body["message"] if "message" in body else body["error"]
    return str(said["message"] if isinstance(said, dict) else said)


def well(url: str) -> None:
    """An honest client is answered."""
    with httpx2.Client(timeout=HANGING) as http:
        found = http.post(url + "/v1/chat/completions", json=asking(QUESTION, max_tokens=2))
        assert found.status_code == 200, found.text


WAYS = [(name, route, rows) for name in DECODERS for route, rows in ((True, 8), (False, 8), (False, 1))]
"""Decoder, whether there is a route, and how many are answered at once."""


@pytest.mark.parametrize(
    ("name", "route", "rows", "texts", "languages"),
    [
        ("sitr", True, 8, WORST_TEXTS, WORST_LANGUAGES),
        *(pytest.param(*way, list(TEXTS), list(LANGUAGES), marks=pytest.mark.long) for way in WAYS),
    ],
)
def test_odd_texts_and_languages_of_many_clients_are_answered_or_refused(
    name: str, route: bool, rows: int, texts: list[str], languages: list[str], folder: Path
) -> None:
    if name == "code" and HERE:
        pytest.skip(HERE)
    usual = "of programs" if name == "code" else "known"
    asked = [(what, usual) for what in texts] + [("a mark of byte order", which) for which in languages]
    bodies = [
        (f"{way}: {what}, {which}", *body)
        for what, which in asked
        for way, body in text_bodies(TEXTS[what], *LANGUAGES[which]).items()
    ]
    random.Random(7).shuffle(bodies)
    lines: list[str] = []
    found: Counter[int] = Counter()

    def ask(one: tuple[str, str, dict[str, object]]) -> None:
        what, path, body = one
        with httpx2.Client(timeout=HANGING) as http:
            response = http.post(url + path, json=body)
        found[response.status_code] += 1
        assert response.status_code in {200, *REFUSALS}, (what, response.text[:500])
        if response.status_code != 200:
            sentence = told(response)
            assert sentence.isprintable(), (what, sentence)
            assert 10 < len(sentence) < 500, (what, sentence)

    with assaulted(folder, name, route=route, rows=rows, lines=lines) as (url, desk):
        with ThreadPoolExecutor(CLIENTS) as threads:
            list(threads.map(ask, bodies))
        until(lambda: desk.inside == 0)
        well(url)
    assert not [line for line in lines if "failed" in line], lines
    assert found[200] > len(bodies) // 8


@pytest.mark.parametrize(
    ("name", "rows"),
    [("sitr", 8), *(pytest.param(*one, marks=pytest.mark.long) for one in (("tear", 8), ("rerank", 1), ("code", 8)))],
)
def test_clients_that_leave_at_any_moment_leave_nothing_behind(name: str, rows: int, folder: Path) -> None:
    if name == "code" and HERE:
        pytest.skip(HERE)
    chance, lines = random.Random(11), list[str]()
    codes = ("python", "javascript") if name == "code" else ("de", "en")
    texts = ["def f(n):\n    while True: pass\n" if name == "code" else "Guten Tag. " * 9] * (2 * CLIENTS)

    def leave(number: int) -> None:
        path, body = list(text_bodies(texts[number], *codes).values())[number % 5]
        with Raw(url) as raw:
            raw.send(request(json.dumps(body).encode(), path=path))
            time.sleep(moments[number])
            if number % 3 == 0:
                raw.reset()

    moments = [chance.uniform(0, 0.4) for _ in texts]
    with assaulted(folder, name, route=True, rows=rows, lines=lines) as (url, desk):
        with ThreadPoolExecutor(CLIENTS) as threads:
            leaving = threads.map(leave, range(len(texts)))
            well(url)
            list(leaving)
        until(lambda: desk.inside == 0)
        well(url)
    assert not [line for line in lines if "failed" in line], lines
