"""Hundreds of attacks (`make attacks`), the worst by default: each is refused in the protocol's form or closed,
and an honest client is answered behind it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from assaults import ATTACKS, WORST
from clients import Raw, chat
from endpoints import answerer, batching, served
from lingraft.serving.limits import Limits

REFUSALS = {400, 401, 403, 404, 405, 408, 413, 415, 417}
LIMITS = Limits(head=0.2, body=0.2, idle=0.2)


@pytest.fixture(scope="module", params=["together", pytest.param("in turn", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, list[str]]]:
    """A server with short times, and its log: one that answers several requests at once, or one after the other."""
    lines: list[str] = []
    answers, batches = batching() if request.param == "together" else (answerer(), None)
    with served(answers, limits=LIMITS, log=lines.append, batches=batches) as (url, _):
        yield url, lines


def statuses(data: bytes) -> list[int]:
    """Return the statuses of responses that follow one another, each with its length or in chunks."""
    found = []
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        assert first.startswith("HTTP/1.1 "), first[:100]
        found.append(int(first.split()[1]))
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if headers.get("transfer-encoding") == "chunked":  # a stream, which is the answer to a question
            size = data.index(b"0\r\n\r\n") + 5
            assert b"data: [DONE]" in data[:size]
        body, data = data[:size], data[size:]
        if found[-1] >= 400:
            assert set(json.loads(body)) == {"error"}
            assert headers["content-type"] == "application/json"
    return found


@pytest.mark.parametrize(
    "name", [name if name in WORST else pytest.param(name, marks=pytest.mark.long) for name in ATTACKS]
)
def test_it_is_refused_or_closed_and_the_next_client_is_answered(name: str, server: tuple[str, list[str]]) -> None:
    url, lines = server
    lines.clear()
    with Raw(url) as raw:
        found = statuses(raw.send(ATTACKS[name]).rest())
    assert set(found) <= {100, 200, *REFUSALS}, found
    assert not [line for line in lines if "failed" in line], lines
    with Raw(url) as honest:
        assert b"200 OK" in honest.send(chat("How are you?", max_tokens=2)).some()


def test_the_worst_are_attacks() -> None:
    assert len(WORST) == 31
    assert set(WORST) <= set(ATTACKS)
    assert len(ATTACKS) > 300
