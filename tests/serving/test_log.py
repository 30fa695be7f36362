"""The server's log: it fails, or nobody reads it, and answers go on; it holds nothing that clients wrote."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest

from clients import PATH, Raw, chat
from endpoints import CAPS, THAI, ask, asking, client, served, streamed, tiny
from lingraft.conversation.writing import never
from lingraft.core.errors import DataError, ModelError, UsageError
from lingraft.serving.answerer import Answerer, Piece
from lingraft.serving.log import Aside, Log
from lingraft.serving.request import ChatRequest
from processes import HANGING


class Broken:
    """A log whose disk is full."""

    def __call__(self, line: str) -> None:
        raise OSError(28, "No space left on device")


def test_a_log_that_fails_ends_no_answer() -> None:
    with client(log=Broken()) as http:
        assert streamed(http, THAI)
        assert ask(http, THAI)["choices"]
        assert http.post(PATH, json=asking("1" * 5000)).status_code == 400


def test_a_log_that_nobody_reads_keeps_nobody_waiting() -> None:
    may, said = threading.Event(), list[str]()

    def say(line: str) -> None:
        assert may.wait(HANGING)
        said.append(line)

    aside = Aside(say, most=5)
    log = Log(aside)
    for number in range(9):  # returns at once, though nothing is written
        log.line(str(number))
    assert log.lost >= 3
    may.set()
    aside.close(HANGING)
    assert said[:5] == ["0", "1", "2", "3", "4"]


def test_lines_that_could_not_be_written_are_counted_when_the_log_works_again() -> None:
    full, said = [True, True, False, False], list[str]()

    def say(line: str) -> None:
        if full.pop(0):
            raise OSError(28, "No space left on device")
        said.append(line)

    aside = Aside(say)
    for number in range(4):
        aside(str(number))
    aside.close(HANGING)
    assert said == ["(2 lines of this log could not be written)\n2", "3"]


def test_the_same_trouble_is_told_seldom() -> None:
    lines, now = list[str](), [0.0]
    log = Log(lines.append, lambda: now[0])
    for _ in range(1000):
        log.seldom("accept", "no connection can be accepted")
    now[0] += 61
    log.seldom("accept", "no connection can be accepted")
    assert len(lines) == 2


class Talkative(Answerer):
    """Fails with what the client wrote."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__(tiny(), None, CAPS)
        self.error = error

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        raise self.error(f"cannot render {question.messages[-1].content!r}")
        yield


@pytest.mark.parametrize("error", [RuntimeError, KeyError, DataError, UsageError, ModelError])
@pytest.mark.parametrize("stream", [True, False])
def test_neither_log_nor_stderr_hold_what_failed_messages_quote(
    error: type[Exception], stream: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    with served(Talkative(error), log=lines.append) as (url, _), Raw(url) as raw:
        assert b"error" in raw.send(chat("hunter2-secret", stream=stream)).heard(b"}}")
    assert len(lines) >= 1
    assert "hunter2" not in "".join(lines) + capfd.readouterr().err
    if error in (RuntimeError, KeyError):
        assert any(error.__name__ in line and "test_log.py" in line for line in lines)
