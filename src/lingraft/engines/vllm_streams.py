"""Texts that vLLM writes for clients of ours: each joins the batch when it comes, its tokens are given step by step.

All of it is done in the thread that takes the tokens: `step` is vLLM's own, which computes for all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from lingraft.core.errors import EngineError
from lingraft.engines.exchange_faults import ContextExceeded, Unanswered
from lingraft.engines.slot_batch import Written
from lingraft.engines.token_streams import StreamEnd, StreamRequest, StreamToken, TokenStreams


class SteppedEngine(Protocol):
    """vLLM, as `VllmEngine` runs it."""

    @property
    def died(self) -> bool:
        """Whether its process has ended, as it is noticed beside its steps."""
        ...

    def add(self, key: str, request: StreamRequest, way: Any) -> None:
        """Let a text be written. `way`: what lets a graft write it."""
        ...

    def step(self) -> list[Any]:
        """Compute; return vLLM's outputs."""
        ...

    def abort(self, key: str) -> None:
        """Want no more of a text."""
        ...


class VllmStreams(TokenStreams):
    """See `TokenStreams`.

    Args:
        engine: vLLM, which runs.
        ways: what lets each system write, by the folder of its graft.
        context: tokens that prompt and answer may have together.
    """

    gives_ids = gives_logprobs = True

    def __init__(self, engine: SteppedEngine, ways: Mapping[Path | None, Any], context: int) -> None:
        self._context = context
        self._numbers = count()
        self._open: dict[str, VllmStream] = {}
        self._running: tuple[SteppedEngine, Mapping[Path | None, Any]] | None = (engine, ways)

    @property
    def ended(self) -> bool:
        """Whether vLLM has died."""
        return self._running is None or self._running[0].died

    def context(self, graft: Path | None) -> int:
        """Return what vLLM was started for."""
        return self._context

    def begin(self, graft: Path | None, request: StreamRequest) -> VllmStream:
        """Let a text be written.

        Raises:
            ContextExceeded: it does not fit.
            Unanswered: vLLM does not run any more.
        """
        if len(request.ids) + request.most > self._context:
            told = f"{len(request.ids)} tokens leave no room for {request.most} of {self._context}"
            raise ContextExceeded(told, told)
        try:
            if self._running is None:
                raise EngineError("vLLM has died; start the server again")
            engine, ways = self._running
            key = str(next(self._numbers))
            engine.add(key, request, ways[graft])
        except EngineError as error:
            raise self._died(error) from error
        stream = self._open[key] = VllmStream(key, request.top, self._want_no_more)
        return stream

    def step(self) -> bool:
        """Compute the next token of all texts; what fails is told to all."""
        if self._running is None or not self._open:
            return False
        try:
            outputs = self._running[0].step()
        except EngineError as error:
            self._died(error)
            return True
        for output in outputs:
            if (stream := self._open.get(output.request_id)) is not None:
                stream.put(output)
                if output.finished:
                    del self._open[output.request_id]
        return True

    def _died(self, error: EngineError) -> Unanswered:
        """Tell all that vLLM does not run any more."""
        told = Unanswered(str(error), "connection")
        if self._running is not None:
            self.tell(f"{error}; start the server again")
        self._running = None
        for stream in self._open.values():
            stream.fail(told)
        self._open.clear()
        return told

    def _want_no_more(self, key: str) -> None:
        if self._open.pop(key, None) is not None and self._running is not None:
            try:
                self._running[0].abort(key)
            except EngineError as error:
                self._died(error)


class VllmStream:
    """A text on its way; see `TokenStream`.

    Args:
        key: of it, for vLLM.
        top: as in `StreamRequest`.
        close: is given the key when nobody wants more of it.
    """

    def __init__(self, key: str, top: int | None, close: Callable[[str], None]) -> None:
        self._key, self._top, self._close = key, top, close
        self._ready: deque[StreamToken | StreamEnd | EngineError] = deque()

    def take(self) -> StreamToken | StreamEnd | None:
        """Return what comes next; see `TokenStream.take`."""
        if not self._ready:
            return None
        if isinstance(item := self._ready.popleft(), EngineError):
            raise item
        return item

    def close(self) -> None:
        """Let vLLM compute no more of it."""
        self._close(self._key)

    def put(self, output: Any) -> None:
        """Take what a step has added."""
        (written,) = output.outputs
        rows = written.logprobs if self._top is not None else None
        for number, token in enumerate(written.token_ids):
            self._ready.append(StreamToken(token, None if rows is None else self._noted(token, rows[number])))
        if output.finished:
            if written.finish_reason not in ("stop", "length"):
                self.fail(Unanswered(f"vLLM gave a text up ({written.finish_reason})", "connection"))
            self._ready.append(StreamEnd(cut=written.finish_reason == "length"))

    def fail(self, error: EngineError) -> None:
        """End with an error."""
        self._ready.append(error)

    def _noted(self, token: int, row: Mapping[int, Any]) -> Written:
        values = {id_: round(float(one.logprob), 4) for id_, one in row.items()}
        best = sorted(values.items(), key=lambda item: -item[1])[: self._top]
        return Written(token, values[token], tuple(best))
