"""What one client may hold of the server: connections, time, the model, the queue, memory."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import replace

import anyio
import pytest

from chains import MARKERS
from clients import Raw, chat, request, split
from endpoints import CAPS, THAI, answerer, asking, served, tiny, until
from lingraft.conversation.chain import Caps
from lingraft.conversation.writing import PromptProgress, TextDelta, never
from lingraft.serving.answerer import Answer, Answerer, Piece
from lingraft.serving.limits import RESERVED, Limits, descriptors
from lingraft.serving.outbox import Outboxes
from lingraft.serving.request import ChatRequest
from processes import HANGING


def healthy(url: str) -> bool:
    """Whether a new client is answered."""
    with Raw(url) as raw:
        status, _, body = split(raw.send(request(None, "Connection: close", method="GET", path="/health")).rest())
    return status == 200 and json.loads(body)["status"] == "ok"


@pytest.mark.parametrize(
    ("sent", "limits", "status"),
    [
        (b"", Limits(head=0.02), None),
        (b"POST", Limits(head=0.02), 408),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n", Limits(head=0.02), 408),
        (chat("x")[:-5], Limits(body=0.02), 408),
        (request(None, "Content-Type: application/json", "Transfer-Encoding: chunked"), Limits(body=0.02), 408),
        (request(None, "Transfer-Encoding: chunked") + b"5\r\nabc", Limits(body=0.02), 415),
        (request(None, method="GET", path="/health"), Limits(idle=0.02), 200),
        (request(None, method="GET", path="/health") + b"GET /", Limits(head=0.02), 200),
        (request(None, "Content-Length: 9", method="GET", path="/health"), Limits(body=0.02), 200),
    ],
)
def test_who_sends_too_slowly_is_closed(sent: bytes, limits: Limits, status: int | None) -> None:
    with served(answerer(), limits=limits) as (url, desk):
        with Raw(url) as raw:
            found = raw.send(sent).rest()  # ends when the server closes
        assert (split(found)[0] if found else None) == status
        if status == 408:
            assert "did not come within 0.02 s" in json.loads(split(found)[2])["error"]["message"]
        assert desk.inside == 0


def test_a_client_that_sends_in_time_is_not_closed_by_the_times_before() -> None:
    with served(answerer(chain=False), limits=Limits(head=HANGING, body=HANGING)) as (url, _), Raw(url) as raw:
        for _ in range(3):
            for part in (b"GET /health HTTP/1.1\r\nHost:", b" 127.0.0.1\r\n\r", b"\n"):
                raw.send(part)
            assert b"200 OK" in raw.heard(b'"failures":{}}')


def test_beyond_the_most_connections_the_one_that_waits_longest_gives_way() -> None:
    with served(answerer(), limits=Limits(connections=3)) as (url, _):
        held = [Raw(url)]
        held[0].send(b"POST")
        until(lambda: healthy(url))
        held += [Raw(url).send(b"GET /hea") for _ in range(2)]
        with Raw(url) as honest:
            assert b"200 OK" in honest.send(request(None, method="GET", path="/health")).some()
        assert held[0].rest() == b""  # closed
        for raw in held:
            raw.close()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no second address of their own")
def test_a_flood_of_connections_from_one_address_closes_none_of_another() -> None:
    with served(answerer(), limits=Limits(connections=4, head=HANGING)) as (url, _):
        whole = request(None, method="GET", path="/health")
        with Raw(url, source="127.0.0.2").send(whole[:-1]) as honest:
            until(lambda: healthy(url))  # whose connections stay open
            flood = [Raw(url).send(b"GET /hea") for _ in range(12)]
            assert flood[0].rest() == b""  # closed
            assert b"200 OK" in honest.send(whole[-1:]).some()
            for raw in flood:
                raw.close()


def test_clients_that_read_nothing_give_way_when_there_are_too_many_connections() -> None:
    answers = Flood()
    with served(answers, limits=Limits(connections=2, stall=HANGING)) as (url, desk):
        stalled = [Raw(url, window=1024).send(chat(THAI, stream=True)) for _ in range(2)]
        until(lambda: answers.closed == 2 and desk.inside == 0)
        until(lambda: healthy(url))
        for raw in stalled:
            raw.close()


class Waiting(Answerer):
    """Begins to answer and goes on when it may."""

    def __init__(self, caps: Caps = CAPS) -> None:
        super().__init__(tiny(), MARKERS, caps)
        self.may = threading.Event()
        self.begun = 0

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        self.begun += 1
        assert self.may.wait(HANGING)
        yield from super().answer(question, left)


def test_where_all_connections_have_requests_a_new_one_is_told_to_come_later() -> None:
    answers = Waiting()
    with served(answers, limits=Limits(connections=2)) as (url, desk):
        busy = [Raw(url).send(chat("x")) for _ in range(2)]
        until(lambda: desk.inside == 2)
        with Raw(url) as raw:
            status, headers, body = split(raw.rest())
        assert (status, json.loads(body)["error"]["code"]) == (503, "busy")
        assert int(headers["retry-after"]) > 0
        answers.may.set()
        for one in busy:
            assert b"200 OK" in one.some()
            one.close()


def test_connections_stay_below_the_descriptors() -> None:
    assert Limits().within(1 << 16).connections == 256
    assert Limits().within(256 + 10).connections == 10 + 256 - RESERVED
    assert Limits().within(40).connections == 10
    assert Limits().within(1).connections == 1
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 300), before[1]))
        assert descriptors() == min(before[1], 1 << 16) if before[1] != resource.RLIM_INFINITY else 1 << 16
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


SERVER = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
sys.path[:0] = {paths!r}
from endpoints import answerer, served
from lingraft.serving.limits import Limits, descriptors
limits = Limits().within(descriptors())
with served(answerer(), limits=limits, log=lambda line: print(line, file=sys.stderr)) as (url, _):
    print(url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.long
def test_a_flood_of_idle_connections_beyond_the_descriptors_leaves_the_server_answering() -> None:
    """With 128 descriptors and 150 idle connections, an honest client is answered and the log stays short."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER.format(paths=[path for path in sys.path if path])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        idle = [Raw(url) for _ in range(150)]
        assert healthy(url)
        for raw in idle:
            raw.close()
        _, err = process.communicate("", timeout=HANGING)
    finally:
        process.kill()
    assert process.returncode == 0
    assert len(err) < 2000, err


class Flood(Answerer):
    """Answers with far more text than the system buffers."""

    def __init__(self) -> None:
        super().__init__(tiny(), None, CAPS)
        self.closed = 0

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        *_, last = super().answer(question, left)
        try:
            for _ in range(200 if question.max_tokens is None else 1):
                yield TextDelta("text", "x" * 100_000, True)
            assert isinstance(last, Answer)
            yield replace(last, text="x" * (20_000_000 if question.max_tokens is None else 9))
        finally:
            self.closed += 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_reads_nothing_keeps_nobody_waiting(stream: bool) -> None:
    answers = Flood()
    with served(answers, limits=Limits(stall=HANGING)) as (url, desk), Raw(url, window=1024) as stalled:
        stalled.send(chat(THAI, stream=stream) * 3)  # one after the other, none read
        until(lambda: answers.closed == 1 and desk.inside == 0)
        with Raw(url) as honest:
            assert b"200 OK" in honest.send(chat(THAI, max_tokens=2)).some()


@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_is_not_read_is_cut_off_in_time(stream: bool) -> None:
    lines: list[str] = []
    with served(Flood(), limits=Limits(stall=0.02), log=lines.append) as (url, desk):
        with Raw(url, window=1024) as stalled:
            stalled.send(chat(THAI, stream=stream))
            until(lambda: any("the client left" in line for line in lines))
        assert desk.inside == 0


def test_where_unread_answers_are_too_much_the_server_cuts_one_and_goes_on() -> None:
    answers = Flood()
    with served(answers, limits=Limits(stall=HANGING, unsent=1_000_000)) as (url, desk):
        with Raw(url, window=1024) as stalled:
            stalled.send(chat(THAI, stream=True))
            until(lambda: answers.closed == 1 and desk.inside == 0)
        with Raw(url) as honest:
            assert b"200 OK" in honest.send(chat(THAI, max_tokens=2)).some()


def test_unread_answers_together_are_bounded() -> None:
    async def run() -> tuple[bool, bool]:
        boxes = Outboxes(100)
        with boxes.opened() as small, boxes.opened() as large:
            small.put(b"x" * 30)
            large.put(b"x" * 60)
            small.put(b"x" * 20)  # in all too much
            assert boxes.used == 110
            return small.scope.cancel_called, large.scope.cancel_called

    assert anyio.run(run) == (False, True)


def test_bodies_together_are_bounded() -> None:
    with served(answerer(), limits=Limits(bodies=1000, body=HANGING)) as (url, _):
        body = json.dumps(asking("x" * 900)).encode()
        with Raw(url) as holding, Raw(url) as second:
            holding.send(request(body)[:-1])
            found = b""
            while b"busy" not in found:  # until the first one's part has been read
                with Raw(url) as raw:
                    found = raw.send(request(body, "Connection: close")).rest()
            status, headers, _ = split(found)
            assert (status, "retry-after" in headers) == (503, True)
            holding.send(body[-1:])
            assert b"200 OK" in holding.some()
            assert b"200 OK" in second.send(chat("x")).some()


def test_a_body_in_very_many_parts_is_refused() -> None:
    with served(answerer(), limits=Limits(parts=10)) as (url, _):
        head = request(None, "Content-Type: application/json", "Transfer-Encoding: chunked")
        with Raw(url) as raw:
            status, _, _ = split(raw.send(head + b"1\r\n{\r\n" * 20).rest())
        assert status == 400
        with Raw(url) as raw:
            assert b"200 OK" in raw.send(chat("x")).some()


def test_a_long_prompt_ends_between_its_pieces_when_its_client_leaves() -> None:
    answers = Stepping()
    with served(answers) as (url, desk):
        with Raw(url) as raw:
            raw.send(chat("1" * 1900))
            until(lambda: answers.read == 1)
        until(lambda: desk.inside == 0)
        answers.may.set()
        until(lambda: answers.closed == 1)
    assert answers.read <= 2  # of four pieces


class Stepping(Answerer):
    """Counts the pieces of the prompt that it reads, and goes on when it may."""

    def __init__(self) -> None:
        super().__init__(tiny(), None, CAPS)
        self.may = threading.Event()
        self.read = self.closed = 0

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        try:
            for piece in super().answer(question, left):
                if isinstance(piece, PromptProgress):
                    self.read += 1
                    assert self.may.wait(HANGING)
                yield piece
        finally:
            self.closed += 1
