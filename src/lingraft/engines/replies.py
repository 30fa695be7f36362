"""What OpenAI-compatible servers answer: checked against what was asked, whichever server's additions it carries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from pydantic import BaseModel, FiniteFloat, NonNegativeInt, ValidationError

from lingraft.engines.answers import TopLogprobs
from lingraft.engines.wire import Garbled

_ENDS = {
    "stop": "stop",
    "length": "length",
    "eos_token": "stop",  # TGI
    "stop_sequence": "stop_string",
    "content_filter": "content_filter",
}


@dataclass(frozen=True)
class Reply:
    """One answer, in terms that all servers share.

    Attributes:
        text: without the stop string. reason: "stop", "stop_string", "length" or "content_filter"; "stop" may stand for
            a stop string where `stop_told` is False.
        tokens, logprobs: as the server wrote them, the end-of-turn token included, or None.
        prompt_tokens, completion_tokens: as the server counted them, or None.
    """

    text: str
    reason: str
    stop_told: bool
    tokens: tuple[int, ...] | None
    logprobs: tuple[TopLogprobs, ...] | None
    prompt_tokens: int | None
    completion_tokens: int | None


class _Best(BaseModel):
    token: str = ""
    id: NonNegativeInt | None = None  # llama.cpp
    logprob: FiniteFloat

    @property
    def number(self) -> int:
        return self.id if self.id is not None else _token_id(self.token)


class _Position(_Best):
    top_logprobs: list[_Best] = []


class _Logprobs(BaseModel):
    """Of chat (and of llama.cpp): `content`; of completions: `tokens` with `top_logprobs`."""

    content: list[_Position] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, FiniteFloat] | None] | None = None


class _Message(BaseModel):
    content: str | None = None
    role: Literal["assistant"] | None = None


class _Choice(BaseModel):
    index: int = 0
    finish_reason: str
    text: str | None = None
    message: _Message | None = None
    logprobs: _Logprobs | None = None
    stop_reason: int | str | None = None  # vLLM
    token_ids: list[NonNegativeInt] | None = None  # vLLM


class _Usage(BaseModel):
    prompt_tokens: NonNegativeInt | None = None
    completion_tokens: NonNegativeInt | None = None


class _Body(BaseModel):
    id: str | None = None
    choices: list[_Choice]
    usage: _Usage | None = None


class Listed(BaseModel):
    """A model in the server's list. `parent`: of a LoRA adapter (vLLM)."""

    id: str
    owned_by: str | None = None
    parent: str | None = None


class Models(BaseModel):
    """Answer to `/models`."""

    data: list[Listed]


class Tokenized(BaseModel):
    """Answer to `/tokenize` (vLLM and llama.cpp)."""

    tokens: list[NonNegativeInt]


B = TypeVar("B", bound=BaseModel)


def parsed(schema: type[B], data: bytes) -> B:
    """Return an answer's body as a model.

    Raises:
        Garbled: no JSON, or not of this form.
    """
    try:
        return schema.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        shown = data[:60].decode("utf-8", "replace")
        raise Garbled("malformed", f"{first['msg']}{f' at {where}' if where else ''} in {shown!r}") from error


def read_reply(
    data: bytes,
    *,
    chat: bool,
    mark: str,
    max_tokens: int,
    top_logprobs: int,
    vocabulary: int,
) -> Reply:
    """Return the answer to one request.

    Args:
        chat: the form of answer that was asked for.
        mark: that the answer's id must hold; "" if the server does not repeat it.
        max_tokens: asked for. top_logprobs: as asked for; 0 for none.
        vocabulary: number of token ids.

    Raises:
        Garbled: malformed, incomplete, or the answer to something else.
    """
    body = parsed(_Body, data)
    if mark and mark not in (body.id or ""):
        raise Garbled("mismatched", f"an answer with id {body.id!r} instead of {mark!r}")
    if len(body.choices) != 1:
        raise Garbled("malformed", f"{len(body.choices)} choices instead of 1")
    choice = body.choices[0]
    if choice.index != 0:
        raise Garbled("mismatched", f"a choice of index {choice.index} instead of 0")
    text = (choice.message.content or "" if choice.message else None) if chat else choice.text
    if text is None:
        raise Garbled("malformed", f"a choice without {'message' if chat else 'text'}")
    if choice.finish_reason not in _ENDS:
        raise Garbled("malformed", f"an answer that ends with {choice.finish_reason!r}")
    reason = _ENDS[choice.finish_reason]
    if reason == "stop" and isinstance(choice.stop_reason, str):
        reason = "stop_string"
    tokens, logprobs = _tokens(choice), None
    if tokens is not None:
        if len(tokens) > max_tokens:
            raise Garbled("malformed", f"{len(tokens)} tokens, more than the {max_tokens} asked for")
        if any(token >= vocabulary for token in tokens):
            raise Garbled("malformed", f"token id {max(tokens)}, outside the vocabulary of {vocabulary}")
    if top_logprobs:
        logprobs = _top(choice.logprobs, top_logprobs)
        if tokens is None or logprobs is None or len(tokens) != len(logprobs):
            raise Garbled("malformed", "no log-probabilities for each token")
    usage = body.usage or _Usage()
    # vLLM says why it stopped whenever it returns token ids; None is the model's own end.
    told = choice.token_ids is not None or choice.finish_reason in ("eos_token", "stop_sequence")
    return Reply(text, reason, told, tokens, logprobs, usage.prompt_tokens, usage.completion_tokens)


def _tokens(choice: _Choice) -> tuple[int, ...] | None:
    if choice.token_ids is not None:
        return tuple(choice.token_ids)
    content = choice.logprobs.content if choice.logprobs is not None else None
    if content is None or any(position.id is None for position in content):
        return None
    return tuple(position.number for position in content)


def _top(found: _Logprobs | None, k: int) -> tuple[TopLogprobs, ...] | None:
    """Return the `k` best of each position; servers add the token written where it is not among them."""
    if found is None:
        return None
    rows: list[dict[int, float]]
    if found.content is not None:
        rows = [{best.number: best.logprob for best in position.top_logprobs} for position in found.content]
    elif found.top_logprobs is not None:
        rows = [{_token_id(token): value for token, value in (row or {}).items()} for row in found.top_logprobs]
    else:
        return None
    if any(len(row) < k for row in rows):
        return None
    return tuple(
        tuple((token, round(value, 4)) for token, value in sorted(row.items(), key=lambda item: -item[1])[:k])
        for row in rows
    )


def _token_id(token: str) -> int:
    """Return the id in vLLM's spelling `token_id:12`."""
    name, _, number = token.partition(":")
    if name != "token_id" or not number.isdecimal():
        raise Garbled("malformed", f"log-probabilities of {token[:20]!r} instead of token ids")
    return int(number)
