"""Bodies of `POST /v1/chat/completions`: what of the OpenAI protocol is understood, refused or passed over, and errors
in its form. Those of `/v1/completions` are in `text_request.py`.

A parameter that would change the answer and is not supported is refused unless it has its neutral value; what only
describes the request (`user`, `metadata` ...) and what is unknown is passed over, as vLLM and llama.cpp do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

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

MAX_CHOICES = 32
"""Answers to one request."""

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "best_of": (1,),
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
        rationale: whether what a graft writes behind a translation is sent, too, from the field `lingraft`.
        route: who is to answer, from the field `lingraft`; None where the decider of the server chooses.
        max_tokens: of the English and of the native answer each.
        max_completion_tokens: of all parts together.
        temperature: None where the client leaves it to the server.
        seed: None where the client leaves it to the server; each further choice has the next number.
        n: answers to the conversation, or to each prompt.
        logprobs: of how many tokens beside each one written the log-probabilities are sent; None for none at all.
        prompts: texts or token ids to go on with, as they are; () for a conversation.
        specials: whether the tokens that open any text are put before prompts that are texts.
        choice: which of all answers this is about, by its number.
    """

    messages: tuple[Message, ...]
    model: str = ""
    language: str = ""
    chain: bool = False
    rationale: bool = False
    route: Route | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    logprobs: int | None = None
    prompts: tuple[str | tuple[int, ...], ...] = ()
    specials: bool = True
    choice: int = 0

    @property
    def choices(self) -> int:
        """How many answers there are."""
        return self.n * max(1, len(self.prompts))

    @property
    def prompt(self) -> str | tuple[int, ...]:
        """What the choice goes on with."""
        return self.prompts[self.choice // self.n]

    def of(self, choice: int) -> ChatRequest:
        """Return the request of one of its choices."""
        return self if choice == self.choice else replace(self, choice=choice)


_CONTENT = f"give text, or a list of at most {MAX_PARTS} parts of type text"


class FirstError(FailFast):
    """Has a list end at its first wrong item: a million of them are no million errors."""

    def __hash__(self) -> int:  # unions want it, and pydantic leaves it out
        return hash(self.fail_fast)


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[_Part], FirstError(), Field(max_length=MAX_PARTS)] | None
    tool_calls: Any = None
    function_call: Any = None

    @field_validator("content")
    @classmethod
    def _said(cls, value: Any, info: ValidationInfo) -> Any:
        """Let nobody but the assistant have said nothing, as in conversations that other servers led."""
        if value is None and info.data.get("role") != "assistant":
            raise PydanticCustomError("content", _CONTENT)
        return value

    def plain(self) -> Message:
        content = self.content or ""
        text = content if isinstance(content, str) else "\n".join(part.text for part in content)
        return Message("system" if self.role == "developer" else self.role, text)


class Extension(BaseModel):
    """The field `lingraft`: what the protocol has none for."""

    model_config = ConfigDict(extra="forbid", strict=True)
    chain: bool | None = None
    rationale: bool | None = None
    language: str | None = Field(None, max_length=32)
    route: Route | None = None


class _StreamOptions(BaseModel):
    include_usage: bool | None = None


class Body(BaseModel):
    """What the bodies of all requests have."""

    model_config = ConfigDict(extra="allow", strict=True)
    model: str | None = Field(None, max_length=512)
    n: int | None = Field(None, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | Annotated[list[str], FirstError()] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    lingraft: Extension | None = None


class _Body(Body):
    messages: Annotated[list[_Message], FirstError()] = Field(min_length=1, max_length=2048)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)


def read_question(data: bytes) -> ChatRequest:
    """Return what a body asks.

    Raises:
        ApiError: no JSON object of this form, or it asks for what is not supported.
    """
    body = read_body(_Body, data, NEUTRAL)
    if body.top_logprobs and not body.logprobs:
        raise ApiError(400, "top_logprobs: send logprobs: true as well", param="top_logprobs")
    for number, message in enumerate(body.messages):
        for name in ("tool_calls", "function_call"):
            if getattr(message, name):
                raise ApiError(
                    400,
                    f"messages.{number}.{name} is not supported here; leave it out, or say in words what was called",
                    param=f"messages.{number}.{name}",
                    code="unsupported_parameter",
                )
    if body.messages[-1].role != "user":
        raise ApiError(400, "the last message must be the user's; answers cannot be begun for it", param="messages")
    extension = body.lingraft or Extension()
    return ChatRequest(
        messages=tuple(message.plain() for message in body.messages),
        language=extension.language or "",
        chain=bool(extension.chain),
        rationale=bool(extension.rationale),
        route=extension.route,
        max_tokens=body.max_tokens,
        max_completion_tokens=body.max_completion_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        **common(body),
    )


def common(body: Body) -> dict[str, Any]:
    """Return the fields of a request that the bodies of all have."""
    return {
        "model": body.model or "",
        "temperature": body.temperature,
        "top_p": 1.0 if body.top_p is None else body.top_p,
        "seed": body.seed,
        "stop": _stops(body.stop),
        "stream": bool(body.stream),
        "include_usage": bool(body.stream_options and body.stream_options.include_usage),
        "n": body.n or 1,
    }


AnyBody = TypeVar("AnyBody", bound=Body)


def read_body(kind: type[AnyBody], data: bytes, neutral: Mapping[str, tuple[Any, ...]]) -> AnyBody:
    """Return a body in its form.

    Args:
        kind: the form.
        data: JSON.
        neutral: fields that are refused, unless null or one of these values.

    Raises:
        ApiError: no JSON object of this form, or it asks for what is not supported.
    """
    if members(data) > MAX_MEMBERS:
        raise ApiError(
            400, f"the body: more than {MAX_MEMBERS:,} lists, objects and fields; give the texts of messages as strings"
        )
    try:
        body = kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place, told = ".".join(str(part) for part in first["loc"])[:200], str(first["msg"])  # may be the client's
        if ".content." in place:  # one of the two forms that it may have
            place, told = place[: place.index(".content.")] + ".content", _CONTENT
        elif place.startswith("prompt."):
            place, told = "prompt", f"give text, token ids, or a list of at most {MAX_CHOICES} of either"
        raise ApiError(400, f"{place or 'the body'}: {told}", param=place) from error
    for name, value in (body.model_extra or {}).items():
        if name in neutral and value is not None and value not in neutral[name]:
            usual = next(iter(neutral[name]), None)
            raise ApiError(
                400,
                f"{name} is not supported here{'' if usual is None else f' beyond {usual!r}'}; leave it out",
                param=name,
                code="unsupported_parameter",
            )
    return body


def members(data: bytes) -> int:
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
