"""How a chat template opens an answer and ends it, found out by probing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lingraft.core.errors import ModelError
from lingraft.language import thinking
from lingraft.rendering.encoder import Encoder
from lingraft.rendering.template import MARK, ChatTemplate, marked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BLANKS_AT_END = re.compile(r"[^\S\r\n]*\Z")


@dataclass(frozen=True)
class AnswerForm:
    """What stands around an answer.

    Attributes:
        opening: stands behind the generation prompt and belongs to the prompt, such as an empty block of thoughts.
        lead: white space that goes with the answer's first token (Llama-2).
        blanks: so many characters of it stand at the end of the prompt.
        end: what ends an answer; its last token is the end of the turn.
    """

    opening: str
    lead: str
    blanks: int
    end: str

    def prompt(self, rendered: str) -> str:
        """Return the prompt of what the template renders with its generation prompt."""
        return (rendered + self.opening)[: len(rendered) + len(self.opening) - self.blanks]


def answer_form(
    template: ChatTemplate,
    tokenizer: PreTrainedTokenizerBase,
    encoder: Encoder,
    ends: Sequence[int],
    *,
    strict: bool,
) -> AnswerForm:
    """Return how answers are opened and ended.

    Args:
        template: of the model.
        tokenizer: of the model.
        encoder: of the same tokenizer.
        ends: ids that end a text by the model's own files, see `lingraft.rendering.ends`.
        strict: refuse a generation prompt that opens a block of thoughts, also where answers are rendered behind the
            end of that block: servers, which render the prompt alone, would leave it open.

    Raises:
        ModelError: the generation prompt opens a block of thoughts, or does not begin the rendering of an answer; or
            nothing is known to end a turn.
    """
    user, mark = (MARK.format(number) for number in range(2))
    opened = template.apply(marked(["user"]), add_generation_prompt=True)
    whole = template.apply(marked(["user", "assistant"]), add_generation_prompt=False)
    before, _, after = whole.partition(mark)
    opening = _between(opened, before, user)
    tail = opened.rpartition(user)[2]
    if thinking.ends_open(tail if strict or opening is None else tail + opening):
        raise ModelError(
            f"the generation prompt of the chat template of {template.name} opens a block of thoughts (it ends with "
            f"{tail[-40:]!r}), so that answers would be learnt as thoughts; use the model's variant without thinking, "
            f"or a chat template that closes the block, or set the variable that does so under `template:` of the "
            f"recipe"
        )
    if opening is None or thinking.ends_open(tail + opening):
        raise ModelError(
            f"the chat template of {template.name} renders an answer differently from its generation prompt, so that a "
            f"prompt cannot be continued; use a template whose generation prompt opens the assistant turn"
        )
    opening, lead = (opening, "") if opening.strip() else ("", opening)
    blanks = 0
    if encoder.spaced:  # its own space before the answer would be a second one
        found = _BLANKS_AT_END.search(opened + opening)
        blanks = len(found.group()) if found else 0
        lead = (opened + opening)[len(opened + opening) - blanks :] + lead
    return AnswerForm(opening, lead, blanks, _end(template, tokenizer, encoder, after, ends))


def _between(opened: str, before: str, user: str) -> str | None:
    """Return what stands between a generation prompt and the answer, None where the prompt is not to be continued.

    Args:
        opened: a prompt.
        before: what stands before the answer where both are rendered together.
        user: the mark of the user's message.
    """
    if before.startswith(opened):
        return before[len(opened) :]
    if not thinking.ends_closed(opened):
        return None
    # A closed block of thoughts, which is left out (or written otherwise) where the answer is part of the history: the
    # answer goes on from the generation prompt, as the model is asked; what else opens an answer there stays (Command).
    asked, answered = (thinking.without_blocks(text.rpartition(user)[2]) for text in (opened, before))
    return answered[len(asked.rstrip()) :].lstrip() if answered.startswith(asked.rstrip()) else ""


def _end(
    template: ChatTemplate, tokenizer: PreTrainedTokenizerBase, encoder: Encoder, after: str, ends: Sequence[int]
) -> str:
    """Return what ends an answer: up to the template's first control token behind it; where there is none, the opening
    of the next turn if the model itself ends there (GLM-4), else its end of text.

    Args:
        template: of the model.
        tokenizer: of the model.
        encoder: of the same tokenizer; tells what its control tokens are.
        after: what the template puts behind an answer.
        ends: ids that end a text by the model's own files.
    """
    found = encoder.control.search(after)
    if found is not None:
        return after[: found.end()]
    known = [str(token) for token in tokenizer.convert_ids_to_tokens(list(ends)) if token is not None]
    rendered = template.tried("user", "assistant", "user")
    if isinstance(rendered, str):
        following = rendered.partition(MARK.format(1))[2].partition(MARK.format(2))[0]
        for token in encoder.control.finditer(following):
            if token.group() in known:
                return following[: token.end()]
    eos = tokenizer.eos_token
    if isinstance(eos, str) and (not known or eos in known):
        return eos
    if known:
        return known[0]
    raise ModelError(f"neither the chat template of {template.name} nor its tokenizer has an end-of-turn token")
