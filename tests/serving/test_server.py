"""The endpoint over sockets: clients that leave, a queue that is full, other programs, and the process's end."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from chain_grafts import base, chained  # noqa: F401
from chains import MARKERS
from commands import lingraft, one_sentence  # noqa: F401
from endpoints import CAPS, THAI, answerer, asking, content, events, served, tiny, until
from lingraft.conversation.chain import Caps
from lingraft.conversation.writing import Waits, never
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.serving.answerer import Answerer, Piece
from lingraft.serving.request import ChatRequest
from nursery import born
from processes import HANGING

PATH = "/v1/chat/completions"


class Slow(Answerer):
    """Counts its pieces, and gives one only when it may."""

    def __init__(self, caps: Caps = CAPS) -> None:
        super().__init__(tiny(), MARKERS, caps)
        self.may = threading.Semaphore(0)
        self.begun = 0
        self.given = 0
        self.closed = 0

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        pieces = super().answer(question, left)
        self.begun += 1
        try:
            for piece in pieces:
                assert self.may.acquire(timeout=HANGING)
                self.given += 1
                yield piece
        finally:
            self.closed += 1


def http(**options: Any) -> httpx2.Client:
    """A client that waits as long as it takes."""
    return httpx2.Client(timeout=HANGING, **options)


def asked(url: str) -> socket.socket:
    """Send a request and wait for nothing: who closes the socket has left."""
    body = json.dumps(asking(THAI)).encode()
    host, port = url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    client.sendall(head.encode() + body)
    return client


@pytest.mark.parametrize("stream", [True, False])
def test_work_ends_when_its_client_leaves(stream: bool) -> None:
    slow = Slow(Caps(50, 50, 1500))
    with served(slow) as (url, desk), http() as client:
        if stream:
            slow.may.release(3)
            with client.stream("POST", url + PATH, json=asking(THAI, stream=True)) as response:
                lines = response.iter_lines()
                assert next(lines).startswith("data: ")
                until(lambda: slow.given == 3)
        else:
            with asked(url):
                until(lambda: slow.begun == 1)
        until(lambda: desk.inside == 0)
        slow.may.release(1)  # the piece that it is at
        until(lambda: slow.closed == 1)
        assert slow.given <= 4
        slow.may.release(5000)
        short = client.post(url + PATH, json=asking(THAI, max_tokens=2)).json()
        assert short["choices"][0]["finish_reason"] == "length"


def test_requests_wait_for_each_other_and_not_more_than_may() -> None:
    slow = Slow()
    with served(slow, waiting=1) as (url, desk), ThreadPoolExecutor(3) as threads, http() as client:
        first = threads.submit(client.post, url + PATH, json=asking(THAI))
        until(lambda: desk.inside == 1)
        second = threads.submit(client.post, url + PATH, json=asking("How are you?", stream=True))
        until(lambda: desk.inside == 2)
        third = client.post(url + PATH, json=asking("Who?"))
        assert third.status_code == 503
        assert third.json()["error"]["code"] == "queue_full"
        assert int(third.headers["Retry-After"]) > 0
        assert "1 wait" in third.json()["error"]["message"]
        health = {"status": "ok", "requests": 2, "answered": 0, "failures": {}}
        assert client.get(f"{url}/health").json() == health
        slow.may.release(500)
        assert first.result().json()["lingraft"]["language"] == "th"
        figures = events(second.result().text)[-1]["lingraft"]
        assert figures["language"] == "en"
        assert figures["seconds_queued"] > 0
        until(lambda: desk.inside == 0)
        health = client.get(f"{url}/health").json()
        assert health == {"status": "ok", "requests": 0, "answered": 2, "failures": {"no_chain": 2}}


def test_a_client_that_leaves_the_queue_gives_its_place_free() -> None:
    slow = Slow()
    with served(slow, waiting=1) as (url, desk), ThreadPoolExecutor(1) as threads, http() as client:
        first = threads.submit(client.post, url + PATH, json=asking(THAI))
        until(lambda: desk.inside == 1)
        with asked(url):
            until(lambda: desk.inside == 2)
        until(lambda: desk.inside == 1)
        slow.may.release(500)
        assert first.result().status_code == 200
        until(lambda: desk.inside == 0 and slow.closed == 1)


@pytest.mark.parametrize("grace", [0.2, HANGING])
def test_at_its_end_the_server_completes_one_answer_and_sends_the_others_away(
    grace: float, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = Slow()
    slow.may.release(2)
    with ThreadPoolExecutor(3) as threads, http() as client:
        with served(slow, grace=grace) as (url, desk):
            first = threads.submit(client.post, url + PATH, json=asking(THAI, stream=True))
            until(lambda: slow.given == 2)
            waiting = threads.submit(client.post, url + PATH, json=asking(THAI))
            until(lambda: desk.inside == 2)

            def free() -> None:  # when the one that waits has been sent away, or all have
                waiting.result()
                if grace < 1:
                    first.result()
                slow.may.release(500)

            threads.submit(free)
        gone = waiting.result()
        assert (gone.status_code, gone.json()["error"]["code"]) == (503, "shutting_down")
        if grace < 1:
            *_, last, _ = first.result().text.split("\n\n")
            assert json.loads(last.removeprefix("data: "))["error"]["code"] == "shutting_down"
        else:
            assert events(first.result().text)[-1]["lingraft"]["language"] == "th"
    assert "Traceback" not in capfd.readouterr().err


def test_silence_is_filled_with_comments_while_it_waits_and_while_english_is_written() -> None:
    slow = Slow()
    with (
        served(slow, keep_alive=0.05) as (url, desk),
        ThreadPoolExecutor(1) as threads,
        http() as client,
    ):
        first = threads.submit(client.post, url + PATH, json=asking(THAI))
        until(lambda: desk.inside == 1)
        with client.stream("POST", url + PATH, json=asking(THAI, stream=True)) as response:
            assert response.status_code == 200
            lines, seen = response.iter_lines(), list[str]()
            while seen.count(": keep-alive") < 3:  # in the queue
                seen.append(next(lines))
            assert [line for line in seen if line.startswith("data: ")] == seen[:1]
            slow.may.release(pieces())
            until(lambda: desk.inside == 1 and slow.given > 0 and slow.closed == 1)
            given = slow.given
            slow.may.release(2)  # the first piece of the English query, and one of its text
            until(lambda: slow.given == given + 2)
            seen.clear()
            while seen.count(": keep-alive") < 3:
                seen.append(next(lines))
            assert not [line for line in seen if line.startswith("data: ")]
            slow.may.release(500)
            rest = [line for line in lines if line.startswith("data: ")]
        assert rest[-1] == "data: [DONE]"
        assert content([json.loads(line.removeprefix("data: ")) for line in rest[:-1]]) == said(first)


def pieces() -> int:
    """Return how many pieces an answer has."""
    found = answerer().answer(ChatRequest(messages=(Message("user", THAI),)))
    return sum(not isinstance(piece, Waits) for piece in found)


def said(response: Future[httpx2.Response]) -> str:
    """Return the text of a whole answer."""
    return str(response.result().json()["choices"][0]["message"]["content"])


def test_an_error_after_a_long_silence_is_an_event() -> None:
    slow = Slow()
    with (
        served(slow, keep_alive=0.05) as (url, desk),
        ThreadPoolExecutor(1) as threads,
        http() as client,
    ):
        first = threads.submit(client.post, url + PATH, json=asking(THAI))
        until(lambda: desk.inside == 1)
        with client.stream("POST", url + PATH, json=asking("1" * 2045, stream=True)) as response:  # with the template
            lines = response.iter_lines()
            assert ": keep-alive" in [next(lines) for _ in range(4)]
            slow.may.release(500)
            last = [line for line in lines if line.startswith("data: ")][-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "context_length_exceeded"
        assert first.result().status_code == 200


def test_official_clients_at_once_are_answered_one_after_the_other_or_told_to_come_again() -> None:
    openai = pytest.importorskip("openai")
    messages: Any = [{"role": "user", "content": THAI}]
    slow = Slow()
    with (
        served(slow, waiting=2, key="secret", keep_alive=0.05) as (url, desk),
        ThreadPoolExecutor(4) as threads,
        openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0, timeout=HANGING) as client,
    ):

        def stream() -> str:
            chunks = client.chat.completions.create(model="tiny", messages=messages, stream=True)
            return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)

        asked = []
        for number in range(2):
            asked.append(threads.submit(stream))
            until(lambda number=number: desk.inside == number + 1)  # type: ignore[misc]
        leaving = client.chat.completions.create(model="tiny", messages=messages, stream=True)
        until(lambda: desk.inside == 3)
        with pytest.raises(openai.InternalServerError, match="the queue is full") as full:
            client.chat.completions.create(model="tiny", messages=messages)
        assert (full.value.status_code, full.value.code) == (503, "queue_full")
        patient = threads.submit(  # the client's own retries wait as long as the server says
            lambda: client.with_options(max_retries=2).chat.completions.create(model="tiny", messages=messages)
        )
        leaving.close()
        slow.may.release(5000)
        texts = {one.result() for one in asked} | {patient.result().choices[0].message.content}
        assert len(texts) == 1
        assert texts != {""}
        until(lambda: desk.inside == 0 and slow.closed == 3)


def test_the_official_client_understands_all_of_it() -> None:
    openai = pytest.importorskip("openai")
    messages: Any = [{"role": "user", "content": THAI}]
    extra = {"lingraft": {"chain": True}}
    with served(answerer(), key="secret") as (url, _):
        with openai.OpenAI(base_url=f"{url}/v1", api_key="secret", max_retries=0) as client:
            assert [card.id for card in client.models.list()] == ["tiny"]
            create = client.chat.completions.create
            whole = create(model="tiny", messages=messages, extra_body=extra)
            options = {"include_usage": True}
            chunks = list(create(model="tiny", messages=messages, stream=True, stream_options=options))
            with pytest.raises(openai.NotFoundError, match="'other'"):
                create(model="other", messages=messages)
            with pytest.raises(openai.BadRequestError) as error:
                create(model="tiny", messages=messages, presence_penalty=1)
            assert error.value.param == "presence_penalty"
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0) as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].message.content != ""
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens_details.reasoning_tokens > 0
    assert len(whole.lingraft["chain"]["segments"]) == 3


@pytest.mark.parametrize("server", ["other", "auto"])
def test_the_openai_engine_understands_it(server: str) -> None:
    answers = answerer(caps=Caps(20, 20, 20))
    texts = {"a": THAI, "b": "How are you?", "c": "Guten Tag, wie geht es dir?"}
    requests = [Request(id_, (Message("user", text),), Sampling(max_new_tokens=9)) for id_, text in texts.items()]
    with served(answers) as (url, _), http() as client:
        params = OpenAIEngine.Params(base_url=f"{url}/v1", api="chat", server=server)
        engine = OpenAIEngine.create(EngineModel.of(tiny()), params)
        found = {generation.id: generation for generation in engine.generate(requests)}
        usage = engine.usage()
        bodies = {id_: client.post(url + PATH, json=asking(text, max_tokens=9)).json() for id_, text in texts.items()}
    assert {id_: one.text for id_, one in found.items()} == {
        id_: body["choices"][0]["message"]["content"].removeprefix(" ") for id_, body in bodies.items()
    }
    assert usage["completion_tokens"] == sum(body["usage"]["completion_tokens"] for body in bodies.values())


def test_the_command_serves_until_a_signal(chained: Path) -> None:
    arguments = ["serve", "--graft", chained, "--port", "0", "--name", "mine", "--max-native-tokens", "7"]
    process = born("", *arguments, env={**os.environ, "LINGRAFT_API_KEY": "secret"})
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if " at http://" in line)
        assert line.startswith("mine answers in English, th, de at http://127.0.0.1:")
        url = line.split(" at ")[1].split("/v1")[0]
        headers = {"Authorization": "Bearer secret"}
        with http(headers=headers) as client:
            assert httpx2.get(f"{url}/v1/models").status_code == 401
            text = client.post(url + PATH, json={**asking(THAI), "model": "mine"}).json()["choices"][0]["message"]
            stream = client.post(url + PATH, json={**asking(THAI, stream=True), "model": "mine"}).text
            assert content(events(stream)) == text["content"]
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=HANGING)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert out == ""
    assert err.splitlines()[-1] == "Ended."
    assert "Traceback" not in err
    assert THAI not in err


def test_mistakes_are_one_sentence(
    lingraft: Any,
    base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served(answerer()) as (url, _):
        taken = url.rpartition(":")[2]
        one_sentence(lingraft("serve", "--model", base, "--port", taken), 2, f"127.0.0.1 port {taken}", "--port")
    one_sentence(lingraft("serve", "--model", base, "--host", "256.0.0.1"), 2, "256.0.0.1", "--host")
    one_sentence(lingraft("serve", "--port", 0, "--graft", tmp_path / "no"), 1, "there is no graft")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    one_sentence(lingraft("serve", "--model", base), 2, "starlette and uvicorn", "pip install 'lingraft[serve]'")


def test_doctor_lists_the_extra(lingraft: Any) -> None:
    assert json.loads(lingraft("doctor", "--json").out)["optional"]["uvicorn"] is True
