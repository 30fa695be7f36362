"""Parameters of the `openai` engine."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lingraft.core.validation import Needs
from lingraft.engines.address import DEFAULT_URL, OPEN_LINE, check_key_name, checked_address, may_have_key
from lingraft.engines.base import EngineParams
from lingraft.engines.openai_servers import ServerRequest
from lingraft.engines.served_grafts import ANY


class OpenAIParams(EngineParams):
    """Parameters of the openai engine."""

    needs: ClassVar[Needs] = {
        "prompt": ("`api: completions`", lambda own: own.api == "completions"),
        "chat_prefill": ("`api: chat`", lambda own: own.api == "chat"),
        "load_grafts": ("grafts without a name, and `'*'` has one for all", lambda own: ANY not in own.grafts),
    }
    base_url: str | None = Field(
        None, description=f"address, mostly ending in /v1; default: $OPENAI_BASE_URL, else {DEFAULT_URL}"
    )
    model: str | None = Field(None, description="the server's name of the model; default: the only one it lists")
    server: Literal["auto", "vllm", "llama.cpp", "other"] = Field(
        "auto", description="which additions to the protocol it knows; auto: by its list of models"
    )
    api: Literal["completions", "chat"] = Field(
        "completions", description="completions: prompts are rendered here, as in training; chat: by the server"
    )
    prompt: Literal["auto", "tokens", "text"] = Field(
        "auto", description="form of prompts with api completions; auto: token ids where the server is known"
    )
    chat_prefill: Literal["auto", "continue", "assistant_message", "refuse"] = Field(
        "auto",
        description="how api chat opens an answer; continue: vLLM's continue_final_message; assistant_message: a "
        "last message that the server is known to continue; auto: as the server can, else refuse",
    )
    concurrency: int = Field(32, ge=1, le=4096, description="requests under way at once")
    timeout: float = Field(600.0, gt=0, description="seconds for one attempt, waiting at the server included")
    attempts: int = Field(10, ge=1, le=1000, description="attempts for each request")
    backoff: float = Field(0.5, gt=0, description="seconds before the second attempt, doubled for each further one")
    longest_wait: float = Field(60.0, ge=0, description="bound of a wait, also where the server asks for more")
    key_env: str | None = Field(
        None,
        description="name of the environment variable with the key, ending in KEY or TOKEN; default: "
        "OPENAI_API_KEY; keys are sent only over https or to this machine",
    )
    limit_field: Literal["max_tokens", "max_completion_tokens"] = Field(
        "max_tokens", description="the server's name for the limit of new tokens"
    )
    withheld: Literal["error", "empty"] = Field(
        "error", description="an answer that the server's content filter withholds: an error, or taken as empty"
    )
    extra_body: dict[str, Any] = Field(default_factory=dict, description="further fields of every request")
    price_prompt: float = Field(0.0, ge=0, description="price of a million prompt tokens")
    price_completion: float = Field(0.0, ge=0, description="price of a million new tokens")
    budget: float | None = Field(None, ge=0, description="most that one run of the command may cost, by the prices")
    grafts: dict[str, str] = Field(
        default_factory=dict, description="folder of a graft: the server's name of it; * is any, one in a run"
    )
    load_grafts: bool = Field(
        False, description="let a vLLM server, which must see the same files, load grafts as they are needed"
    )

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        return None if value is None else checked_address(value)

    @field_validator("key_env")
    @classmethod
    def _names_a_key(cls, value: str | None) -> str | None:
        return None if value is None else check_key_name(value)

    @field_validator("extra_body")
    @classmethod
    def _no_clash(cls, value: dict[str, Any]) -> dict[str, Any]:
        clash = sorted(set(value) & ServerRequest.FIELDS)
        if clash:
            raise ValueError(f"{clash[0]!r} is set by the engine itself, from the request and its own parameters")
        return value

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.budget is not None and not (self.price_prompt or self.price_completion):
            raise ValueError("a budget needs price_prompt or price_completion")
        return self

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.key_env and self.base_url and not may_have_key(self.base_url):
            raise ValueError(OPEN_LINE.format(name=self.key_env, root=self.base_url))
        return self
