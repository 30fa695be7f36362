"""An answer on its way: the model writes it into memory, and from there it is sent as fast as the client reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator
from contextlib import aclosing
from typing import Any, Protocol

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lingraft.conversation.writing import Waits
from lingraft.serving.answerer import Answer, Answerer, Piece, Said
from lingraft.serving.log import Log
from lingraft.serving.metrics import Metrics
from lingraft.serving.outbox import Outbox, Outboxes
from lingraft.serving.queue import RequestQueue, Ticket
from lingraft.serving.request import ApiError, ChatRequest, unexpected
from lingraft.serving.response import COMMENT, DONE, Completion, TextCompletion, sse, to_json
from lingraft.serving.rounds import side_by_side

SAFE = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Json(Response):
    """A JSON response."""

    media_type = "application/json"

    def __init__(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(to_json(content), status, {**SAFE, **(headers or {})})


class Endpoint(Protocol):
    """What all replies share; see `lingraft.serving.app.Api`."""

    answerers: dict[str, Answerer]
    desk: RequestQueue
    outboxes: Outboxes
    log: Log
    failures: Counter[str]
    outcomes: Counter[str]
    metrics: Metrics
    keep_alive: float


class Reply(Response):
    """The response to a question; the work on it ends when the client is gone.

    The model's turn ends with the answer's last token, whatever of it is sent by then.

    Args:
        api: the endpoint.
        question: that is answered, with the name of the model that answers.
        tokens: about how many the question may come to.
        client: its address.
    """

    def __init__(self, api: Endpoint, question: ChatRequest, tokens: int, client: str) -> None:
        self._api, self._question, self._tokens, self._client = api, question, tokens, client
        form, self._answerer = TextCompletion if question.prompts else Completion, api.answerers[question.model]
        self._completion = form(question, question.model, self._answerer.spelling)
        self._kind = "completion" if question.prompts else "chat"
        self._began = time.perf_counter()
        self._failed: ApiError | None = None
        self._answered = False  # whether the model has come to the end
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent = False
        with self._api.outboxes.opened() as box, box.scope:
            async with anyio.create_task_group() as group:
                group.start_soon(cancel_when_gone, receive, box.scope)
                group.start_soon(self._write, box)
                if self._question.stream:
                    await self._stream(box, scope, receive, send)
                else:
                    await self._whole(box, scope, receive, send)
                sent = True
                group.cancel_scope.cancel()
        if not sent:
            self._api.metrics.left += 1
        if not sent and not self._answered:
            self._log("the client left")
        elif not sent:
            self._log("the client left before it had read all")

    async def _write(self, box: Outbox) -> None:
        """Let the model write into the outbox when its turn comes."""

        def work(place: Ticket) -> Generator[tuple[int, Said] | Waits, None, None]:
            self._completion.begin()
            answers: dict[int, Generator[Any, None, None]] = {  # of pieces
                choice: self._answerer.answer(self._question.of(choice), place.left.is_set)
                for choice in range(self._question.choices)
            }
            yield from side_by_side(answers)

        try:
            with self._api.desk.place(self._tokens, self._client) as place, place.scope:
                async with aclosing(self._api.desk.serve(lambda: work(place), place)) as pieces:
                    async for choice, piece in pieces:
                        self._take(choice, piece, box)
            if not self._answered and place.refusal:
                raise place.refusal
        except ApiError as error:
            self._failed = error
            self._log(f"{error.status} {error.code or 'refused'}")  # its message may hold what the client wrote
        except Exception as error:
            self._failed = unexpected()
            self._api.log.failure(f"{self._kind}: a request", error)
        status = self._failed.status if self._failed else 200
        self._api.metrics.ended(self._kind, status, time.perf_counter() - self._began)
        box.end()

    def _take(self, choice: int, piece: Piece, box: Outbox) -> None:
        """Write a piece of one of the answers into the outbox."""
        if isinstance(piece, Answer):
            self._completion.keep(choice, piece)
            self._answered = self._completion.complete
            self._api.metrics.answered(piece, self._completion.seconds_queued, again=choice % self._question.n > 0)
            failure = piece.failure if piece.language or piece.decoder else ""
            self._api.failures[failure] += 1
            if piece.decoder is not None and piece.decoder.outcome:
                self._api.outcomes[piece.decoder.outcome] += 1
            written = " + ".join(str(count) for count in piece.tokens.values())
            told = [piece.decoder.name, piece.decoder.outcome, failure] if piece.decoder else [failure]
            problem = f" ({', '.join(filter(None, told))})" if any(told) else ""
            read, reason = piece.timing.prompt_tokens, piece.finish_reason
            self._log(f"{written} tokens after {read} read, {reason}{problem}")
        if self._question.stream:
            if (chunks := self._completion.chunks(choice, piece)) is not None:
                box.put(b"".join(map(sse, chunks)))
        elif self._answered:
            box.put(to_json(self._completion.whole()))

    async def _whole(self, box: Outbox, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer as one object."""
        await box.wait_for_end()
        if self._failed is not None:
            await _error(self._failed)(scope, receive, send)
            return
        await send_start(send, {**SAFE, "Content-Type": "application/json", "Content-Length": str(box.size)})
        while data := box.take():
            await send_part(send, data, more=box.size > 0)

    async def _stream(self, box: Outbox, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer as server-sent events.

        Nothing is sent before its first token, so that errors have their status, unless that takes longer than clients
        wait; they are then told as an event. Whenever there is nothing for a while, a comment is sent, which clients
        pass over.
        """
        started = last = False
        while not last:
            with anyio.move_on_after(self._api.keep_alive) as silence:
                await box.wait()
            data = COMMENT if silence.cancelled_caught else box.take()
            last = box.ended and box.size == 0
            if last and self._failed is not None and not started:
                await _error(self._failed)(scope, receive, send)
                return
            if last:
                data += sse(self._failed.to_dict()) if self._failed else DONE
            if not started:
                started = True
                headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
                await send_start(send, {**SAFE, **headers})
                data = b"".join(map(sse, self._completion.first())) + data
            if data:
                await send_part(send, data, more=not last)

    def _log(self, what: str) -> None:
        self._api.log.line(f"{self._kind}: {what}; {time.perf_counter() - self._began:.2f} s")


def _error(error: ApiError) -> Json:
    return Json(error.to_dict(), error.status, error.headers)


async def cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Cancel when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def send_start(send: Send, headers: dict[str, str]) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 200, "headers": raw})


async def send_part(send: Send, data: bytes, *, more: bool) -> None:
    await anyio.lowlevel.checkpoint()  # uvicorn waits for nothing where the client has left
    await send({"type": "http.response.body", "body": data, "more_body": more})
