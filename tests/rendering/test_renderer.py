"""Rendering, over every pair of chat template and kind of tokenizer; truth: the library's own rendering, and bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from tokenizers import normalizers

from builders import STYLES, tiny_tokenizer, token_bytes
from conversations import (
    END_OF_TURN,
    NO_SYSTEM,
    SINGLE,
    SPANS,
    SYSTEM,
    TURNS,
    conversations,
    every_combination,
    every_family,
    example,
    library,
    renderer,
)
from lingraft.data.records import Example, Message, Span
from lingraft.rendering.renderer import Renderer

PUBLISHED = {
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nA [/INST] B </s><s>[INST] C [/INST]",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nB<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nC<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral_v02": "<s> [INST] S\n\nA [/INST] B</s> [INST] C [/INST]",
    "mistral_v03": "<s>[INST] A[/INST] B</s>[INST] S\n\nC[/INST]",
    "qwen25": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n"
    "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n",
    "smollm2": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nB<|im_end|>\n"
    "<|im_start|>user\nC<|im_end|>\n<|im_start|>assistant\n",
    "gemma2": "<bos><start_of_turn>user\nA<end_of_turn>\n<start_of_turn>model\nB<end_of_turn>\n"
    "<start_of_turn>user\nC<end_of_turn>\n<start_of_turn>model\n",
    "phi3": "<|system|>\nS<|end|>\n<|user|>\nA<|end|>\n<|assistant|>\nB<|end|>\n<|user|>\nC<|end|>\n<|assistant|>\n",
}


@pytest.mark.parametrize("family", PUBLISHED)
def test_template_fixtures_give_the_published_prompt_formats(family: str) -> None:
    turns = (Message("user", "A"), Message("assistant", "B"), Message("user", "C"))
    messages = turns if family in NO_SYSTEM else (Message("system", "S"), *turns)
    assert library(family, None, messages, add_generation_prompt=True) == PUBLISHED[family]


@every_combination
def test_prompt_ids_are_those_of_the_library(family: str, style: str) -> None:
    render = renderer(family, style)
    for messages in conversations(family):
        text = library(family, style, messages, add_generation_prompt=True)
        assert list(render.prompt_ids(messages).ids) == render.tokenizer(text, add_special_tokens=False).input_ids


@every_combination
def test_training_begins_with_the_prompt_ids(family: str, style: str) -> None:
    render = renderer(family, style)
    for messages in conversations(family):
        prompt = render.prompt_ids(messages).ids
        rendered = render.render(Example("e", messages, SPANS))
        assert rendered.input_ids[: len(prompt)] == prompt
        assert rendered.prompt_length == len(prompt)
        assert set(rendered.weights[: len(prompt)]) == {0.0}


@every_combination
def test_whole_example_is_the_library_rendering_up_to_the_end_of_turn(family: str, style: str) -> None:
    render = renderer(family, style)
    answer = "".join(span.text for span in SPANS)
    for messages in conversations(family):
        if family == "mistral_v03" and messages == SYSTEM:
            continue  # that template shows a system message only while the last turn is the user's
        ids = list(render.render(Example("e", messages, SPANS)).input_ids)
        text = library(family, style, (*messages, Message("assistant", answer)))
        truth = render.tokenizer(text, add_special_tokens=False).input_ids
        opened = library(family, style, messages, add_generation_prompt=True)
        prompt = render.tokenizer(opened, add_special_tokens=False).input_ids
        if truth[: len(prompt)] != prompt:
            # GPT-2's split takes two newlines as one token at the end of a text, but not before a word.
            assert (style, opened[-2:]) == ("gpt2", "\n\n")
            truth = prompt + render.tokenizer(text[len(opened) :], add_special_tokens=False).input_ids
        assert truth[: len(ids)] == ids
        assert ids[-1] == render.end_of_turn_id
        # Nothing of the answer is left out; Phi-3 closes a whole conversation with one more token.
        assert render.tokenizer.decode(truth[len(ids) :]).strip() in ("", "<|endoftext|>")


@every_combination
def test_no_second_beginning_of_sequence(family: str, style: str) -> None:
    render = renderer(family, style)
    bos = render.tokenizer.bos_token
    for messages in conversations(family):
        ids = render.render(Example("e", messages, SPANS)).input_ids
        text = library(family, style, messages, add_generation_prompt=True)
        if bos is None:
            assert text.startswith("<|im_start|>")
            continue
        number = render.tokenizer.convert_tokens_to_ids(bos)
        assert ids.count(number) == text.count(bos)
        assert (number, number) not in set(pairwise(ids))


@every_combination
def test_every_token_has_the_span_of_its_first_byte(family: str, style: str) -> None:
    render = renderer(family, style)
    rendered = render.render(Example("e", SINGLE, SPANS))
    tokens = [token_bytes(render.tokenizer, number) for number in rendered.input_ids[rendered.prompt_length :]]
    text = "".join(span.text for span in SPANS)
    written = b"".join(tokens).decode()
    lead = len(written) - len(written.lstrip())
    assert written.strip().startswith(text)
    ends = [sum(len(span.text.encode()) for span in SPANS[: i + 1]) for i in range(len(SPANS))]
    position, truth, split = -lead, [], 0
    for token in tokens:
        # The character that holds the token's first byte, and where that character begins.
        begin = position
        while 0 < begin < ends[-1] and text.encode()[begin] & 0xC0 == 0x80:
            begin -= 1
        split += begin != position
        truth.append(sum(begin >= end for end in ends))
        position += len(token)
    assert list(rendered.span_of[rendered.prompt_length :]) == [min(i, 2) for i in truth]
    weights = [*(span.weight for span in SPANS), 1.0]  # the end of the turn has one of its own
    assert list(rendered.weights[rendered.prompt_length :]) == [weights[i] for i in truth]
    assert split > 5  # the text does break characters into several tokens
    assert rendered.losses == ("ce", "ce", "kl")
    assert rendered.roles == ("translation", "separator", "rationale")


@every_combination
@pytest.mark.parametrize("end_turn", [True, False])
def test_mask_covers_the_answer_and_the_end_of_turn(family: str, style: str, end_turn: bool) -> None:
    render = renderer(family, style)
    rendered = render.render(Example("e", TURNS, SPANS, end_turn))
    supervised = [i for i, weight in zip(rendered.input_ids, rendered.weights, strict=True) if weight > 0]
    assert len(supervised) == rendered.supervised == len(rendered.input_ids) - rendered.prompt_length
    assert render.decode(supervised).strip() == "".join(span.text for span in SPANS)
    assert supervised.count(render.end_of_turn_id) == int(end_turn)
    assert (supervised[-1] == render.end_of_turn_id) == end_turn


@every_family
def test_end_of_turn_is_the_token_of_the_template(family: str) -> None:
    render = renderer(family)
    assert render.tokenizer.convert_ids_to_tokens(render.end_of_turn_id) == END_OF_TURN[family]
    assert set(render.end_ids) == {render.end_of_turn_id, render.tokenizer.eos_token_id}
    assert render.pad_id == render.end_of_turn_id  # none of the fixtures has a token for padding


@every_combination
def test_weight_zero_leaves_text_in_the_context_only(family: str, style: str) -> None:
    render = renderer(family, style)
    whole = render.render(Example("e", SINGLE, SPANS))
    spans = (SPANS[0], Span(SPANS[1].text, "separator", weight=0.0), SPANS[2])
    rendered = render.render(Example("e", SINGLE, spans))
    assert rendered.input_ids == whole.input_ids
    assert [i for i, weight in zip(rendered.span_of, rendered.weights, strict=True) if i >= 0 and not weight] == [
        1 for span in whole.span_of if span == 1
    ]


@every_family
def test_white_space_around_the_turn_is_removed(family: str) -> None:
    render = renderer(family)
    clean = render.render(example("Das Haus.", "\n\nNote:", " It is a noun."))
    padded = render.render(example(" \n Das Haus.", "\n\nNote:", " It is a noun.\n\n "))
    assert padded == clean
    open_end = render.render(example("Das Haus. ", end_turn=False))
    assert render.decode(open_end.input_ids[open_end.prompt_length :]).endswith("Haus. ")  # cut text stays as it is


@every_family
def test_white_space_before_the_turn_may_fill_whole_spans(family: str) -> None:
    render = renderer(family)
    rendered = render.render(example(" \n", " ", "It is a noun."))
    assert set(rendered.span_of[rendered.prompt_length :]) == {2}
    assert rendered.input_ids == render.render(example("It is a noun.")).input_ids


@every_family
def test_empty_rationale_gives_the_end_of_turn_to_the_last_text(family: str) -> None:
    render = renderer(family)
    rendered = render.render(example("Das Haus.", "", " \n"))
    assert rendered.input_ids == render.render(example("Das Haus.")).input_ids
    assert set(rendered.span_of[rendered.prompt_length :]) == {0}
    assert rendered.input_ids[-1] == render.end_of_turn_id
    assert rendered.weights[-1] == 1.0


def test_prompts_do_not_depend_on_the_day() -> None:
    text = renderer("llama32").tokenizer.decode(renderer("llama32").prompt_ids(SINGLE).ids)
    assert "Today Date: 26 Jul 2024\n" in text  # the default that Meta published


def test_a_think_block_of_the_template_belongs_to_the_prompt() -> None:
    text = renderer("qwen3").tokenizer.decode(renderer("qwen3").prompt_ids(SINGLE).ids)
    assert text.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


@pytest.mark.parametrize("style", STYLES)
def test_prompt_survives_a_merge_with_the_answer(style: str) -> None:
    tokenizer = tiny_tokenizer("smollm2", style)
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + 'd(' + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}assistantd({% endif %}"
    )
    render = Renderer(tokenizer)
    prompt = render.prompt_ids(SINGLE).ids
    for answer in ("The house", "(((", "schön", '"a', "2, 3))"):
        rendered = render.render(example(answer))
        assert rendered.input_ids[: len(prompt)] == prompt
        assert set(rendered.span_of[len(prompt) :]) == {0}
        assert render.decode(rendered.input_ids[len(prompt) :]).strip() == answer
        prefilled = render.prompt_ids(SINGLE, answer).ids
        assert prefilled == rendered.input_ids[: len(prefilled)]
        assert len(prefilled) == len(rendered.input_ids) - 1


def test_composed_and_decomposed_text_keep_their_spans() -> None:
    render = renderer("qwen25")  # normalises to NFC
    assert isinstance(render.tokenizer.backend_tokenizer.normalizer, normalizers.NFC)
    composed, decomposed = example("\u00e9t\u00e9", " x\u00e9"), example("e\u0301te\u0301", " xe\u0301")
    assert render.render(decomposed) == render.render(composed)
