"""What OpenAI-compatible servers answer: checked against what was asked, whichever server's additions it carries."""

from __future__ import annotations

from dataclasses import dataclass

from lingraft.data.records import Request
from lingraft.engines.bodies import Body, CompletionChoice, Logprobs, Usage, parsed, refuse_error, token_id
from lingraft.engines.exchange_faults import Garbled
from lingraft.engines.finishing import TopLogprobs
from lingraft.engines.openai_http import MARK
from lingraft.language.characters import is_blank
from lingraft.language.thinking import block

ENDS = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",  # TGI
    "end_turn": "stop",  # gateways to Anthropic
    "complete": "stop",  # Cohere
    "stop_sequence": "stop_string",
    "length": "length",
    "max_tokens": "length",
    "max_length": "length",
    "model_length": "length",  # Mistral: where the model's context ends
    "content_filter": "content_filter",
    "safety": "content_filter",  # gateways to Gemini
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
}
"""What servers write as `finish_reason`, in any case of letters."""

_OWN_ENDS = frozenset({"eos", "eos_token", "end_turn", "stop_sequence"})
"""Ends that tell the model's own end of turn from a stop string."""

_ROLES = frozenset({None, "", "assistant", "model", "ai", "bot"})


@dataclass(frozen=True)
class ServerAnswer:
    """One answer, in terms that all servers share.

    Attributes:
        text: without the stop string.
        reason: "stop", "stop_string", "length", "content_filter" or "tool_calls"; "stop" may stand for a stop string
            where `stop_told` is False.
        tokens: ids as the server wrote them, the end-of-turn token included, or None.
        logprobs: of each of these tokens, or None.
        prompt_tokens: as the server counted them, or None; a count of 0 is none.
        completion_tokens: likewise.
        hidden: of the written tokens, those that are not shown, which some servers do not count against the limit.
        thoughts: that it wrote in a field of their own; None without any.
        refusal: the model's words in a field of that name, in place of an answer.
    """

    text: str
    reason: str
    stop_told: bool
    tokens: tuple[int, ...] | None
    logprobs: tuple[TopLogprobs, ...] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    thoughts: str | None = None
    refusal: str = ""
    hidden: int = 0

    @property
    def withheld(self) -> bool:
        """Whether a filter, or the model's own refusal, stands in place of the answer."""
        return self.reason == "content_filter" or bool(self.refusal)

    def beside(self, text: str, request: Request) -> str:
        """Return the thoughts that the server has put beside a text, as other engines have them before it.

        Args:
            text: that was written after them.
            request: what was asked.
        """
        if self.thoughts is None:
            return ""
        return block(self.thoughts, request.given, ended=not is_blank(text) or self.reason != "length")

    def complaint(self, limit: int, count: int, thought: int, sent: int | None, *, exact: bool) -> str:
        """Return how the answer is spoilt, and the remedy; empty if it is not. Thoughts do not spoil it: they are taken
        off and counted later, whichever engine they come from.

        Args:
            limit: tokens that were allowed.
            count: of the text's tokens, by the local tokenizer.
            thought: of the tokens of the thoughts beside it.
            sent: number of prompt tokens that the server must read; None if it makes the prompt itself.
            exact: whether they went out as ids, which no server counts otherwise; as text, a BOS may be counted or not.
        """
        if self.reason == "content_filter":
            return (
                "says that its content filter withheld the answer; leave this row out, or set engine.withheld to empty"
            )
        if self.refusal:
            return (
                f"gave a refusal in place of an answer ({self.refusal[:80]!r}); leave this row out, or set "
                f"engine.withheld to empty"
            )
        if self.reason == "tool_calls":
            return "called a tool in place of an answer; ask a model without tools, or switch them off in extra_body"
        written = len(self.tokens) if self.tokens is not None else self.completion_tokens
        slack = 0 if self.tokens is not None else max(1, limit // 50)  # some servers count one less than they write
        # As many as allowed, whatever the server says.
        counted = any(limit - slack <= number <= limit + slack for number in (count, count + thought))
        if self.reason == "length" and written is not None and written < limit - slack and not counted:
            return (
                f"ended the answer after {written} of {limit} tokens; raise its context length or lower the limit of "
                f"new tokens"
            )
        shown = None if written is None else written - self.hidden
        if shown is not None and min(shown, count or shown) > limit + slack:
            return (
                f"wrote {written} tokens, more than the {limit} asked for; it does not know engine.limit_field, set it "
                f"to the server's name for the limit"
            )
        read = self.prompt_tokens
        if sent is not None and read is not None and abs(sent - read) > (0 if exact else 1):
            return (
                f"read {read} prompt tokens of the {sent} it was meant to; if it cuts long prompts, raise its context "
                f"length, else it has another tokenizer: use api: chat"
            )
        return ""


def read_reply(
    data: bytes,
    *,
    chat: bool,
    mark: str,
    max_tokens: int,
    top_logprobs: int,
    vocabulary: int,
) -> ServerAnswer:
    """Return the answer to one request.

    Args:
        data: the body of the answer, bytes of JSON.
        chat: the form of answer that was asked for.
        mark: that the answer's id must hold; "" if the server does not repeat it.
        max_tokens: asked for.
        top_logprobs: as asked for; 0 for none.
        vocabulary: number of token ids.

    Raises:
        Garbled: malformed, incomplete, or the answer to something else.
    """
    refuse_error(data)
    body = parsed(Body, data)
    if mark and mark not in (body.id or ""):
        # An id with another request's mark is a mix-up; without any, the server (or a gateway) does not repeat it.
        own = MARK not in (body.id or "")
        remedy = "; if a gateway stands before vLLM, set engine.server to other" if own else ""
        detail = f"an answer with id {body.id!r} instead of {mark!r}{remedy}"
        raise Garbled("mismatched", detail, form="id" if own else "")
    if len(body.choices) != 1:
        raise Garbled("malformed", f"{len(body.choices)} choices instead of 1", form=f"{len(body.choices)} choices")
    choice = body.choices[0]
    if choice.index:
        raise Garbled("mismatched", f"a choice of index {choice.index} instead of 0", form="index")
    message = choice.message if chat else None
    if message is not None and message.role not in _ROLES:
        raise Garbled("malformed", f"a message of the role {message.role!r} instead of 'assistant'", form="role")
    end = (choice.finish_reason or "").strip().lower()
    if end not in ENDS:
        shown = "null" if choice.finish_reason is None else repr(choice.finish_reason)
        detail = f"an answer that ends with finish_reason {shown}"
        raise Garbled("malformed", detail, form=detail)
    usage = body.usage or Usage()
    text = _text(choice, chat)
    reason = ENDS[end]
    refusal = str(message.refusal or "") if message is not None and not text else ""
    thoughts = message.thoughts if message is not None else None
    called = message is not None and bool(message.tool_calls) and not text
    other = thoughts is not None or refusal or called or reason in ("content_filter", "tool_calls")
    nothing = reason == "stop" and usage.completion_tokens == 1  # the end of turn alone
    if text is None and not (other or nothing):
        raise Garbled("malformed", "a message whose content is null", form="content")
    if reason == "stop" and isinstance(choice.stop_reason, str):
        reason = "stop_string"
    tokens, logprobs = _tokens(choice, text or ""), None
    if tokens is not None:
        if len(tokens) > max_tokens:
            raise Garbled("malformed", f"{len(tokens)} tokens, more than the {max_tokens} asked for", form="tokens")
        if any(token >= vocabulary for token in tokens):
            detail = f"token id {max(tokens)}, outside the vocabulary of {vocabulary}"
            raise Garbled("malformed", detail, form="token ids")
    if top_logprobs:
        logprobs = _top(choice.logprobs, top_logprobs)
        if tokens is None or logprobs is None or len(tokens) != len(logprobs):
            raise Garbled("malformed", "no log-probabilities for each token", form="logprobs")
    # vLLM says why it stopped whenever it returns token ids; None is the model's own end.
    told = choice.token_ids is not None or end in _OWN_ENDS
    return ServerAnswer(
        text or "",
        "tool_calls" if called else reason,
        told,
        tokens,
        logprobs,
        usage.prompt_tokens,
        usage.completion_tokens,
        thoughts=thoughts,
        refusal=refusal,
        hidden=(usage.completion_tokens_details.reasoning_tokens or 0) if usage.completion_tokens_details else 0,
    )


def _text(choice: CompletionChoice, chat: bool) -> str | None:
    """Return the answer's text; None where a message has none.

    Raises:
        Garbled: there is not even a message.
    """
    if chat and choice.message is not None:
        return choice.message.text
    if chat or choice.text is None:
        raise Garbled("malformed", f"a choice without {'message' if chat else 'text'}", form="text")
    return choice.text


def _tokens(choice: CompletionChoice, text: str) -> tuple[int, ...] | None:
    if choice.token_ids or (choice.token_ids is not None and not text):
        return tuple(choice.token_ids)
    content = choice.logprobs.content if choice.logprobs is not None else None
    if content is None or any(position.id is None for position in content):
        return None
    return tuple(position.number for position in content)


def _top(found: Logprobs | None, k: int) -> tuple[TopLogprobs, ...] | None:
    """Return the `k` best of each position; servers add the token written where it is not among them."""
    if found is None:
        return None
    rows: list[dict[int, float]]
    if found.content is not None:
        rows = [{best.number: best.logprob for best in position.top_logprobs} for position in found.content]
    elif found.top_logprobs is not None:
        rows = [{token_id(token): value for token, value in (row or {}).items()} for row in found.top_logprobs]
    else:
        return None
    if any(len(row) < k for row in rows):
        return None
    return tuple(
        tuple((token, round(value, 4)) for token, value in sorted(row.items(), key=lambda item: -item[1])[:k])
        for row in rows
    )
