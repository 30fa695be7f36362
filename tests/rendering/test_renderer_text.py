"""Rendered ids read back: decoding, counting and the preview."""

from __future__ import annotations

import pytest

from builders import tiny_llama, tiny_tokenizer
from conversations import END_OF_TURN, SINGLE, SPANS, every_combination, example, library, renderer
from lingraft.data.records import Example, Message
from lingraft.rendering.preview import preview


@every_combination
def test_decode_keeps_spaces(family: str, style: str) -> None:
    render = renderer(family, style)
    for text in ("The house", "  two  spaces ", "\n\n- 今天 🎉", "a\tb"):
        ids = render.tokenizer.backend_tokenizer.encode("x" + text, add_special_tokens=False).ids
        whole = render.decode([*ids, render.end_of_turn_id])
        assert whole.removeprefix(" ") == "x" + text
    rendered = render.render(example("The house is old."))
    turn = render.decode(rendered.input_ids[rendered.prompt_length :])
    prompt = render.prompt_ids(SINGLE)
    assert turn.removeprefix(prompt.dropped).strip(" ") == "The house is old."
    head, tail = rendered.input_ids[: rendered.prompt_length + 2], rendered.input_ids[rendered.prompt_length + 2 :]
    assert render.decode(head[rendered.prompt_length :]) + render.decode(tail) == turn


@every_combination
def test_count_is_the_number_of_tokens_of_plain_text(family: str, style: str) -> None:
    render = renderer(family, style)
    for text in ("", "The house is old.", "今天 👍🏽"):
        assert render.count(text) == len(render.tokenizer(text, add_special_tokens=False).input_ids)


@every_combination
def test_preview_shows_the_whole_example(family: str, style: str) -> None:
    render = renderer(family, style)
    rendered = render.render(Example("e", SINGLE, SPANS))
    shown = preview(render, rendered)
    answer = "".join(span.text for span in SPANS)
    text = library(family, style, (*SINGLE, Message("assistant", answer)))
    end = text.index(answer) + len(answer)
    end = text.index(END_OF_TURN[family], end) + len(END_OF_TURN[family])
    squeeze = str.maketrans("", "", " \n")  # SentencePiece has a space of its own after each control token
    assert shown.plain.translate(squeeze) == text[:end].translate(squeeze)
    styles: dict[str, str] = {}
    for part in shown.spans:  # the end of the turn is a part of its own, with its own weight
        styles[str(part.style)] = styles.get(str(part.style), "") + shown.plain[part.start : part.end]
    translation, separator, rationale = (styles[colour] for colour in ("bold green", "bold magenta", "cyan"))
    assert (translation + separator + rationale).strip().startswith(answer)
    assert translation.strip() == SPANS[0].text
    assert separator.strip() == SPANS[1].text.strip()  # Llama-3 has the newlines in the token of the full stop
    assert "[bold]" in preview(render, render.render(example("[bold]x"))).plain


def test_preview_shows_terminal_commands_as_symbols() -> None:
    render = renderer("smollm2")
    shown = preview(render, render.render(example("a\x1b[2Jb\x07\x7f\tc"))).plain
    assert "a␛[2Jb␇␡\tc" in shown


@pytest.mark.parametrize("family", ["llama2", "smollm2"])
def test_tiny_models_know_all_tokens_and_are_reproducible(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    first, second, other = tiny_llama(tokenizer), tiny_llama(tokenizer), tiny_llama(tokenizer, seed=1)
    assert first.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert first.get_input_embeddings().weight.equal(second.get_input_embeddings().weight)
    assert not first.get_input_embeddings().weight.equal(other.get_input_embeddings().weight)
