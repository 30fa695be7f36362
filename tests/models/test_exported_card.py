"""The lines of a card's program that make a prompt give the ids of training, whatever the chat template is like."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.models.exported_card import asking_lines
from template_support import HI, renderer_of, turns

OFF = "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
FINAL = "<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("template", "special"),
    [
        (turns(), ()),
        (turns(opened=OFF), ()),
        (turns(opened="<think>\n\n</think>\n\n"), ()),
        (turns(assistant=FINAL + "{{ m.content }}"), ("<|channel|>", "<|message|>")),
        (turns(user="{{ m.content[0].text }}"), ()),
    ],
    ids=["plain", "switched off", "closed block", "opened by the history", "parts"],
)
def test_a_program_asks_with_the_ids_of_training(template: str, special: tuple[str, ...]) -> None:
    render = renderer_of(template, special)
    names: dict[str, Any] = {
        "tokenizer": render.tokenizer,
        "messages": [render.template.given(message) for message in HI],
    }
    exec(asking_lines(render.template.variables, render.opening), names)
    assert tuple(names["inputs"]["input_ids"][0].tolist()) == render.prompt_ids(HI).ids
