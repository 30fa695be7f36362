"""The openai engine and what servers answer beside the protocol: taken where it is clear, else told at once."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from lingraft.core.errors import EngineError
from lingraft.data.records import Generation
from lingraft.engines.base import EngineModel
from lingraft.engines.openai import OpenAIEngine
from lingraft.language.thinking import Said, said
from models_support import request, tiny_loaded
from openai_server import FakeServer, chat, choice

LOADED = tiny_loaded()
RENDERER = LOADED.renderer
LIMIT = 40
TEXT = "A short answer."


def engine(url: str, **params: Any) -> OpenAIEngine:
    settings = {"base_url": url, "backoff": 0.001, "longest_wait": 0.01, "attempts": 6, "api": "chat", **params}
    return OpenAIEngine.create(EngineModel.of(LOADED), OpenAIEngine.Params(**settings))


def reply(content: Any = TEXT, reason: Any = "stop", **message: Any) -> dict[str, Any]:
    answer = chat(content, reason)
    answer["choices"][0]["message"].update(message)
    return answer


def used(answer: dict[str, Any], **usage: Any) -> dict[str, Any]:
    return {**answer, "usage": usage}


def changed(answer: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**answer, "choices": [{**answer["choices"][0], **fields}]}


def asked(server: FakeServer, **params: Any) -> tuple[str, str]:
    (found,) = engine(server.url, **params).generate([request("a", "Hi", max_new_tokens=LIMIT)])
    assert RENDERER.decode(found.token_ids) == found.text
    return found.text, found.finish_reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(reason="eos"), "stop"),
        (reply(reason="EOS"), "stop"),
        (reply(reason="end_turn"), "stop"),
        (reply(reason="COMPLETE"), "stop"),
        (reply(reason="max_tokens"), "length"),
        (reply(role=""), "stop"),
        (reply(role="model"), "stop"),
        (reply(role=None), "stop"),
        ({**reply(), "id": 12345}, "stop"),
        ({**reply(), "id": None}, "stop"),
        (changed(reply(), index=None), "stop"),
        (reply(tool_calls=[], refusal=None, reasoning_content=None), "stop"),
        (used(reply(reason="length"), prompt_tokens=0, completion_tokens=0), "length"),
        (used(reply(reason="length"), completion_tokens=LIMIT - 1), "length"),
        (used(reply("word " * 200, reason="length"), completion_tokens=LIMIT + 1), "length"),
        (used(reply(), prompt_tokens=-1, completion_tokens=-1), "stop"),
        (used(reply(), prompt_tokens=20.0, completion_tokens=9.5), "stop"),
        ({**reply(), "usage": None}, "stop"),
    ],
)
def test_what_is_clear_is_taken(answer: dict[str, Any], expected: str) -> None:
    text = "word " * 200 if "word word" in str(answer) else TEXT
    with FakeServer(lambda _: answer, owned_by="library") as server:
        assert asked(server) == (text, expected)
        assert len(server.bodies) == 1


@pytest.mark.parametrize(("content", "tokens"), [("", 0), ("", 1), (None, 1)])
def test_nothing_written_is_an_empty_answer(content: str | None, tokens: int) -> None:
    with FakeServer(lambda _: used(reply(content), completion_tokens=tokens), owned_by="library") as server:
        assert asked(server) == ("", "stop")


FULL = RENDERER.decode(RENDERER.plain_ids("word " * LIMIT)[:LIMIT])
THOUGHTFUL = Said(TEXT, thought=True)


@pytest.mark.parametrize("question", ["Hi", "What is <think>, and what </think>?"])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (reply(reasoning_content="The user says hi."), THOUGHTFUL),
        (reply(reasoning="The user says hi.", reason="length"), THOUGHTFUL),
        (reply([{"type": "thinking", "thinking": [{"text": "hm"}]}, {"type": "text", "text": TEXT}]), THOUGHTFUL),
        (reply(reasoning_content="One </think> more."), THOUGHTFUL),
        (reply(f"[THINK]Hm.[/THINK]{TEXT}"), THOUGHTFUL),
        (reply(f"<|channel>thought\nHm.<channel|>{TEXT}"), THOUGHTFUL),
        (reply(None, reasoning_content="Let me think."), Said("", thought=True)),
        (reply("\u200b", reasoning=["Let", {"text": "me"}]), Said("\u200b", thought=True)),
        (reply(None, "length", reasoning_content="Let me think."), Said("", thought=True, unfinished=True)),
        (reply("", "length", reasoning_content="Let me think."), Said("", thought=True, unfinished=True)),
        (reply([{"type": "thinking", "thinking": []}], "length"), Said("", thought=True, unfinished=True)),
        (used(reply(None, "length", reasoning=FULL), completion_tokens=3), Said("", True, unfinished=True)),
        (reply(reasoning_content=" \n", reasoning="\u200b"), Said(TEXT)),
    ],
)
def test_thoughts_are_kept_apart_as_those_of_other_engines(
    question: str, answer: dict[str, Any], expected: Said
) -> None:
    one = request("a", question, max_new_tokens=LIMIT)
    with FakeServer(lambda _: answer, owned_by="library") as server:
        (found,) = engine(server.url).generate([one])
    assert said(found.text, one.given) == expected
    assert RENDERER.decode(found.token_ids) == found.text


@pytest.mark.parametrize(
    "written", [f"<think>\nHm.\n</think>\n\n{TEXT}", f"Hm.\n</think>\n\n{TEXT}", "<think>\nHm, and no en"]
)
def test_thoughts_within_an_answer_stay_as_they_were_written(written: str) -> None:
    with FakeServer(lambda _: reply(written), owned_by="library") as server:
        assert asked(server) == (written, "stop")


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (reply(None, refusal="I cannot."), r"gave a refusal in place of an answer \('I cannot.'\)"),
        (reply(None, "tool_calls", tool_calls=[{"id": "x"}]), r"called a tool in place of an answer"),
        (used(reply(reason="length"), completion_tokens=6), r"ended the answer after 6 of 40 tokens"),
        (used(reply("word " * 200), completion_tokens=200), r"wrote 200 tokens, more than the 40 asked for"),
    ],
)
def test_what_is_no_answer_is_told_at_once(answer: dict[str, Any], complaint: str) -> None:
    with FakeServer(lambda _: answer, owned_by="library") as server:
        with pytest.raises(EngineError, match=rf"request 'a': the server at {server.url} {complaint}"):
            asked(server)
        assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        (reply(reason=None), "ends with finish_reason null"),
        (reply(reason=""), "ends with finish_reason ''"),
        (reply(reason="error"), "ends with finish_reason 'error'"),
        (reply(None), "a message whose content is null"),
        (used(reply(None), completion_tokens=9), "a message whose content is null"),
        (reply(role="user"), "a message of the role 'user'"),
        (choice(TEXT), "a choice without message"),
    ],
)
def test_one_wrong_form_twice_is_told_and_not_tried_again(answer: dict[str, Any], form: str) -> None:
    with FakeServer(lambda _: answer, owned_by="library") as server:
        with pytest.raises(EngineError, match=rf"request 'a': {server.url} answers in a form .*\(twice\): .*{form}"):
            asked(server)
        assert len(server.bodies) == 2


def test_a_wrong_form_once_may_pass() -> None:
    odd = [reply(reason=None), reply(None), reply(role="user")]
    with FakeServer(lambda _: odd.pop() if odd else reply(), owned_by="library") as server:
        assert asked(server) == (TEXT, "stop")
        assert len(server.bodies) == 4


def test_a_gateway_that_gives_ids_of_its_own_is_named() -> None:
    with FakeServer(lambda _: reply(), lambda *_: "no_id") as gateway:
        with pytest.raises(EngineError, match=r"id None instead of .* set engine.server to other"):
            asked(gateway)
        assert len(gateway.bodies) == 2
        (found,) = engine(gateway.url, server="other").generate([request("a", "Hi")])
        assert found.text == TEXT


def test_withheld_answers_are_taken_as_empty_where_that_is_wanted() -> None:
    for answer in (reply(None, refusal="I cannot."), reply(None, "content_filter")):
        with FakeServer(lambda _, answer=answer: answer, owned_by="library") as server:  # type: ignore[misc]
            assert asked(server, withheld="empty") == ("", "stop")


@pytest.mark.parametrize("usage", [{"prompt_tokens": 0, "completion_tokens": 0}, None, {"completion_tokens": -1}])
def test_a_budget_holds_where_the_server_does_not_count(usage: Any) -> None:
    """A prompt of p and an answer of n tokens by the local tokenizer cost 3 p + 5 n millionths."""
    prompt, written = RENDERER.count("Hi"), RENDERER.count(TEXT)
    each, most = (3 * prompt + 5 * written) / 1e6, (3 * prompt + 5 * LIMIT) / 1e6
    with FakeServer(lambda _: {**reply(), "usage": usage}, owned_by="library") as server:
        asking = engine(server.url, price_prompt=3.0, price_completion=5.0, budget=10 * each + most, concurrency=1)
        found: list[Generation] = []
        with pytest.raises(EngineError, match=r"raise engine.budget"):
            found.extend(asking.generate(request(f"r{i}", "Hi", max_new_tokens=LIMIT) for i in range(30)))
    assert len(found) == 10 + 1
    assert asking.usage()["cost"] == pytest.approx(11 * each)


def test_prompt_counts_as_text_may_have_a_bos_more_or_less() -> None:
    prompt = RENDERER.prompt_ids(request("a", "Hi").messages).ids
    for read, fine in ((len(prompt) + 1, True), (len(prompt) - 1, True), (len(prompt) - 2, False)):
        answer = {**choice(TEXT), "usage": {"prompt_tokens": read}}
        with FakeServer(lambda _, answer=answer: answer, owned_by="library") as server:  # type: ignore[misc]
            if fine:
                assert asked(server, api="completions") == (TEXT, "stop")
                continue
            with pytest.raises(EngineError, match=rf"read {read} prompt tokens of the {len(prompt)}"):
                asked(server, api="completions")


@contextmanager
def served(status: int, models: bytes, answer: bytes, headers: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Give the address of a server that answers with these bytes, and the paths it is asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self.give(200, models, {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.give(status, answer, headers)

        def give(self, status: int, data: bytes, more: dict[str, str]) -> None:
            paths.append(self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", paths
    finally:
        server.shutdown()
        server.server_close()


GOOD = json.dumps(reply()).encode()
MODELS = b'{"data": [{"id": "m"}]}'


@pytest.mark.parametrize(
    ("models", "status", "answer", "headers"),
    [
        (b'[{"id": "m"}]', 200, GOOD, {}),
        (b'{"data": [{"id": 5, "owned_by": null}]}', 200, GOOD, {}),
        (MODELS, 201, GOOD, {}),
        (MODELS, 200, b"\xef\xbb\xbf" + GOOD, {}),
        (MODELS, 200, b"\n \n" + GOOD + b"\n", {}),
        (MODELS, 200, gzip.compress(GOOD), {"Content-Encoding": "gzip"}),
    ],
)
def test_transports_that_carry_the_same_answer(
    models: bytes, status: int, answer: bytes, headers: dict[str, str]
) -> None:
    with served(status, models, answer, headers) as (url, paths):
        (found,) = engine(url).generate([request("a", "Hi")])
    assert (found.text, len(paths)) == (TEXT, 2)


@pytest.mark.parametrize(
    ("models", "answer", "complaint", "calls"),
    [
        (b'{"data": null}', GOOD, "lists 0 models; name one as engine.model, once the server has one", 1),
        (b'{"data": []}', GOOD, "lists 0 models", 1),
        (b"<!doctype html><html>Sign in</html>", GOOD, r"the list of models: .*\(twice\).*doctype html", 2),
        (MODELS, b'{"error": "model m not found, try pulling it first"}', r"\(twice\).*model m not found", 3),
        (MODELS, b'{"error": {"message": "busy", "code": 503}}', r"in 6 attempts, the last: .*busy", 7),
        (MODELS, b"data: " + GOOD + b"\n\ndata: [DONE]\n\n", r"\(twice\).*data: ", 3),
        (MODELS, b"", r"\(twice\)", 3),
        (MODELS, b'{"choices": null}', r"\(twice\): .*valid array at choices", 3),
        (MODELS, b'{"choices": []}', r"\(twice\): 0 choices instead of 1", 3),
        (MODELS, GOOD.replace(b"short", b"\\ud83d"), r"\(twice\): .*hex escape", 3),
        (MODELS, GOOD[:50], "in 6 attempts", 7),
    ],
)
def test_transports_that_carry_no_answer(models: bytes, answer: bytes, complaint: str, calls: int) -> None:
    with served(200, models, answer, {}) as (url, paths), pytest.raises(EngineError, match=complaint):
        list(engine(url).generate([request("a", "Hi")]))
    assert len(paths) == calls
