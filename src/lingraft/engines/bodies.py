"""The JSON that OpenAI-compatible servers answer with, as different servers write it."""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, FiniteFloat, NonNegativeInt, ValidationError, model_validator

from lingraft.engines.exchange_faults import Garbled, error_message
from lingraft.engines.openai_http import RETRIED
from lingraft.language.characters import is_blank


def token_id(token: str) -> int:
    """Return the id in vLLM's spelling `token_id:12`.

    Raises:
        Garbled: it has another spelling.
    """
    name, _, number = token.partition(":")
    if name != "token_id" or not number.isdecimal():
        raise Garbled("malformed", "log-probabilities of text instead of token ids", form="logprobs")
    return int(number)


class Best(BaseModel):
    """A token with its log-probability, in nats."""

    token: str = ""
    id: NonNegativeInt | None = None  # llama.cpp
    logprob: FiniteFloat

    @property
    def number(self) -> int:
        """The id of the token."""
        return self.id if self.id is not None else token_id(self.token)


class Position(Best):
    """The token written at a position, and the most probable ones there."""

    top_logprobs: list[Best] = []


class Logprobs(BaseModel):
    """Of chat (and of llama.cpp): `content`; of completions: `tokens` with `top_logprobs`."""

    content: list[Position] | None = None
    tokens: list[str] | None = None
    top_logprobs: list[dict[str, FiniteFloat] | None] | None = None


def _words(value: Any) -> Any:
    """Return a name or a number as text: some servers number what others name."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _counted(value: Any) -> int | None:
    """Return a server's count, None where it does not count: 0 (no prompt is empty), negative, or no whole number."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and value == int(value)
    return int(value) if number else None


_Name = Annotated[str | None, BeforeValidator(_words)]
_Count = Annotated[int | None, BeforeValidator(_counted)]


class ContentPart(BaseModel):
    """A part of a content that is a list: text to be shown, or thoughts."""

    type: str = "text"
    text: str | None = None
    thinking: Any = None  # Mistral

    @property
    def shown(self) -> bool:
        """Whether it belongs to the answer."""
        return self.type in ("text", "output_text")


class CompletionMessage(BaseModel):
    """Thoughts are in `reasoning_content` (vLLM, LM Studio, DeepSeek) or `reasoning` (Ollama, OpenRouter)."""

    content: str | list[ContentPart] | None = None
    role: str | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None

    @property
    def text(self) -> str | None:
        """The answer, None if there is no content."""
        if not isinstance(self.content, list):
            return self.content
        return "".join(part.text or "" for part in self.content if part.shown)

    @property
    def thoughts(self) -> str | None:
        """The thoughts beside the text, None if there are none."""
        parts = [part for part in self.content if not part.shown] if isinstance(self.content, list) else []
        found = [*(_plain([part.text, part.thinking]) for part in parts), *map(_plain, self._fields)]
        return "\n".join(dict.fromkeys(filter(None, found))) if parts or any(found) else None

    @property
    def _fields(self) -> tuple[Any, Any]:
        return self.reasoning_content, self.reasoning


class CompletionChoice(BaseModel):
    """An answer: a message (chat) or a text (completions), and why it ended."""

    index: int | None = 0
    finish_reason: str | None = None
    text: str | None = None
    message: CompletionMessage | None = None
    logprobs: Logprobs | None = None
    stop_reason: int | str | None = None  # vLLM
    token_ids: list[NonNegativeInt] | None = None  # vLLM


class Details(BaseModel):
    """What of the written tokens is not shown: thoughts, or the English of a chain."""

    reasoning_tokens: _Count = None


class Usage(BaseModel):
    """What the server counted, in tokens; None where it did not."""

    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    completion_tokens_details: Annotated[
        Details | None, BeforeValidator(lambda value: value if isinstance(value, dict) else None)
    ] = None


class Body(BaseModel):
    """The body of a reply."""

    id: _Name = None
    choices: list[CompletionChoice]
    usage: Usage | None = None


class Listed(BaseModel):
    """A model in the server's list. vLLM's: `parent` of a LoRA adapter, `max_model_len` in tokens."""

    id: Annotated[str, BeforeValidator(_words)]
    owned_by: _Name = None
    parent: _Name = None
    max_model_len: _Count = None


class Models(BaseModel):
    """Answer to `/models`; some servers answer with the bare list, or with null for an empty one."""

    data: list[Listed] | None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return {"data": value} if isinstance(value, list) else value


class Tokenized(BaseModel):
    """Answer to `/tokenize` (vLLM and llama.cpp)."""

    tokens: list[NonNegativeInt]


B = TypeVar("B", bound=BaseModel)


def _plain(value: Any) -> str:
    """Return the text of thoughts, in whichever form they come: text, parts with text, or lists of these."""
    if isinstance(value, dict):
        value = [value.get(key) for key in ("text", "thinking", "content", "summary")]
    if isinstance(value, list):
        return "\n".join(filter(None, map(_plain, value)))
    return "" if value is None or is_blank(str(value)) else str(value)


def parsed(schema: type[B], data: bytes) -> B:
    """Return an answer's body as a model.

    Raises:
        Garbled: no JSON, or not of this form.
    """
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        return schema.model_validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        shown = data[:60].decode("utf-8", "replace")
        detail = f"{first['msg']}{f' at {where}' if where else ''} in {shown!r}"
        raise Garbled(
            "malformed", detail, form="" if _broken(data) else f"{first['type']} {where} {data[:8]!r}"
        ) from error


def _broken(data: bytes) -> bool:
    """Whether it is JSON that breaks off, or noise, which may be whole the next time; text of another kind is not."""
    if data.lstrip()[:1] not in (b"{", b"[", b"\x1f"):
        return False
    try:
        json.loads(data)  # it takes half of a surrogate pair, and such an answer is whole
    except (ValueError, RecursionError):
        return True
    return False


def refuse_error(data: bytes) -> None:
    """Raise Garbled if an error stands in place of an answer, though the status says that all is well."""
    try:
        found = json.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict) and found.get("error") and not found.get("choices"):
        said, code = error_message(data)
        passing = code.isdecimal() and (int(code) in RETRIED or int(code) >= 500)
        raise Garbled("malformed", f"an error in place of an answer: {said}", form="" if passing else "error")
