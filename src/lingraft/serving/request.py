"""Bodies of `POST /v1/chat/completions`: what of the OpenAI protocol is understood, refused or passed over, and errors
in its form.

A parameter that would change the answer and is not supported is refused unless it has its neutral value; what only
describes the request (`user`, `metadata` ...) and what is unknown is passed over, as vLLM and llama.cpp do.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError

from lingraft.data.records import Message
from lingraft.routing.base import Route

MAX_BODY = 2_097_152
"""Bytes; far more than a conversation that fits into any model's context."""

MAX_PARTS = 256
"""Of one message. Reading tens of thousands would hold the server for a second."""

MAX_MEMBERS = 16_384
"""Lists, objects and fields in a body. What reads it makes an object of each before anything can be refused, and
nothing else runs meanwhile, in whichever thread: 700,000 lists in an unknown field would hold the server for half a
second."""
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "prompt_logprobs": (0,),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": ([], ["text"]),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (1,),
    "top_k": (0, -1),
    "min_p": (0,),
    "min_tokens": (0,),
    "ignore_eos": (False,),
    "stop_token_ids": ([],),
    "continue_final_message": (False,),
    "add_generation_prompt": (True,),
}
"""Parameters that are refused, unless null or one of these values."""


class ApiError(Exception):
    """A request is not answered.

    Args:
        status: of HTTP.
        message: one sentence for the client.
        param: the field that is wrong.
        code: for programs.
        headers: of the response.
    """

    def __init__(
        self, status: int, message: str, *, param: str = "", code: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    def to_dict(self) -> dict[str, Any]:
        """Return the body of the response, in OpenAI's form."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": self.message, "type": kind, "param": self.param or None, "code": self.code or None}
        return {"error": error}


def later(message: str, code: str) -> ApiError:
    """Return a refusal of what may be possible soon. Clients that were refused together come back one by one, and
    before their connections, which they keep, are closed for being idle."""
    return ApiError(503, message, code=code, headers={"Retry-After": str(random.randint(2, 12))})


def unexpected() -> ApiError:
    """Return what clients are told of failures that nobody expects."""
    return ApiError(500, "the server failed at this request; its log says why")


@dataclass(frozen=True, kw_only=True)
class ChatRequest:
    """A request that is understood.

    Attributes:
        model: that is asked for; empty for the one that is served.
        language: of the answer, from the field `lingraft`; empty for that of the question.
        chain: whether the parts of the chain are sent, too, from the field `lingraft`.
        route: who is to answer, from the field `lingraft`; None where the decider of the server chooses.
        max_tokens: of the English and of the native answer each.
        max_completion_tokens: of all parts together.
        temperature: None where the client leaves it to the server.
        seed: None where the client leaves it to the server.
    """

    messages: tuple[Message, ...]
    model: str = ""
    language: str = ""
    chain: bool = False
    route: Route | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False


class _FirstError(FailFast):
    """Has a list end at its first wrong item: a million of them are no million errors."""

    def __hash__(self) -> int:  # unions want it, and pydantic leaves it out
        return hash(self.fail_fast)


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], _FirstError(), Field(max_length=MAX_PARTS)]

    def plain(self) -> Message:
        content = self.content
        text = content if isinstance(content, str) else "\n".join(part.text for part in content)
        return Message("system" if self.role == "developer" else self.role, text)


class _Extension(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    chain: bool | None = None
    language: str | None = Field(None, max_length=32)
    route: Route | None = None


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)
    model: str | None = Field(None, max_length=512)
    messages: Annotated[list[_Message], _FirstError()] = Field(min_length=1, max_length=2048)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | Annotated[list[str], _FirstError()] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    lingraft: _Extension | None = None


def read_question(data: bytes) -> ChatRequest:
    """Return what a body asks.

    Raises:
        ApiError: no JSON object of this form, or it asks for what is not supported.
    """
    if _members(data) > MAX_MEMBERS:
        raise ApiError(
            400, f"the body: more than {MAX_MEMBERS:,} lists, objects and fields; give the texts of messages as strings"
        )
    try:
        body = _Body.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place, told = ".".join(str(part) for part in first["loc"])[:200], str(first["msg"])  # may be the client's
        if ".content." in place:  # one of the two forms that it may have
            place = place[: place.index(".content.")] + ".content"
            told = f"give text, or a list of at most {MAX_PARTS} parts of type text"
        raise ApiError(400, f"{place or 'the body'}: {told}", param=place) from error
    for name, value in (body.model_extra or {}).items():
        if name in NEUTRAL and value is not None and value not in NEUTRAL[name]:
            usual = next(iter(NEUTRAL[name]), None)
            raise ApiError(
                400,
                f"{name} is not supported here{'' if usual is None else f' beyond {usual!r}'}; leave it out",
                param=name,
                code="unsupported_parameter",
            )
    if body.messages[-1].role != "user":
        raise ApiError(400, "the last message must be the user's; answers cannot be begun for it", param="messages")
    extension = body.lingraft or _Extension()
    return ChatRequest(
        messages=tuple(message.plain() for message in body.messages),
        model=body.model or "",
        language=extension.language or "",
        chain=bool(extension.chain),
        route=extension.route,
        max_tokens=body.max_tokens,
        max_completion_tokens=body.max_completion_tokens,
        temperature=body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed,
        stop=_stops(body.stop),
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def _members(data: bytes) -> int:
    """Return how many lists, objects and fields a body has at most, as far as that is worth knowing: four texts count
    as one of them, and what stands in texts does not."""
    counted = sum(map(data.count, (b"[", b"{", b":")))
    if counted <= MAX_MEMBERS:
        return counted
    outside, texts = _STRINGS.subn(b"", data, 4 * MAX_MEMBERS)
    return max(texts // 4 + 1, sum(map(outside.count, (b"[", b"{", b":"))))


def _stops(given: str | list[str] | None) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(given or ())
    if len(stops) > 4 or any(not 0 < len(stop) <= 256 for stop in stops):
        raise ApiError(400, "stop: at most 4 strings of 1 to 256 characters", param="stop")
    return stops
