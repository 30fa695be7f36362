"""Translations on their way to the client that asked for them: a place in the queue, a response kept in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lingraft.conversation.writing import Waits
from lingraft.serving.outbox import Outbox
from lingraft.serving.queue import Ticket
from lingraft.serving.reply import SAFE, Endpoint, Json, cancel_when_gone, send_part, send_start
from lingraft.serving.request import ApiError, unexpected
from lingraft.serving.response import to_json
from lingraft.serving.translation import Outcome, PreparedJob, TranslationService

KIND = "translation"
"""What these requests are counted as."""


class TranslationReply(Response):
    """The response to a request for translations; the work on it ends when the client is gone.

    Args:
        api: the endpoint.
        service: translates.
        job: that is asked for.
        client: its address.
        form: makes the body of the response.
        refusal: gives an error the form of the service that is spoken here.
    """

    def __init__(
        self,
        api: Endpoint,
        service: TranslationService,
        job: PreparedJob,
        client: str,
        form: Callable[[Outcome], Any],
        refusal: Callable[[ApiError], ApiError],
    ) -> None:
        self._api, self._service, self._job, self._client = api, service, job, client
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
            self._log("the client left" if not self._answered else "the client left before it had read all")

    async def _write(self, box: Outbox) -> None:
        """Let the model translate when its turn comes, and put the response into the outbox."""

        def work(place: Ticket) -> Generator[int | Outcome | Waits, None, None]:
            return self._service.work(self._job, place.left.is_set)

        try:
            with self._api.desk.place(self._job.tokens, self._client) as place, place.scope:
                async with aclosing(self._api.desk.serve(lambda: work(place), place)) as items:
                    async for item in items:
                        if isinstance(item, Outcome):
                            self._take(item, box)
            if not self._answered and place.refusal:
                raise place.refusal
        except ApiError as error:
            self._failed = error
            self._log(f"{error.status} {error.code or 'refused'}")  # its message may hold what the client wrote
        except Exception as error:
            self._failed = unexpected()
            self._api.log.failure("translate: a request", error)
        status = self._failed.status if self._failed else 200
        self._api.metrics.ended(KIND, status, time.perf_counter() - self._began)
        box.end()

    def _take(self, outcome: Outcome, box: Outbox) -> None:
        self._answered = True
        for one in outcome.texts:
            self._api.failures[one.failure] += 1
        failures = sorted({one.failure for one in outcome.texts if one.failure})
        tokens, texts = sum(one.tokens for one in outcome.texts), len(outcome.texts)
        problem = f" ({', '.join(failures)})" if failures else ""
        self._api.metrics.translated(outcome.read, tokens)
        self._log(f"{texts} text{'s' * (texts != 1)}, {tokens} tokens after {outcome.read} read{problem}")
        box.put(to_json(self._form(outcome)))

    def _log(self, what: str) -> None:
        self._api.log.line(f"translate: {what}; {time.perf_counter() - self._began:.2f} s")
