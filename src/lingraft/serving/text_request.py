"""Bodies of `POST /v1/completions`: text, or token ids, that the model goes on with as they are."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from lingraft.serving.request import (
    MAX_CHOICES,
    NEUTRAL,
    ApiError,
    Body,
    ChatRequest,
    Extension,
    FirstError,
    common,
    read_body,
)

USUAL_TOKENS = 16
"""Written where the client names no number, as the protocol has it."""

TEXT_NEUTRAL: dict[str, tuple[Any, ...]] = {**NEUTRAL, "echo": (False,), "suffix": ("",), "messages": ()}

_Id = Annotated[int, Field(ge=0, lt=2**31)]


class _Body(Body):
    prompt: (
        str
        | Annotated[list[str], FirstError(), Field(min_length=1)]
        | Annotated[list[_Id], FirstError(), Field(min_length=1)]
        | Annotated[list[Annotated[list[_Id], FirstError(), Field(min_length=1)]], FirstError(), Field(min_length=1)]
    )
    logprobs: int | None = Field(None, ge=0, le=20)
    add_special_tokens: bool | None = None


def read_prompts(data: bytes) -> ChatRequest:
    """Return what a body asks.

    Raises:
        ApiError: no JSON object of this form, or it asks for what is not supported.
    """
    body = read_body(_Body, data, TEXT_NEUTRAL)
    given = body.prompt
    if isinstance(given, str):
        prompts: list[Any] = [given]
    elif isinstance(given[0], int):
        prompts = [tuple(given)]
    else:
        prompts = [one if isinstance(one, str) else tuple(one) for one in given if not isinstance(one, int)]
    n = body.n or 1
    if n * len(prompts) > MAX_CHOICES:
        message = f"{len(prompts)} prompts with n {n} are more than {MAX_CHOICES} texts; send them one after the other"
        raise ApiError(400, message, param="prompt")
    extension = body.lingraft or Extension()
    if extension.chain or extension.language:
        raise ApiError(400, "lingraft: chain and language are for conversations; leave them out", param="lingraft")
    return ChatRequest(
        messages=(),
        prompts=tuple(prompts),
        route=extension.route,
        max_tokens=body.max_tokens or USUAL_TOKENS,
        logprobs=body.logprobs,
        specials=body.add_special_tokens is not False,
        **common(body),
    )
