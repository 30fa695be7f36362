"""What the endpoint refuses: bad bodies, strangers, more than it can hold; and that its failures are told as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from typing import Any

import pytest

from chains import MARKERS
from endpoints import CAPS, THAI, answerer, ask, asking, client, tiny
from lingraft.conversation.writing import never
from lingraft.serving import request
from lingraft.serving.answerer import Answerer, Piece
from lingraft.serving.request import MAX_BODY, ApiError, ChatRequest, read_question

SAY = [{"role": "user", "content": "x"}]


def refused(response: Any, status: int, *words: str, param: str | None = None, code: str | None = None) -> None:
    """The response is an error as OpenAI's clients expect it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (error,) = response.json().values()
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert (error["param"], error["code"]) == (param, code)
    for word in words:
        assert word in error["message"]


@pytest.mark.parametrize(
    ("fields", "param", "word"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": None}, "messages", "valid array"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role", "'user'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "required"),
        ({"messages": [*SAY, {"role": "assistant", "content": "y"}]}, "messages", "the user's"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages.0.content", "type text"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content", "type text"),
        ({"messages": [{"role": "system", "content": None}, *SAY]}, "messages.0.content", "type text"),
        (
            {"messages": [{"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}, *SAY]},
            "messages.0.tool_calls",
            "say in words",
        ),
        ({"messages": SAY * 2049}, "messages", "2048"),
        ({"n": 33}, "n", "less than or equal to 32"),
        ({"logprobs": 3}, "logprobs", "boolean"),
        ({"top_logprobs": 2}, "top_logprobs", "logprobs: true"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "20"),
        ({"temperature": 2.5}, "temperature", "less than or equal to 2"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"top_p": -1}, "top_p", "greater"),
        ({"max_tokens": 0}, "max_tokens", "greater"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens", "integer"),
        ({"seed": 2**70}, "seed", "less"),
        ({"stop": ["a"] * 5}, "stop", "at most 4"),
        ({"stop": ""}, "stop", "1 to 256"),
        ({"stream": "yes"}, "stream", "boolean"),
        ({"lingraft": {"chains": True}}, "lingraft.chains", "not permitted"),
        ({"lingraft": {"language": "fr"}}, "lingraft.language", "'fr'"),
    ],
)
def test_bad_bodies_are_named(fields: dict[str, Any], param: str, word: str) -> None:
    with client() as http:
        response = http.post("/v1/chat/completions", json={"messages": SAY, **fields})
    code = "unsupported_parameter" if param.endswith("tool_calls") else None
    refused(response, 400, word, param=param, code=code)


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt_logprobs": 1},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"frequency_penalty": 0.5},
        {"top_k": 40},
    ],
)
def test_what_would_change_the_answer_and_is_not_there_is_refused(fields: dict[str, Any]) -> None:
    with client() as http:
        response = http.post("/v1/chat/completions", json={"messages": SAY, **fields})
    (name,) = fields
    refused(response, 400, name, "leave it out", param=name, code="unsupported_parameter")


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"messages": [{"role": "user", "content": "\\ud800"}]}']
)
def test_what_is_no_json_of_this_form_is_refused(data: bytes) -> None:
    with client() as http:
        response = http.post("/v1/chat/completions", content=data, headers={"Content-Type": "application/json"})
    refused(response, 400, param=response.json()["error"]["param"])


MANY = 100_000
LISTS, OBJECTS = ",".join(["[]"] * MANY), ",".join(["{}"] * MANY)
PARTS = ",".join(['{"type": "text", "text": ""}'] * 200)
FIELDS = ",".join(f'"x{number}": 0' for number in range(MANY))
SPREAD = ",".join(['{"role": "user", "content": [' + PARTS + "]}"] * 300)


@pytest.mark.parametrize(
    "more",
    [f'"x": [{LISTS}]', f'"x": [{OBJECTS}]', f'"tools": [{LISTS}]', FIELDS, f'"messages": [{SPREAD}]'],
    ids=["lists", "objects", "lists of a known field", "fields", "parts of many messages"],
)
def test_a_body_of_very_many_things_is_refused_before_they_are_made(more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bytes] = []
    monkeypatch.setattr(request._Body, "model_validate_json", made.append)
    with pytest.raises(ApiError, match="more than 16,384 lists, objects and fields"):
        read_question(f'{{"messages": [{{"role": "user", "content": "x"}}], {more}}}'.encode())
    assert not made


def test_what_stands_in_texts_is_not_counted() -> None:
    code = '{"a": [' * MANY + '\\"\\\\' * 1000
    (message,) = read_question(json.dumps(asking(code)).encode()).messages
    assert message.content == code


@pytest.mark.parametrize("data", [b'["' + b'\\"[' * 500_000, b'["' + b"[" * 1_000_000 + b"\\", b'"[' * 500_001])
def test_texts_without_an_end_are_passed_over_once(data: bytes) -> None:
    """Each of its quotes looked at from there to the end would take hours."""
    with pytest.raises(ApiError):
        read_question(data)


def test_sizes_and_kinds_are_bounded() -> None:
    with client() as http:
        where = "/v1/chat/completions"
        refused(http.post(where, json=asking("x" * MAX_BODY)), 413, "2,097,152")
        refused(http.post(where, content=json.dumps(asking("x")), headers={"Content-Type": "text/plain"}), 415, "JSON")
        long = http.post(where, json=asking("1" * 5000))
        refused(long, 400, "no room", param="messages", code="context_length_exceeded")
        late = http.post(where, json=asking("1" * 5000, stream=True))
        refused(late, 400, "no room", param="messages", code="context_length_exceeded")


def test_unknown_models_and_places() -> None:
    with client() as http:
        missing = http.post("/v1/chat/completions", json={**asking("x"), "model": "gpt"})
        refused(missing, 404, "'gpt'", "'tiny'", param="model", code="model_not_found")
        refused(http.get("/v1/models/gpt"), 404, "'gpt'", param="model", code="model_not_found")
        refused(http.get("/<script>"), 404, "Not Found")
        refused(http.get("/v1/chat/completions"), 405, "Method Not Allowed")
    with client(answerer(chain=False)) as http:
        asked = asking("x", lingraft={"language": "th"})
        refused(http.post("/v1/chat/completions", json=asked), 400, "leave it out", param="lingraft.language")


def test_the_key_is_asked_for() -> None:
    with client(key="schlüssel") as http:
        for headers in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic schl"},
            {"Authorization": "Bearer"},
        ):
            for response in (
                http.get("/v1/models", headers=headers),
                http.post("/v1/chat/completions", headers=headers, json=asking("x")),
            ):
                refused(response, 401, "Bearer KEY", code="invalid_api_key")
        assert http.get("/health").status_code == 200
        right = {b"Authorization": "Bearer schlüssel".encode()}
        assert http.get("/v1/models", headers=right).status_code == 200


def test_pages_of_other_origins_can_neither_ask_nor_read() -> None:
    with client(local_only=True) as http:
        for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"):
            refused(http.get("/v1/models", headers={"Host": host}), 403, "127.0.0.1")
        for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000", "127.0.0.2"):
            response = http.get("/v1/models", headers={"Host": host, "Origin": "http://evil.example"})
            assert response.status_code == 200
            assert not [name for name in response.headers if name.startswith("access-control")]
            assert response.headers["x-content-type-options"] == "nosniff"


class Failing(Answerer):
    """Fails after some pieces."""

    def __init__(self, pieces: int) -> None:
        super().__init__(tiny(), MARKERS, CAPS)
        self.pieces = pieces

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        for number, piece in enumerate(super().answer(question, left)):
            if number == self.pieces:
                raise RuntimeError("a secret of this machine")
            yield piece


def test_a_failure_is_told_as_json_and_the_next_request_is_answered() -> None:
    answers = Failing(0)
    with client(answers) as http:
        for stream in (False, True):
            response = http.post("/v1/chat/completions", json=asking(THAI, stream=stream))
            refused(response, 500, "its log says why")
            assert "secret" not in response.text
        answers.pieces = 1000
        assert ask(http, THAI)["choices"]


def test_a_failure_in_a_stream_is_its_last_event() -> None:
    with client(Failing(3)) as http:
        response = http.post("/v1/chat/completions", json=asking(THAI, stream=True))
    *_, last, end = response.text.split("\n\n")
    assert end == ""
    assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
    assert "[DONE]" not in response.text


def test_lines_of_the_log_hold_no_content() -> None:
    lines: list[str] = []
    with client(log=lines.append) as http:
        text = ask(http, THAI)["choices"][0]["message"]["content"]
        http.post("/v1/chat/completions", json=asking("1" * 5000))
    answered, refusal = lines
    assert "tokens after" in answered
    assert "context_length_exceeded" in refusal
    assert THAI not in "".join(lines)
    assert text not in "".join(lines)
