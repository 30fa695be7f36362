"""Conversations and examples over every pair of chat template and kind of tokenizer, and the library's rendering."""

from __future__ import annotations

from functools import cache

import pytest

from builders import FAMILIES, STYLES, tiny_tokenizer
from lingraft.data.records import Example, Message, Span
from lingraft.rendering.renderer import Renderer

COMBINATIONS = [(family, style) for family in FAMILIES for style in STYLES]
NO_SYSTEM = ("gemma2",)
every_combination = pytest.mark.parametrize(("family", "style"), COMBINATIONS)
every_family = pytest.mark.parametrize("family", FAMILIES)

USER = Message("user", "Translate into English: Das Wetter ist heute schön. 🎉")
SINGLE = (USER,)
TURNS = (
    Message("user", "Guten Tag!\n\nWer bist du?"),
    Message("assistant", "I am an assistant. 今天"),
    Message("user", "แปล: วันนี้อากาศดี"),
)
SYSTEM = (Message("system", "You are a helpful assistant.\nBe brief."), *TURNS)
SPANS = (
    Span("The weather 👍🏽 is nice, 今天天气很好 วันนี้อากาศดี.", "translation"),
    Span("\n\nExplanation:", "separator"),
    Span(" 1. \"schön\" is an adjective 🇩🇪.\n- It's 12 o'clock: été", "rationale", "kl", 0.5),
)


@cache
def renderer(family: str, style: str | None = None) -> Renderer:
    return Renderer(tiny_tokenizer(family, style))


def library(family: str, style: str | None, messages: tuple[Message, ...], **settings: bool) -> str:
    """What transformers makes of a conversation; the date is the default that Meta published for Llama-3."""
    text = renderer(family, style).tokenizer.apply_chat_template(
        [message.to_dict() for message in messages],
        tokenize=False,
        enable_thinking=False,
        date_string="26 Jul 2024",
        **settings,
    )
    return str(text)


def conversations(family: str) -> list[tuple[Message, ...]]:
    return [SINGLE, TURNS] if family in NO_SYSTEM else [SINGLE, TURNS, SYSTEM]


def example(*texts: str, end_turn: bool = True, messages: tuple[Message, ...] = SINGLE) -> Example:
    roles = ("translation", "separator", "rationale")
    return Example("e1", messages, tuple(Span(text, role) for text, role in zip(texts, roles, strict=False)), end_turn)


END_OF_TURN = {
    "llama2": "</s>",
    "llama3": "<|eot_id|>",
    "llama32": "<|eot_id|>",
    "mistral_v02": "</s>",
    "mistral_v03": "</s>",
    "qwen25": "<|im_end|>",
    "qwen3": "<|im_end|>",
    "gemma2": "<end_of_turn>",
    "smollm2": "<|im_end|>",
    "phi3": "<|end|>",
}
