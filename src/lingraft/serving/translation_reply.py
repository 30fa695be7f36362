"""Translations on their way to the client that asked for them: a place in the queue, a response kept in memory."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lingraft.conversation.writing import Waits
from lingraft.serving.outbox import Outbox
from lingraft.serving.queue import Ticket
from lingraft.serving.reply import SAFE, Endpoint, Json, cancel_when_gone, send_part, send_start
from lingraft.serving.request import ApiError, unexpected
from lingraft.serving.response import to_json

KIND = "translation"
"""What these requests are counted as."""


class Result(Protocol):
    """What comes of translating.

    Attributes:
        failures: how often what went wrong first in its parts; "" counts those without failure.
        tokens: that were written.
        read: tokens of all requests.
        told: what it is, for the log.
    """

    @property
    def failures(self) -> Counter[str]: ...

    @property
    def tokens(self) -> int: ...

    @property
    def read(self) -> int: ...

    @property
    def told(self) -> str: ...


Made = TypeVar("Made", bound=Result)
Work = Callable[[Callable[[], bool]], Generator[int | Made | Waits, None, None]]
"""Translates, and yields at the end what came of it; it is given what says whether nobody waits any more."""


async def translated(api: Endpoint, work: Work[Made], tokens: int, client: str, kind: type[Made]) -> Made:
    """Let the model translate when its turn comes; return what came of it, counted and told in the log.

    Args:
        api: the endpoint.
        work: translates.
        tokens: about how many it comes to.
        client: its address.
        kind: of what comes of it.

    Raises:
        ApiError: it does not get a turn, or fails.
    """
    began, found, failed = time.perf_counter(), None, None

    def begun(place: Ticket) -> Generator[int | Made | Waits, None, None]:
        return work(place.left.is_set)

    try:
        with api.desk.place(tokens, client) as place, place.scope:
            async with aclosing(api.desk.serve(lambda: begun(place), place)) as items:
                async for item in items:
                    found = item if isinstance(item, kind) else found
        if found is None:
            raise place.refusal or unexpected()
    except ApiError as error:
        failed = error
        api.log.line(f"translate: {error.status} {error.code or 'refused'}{_after(began)}")  # no word of the client's
    except Exception as error:
        failed = unexpected()
        api.log.failure("translate: a request", error)
    api.metrics.ended(KIND, failed.status if failed else 200, time.perf_counter() - began)
    if failed is not None or found is None:
        raise failed or unexpected()
    api.failures.update(found.failures)
    problems = sorted(filter(None, found.failures))
    problem = f" ({', '.join(problems)})" if problems else ""
    api.metrics.translated(found.read, found.tokens)
    api.log.line(f"translate: {found.told}, {found.tokens} tokens after {found.read} read{problem}{_after(began)}")
    return found


def _after(began: float) -> str:
    return f"; {time.perf_counter() - began:.2f} s"


class TranslationReply(Response, Generic[Made]):
    """The response to a request for translations; the work on it ends when the client is gone.

    Args:
        api: the endpoint.
        work: translates.
        kind: of what comes of it.
        tokens: about how many it comes to.
        client: its address.
        form: makes the body of the response.
        refusal: gives an error the form of the service that is spoken here.
    """

    def __init__(
        self,
        api: Endpoint,
        work: Work[Made],
        kind: type[Made],
        tokens: int,
        client: str,
        form: Callable[[Made], Any],
        refusal: Callable[[ApiError], ApiError],
    ) -> None:
        self._api, self._work, self._kind, self._tokens, self._client = api, work, kind, tokens, client
        self._form, self._refusal = form, refusal
        self._began = time.perf_counter()
        self._failed: ApiError | None = None
        self._answered = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = False
        with self._api.outboxes.opened() as box, box.scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_when_gone, receive, box.scope)
                group.start_soon(self._write, box)
                await box.wait_for_end()
                if self._failed is not None:
                    error = self._refusal(self._failed)
                    await Json(error.to_dict(), error.status, error.headers)(scope, receive, send)
                else:
                    headers = {"Content-Type": "application/json", "Content-Length": str(box.size)}
                    await send_start(send, {**SAFE, **headers})
                    while data := box.take():
                        await send_part(send, data, more=box.size > 0)
                sent = True
                group.cancel_scope.cancel()
        if not sent:
            self._api.metrics.left += 1
            left = "the client left" if not self._answered else "the client left before it had read all"
            self._api.log.line(f"translate: {left}{_after(self._began)}")

    async def _write(self, box: Outbox) -> None:
        """Let the model translate when its turn comes, and put the response into the outbox."""
        try:
            found = await translated(self._api, self._work, self._tokens, self._client, self._kind)
            self._answered = True
            box.put(to_json(self._form(found)))
        except ApiError as error:
            self._failed = error
        box.end()
