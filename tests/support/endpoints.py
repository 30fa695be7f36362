"""Endpoints with tiny random models: asked in this process, or over a socket of this machine."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from starlette.testclient import TestClient

import serving_engines as engines
from builders import tiny_llama
from chains import MARKERS, marked_renderer
from lingraft.conversation.chain import Caps
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel
from lingraft.routing.base import GRAFT
from lingraft.serving.answerer import Answerer
from lingraft.serving.app import Api
from lingraft.serving.batches import Batches
from lingraft.serving.limits import Limits
from lingraft.serving.queue import RequestQueue
from lingraft.serving.server import bound, running, server_of
from processes import HANGING

CAPS = Caps(5, 6, 12)
THAI = "สวัสดี"


def tiny(seed: int = 5) -> LoadedModel:
    """A random model, sure of its choice, whose tokenizer has markers."""
    renderer = marked_renderer()
    model = tiny_llama(renderer.tokenizer, seed=seed, hidden=engines.hidden())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return LoadedModel(ModelFiles("tiny", Path("tiny"), "0" * 64), model, renderer)


def answerer(*, chain: bool = True, seed: int = 5, caps: Caps = CAPS, **options: Any) -> Answerer:
    """Return what answers with a tiny model, through the chain or directly."""
    if elsewhere := engines.writing(lambda: tiny(seed), seed):
        options = {"writing": elsewhere, **options}
    return Answerer(tiny(seed), MARKERS if chain else None, caps, **options)


AT_ONCE = 8


class Steps(Protocol):
    """What computes for several."""

    def step(self) -> bool: ...


def batching(*, chain: bool = True, seed: int = 5, caps: Caps = CAPS, **options: Any) -> tuple[Answerer, Steps]:
    """Return what answers several at once, and what computes for them."""
    if elsewhere := engines.writing(lambda: tiny(seed), seed):
        return Answerer(tiny(seed), MARKERS if chain else None, caps, writing=elsewhere, **options), elsewhere[
            GRAFT
        ].streams
    model, batches = tiny(seed), Batches(AT_ONCE)
    writing = {GRAFT: batches.writing(model)}
    return Answerer(model, MARKERS if chain else None, caps, writing=writing, **options), batches


@contextmanager
def client(
    answers: Answerer | None = None, *, waiting: int = 16, batches: Steps | None = None, **options: Any
) -> Iterator[TestClient]:
    """Yield a client within this process."""
    desk = _desk(waiting, batches)
    api = Api(answers or answerer(), "tiny", desk, **options)
    try:
        with TestClient(api.app(), base_url="http://127.0.0.1", raise_server_exceptions=False) as found:
            yield found
    finally:
        desk.close()


@contextmanager
def served(
    answers: Answerer, *, waiting: int = 16, grace: float = 10, batches: Steps | None = None, **options: Any
) -> Iterator[tuple[str, RequestQueue]]:
    """Serve on a port of this machine; yield its address and the queue."""
    desk, on = _desk(waiting, batches), bound("127.0.0.1", 0)
    with serving(answers, desk, on, grace, **options) as url:
        yield url, desk


@contextmanager
def serving(
    answers: Answerer, desk: RequestQueue, on: socket.socket, grace: float = 10, **options: Any
) -> Iterator[str]:
    """Serve on a listening socket; yield the address."""
    limits = options.setdefault("limits", Limits())
    lines: list[str] = []
    api = Api(answers, "tiny", desk, local_only=True, **{"log": lines.append, **options})
    server = server_of(api.app(), limits, api.log)
    thread = threading.Thread(target=lambda: asyncio.run(running(server, desk, on, grace, api.log)), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{on.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(HANGING)
        desk.close()
    assert not thread.is_alive()


def _desk(waiting: int, batches: Steps | None) -> RequestQueue:
    return (
        RequestQueue(waiting, step=engines.step)
        if batches is None
        else RequestQueue(waiting, at_once=AT_ONCE, step=batches.step)
    )


def until(true: Callable[[], bool], seconds: float = HANGING) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def asking(*texts: str, **fields: Any) -> dict[str, Any]:
    """Return a body: texts of user and assistant in turn, the user's last."""
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    return {"model": "tiny", "messages": messages, **fields}


def ask(http: TestClient, *texts: str, **fields: Any) -> dict[str, Any]:
    """Return the whole answer."""
    response = http.post("/v1/chat/completions", json=asking(*texts, **fields))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def events(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, which must be ended as the protocol has it."""
    lines = text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


def streamed(http: TestClient, *texts: str, **fields: Any) -> list[dict[str, Any]]:
    """Return the chunks of an answer."""
    response = http.post("/v1/chat/completions", json=asking(*texts, stream=True, **fields))
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    return events(response.text)


def content(chunks: list[dict[str, Any]]) -> str:
    """Return the visible text of chunks."""
    return "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
