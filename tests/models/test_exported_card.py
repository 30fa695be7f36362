"""The lines of a card's program that make a prompt give the ids of training, whatever the chat template is like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lingraft.models.bases import base_license
from lingraft.models.exported_card import asking_lines, method_tags
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


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\nlicense_name: x\n---\n# A", {"license": "mit"}),
        ("---\r\nlicense: llama3.1\r\n---\r\n", {"license": "llama3.1"}),
        (
            "---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\n---\n",
            {"license": "other", "license_name": "own", "license_link": "LICENSE"},
        ),
        ("# A\n---\nlicense: mit\n---\n", {}),
        ("---\nlicense: [mit]\n---\n", {}),
        ("---\nlicense: Do what you want\n---\n", {}),
        ("---\n{{{\n---\n", {}),
        (b"\xff\xfe", {}),
        (None, {}),
    ],
)
def test_the_licence_of_a_base_is_what_its_own_card_says(
    tmp_path: Path, card: str | bytes | None, expected: dict[str, str]
) -> None:
    if card is not None:
        (tmp_path / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    assert base_license("org/base", tmp_path) == expected
    assert base_license("org/base", None) == {}
    assert base_license("smollm2-135m-instruct", tmp_path) == {"license": "apache-2.0"}


@pytest.mark.parametrize(
    ("method", "tags"),
    [("radis", ["radis"]), ("a > b+c > a", ["a", "b", "c"]), ("a & b", ["a", "b"]), ("", []), ("my-own", ["my-own"])],
)
def test_each_method_is_a_tag(method: str, tags: list[str]) -> None:
    assert method_tags(method) == tags
