"""How a request is put to each kind of OpenAI-compatible server: their additions to the protocol, and what they lack.

Fields were checked against vLLM 0.32, llama.cpp's `llama-server`, and the protocol's reference for all others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from lingraft.core.errors import EngineError
from lingraft.core.hashing import content_hash, file_hash, seed_of
from lingraft.core.strangers import ANEW, read_object
from lingraft.data.records import Message, Request
from lingraft.engines.bodies import Listed, Models, Tokenized, parsed
from lingraft.engines.exchange_faults import PathUnknown
from lingraft.engines.finishing import prompt_of
from lingraft.engines.openai_http import Wire
from lingraft.language.characters import is_blank
from lingraft.rendering.renderer import PromptIds, Renderer

_PROBE = "Hello, it's 12:30; schön & naïve, über 1000 Straßen.\n\n\tДа! 今天天气很好。 สวัสดี  🙂"
_ANSWER_BYTES = 16_777_216


@dataclass(frozen=True)
class Dialect:
    """One kind of server.

    Attributes:
        name: as in the engine's parameters.
        takes_ids: prompts may be token ids.
        gives_ids: log-probabilities come with token ids.
        streams_ids: an answer that comes as it is written comes as token ids, log-probabilities with it if wanted.
        repeats_mark: an answer's id holds the `X-Request-Id` that was sent.
        prefill: how a chat answer is opened, as in the engine's parameter `chat_prefill`.
        loads_grafts: LoRA adapters can be loaded while it runs.
        takes_variables: its chat interface passes `chat_template_kwargs` on to the chat template.
        neutral: switches off what the server would add to the request's own sampling, such as a checkpoint's
            `generation_config.json`.
        tokenize: body of `/tokenize` for a text with control tokens, {text} standing for it; None if there is none.
    """

    name: str
    takes_ids: bool = False
    gives_ids: bool = False
    streams_ids: bool = False
    repeats_mark: bool = False
    prefill: str = "refuse"
    loads_grafts: bool = False
    takes_variables: bool = False
    neutral: Mapping[str, Any] = field(default_factory=dict)
    tokenize: Mapping[str, Any] | None = None

    async def compare_tokenizers(self, wire: Wire, renderer: Renderer, model: str) -> None:
        """Raise EngineError if the server reads a prompt with other ids than the renderer; do nothing if it won't say.

        Ids of another tokenizer would be answered without complaint, and mean something else.

        Args:
            wire: exchanges with the server.
            renderer: of the local model.
            model: its name at the server.
        """
        if self.tokenize is None:
            return
        ids = renderer.prompt_ids((Message("user", _PROBE),)).ids
        text = renderer.decode_all(ids)
        local = renderer.tokenizer.encode(text, add_special_tokens=False)
        body = {"model": model, **self.tokenize}
        body = {name: text if value == "{text}" else value for name, value in body.items()}
        address = wire.root.removesuffix("/v1") + "/tokenize"
        try:
            found = await wire.ask("the tokenizer", address, body, _read_tokens, max_bytes=_ANSWER_BYTES)
        except PathUnknown:
            return
        if found != list(local):
            at = next((i for i, (a, b) in enumerate(zip(found, local, strict=False)) if a != b), -1)
            raise EngineError(
                f"the model {model!r} at {wire.root} has another tokenizer than the local model (a prompt of "
                f"{len(local)} tokens differs from token {at if at >= 0 else min(len(found), len(local))} on); serve "
                f"the recipe's model, or set engine.api to chat"
            )

    @asynccontextmanager
    async def loaded(self, wire: Wire, graft: Path, known: list[Listed]) -> AsyncIterator[str]:
        """Let the server load a graft for the time of the block, and give its name there: a hash of its content.

        Args:
            wire: exchanges with the server.
            graft: folder of the adapter, which the server must find under the same path.
            known: what the server lists; a graft among them is neither loaded nor taken away.

        Raises:
            EngineError: the graft lacks a file, or the server does not load it.
            ModelError: the graft is not the one that its `lingraft.json` was written for.
        """
        files = [graft / "adapter_config.json", graft / "adapter_model.safetensors"]
        missing = next((file for file in files if not file.exists()), None)
        if missing is not None:
            raise EngineError(f"the graft {graft} lacks {missing.name}; {ANEW}")
        from lingraft.models.graft_seal import check_seal

        check_seal(graft)
        if read_object(graft / "adapter_config.json").get("peft_type") == "SHIRA":
            raise EngineError(
                f"the graft {graft} changes single numbers of the base, which no server loads beside it; export it "
                f"(`lingraft export --graft {graft} --out FOLDER`) and serve that folder"
            )
        name = f"lingraft-{content_hash([file_hash(file) for file in files])[:16]}"
        if any(card.id == name for card in known):
            yield name  # left there by a run that was killed
            return
        body = {"lora_name": name, "lora_path": str(graft.resolve())}
        what = f"loading the graft {graft}"
        await wire.ask(what, "/load_lora_adapter", body, _read_nothing, max_bytes=_ANSWER_BYTES, attempts=2)
        try:
            yield name
        finally:
            with suppress(EngineError):  # it takes some memory there, but can never be taken for another graft
                path, body = "/unload_lora_adapter", {"lora_name": name}
                await wire.ask("unloading", path, body, _read_nothing, max_bytes=_ANSWER_BYTES, attempts=1)


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect(
            "vllm",
            takes_ids=True,
            gives_ids=True,
            streams_ids=True,
            repeats_mark=True,
            prefill="continue",
            loads_grafts=True,
            takes_variables=True,
            neutral={"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True},
            tokenize={"prompt": "{text}", "add_special_tokens": False},
        ),
        Dialect(
            "llama.cpp",
            takes_ids=True,
            gives_ids=True,
            prefill="assistant_message",
            takes_variables=True,
            neutral={"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "typical_p": 1.0},
            tokenize={"content": "{text}", "add_special": False, "parse_special": True},
        ),
        Dialect("other"),
    )
}

_OWNERS = {"vllm": "vllm", "llamacpp": "llama.cpp"}
"""What servers put into `owned_by` in their list of models."""


@dataclass(frozen=True)
class Server:
    """A server as it answers: its kind, the name of model or graft there, and whether prompts go out as ids."""

    dialect: Dialect
    model: str
    by_ids: bool


async def dialect_of(wire: Wire, server: str, model: str | None) -> tuple[Dialect, str, list[Listed]]:
    """Return the server's kind, the name of the model to ask, and the models it lists.

    Args:
        wire: exchanges with the server.
        server: a key of `DIALECTS`, or "auto".
        model: its name, or None for the only one.

    Raises:
        EngineError: no server answers, or it lists no model or several and none is named.
    """
    listed: list[Listed] = []
    try:
        listed = await wire.ask(
            "the list of models", "/models", None, _read_models, max_bytes=_ANSWER_BYTES, attempts=4
        )
    except PathUnknown:
        if model is None:
            raise
    owners = {card.owned_by for card in listed}
    kind = server if server != "auto" else next((_OWNERS[owner] for owner in owners if owner in _OWNERS), "other")
    if model is None:
        names = [card.id for card in listed if card.parent is None]
        if len(names) != 1:
            shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
            raise EngineError(
                f"the server at {wire.root} lists {len(names)} models{f' ({shown})' if shown else ''}; "
                f"name one as engine.model{'' if names else ', once the server has one'}"
            )
        model = names[0]
    return DIALECTS[kind], model, listed


def _read_models(data: bytes, _: str) -> list[Listed]:
    return parsed(Models, data).data or []


def _read_tokens(data: bytes, _: str) -> list[int]:
    return parsed(Tokenized, data).tokens


def _read_nothing(data: bytes, _: str) -> None:
    return None


@dataclass(frozen=True)
class ServerRequest:
    """A request as it is sent.

    Attributes:
        prompt: ids by the local renderer, which also say what white space to remove from the answer.
        path: of the call.
        body: its fields.
        prompt_tokens: number of tokens by the local renderer.
        sent_tokens: the number that the server must read, None if it renders the prompt itself.
        prefill: that some servers repeat before the answer.
    """

    FIELDS: ClassVar[frozenset[str]] = frozenset(
        {"model", "prompt", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop"}
        | {"n", "best_of", "stream", "echo", "logprobs", "top_logprobs", "stop_token_ids", "return_token_ids"}
        | {"return_tokens_as_token_ids", "add_generation_prompt", "continue_final_message"}
    )

    request: Request
    server: Server
    prompt: PromptIds
    path: str
    body: dict[str, Any]
    sent_tokens: int | None
    prefill: str = ""

    @property
    def prompt_tokens(self) -> int:
        """The number of tokens by the local renderer."""
        return len(self.prompt.ids)

    def without_prefill(self, text: str) -> str:
        """Return the answer's text without the prefill, where the server repeated it."""
        return text.removeprefix(self.prefill)

    @classmethod
    def of(cls, request: Request, server: Server, renderer: Renderer, params: Any) -> ServerRequest:
        """Return the call for a request; `params` are the engine's.

        Raises:
            EngineError: the server cannot answer it exactly as asked.
            UsageError, DataError: see `Renderer.prompt_ids`.
        """
        dialect, sampling = server.dialect, request.sampling
        if request.top_logprobs and not dialect.gives_ids:
            raise EngineError(
                f"request {request.id!r} asks for log-probabilities by token id, which this server does not give; use "
                f"vLLM or llama.cpp (engine.server), or another engine"
            )
        if request.prompt_ids and params.api == "chat":
            raise EngineError(
                f"request {request.id!r} continues plain text, which a chat interface cannot; use engine.api "
                f"completions, another engine, or ask with the chat template (apply_chat_template: true)"
            )
        if params.api == "chat" and (request.turn or not request.messages):
            raise EngineError(
                f"request {request.id!r} goes on from markers or from plain text, which a chat interface cannot; use "
                f"engine.api completions, or another engine"
            )
        if params.api == "chat" and not dialect.gives_ids and not request.prefill:
            # The server renders, perhaps for another model with other roles: here it is counted for the price only.
            prompt = PromptIds(tuple(renderer.plain_ids("\n".join(message.content for message in request.messages))))
        else:
            prompt = prompt_of(renderer, request)
        body: dict[str, Any] = {
            "model": server.model,
            params.limit_field: sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p if sampling.temperature > 0 else 1.0,
            "stream": False,
            **dialect.neutral,
        }
        if dialect.name == "vllm":
            body["stop_token_ids"] = [*renderer.end_ids, *request.ends]
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.temperature > 0:
            body["seed"] = seed_of([sampling.seed, request.id], digits=7)  # 28 bits: fits any server
        body.update(_logprobs(request, dialect, params.api))
        sent, prefill = None, ""
        if params.api == "chat":
            path = "/chat/completions"
            opened, prefill = _messages(request, prompt, dialect, params.chat_prefill)
            body.update(opened)
            if dialect.takes_variables and renderer.template.variables:
                body["chat_template_kwargs"] = dict(renderer.template.variables)
        else:
            path, sent = "/completions", len(prompt.ids)
            body["prompt"] = list(prompt.ids) if server.by_ids else _text(request, prompt, renderer)
        return cls(request, server, prompt, path, {**body, **params.extra_body}, sent, prefill)


def _logprobs(request: Request, dialect: Dialect, api: str) -> dict[str, Any]:
    k = request.top_logprobs
    if not k and dialect.name != "llama.cpp":  # which tells token ids with log-probabilities only
        return {}
    k = max(k, 1)
    as_ids = {"return_tokens_as_token_ids": True} if dialect.name == "vllm" else {}
    if api == "completions":
        return {"logprobs": k, **as_ids}
    # vLLM puts the token written first, in place of the last of the k best if it is not among them.
    return {"logprobs": True, "top_logprobs": k + (request.sampling.temperature > 0), **as_ids}


def _messages(request: Request, prompt: PromptIds, dialect: Dialect, way: str) -> tuple[dict[str, Any], str]:
    """Return the fields of a chat request, and the prefill as it was sent, if the server may repeat it."""
    messages = [message.to_dict() for message in request.messages]
    prefill = "" if is_blank(request.prefill) else request.prefill.lstrip().removesuffix(prompt.dropped)
    if not prefill:
        return {"messages": messages}, ""
    way = dialect.prefill if way == "auto" else way
    if way == "refuse":
        raise EngineError(
            f"request {request.id!r} continues a given beginning, which this server's chat interface is not known to "
            f"do; use engine.api completions, or set engine.chat_prefill to assistant_message if you know that it does"
        )
    messages.append(Message("assistant", prefill).to_dict())
    if way == "continue":
        return {"messages": messages, "add_generation_prompt": False, "continue_final_message": True}, ""
    return {"messages": messages}, prefill


def text_of(ids: Sequence[int], renderer: Renderer) -> str | None:
    """Return the text whose usual tokenisation are some ids, None if there is none; a server may put the BOS token in
    itself."""
    tokenizer = renderer.tokenizer
    text = renderer.decode_all(ids)
    bos = tokenizer.bos_token
    for variant in (text, text.removeprefix(bos)) if isinstance(bos, str) else (text,):
        if tuple(tokenizer.encode(variant)) == tuple(ids):
            return variant
    return None


def _text(request: Request, prompt: PromptIds, renderer: Renderer) -> str:
    """Return a prompt as a text, see `text_of`."""
    if (text := text_of(prompt.ids, renderer)) is not None:
        return text
    raise EngineError(
        f"request {request.id!r}: its prompt cannot be sent as text, because the text would be read as other tokens; "
        f"use a server that takes token ids (engine.prompt: tokens) or engine.api chat"
    )
