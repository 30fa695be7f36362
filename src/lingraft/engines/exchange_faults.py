"""What goes wrong between a client and a server, and what an answer's bytes say of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

from lingraft.core.errors import EngineError


class Garbled(Exception):
    """An answer that is not what was asked for, though its transport was whole: worth another attempt.

    Args:
        cause: a word for the count of retries.
        detail: what is wrong with it.
        form: what is of another form than the protocol's in a whole answer. That is worth one more attempt, and no
            third: what is the same each time does not pass, and each attempt may be billed.
    """

    def __init__(self, cause: str, detail: str, *, form: str = "") -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail
        self.form = form


class Again(Exception):
    """A failure that may pass; `wait` is how many seconds the server asks for."""

    def __init__(self, cause: str, detail: str, wait: float = 0.0) -> None:
        super().__init__(detail)
        self.cause = cause
        self.detail = detail
        self.wait = wait


class Unanswered(EngineError):
    """A server gave no usable answer, and may give one later.

    Args:
        message: in one sentence.
        cause: "connection", "timeout", a status, or what is wrong with the answer.
        wait: seconds that it asks to wait; 0 where it asks for none.
    """

    def __init__(self, message: str, cause: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.cause, self.wait = cause, wait


class PathUnknown(EngineError):
    """The server does not know a path."""


class ContextExceeded(EngineError):
    """The server refuses what does not fit its context; `told` are its words."""

    def __init__(self, message: str, told: str) -> None:
        super().__init__(message)
        self.told = told


async def event_data(parts: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """Yield the data of server-sent events; what ends without `[DONE]` has broken off.

    Raises:
        Again: an event has more bytes than it may, or the stream breaks off.
    """
    held = b""
    async for part in parts:
        *lines, held = (held + part).split(b"\n")
        for line in lines:
            name, _, value = line.rstrip(b"\r").partition(b":")
            if name == b"data" and (data := value.strip()) == b"[DONE]":
                return
            if name == b"data" and data:
                yield data
        if len(held) > limit:
            raise Again("oversized", f"an event of more than {limit:,} bytes")
    raise Again("connection", "the answer broke off")


def error_message(data: bytes) -> tuple[str, str]:
    """Return what an error's body says, in one of the forms that servers use, and its code."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return data.decode("utf-8", "replace"), ""
    code = ""
    while isinstance(found, dict):
        code = str(found.get("code") or code)
        found = next((found[key] for key in ("error", "message", "detail") if found.get(key)), "")
    return str(found), code


def retry_after(value: str) -> float:
    """Return the seconds that a `Retry-After` header asks for, given in seconds or as a date; 0 if unclear."""
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
