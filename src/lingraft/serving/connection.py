"""One client's connection: uvicorn's protocol, with limits on what its client may hold.

uvicorn bounds the size of a head and the time between two requests; it waits for ever for a first request, for a head
or body that comes slowly, and for a client that reads nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from lingraft.serving.limits import Limits
from lingraft.serving.request import ApiError, later

HEAD, BODY, IDLE, CLOSING, WORKING = "head", "body", "idle", "closing", ""
"""What a connection waits for: its client to send a request, its body, another request, or to take what is left."""

STALLED, CROWDED, REFUSED, GARBAGE = "read nothing", "gave way", "refused", "garbage"
"""Why connections were closed, beside HEAD and BODY: sent too slowly."""


class Config(uvicorn.Config):
    """uvicorn's settings, and ours.

    Args:
        app: the application.
        limits: of each connection, and of all.
        **settings: uvicorn's.

    Attributes:
        closed: connections that were closed, by reason.
    """

    def __init__(self, app: Any, limits: Limits, **settings: Any) -> None:
        super().__init__(
            app,
            http=Connection,
            timeout_keep_alive=limits.idle,  # type: ignore[arg-type]  # it is given to loop.call_later
            h11_max_incomplete_event_size=limits.head_size,
            **settings,
        )
        self.limits = limits
        self.closed: Counter[str] = Counter()


class _Reader(h11.Connection):
    """Reads requests, and takes no body that comes in very many parts: each costs as much as a long one.

    Args:
        most: parts that a body may come in.
        head_size: bytes of the first line and the headers.
    """

    def __init__(self, most: int, head_size: int) -> None:
        super().__init__(h11.SERVER, head_size)
        self._most, self._parts = most, 0

    def next_event(self) -> Any:
        """Return the next event.

        Raises:
            h11.RemoteProtocolError: the client breaks the protocol, or sends too many parts.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._parts = 0
        elif isinstance(event, h11.Data):
            self._parts += 1
            if self._parts > self._most:
                raise h11.RemoteProtocolError("a body in too many parts")
        return event


class Connection(H11Protocol):
    """A connection with limits; the arguments are uvicorn's.

    Attributes:
        doing: what it waits for.
        since: when that began, by the loop's clock.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._limits, self._closed = config.limits, config.closed
        self.conn = _Reader(config.limits.parts, config.limits.head_size)
        self._ask = self.app
        self.app = self._asked
        self.doing, self.since = WORKING, self.loop.time()
        self._request: Any = None  # to which `doing` belongs
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._lost = False

    async def _asked(self, scope: Any, receive: Any, send: Any) -> None:
        """Ask the application, and look after what is then left of the connection."""
        try:
            await self._ask(scope, receive, send)
        finally:
            self.loop.call_soon(self._watch)  # when uvicorn has done with it, too

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, in place of another if there are too many: of the address that has most of them."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self._limits.connections:
            known = [one for one in self.connections if isinstance(one, Connection)]
            counts = Counter(one.address for one in known)
            others = [one for one in known if one is not self and one.dispensable]
            longest = min(others, key=lambda one: (-counts[one.address], one.since), default=None)
            if longest is not None:
                longest.drop(CROWDED)
            else:
                self._refuse(later("there are too many connections; try again later", "busy"), REFUSED)

    @property
    def address(self) -> str:
        """The client's, without its port."""
        return self.client[0] if self.client else ""

    @property
    def dispensable(self) -> bool:
        """Whether it waits for its client: to send, or to read."""
        waits = self.doing in (HEAD, BODY, IDLE) or self._stall is not None
        return waits and not self.transport.is_closing()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Go on when an answer is sent."""
        super().on_response_complete()
        self._watch()

    def timeout_keep_alive_handler(self) -> None:
        """Close after a time without a request."""
        super().timeout_keep_alive_handler()
        self._watch()

    def shutdown(self) -> None:
        """Close, or let the answer under way be the last."""
        super().shutdown()
        self._watch()

    def pause_writing(self) -> None:
        """Bound the time until the client has read some."""
        super().pause_writing()
        self._cancel()
        self._stall = self.loop.call_later(self._limits.stall, self.drop, STALLED)

    def resume_writing(self) -> None:
        """The client has read some."""
        super().resume_writing()
        self._cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._lost = True
        self._unset_keepalive_if_required()
        self._cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; where an answer has begun, nothing can be said any more."""
        self._refuse(ApiError(400, "this is no valid HTTP request"), GARBAGE)

    def drop(self, why: str) -> None:
        """Close at once, whatever was not sent or read."""
        self._closed[why] += 1
        self.transport.abort()

    def _refuse(self, error: ApiError, why: str) -> None:
        """Close with an answer, if none has begun."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.drop(why)
            return
        self._closed[why] += 1
        body = json.dumps(error.to_dict()).encode()
        headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
        events = [
            h11.Response(status_code=error.status, headers=[*(headers | error.headers).items()]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ]
        self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        if self.cycle is not None:  # as when the client has left
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._watch()

    def _watch(self) -> None:
        """Bound the time for what the connection now waits for; it began earlier where that is the same as before."""
        if self._lost:
            return
        doing = self._state()
        if (doing, self.cycle) == (self.doing, self._request) and self._timer is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._request = None, self.cycle
        self.doing, self.since = doing, self.loop.time()
        limits = {HEAD: self._limits.head, BODY: self._limits.body, CLOSING: self._limits.stall}
        if doing in limits:
            self._timer = self.loop.call_later(limits[doing], self._expired)

    def _state(self) -> str:
        if self.transport.is_closing():
            return CLOSING
        if self.conn.their_state is h11.SEND_BODY:
            return BODY
        if self.cycle is not None and not self.cycle.response_complete:
            return WORKING
        if self.conn.their_state is h11.IDLE:
            return HEAD if self.cycle is None or self.conn.trailing_data[0] else IDLE
        return WORKING

    def _expired(self) -> None:
        self._timer = None
        if self.doing == CLOSING:
            self.drop(STALLED)
        elif self.cycle is None and not self.conn.trailing_data[0]:
            self.drop(HEAD)  # it has sent nothing at all
        else:
            what, seconds = ("headers", self._limits.head) if self.doing == HEAD else ("body", self._limits.body)
            self._refuse(ApiError(408, f"the {what} of the request did not come within {seconds:g} s"), self.doing)

    def _cancel(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        self._stall = None
