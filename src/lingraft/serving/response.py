"""Answers in the form of the OpenAI protocol: one object, or chunks as they are written. JSON only, never HTML."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from lingraft.conversation.writing import PartStart, PromptProgress, TextDelta
from lingraft.serving.answerer import Answer, Piece
from lingraft.serving.request import ChatRequest

_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})
"""Line breaks to some programs that read events, though not to the standard."""

DONE = b"data: [DONE]\n\n"
COMMENT = b": keep-alive\n\n"
"""What the standard has for keeping a connection open; no event."""


def to_json(value: Any) -> bytes:
    """Return a value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_BREAKS).encode("utf-8")


def sse(value: Any) -> bytes:
    """Return a server-sent event."""
    return b"data: " + to_json(value) + b"\n\n"


class Completion:
    """One answer on its way to the client.

    Args:
        question: that it answers.
        model: name of the model as the server has it.
    """

    def __init__(self, question: ChatRequest, model: str) -> None:
        self._question = question
        self._arrived = time.perf_counter()
        self._began = self._arrived
        self._model = model
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def begin(self) -> None:
        """Note that the question waits no longer."""
        self._began = time.perf_counter()

    def whole(self, answer: Answer) -> dict[str, Any]:
        """Return the answer as one object."""
        message = {"role": "assistant", "content": answer.text}
        return {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}],
            "usage": usage(answer),
            "lingraft": self._figures(answer),
        }

    def first(self) -> dict[str, Any]:
        """Return the first chunk."""
        return self._chunk({"role": "assistant", "content": ""})

    def chunks(self, piece: Piece) -> Iterator[dict[str, Any]] | None:
        """Return the chunks for a piece, those of the chain only if the client wants to see it; None where the answer
        has not begun."""
        return None if isinstance(piece, PromptProgress) else self._chunks(piece)

    def _chunks(self, piece: PartStart | TextDelta | Answer) -> Iterator[dict[str, Any]]:
        if isinstance(piece, Answer):
            yield {**self._chunk({}, piece.finish_reason), "lingraft": self._figures(piece)}
            if self._question.include_usage:
                yield {**self._head("chat.completion.chunk"), "choices": [], "usage": usage(piece)}
        elif isinstance(piece, PartStart):
            if self._question.chain:
                yield {**self._chunk({}), "lingraft": {"started": {"role": piece.role, "forced": piece.forced}}}
        elif piece.visible:
            yield self._chunk({"content": piece.text})
        elif self._question.chain:
            yield {**self._chunk({}), "lingraft": {"delta": {"role": piece.role, "text": piece.text}}}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**self._head("chat.completion.chunk"), "choices": [choice]}

    def _figures(self, answer: Answer) -> dict[str, Any]:
        """Return what the protocol has no field for."""
        timing = answer.timing
        first = None if timing.first_visible is None else round(timing.first_visible, 4)
        figures: dict[str, Any] = {
            "language": answer.language or None,
            "tokens": answer.tokens,
            "seconds_queued": round(self._began - self._arrived, 4),
            "seconds_to_first_visible_token": first,
            "seconds": round(timing.total, 4),
            "history": {"turns": answer.turns, "known": answer.known},
        }
        if answer.route:
            figures["route"] = answer.route
        if answer.decoder is not None:
            figures["decoder"] = {
                "name": answer.decoder.name,
                "calls": answer.decoder.calls,
                "outcome": answer.decoder.outcome or None,
                "failure": answer.failure or None,
            }
        if answer.seed is not None:
            figures["seed"] = answer.seed
        if self._question.chain:
            segments = [
                {"role": segment.role, "text": segment.text, "tokens": segment.tokens, "forced": segment.forced}
                for segment in answer.segments
            ]
            figures["chain"] = {"state": answer.state, "failure": answer.failure or None, "segments": segments}
        return figures


def usage(answer: Answer) -> dict[str, Any]:
    """Return the token counts of an answer: all that were written, the hidden parts as "reasoning"."""
    written, read = sum(answer.tokens.values()), answer.timing.prompt_tokens
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "completion_tokens_details": {"reasoning_tokens": answer.hidden},
    }
