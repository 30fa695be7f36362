"""`lingraft serve --engine` before it serves and as it serves: one server before another, what it refuses."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chain_grafts import base, chained, make_graft  # noqa: F401
from commands import lingraft, one_sentence  # noqa: F401
from endpoints import THAI, asking, content, events
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.graft import grafted
from lingraft.models.loading import load_model
from lingraft.serving.streaming import engine_elsewhere
from nursery import born
from openai_model import ModelStream
from openai_server import FakeServer, choice
from processes import HANGING

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def direct(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_graft(base, tmp_path_factory.mktemp("direct") / "graft", "direct")


@contextmanager
def running(*arguments: Any) -> Iterator[str]:
    """Run the command; yield the address."""
    process = born("", "serve", "--port", "0", *arguments, env={**os.environ})
    assert process.stderr is not None
    try:
        line = next((line for line in process.stderr if " at http://" in line), "")
        assert line
        yield line.split(" at ")[1].split("/v1")[0]
        process.send_signal(signal.SIGTERM)
        assert process.wait(HANGING) == 0
    finally:
        process.kill()


def engine(url: str, *more: str) -> list[str]:
    """Return the options of a server behind."""
    params = [f"base_url={url}", *more]
    return ["--engine", "openai", *(word for one in params for word in ("--engine-param", one))]


def test_a_server_before_another_answers_as_that_and_both_as_the_model(base: Path) -> None:
    texts = ["Guten Tag, wie geht es dir?", "How are you?", THAI]
    loaded = load_model(find_model(str(base)))
    requests = [Request(text, (Message("user", text),), Sampling(max_new_tokens=9)) for text in texts]
    own = {one.id: one.text.strip() for one in TransformersEngine(loaded).generate(requests)}
    with running("--model", base) as behind, running("--model", base, *engine(f"{behind}/v1")) as url:
        through = OpenAIEngine.create(EngineModel.of(loaded), OpenAIEngine.Params(base_url=f"{behind}/v1"))
        assert {one.id: one.text.strip() for one in through.generate(requests)} == own
        with httpx2.Client(timeout=HANGING) as http:
            for text in texts:
                response = http.post(url + PATH, json={"messages": asking(text)["messages"], "max_tokens": 9})
                assert response.json()["choices"][0]["message"]["content"] == own[text]


@pytest.mark.long
def test_a_graft_with_a_chain_and_its_base_are_written_by_one_server(base: Path, chained: Path) -> None:
    body = {**asking(THAI, stream=True), "model": "mine"}
    with running("--graft", chained, "--name", "mine", "--max-native-tokens", 7) as url:
        own = content(events(httpx2.post(url + PATH, json=body, timeout=HANGING).text))
    with grafted(load_model(find_model(str(base))), chained) as loaded:
        server = FakeServer(lambda body: choice("x", [7], "length"), models=("the-base",), stream=ModelStream(loaded))
        with server:
            options = engine(server.url, "model=the-base", "grafts={'*': the-graft}")
            with running("--graft", chained, "--name", "mine", "--max-native-tokens", 7, *options) as url:
                assert content(events(httpx2.post(url + PATH, json=body, timeout=HANGING).text)) == own
    assert {body["model"] for body in server.bodies} == {"the-graft"}


def test_a_route_asks_the_graft_and_the_base_by_their_names(direct: Path) -> None:
    def named(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield choice("x", [7], "length")

    with FakeServer(lambda body: choice("x", [7], "length"), models=("b",), stream=named) as server:
        options = engine(server.url, "grafts={'*': g}")
        with running("--graft", direct, "--route", "caller", *options) as url, httpx2.Client(timeout=HANGING) as http:
            for to in ("graft", "base"):
                body = {"messages": asking("Hello")["messages"], "lingraft": {"route": to}}
                assert http.post(url + PATH, json=body).json()["lingraft"]["route"] == to
    assert [body["model"] for body in server.bodies] == ["g", "b", "g", "b"]


def test_what_the_engine_cannot_give_is_refused_before_anybody_is_served(
    lingraft: Any, base: Path, chained: Path, direct: Path, tmp_path: Path
) -> None:
    memory = tmp_path / "memory.tsv"
    memory.write_text("Good day.\tGuten Tag.\n", "utf-8")

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return choice("x", [7], "length")

    with FakeServer(answer, owned_by="someone") as server:
        options = engine(server.url, "grafts={'*': g}")
        one_sentence(lingraft("serve", "--port", 0, "--graft", chained, *options), 2, "translation chain", "vLLM")
        one_sentence(lingraft("serve", "--port", 0, "--graft", direct, *engine(server.url)), 2, "load_grafts", "grafts")
        icl = ["--decoder", "icl", "--param", "retriever=embedding", "--param", f"memory={memory}"]
        icl += ["--param", "languages=[en, de]", "--param", "k=1"]
        found = lingraft("serve", "--port", 0, "--model", base, *icl, *engine(server.url))
        one_sentence(found, 2, "base's own states", "embedder")
    nowhere = engine(server.url)
    one_sentence(lingraft("serve", "--port", 0, "--model", base, *nowhere), 1, "no server answers at", server.url)
    serve = ("serve", "--port", 0, "--model", base)
    one_sentence(lingraft(*serve, *engine(server.url, "attempts=2")), 2, "attempts has no effect")
    one_sentence(lingraft(*serve, *engine(server.url, "api=chat")), 2, "api: chat")
    one_sentence(lingraft(*serve, *nowhere, "--batch-tokens", 512), 2, "--batch-tokens has no effect")
    one_sentence(lingraft(*serve, "--engine", "ray"), 2, "engine", "ray")
    one_sentence(lingraft(*serve, "--engine-param", "max_batch=3"), 2, "--batch")
    one_sentence(lingraft(*serve, "--engine", "nobody"), 2, "nobody")


def test_defaults_are_those_of_a_server() -> None:
    kind, params = engine_elsewhere("openai") or (None, None)
    assert kind is not None
    assert params.timeout == 60
    assert engine_elsewhere("transformers") is None
    assert (engine_elsewhere({"kind": "openai", "timeout": 5}) or (0, params))[1].timeout == 5
