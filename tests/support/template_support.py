"""Tiny chat templates of every kind that is told apart, and renderers of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedTokenizerFast

from builders import tiny_tokenizer
from lingraft.data.records import Message
from lingraft.rendering.renderer import Renderer

HI = (Message("user", "Good day to you"),)
OPENED_BY_THE_NEXT = (
    "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
"""No token ends a turn: the next one's opening does, as in GLM-4."""


def turns(assistant: str = "{{ m.content }}", user: str = "{{ m.content }}", opened: str = "", before: str = "") -> str:
    """Return a template: each turn begins with `<|im_start|>` and the role, and ends with `<|im_end|>`.

    Args:
        assistant, user: how their contents are written; the system's as the user's.
        opened: what the generation prompt has behind the role. before: what stands before all turns.
    """
    return (
        before + "{% for m in messages %}<|im_start|>{{ m.role + '\\n' }}{% if m.role == 'assistant' %}"
        f"{assistant}{{% else %}}{user}{{% endif %}}<|im_end|>{{{{ '\\n' }}}}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}<|im_start|>assistant{{{{ '\\n' }}}}{opened}{{% endif %}}"
    )


def tokenizer_of(template: str, special: Sequence[str] = (), style: str = "llama3") -> PreTrainedTokenizerFast:
    """Return a tokenizer with a template and further control tokens."""
    found = tiny_tokenizer("qwen25", style)
    if special:
        found.add_special_tokens({"additional_special_tokens": list(special)})
    found.chat_template = template
    return found


def renderer_of(template: str, special: Sequence[str] = (), **settings: Any) -> Renderer:
    """Return the renderer of a template."""
    return Renderer(tokenizer_of(template, special), **settings)


def prompt_of(renderer: Renderer, messages: Sequence[Message] = HI) -> str:
    """Return a prompt as text, with its control tokens."""
    return renderer.decode_all(renderer.prompt_ids(messages).ids)


def library_prompt(renderer: Renderer, messages: Sequence[Message] = HI, **variables: Any) -> str:
    """Return what transformers makes of a conversation with its generation prompt."""
    return str(
        renderer.tokenizer.apply_chat_template(
            [message.to_dict() for message in messages], tokenize=False, add_generation_prompt=True, **variables
        )
    )
