"""HTTP with a server that may fail: attempts with back-off, time and size limits, one sentence for what went wrong.

The one file that touches the HTTP client.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import httpx2

from lingraft.core.errors import EngineError
from lingraft.engines.exchange_faults import (
    Again,
    ContextExceeded,
    Garbled,
    PathUnknown,
    Unanswered,
    error_message,
    event_data,
    retry_after,
)

T = TypeVar("T")

RETRIED = frozenset({408, 409, 425, 429})
"""Statuses, besides 500 and above, after which the same request may succeed."""

MAX_ERROR_BODY = 65_536

_CONTEXT = re.compile(r"context[ _](?:length|size|window)|prompt (?:is|was) too long|too many tokens", re.IGNORECASE)
"""How vLLM, llama.cpp, OpenAI and TGI name what does not fit, in words or as a code."""

_RANDOM = random.Random()  # of its own: a run's seeded numbers do not depend on how often a server failed


MARK = "lingraft-"
"""What the marks of requests begin with."""


@dataclass(frozen=True)
class Patience:
    """How long to wait and how often to try.

    Attributes:
        timeout: seconds for one attempt, from sending to the last byte.
        attempts: in all.
        backoff: seconds before the second attempt, doubled for each further one; a random share of up to half is
            taken off, so that requests that failed together do not return together.
        longest_wait: bound of any wait in seconds, also of what the server asks for.
    """

    timeout: float = 600.0
    attempts: int = 10
    backoff: float = 0.5
    longest_wait: float = 60.0

    def wait(self, attempt: int, asked: float) -> float:
        """Return seconds to wait after the given failed attempt (1, 2, ...)."""
        own = min(self.longest_wait, self.backoff * 2.0 ** min(attempt - 1, 60)) * _RANDOM.uniform(0.5, 1.0)
        return max(own, min(self.longest_wait, asked))


@dataclass
class Wire:
    """Exchanges with one server.

    Attributes:
        client: of this event loop.
        root: address without a slash at its end.
        key: secret of the server, or "".
        slots: of exchanges under way at once.
        attempts_failed: by cause, of exchanges that were tried again.
        reached: whether it ever answered.
    """

    client: httpx2.AsyncClient
    root: str
    key: str
    patience: Patience
    slots: anyio.CapacityLimiter
    attempts_failed: Counter[str] = field(default_factory=Counter)
    reached: bool = False

    async def ask(
        self,
        what: str,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[bytes, str], T],
        *,
        max_bytes: int,
        attempts: int | None = None,
    ) -> T:
        """Send `body` (GET if None) until `read` accepts the answer, and return what it makes of it.

        Args:
            what: is asked, for messages, such as "request 'r7'".
            path: below the root, or a full address.
            body: sent as JSON; None for a GET.
            read: from the answer's bytes and the attempt's own mark, which was sent as `X-Request-Id`; raises `Garbled`
                if another attempt is worth while.
            max_bytes: of the answer; more is not read.
            attempts: at most; those of `patience` if None.

        Raises:
            PathUnknown: the server does not know the path.
            ContextExceeded: what is asked does not fit.
            EngineError: refused, twice of one wrong form, or no usable answer in all attempts.
        """
        limit = min(attempts or self.patience.attempts, self.patience.attempts)
        forms: set[str] = set()
        async with self.slots:
            for attempt in range(1, limit + 1):
                mark = _mark()
                try:
                    return read(await self._once(what, path, body, mark, max_bytes), mark)
                except Garbled as garbled:
                    problem = Again(garbled.cause, garbled.detail)
                    if garbled.form and (garbled.form in forms or limit == 1):
                        raise EngineError(
                            f"{what}: {self.root} answers in a form that cannot be used{' (twice)' if forms else ''}: "
                            f"{self._clean(garbled.detail)}; check engine.base_url, engine.api and engine.model, or "
                            f"use another server"
                        ) from garbled
                    forms.add(garbled.form)
                except Again as again:
                    problem = again
                if attempt == limit:
                    break
                self.attempts_failed[problem.cause] += 1
                await anyio.sleep(self.patience.wait(attempt, problem.wait))
        raise Unanswered(
            f"{what}: no usable answer from {self.root} in {limit} attempts, the last: "
            f"{self._clean(problem.detail)}; run again when the server is well",
            problem.cause,
            problem.wait,
        )

    async def events(
        self, what: str, path: str, body: dict[str, Any], *, max_bytes: int
    ) -> AsyncGenerator[bytes, None]:
        """Yield the data of the events of an answer that comes as it is written; of one that comes whole its body.

        One attempt is made; `timeout` of the patience is that of a silence, not of the whole.

        Args:
            what: is asked, for messages.
            path: below the root.
            body: sent as JSON.
            max_bytes: of an event, or of a whole answer.

        Raises:
            PathUnknown, ContextExceeded, Unanswered, EngineError: as `ask`.
        """
        try:
            async with self.slots, self._exchange(path, body, "text/event-stream", _mark()) as response:
                self.reached = True
                if response.status_code != 200:
                    self._refused(what, response, await _read(response, MAX_ERROR_BODY, fail=False))
                if not response.headers.get("Content-Type", "").startswith("text/event-stream"):
                    yield await _read(response, max_bytes, fail=True)
                    return
                async for data in event_data(response.aiter_bytes(), max_bytes):
                    yield data
        except Again as again:
            raise Unanswered(
                f"{what}: no usable answer from {self.root}: {self._clean(again.detail)}", again.cause, again.wait
            ) from again

    async def _once(self, what: str, path: str, body: dict[str, Any] | None, mark: str, max_bytes: int) -> bytes:
        """Return the body of a successful answer."""
        async with self._exchange(path, body, "application/json", mark, self.patience.timeout) as response:
            self.reached = True
            good = response.status_code in (200, 201)
            data = await _read(response, max_bytes if good else MAX_ERROR_BODY, fail=good)
            if not good:
                self._refused(what, response, data)
            return data

    @asynccontextmanager
    async def _exchange(
        self, path: str, body: dict[str, Any] | None, kind: str, mark: str, whole: float | None = None
    ) -> AsyncIterator[httpx2.Response]:
        """Send a request and give the response, whose body is still to be read, within so many seconds in all.

        Raises:
            Again: the connection fails, or nothing comes for too long.
        """
        address = path if "://" in path else self.root + path
        headers = {"Accept": kind, "Accept-Encoding": "identity", "X-Request-Id": mark}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        content = None if body is None else json.dumps(body).encode("ascii")
        if content is not None:
            headers["Content-Type"] = "application/json"
        method = "GET" if body is None else "POST"
        try:
            with nullcontext() if whole is None else anyio.fail_after(whole):
                async with self.client.stream(method, address, content=content, headers=headers) as response:
                    yield response
        except (TimeoutError, httpx2.TimeoutException) as error:
            detail = f"nothing within {self.patience.timeout:g} s"
            if isinstance(error, httpx2.ConnectTimeout) and not self.reached:
                raise self._absent("no connection in time") from error
            raise Again("timeout", detail) from error
        except httpx2.ConnectError as error:
            if not self.reached:
                raise self._absent(str(error) or "no connection") from error
            raise Again("connection", str(error) or "no connection") from error
        except httpx2.RequestError as error:
            raise Again("connection", f"the connection broke ({str(error) or type(error).__name__})") from error

    def _absent(self, reason: str) -> EngineError:
        return Unanswered(
            f"no server answers at {self.root} ({self._clean(reason)}); start one there, or give the address of "
            f"yours as engine.base_url or in OPENAI_BASE_URL",
            "connection",
        )

    def _refused(self, what: str, response: httpx2.Response, data: bytes) -> None:
        """Raise what a status of another kind stands for."""
        status = response.status_code
        said, code = error_message(data)
        told = f"status {status}" + (f": {self._clean(said)}" if said else "")
        passing = status in RETRIED or (status >= 500 and status != 501)
        if passing and code != "insufficient_quota":
            raise Again(str(status), told, retry_after(response.headers.get("Retry-After", "")))
        if 300 <= status < 400:
            target = self._clean(response.headers.get("Location", ""))
            remedy = f"it points to {target!r}, which is not followed; give the final address as engine.base_url"
        else:
            remedy = {
                401: "put the server's key into the environment variable named by engine.key_env",
                403: "the key may not do this; use another key or model",
                404: "check engine.base_url, which mostly ends in /v1, and engine.model",
                429: "add credit at the provider",
            }.get(status, "change the request or the engine's parameters accordingly")
        message = f"{what}: {self.root} refused it with {told}; {remedy}"
        if status in (400, 413, 422) and (_CONTEXT.search(said) or _CONTEXT.search(code)):
            raise ContextExceeded(message, told)
        raise PathUnknown(message) if status in (404, 405, 501) else EngineError(message)

    def _clean(self, text: str) -> str:
        """Return a server's words without the key and control characters, in one short line."""
        if self.key:
            text = text.replace(self.key, "***")
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= 300 else text[:297] + "..."


@dataclass(frozen=True)
class ServerAddress:
    """The address of a server, taken apart.

    Attributes:
        text: the whole.
        origin: scheme, host and port.
        plain: whether it holds no user, query or fragment.
    """

    text: str
    scheme: str
    host: str
    origin: str
    plain: bool

    @classmethod
    def of(cls, text: str) -> ServerAddress:
        """Take an address apart.

        Raises:
            ValueError: it is none.
        """
        try:
            url = httpx2.URL(text)
        except httpx2.InvalidURL as error:
            raise ValueError(str(error)) from error
        origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        return cls(str(url), url.scheme, url.host, origin, not (url.userinfo or url.query or url.fragment))

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine."""
        return is_loopback(self.host)


@asynccontextmanager
async def connected(
    root: str, key: str, patience: Patience, connections: int, kept: int | None = None
) -> AsyncIterator[Wire]:
    """Give exchanges with the server at `root` over at most `connections` connections; nothing is sent yet.

    Redirects are not followed, so that the key goes to this server alone; a loopback address is reached without proxy.

    Args:
        root: address without a slash at its end.
        key: secret of the server, or "".
        patience: how long to wait, and how often to try.
        connections: open at once, and exchanges under way at once.
        kept: of these, open while nothing is asked; all by default.
    """
    async with httpx2.AsyncClient(
        follow_redirects=False,
        trust_env=not ServerAddress.of(root).is_loopback,
        timeout=httpx2.Timeout(patience.timeout, connect=min(patience.timeout, 30.0)),
        limits=httpx2.Limits(
            max_connections=connections,
            max_keepalive_connections=connections if kept is None else kept,
            keepalive_expiry=5.0 if kept is None else 2.0,  # servers close what is idle, many after 5 seconds
        ),
    ) as client:
        yield Wire(client, root, key, patience, anyio.CapacityLimiter(connections))


def _mark() -> str:
    return f"{MARK}{_RANDOM.getrandbits(64):016x}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine by its form alone.

    Names below localhost are not: many systems ask the network for them, which may answer with any address.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _read(response: httpx2.Response, limit: int, *, fail: bool) -> bytes:
    """Return the body, or its first `limit` bytes unless longer ones are to `fail`."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        parts.append(part)
        size += len(part)
        if size > limit:
            if fail:
                raise Again("oversized", f"an answer of more than {limit:,} bytes")
            break
    return b"".join(parts)
