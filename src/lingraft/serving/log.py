"""The server's words about itself: they never hold what clients wrote, and never keep an answer from its client."""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

WAITING = 1024
"""Lines that may wait for a log that takes them slowly, such as a pipe that nobody reads."""
OFTEN = 60.0
"""Seconds between two lines on the same trouble."""
_FRAMES = 8


class Log:
    """Where the server says what it does. A line that cannot be written is lost, and nothing else.

    Args:
        say: takes a line.
        clock: seconds.

    Attributes:
        lost: lines so far.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._last: dict[str, float] = {}
        self.lost = 0

    def line(self, text: str) -> None:
        """Say something."""
        try:
            self._say(text)
        except Exception:  # a full disk, a closed terminal, a pipe without reader: no reason to fail an answer
            self.lost += 1

    def seldom(self, trouble: str, text: str) -> None:
        """Say something unless the same trouble was told a short time ago."""
        now = self._clock()
        if now - self._last.get(trouble, -OFTEN) >= OFTEN:
            self._last[trouble] = now
            self.line(text)

    def failure(self, what: str, error: BaseException) -> None:
        """Say that something failed unexpectedly: the error's kind and where it was raised, never its message, which
        may hold what a client wrote."""
        self.line(f"{what} failed: {places(error)}")


def places(error: BaseException) -> str:
    """Return an error's kind, and the innermost places of the program that it went through."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return " < ".join(
        [type(error).__name__, *(f"{Path(at.filename).name}:{at.lineno} {at.name}" for at in reversed(frames))]
    )


class Aside:
    """Takes lines at once and writes them from a thread of its own, which may have to wait for their reader.

    Args:
        say: writes a line.
        most: lines that may wait; further ones are lost.
    """

    def __init__(self, say: Callable[[str], None], most: int = WAITING) -> None:
        self._say = say
        self._lines: queue.Queue[str | None] = queue.Queue(most)
        self._thread = threading.Thread(target=self._write, name="lingraft-log", daemon=True)
        self._thread.start()

    def __call__(self, text: str) -> None:
        """Take a line.

        Raises:
            queue.Full: too many wait.
        """
        self._lines.put_nowait(text)

    def close(self, seconds: float = 2.0) -> None:
        """Write what waits, for as long as somebody reads."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return
        self._thread.join(seconds)

    def _write(self) -> None:
        log = Log(self._say)
        while (text := self._lines.get()) is not None:
            lost = log.lost
            log.line(f"({lost} lines of this log could not be written)\n{text}" if lost else text)
            if log.lost == lost:
                log.lost = 0


class Handler(logging.Handler):
    """Passes on what libraries log of themselves, without messages of errors.

    Args:
        log: takes it.
    """

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Say a record."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            self._log.failure("a request", error)
        else:
            self._log.seldom(str(record.msg), f"uvicorn: {str(record.msg).strip()}")
