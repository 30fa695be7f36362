"""Answers in the form of the OpenAI protocol: one object, or chunks as they are written. JSON only, never HTML."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lingraft.conversation.writing import PartStart, PromptProgress, TextDelta, Waits, Written
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


Spelling = Callable[[int], tuple[str, bytes | None]]
"""Of a token: its text, and its bytes where they are whole characters."""


class Completion:
    """The answers to one request, on their way to the client; this class is for those to conversations.

    Args:
        question: that they answer.
        model: name of the model as the server has it.
        spelling: of tokens, for log-probabilities.
    """

    prefix, kind, part = "chatcmpl", "chat.completion", "chat.completion.chunk"
    """What ids begin with, and what a whole answer and its chunks are called."""

    def __init__(self, question: ChatRequest, model: str, spelling: Spelling) -> None:
        self._question, self._spelling = question, spelling
        self._arrived = time.perf_counter()
        self._began = self._arrived
        self._model = model
        self._id, self._created = f"{self.prefix}-{secrets.token_hex(12)}", int(time.time())
        self._answers: dict[int, Answer] = {}

    def begin(self) -> None:
        """Note that the question waits no longer."""
        self._began = time.perf_counter()

    @property
    def seconds_queued(self) -> float:
        """For which the question waited."""
        return self._began - self._arrived

    @property
    def complete(self) -> bool:
        """Whether all answers are."""
        return len(self._answers) == self._question.choices

    def keep(self, choice: int, answer: Answer) -> None:
        """Keep one of the answers."""
        self._answers[choice] = answer

    def whole(self) -> dict[str, Any]:
        """Return the answers as one object."""
        answers = sorted(self._answers.items())
        several = len(answers) > 1
        choices = []
        for index, answer in answers:
            more = {"lingraft": self._figures(answer)} if several else {}
            logprobs = self._logprobs(index, answer.written)
            reason = answer.finish_reason
            said = self._said(answer.text)
            choices.append({"index": index, **said, "logprobs": logprobs, "finish_reason": reason, **more})
        found = {**self._head(self.kind), "choices": choices, "usage": self._usage()}
        return found if several else {**found, "lingraft": self._figures(answers[0][1])}

    def first(self) -> list[dict[str, Any]]:
        """Return the first chunks."""
        return [self._chunk(index, {"role": "assistant", "content": ""}) for index in range(self._question.choices)]

    def chunks(self, choice: int, piece: Piece) -> Iterator[dict[str, Any]] | None:
        """Return the chunks for a piece of one of the answers, those of the chain only if the client wants to see it;
        None where the answer has not begun."""
        return None if isinstance(piece, PromptProgress | Waits) else self._chunks(choice, piece)

    def _chunks(self, choice: int, piece: PartStart | TextDelta | Answer) -> Iterator[dict[str, Any]]:
        if isinstance(piece, Answer):
            yield {**self._chunk(choice, None, reason=piece.finish_reason), "lingraft": self._figures(piece)}
            if self.complete and self._question.include_usage:
                yield {**self._head(self.part), "choices": [], "usage": self._usage()}
        elif isinstance(piece, PartStart):
            if self._question.chain:
                started = {"started": {"role": piece.role, "forced": piece.forced}}
                yield {**self._chunk(choice, None), "lingraft": started}
        elif piece.visible:
            yield self._chunk(choice, {"content": piece.text}, piece.tokens)
        elif self._question.chain:
            yield {**self._chunk(choice, None), "lingraft": {"delta": {"role": piece.role, "text": piece.text}}}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _chunk(
        self, index: int, delta: dict[str, Any] | None, tokens: Sequence[Written] = (), reason: str | None = None
    ) -> dict[str, Any]:
        logprobs = self._logprobs(index, tokens) if tokens else None
        choice = {"index": index, **self._more(delta or {}), "logprobs": logprobs, "finish_reason": reason}
        return {**self._head(self.part), "choices": [choice]}

    def _said(self, text: str) -> dict[str, Any]:
        """Return the field of a choice that holds its whole text."""
        return {"message": {"role": "assistant", "content": text}}

    def _more(self, delta: dict[str, Any]) -> dict[str, Any]:
        """Return the field of a chunk's choice that holds some more of the answer."""
        return {"delta": delta}

    def _logprobs(self, index: int, tokens: Sequence[Written]) -> dict[str, Any] | None:
        """Return the log-probabilities of some tokens of a choice, None where they are not asked for."""
        if self._question.logprobs is None:
            return None
        return {
            "content": [
                {**self._token(one.id, one.logprob), "top_logprobs": [self._token(*best) for best in one.top]}
                for one in tokens
            ]
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text, data = self._spelling(token)
        return {"token": text, "logprob": logprob, "bytes": None if data is None else list(data)}

    def _usage(self) -> dict[str, Any]:
        return usage([answer for _, answer in sorted(self._answers.items())], self._question.n)

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


class TextCompletion(Completion):
    """The texts that were written behind prompts, on their way to the client."""

    prefix, kind, part = "cmpl", "text_completion", "text_completion"

    def __init__(self, question: ChatRequest, model: str, spelling: Spelling) -> None:
        super().__init__(question, model, spelling)
        self._lengths: dict[int, int] = {}

    def first(self) -> list[dict[str, Any]]:
        """Return no chunk: there are no roles."""
        return []

    def _said(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _more(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"text": delta.get("content", "")}

    def _logprobs(self, index: int, tokens: Sequence[Written]) -> dict[str, Any] | None:
        if self._question.logprobs is None:
            return None
        texts, offsets, at = [self._spelling(one.id)[0] for one in tokens], [], self._lengths.get(index, 0)
        for text in texts:
            offsets.append(at)
            at += len(text)
        self._lengths[index] = at
        return {
            "tokens": texts,
            "token_logprobs": [one.logprob for one in tokens],
            "top_logprobs": [{self._spelling(token)[0]: value for token, value in one.top} for one in tokens],
            "text_offset": offsets,
        }


def usage(answers: Sequence[Answer], n: int = 1) -> dict[str, Any]:
    """Return the token counts of answers: all that were written, the hidden parts as "reasoning".

    Args:
        answers: in the order of their prompts.
        n: that belong to each prompt, which is counted once.
    """
    read = sum(answer.timing.prompt_tokens for answer in answers[::n])
    written = sum(sum(answer.tokens.values()) for answer in answers)
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "completion_tokens_details": {"reasoning_tokens": sum(answer.hidden for answer in answers)},
    }
