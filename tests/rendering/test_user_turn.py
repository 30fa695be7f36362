"""Chat templates opened at the user's turn, for a model to write prompts itself."""

from __future__ import annotations

import pytest

from builders import FAMILIES, tiny_tokenizer
from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Message, Request, Sampling
from lingraft.engines.finishing import finished, prompt_of
from lingraft.rendering.renderer import Renderer

ASKED = Message("user", "What is a harbour?")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_stands_before_the_users_text_begins_every_prompt(family: str) -> None:
    renderer = Renderer(tiny_tokenizer(family))
    turn = renderer.user_turn()
    prompt = renderer.prompt_ids([ASKED]).ids
    assert prompt[: len(turn.ids)] == turn.ids
    assert renderer.decode_all(prompt[len(turn.ids) :]).lstrip().startswith(ASKED.content)
    if family != "gemma2":  # which knows no system message
        prompt = renderer.prompt_ids([Message("system", "Be brief."), ASKED]).ids
        turn = renderer.user_turn("Be brief.")
        assert prompt[: len(turn.ids)] == turn.ids
        assert "Be brief." in turn.before


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_ends_where_the_users_turn_ends(family: str) -> None:
    renderer = Renderer(tiny_tokenizer(family))
    turn = renderer.user_turn()
    request = Request("self:0", (), Sampling(500, stop=turn.stop), prompt_ids=turn.ids, ends=turn.ends)
    written = renderer.prompt_ids([ASKED]).ids[len(turn.ids) :]  # with all that opens the answer behind it
    found = finished(renderer, request, prompt_of(renderer, request), written)
    assert isinstance(found, Generation)
    assert (found.text.strip(), found.finish_reason) == (ASKED.content, "stop_string" if turn.stop else "stop")


def test_only_ends_that_end_no_answer_are_named() -> None:
    assert Renderer(tiny_tokenizer("smollm2")).user_turn().ends == ()
    mistral = Renderer(tiny_tokenizer("mistral_v03"))
    assert [mistral.tokenizer.convert_ids_to_tokens(end) for end in mistral.user_turn().ends] == ["[/INST]"]
    assert Renderer(tiny_tokenizer("llama2")).user_turn().stop == ("[/INST]",)


def test_the_templates_own_system_message_stands_there() -> None:
    assert "You are Qwen" in Renderer(tiny_tokenizer("qwen25")).user_turn().before
    assert "You are Qwen" not in Renderer(tiny_tokenizer("qwen25")).user_turn("Be brief.").before


def test_a_template_that_does_not_show_where_a_text_begins_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}<|im_end|>\n{% endfor %}"
    with pytest.raises(UsageError, match="does not show where a user's text begins"):
        Renderer(tokenizer).user_turn()


def test_a_template_without_system_messages_refuses_one() -> None:
    with pytest.raises(UsageError, match="System role not supported"):
        Renderer(tiny_tokenizer("gemma2")).user_turn("Be brief.")
