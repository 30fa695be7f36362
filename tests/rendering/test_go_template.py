"""Chat templates as Ollama writes them: the same prompts as in training, or a refusal that says why."""

from __future__ import annotations

import pytest

from builders import tiny_tokenizer
from go_templates import rendered
from lingraft.core.errors import UsageError
from lingraft.data.records import Message
from lingraft.rendering.go_template import TurnForm, go_string
from lingraft.rendering.renderer import Renderer
from template_support import renderer_of, turns

TALK = [
    Message("user", "Good day {{ to }} you"),
    Message("assistant", 'He said "so".\n\nAnd went'),
    Message("user", "น้ำ 今天 12"),
    Message("assistant", "x"),
    Message("user", "Last one?"),
]
SYSTEM = Message("system", "Be brief.\nAnd kind")


def form_of(renderer: Renderer) -> TurnForm:
    return TurnForm.of(renderer.prompt_text, "the model")


@pytest.mark.parametrize(
    ("family", "style", "system"),
    [
        ("smollm2", None, True),
        ("qwen25", None, True),
        ("llama3", None, True),
        ("llama32", None, True),
        ("phi3", None, True),
        ("llama2", None, True),
        ("gemma2", None, False),
        ("mistral_v02", None, True),
        ("mistral_v03", None, False),
        ("qwen3", None, True),
    ],
)
def test_prompts_are_those_of_the_chat_template(family: str, style: str | None, system: bool) -> None:
    renderer = Renderer(tiny_tokenizer(family, style))
    form = form_of(renderer)
    assert (form.system is not None) is system
    for count in (1, 3, 5):
        for talk in (TALK[:count], [SYSTEM, *TALK[:count]] if system else TALK[:count]):
            assert rendered(form.go(), talk) == form.render(talk) == renderer.prompt_text(talk)


def test_the_templates_own_system_message_is_there_where_none_is_given() -> None:
    renderer = Renderer(tiny_tokenizer("smollm2"))
    form = form_of(renderer)
    assert "You are a helpful AI assistant" in form.start
    assert form.system == ("<|im_start|>system\n", "<|im_end|>\n<|im_start|>user\n")
    assert form.opening == "<|im_end|>\n<|im_start|>assistant\n"


def test_a_program_that_puts_bos_itself_gets_a_form_without() -> None:
    renderer = Renderer(tiny_tokenizer("llama3"))
    form, bos = form_of(renderer), str(renderer.tokenizer.bos_token)
    assert form.start.startswith(bos)
    bare = form.without_start(bos)
    assert bos + bare.render(TALK) == form.render(TALK)
    assert bos + bare.render([SYSTEM, *TALK]) == form.render([SYSTEM, *TALK])
    assert bare.without_start(bos) == bare


@pytest.mark.parametrize(
    "template",
    [
        turns(assistant="{{ m.content if loop.last else m.content[:3] }}"),
        turns(user="{{ m.content | upper }}"),
        turns(before="{{ '!' if messages | length > 3 }}"),
    ],
)
def test_what_is_no_row_of_fixed_texts_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match=r"chat template of the model cannot be written for Ollama: .*without --gguf"):
        form_of(renderer_of(template))


def test_a_system_message_in_a_place_of_its_own_is_left_out() -> None:
    moved = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}{{ m.content }}"
        "<|im_end|>{% elif m.role == 'assistant' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    form = form_of(renderer_of(moved))
    assert form.system is None
    assert rendered(form.go(), [SYSTEM, *TALK]) == form.render(TALK)


def test_fixed_texts_that_go_or_ollama_would_read_are_written_as_constants() -> None:
    form = TurnForm('a {{ b """', ("\u200b", "{"), 'say "', "\x07\r", "\U0001f600\n")
    assert '"""' not in form.go()
    assert all(one.isprintable() or one == "\n" for one in form.go())
    for talk in (TALK, [SYSTEM, *TALK]):
        assert rendered(form.go(), talk) == form.render(talk)
    assert go_string('é{"\\\n😀') == '"\\u00e9\\u007b\\"\\\\\\n\\U0001f600"'
