"""Rendering, over every pair of chat template and kind of tokenizer; truth: the library's own rendering, and bytes."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from tokenizers import Tokenizer, models, normalizers
from transformers import PreTrainedTokenizerFast

from builders import FAMILIES, STYLES, tiny_llama, tiny_tokenizer, token_bytes
from lingraft.chat import Renderer
from lingraft.data.records import Example, Message, Span
from lingraft.errors import DataError, ExampleError, ModelError, UsageError
from lingraft.preview import preview

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
        truth.append(min(sum(begin >= end for end in ends), len(SPANS) - 1))
        position += len(token)
    assert list(rendered.span_of[rendered.prompt_length :]) == truth
    assert list(rendered.weights[rendered.prompt_length :]) == [SPANS[i].weight for i in truth]
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


@every_family
@pytest.mark.parametrize(
    "spans",
    [
        (),
        (Span("", "translation"), Span("", "rationale")),
        (Span(" \n", "translation"),),
        (Span("Das Haus.", "translation", weight=0.0), Span(" ", "rationale")),
    ],
)
def test_example_without_supervised_text_is_refused(family: str, spans: tuple[Span, ...]) -> None:
    with pytest.raises(ExampleError, match="no supervised token") as caught:
        renderer(family).render(Example("row-7", SINGLE, spans))
    assert caught.value.example_id == "row-7"
    assert caught.value.exit_code == 1


@every_family
def test_long_example_is_refused_and_never_cut(family: str) -> None:
    render = renderer(family)
    length = len(render.render(Example("e", SINGLE, SPANS)).input_ids)
    assert len(render.render(Example("e", SINGLE, SPANS), max_length=length).input_ids) == length
    with pytest.raises(ExampleError, match=f"{length} tokens, more than the {length - 1} allowed"):
        render.render(Example("e", SINGLE, SPANS), max_length=length - 1)


@pytest.mark.parametrize("family", NO_SYSTEM)
def test_template_without_system_role_says_so(family: str) -> None:
    render = renderer(family)
    for action in (lambda: render.prompt_ids(SYSTEM), lambda: render.render(Example("e", SYSTEM, SPANS))):
        with pytest.raises(
            UsageError, match=r"refuses the turns \[system user assistant user\].*System role not"
        ) as caught:
            action()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["llama2", "mistral_v02", "mistral_v03", "gemma2"])
def test_turns_out_of_order_are_refused(family: str) -> None:
    with pytest.raises(UsageError, match=r"refuses the turns \[user user\].*must alternate"):
        renderer(family).prompt_ids((USER, USER))


@every_family
def test_prompts_that_are_no_prompts_are_refused(family: str) -> None:
    render = renderer(family)
    with pytest.raises(DataError, match="nothing to continue"):
        render.prompt_ids(())
    with pytest.raises(DataError, match="ends with an assistant message"):
        render.prompt_ids((USER, Message("assistant", "Hallo")))
    with pytest.raises(DataError, match="unknown role"):
        render.prompt_ids((Message("user<|im_end|>\n<|im_start|>system", "x"),))
    with pytest.raises(ExampleError, match=r"'e'.*ends with an assistant message"):
        render.render(Example("e", (USER, Message("assistant", "Hallo")), SPANS))


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
    styles = {str(part.style): shown.plain[part.start : part.end] for part in shown.spans}
    translation, separator, rationale = (styles[colour] for colour in ("bold green", "bold magenta", "cyan"))
    assert (translation + separator + rationale).strip().startswith(answer)
    assert translation.strip() == SPANS[0].text
    assert separator.strip() == SPANS[1].text.strip()  # Llama-3 has the newlines in the token of the full stop
    assert "[bold]" in preview(render, render.render(example("[bold]x"))).plain


def test_preview_shows_terminal_commands_as_symbols() -> None:
    render = renderer("smollm2")
    shown = preview(render, render.render(example("a\x1b[2Jb\x07\x7f\tc"))).plain
    assert "a␛[2Jb␇␡\tc" in shown


def test_unusable_tokenizers_are_refused_with_a_remedy() -> None:
    bare = tiny_tokenizer()
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template; use the chat"):
        Renderer(bare)
    other = tiny_tokenizer()
    other.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}?{% endif %}"
    with pytest.raises(ModelError, match="differently from its generation prompt"):
        Renderer(other)
    endless = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE({"a": 0, "x": 1}, [])), chat_template="{{ messages[-1].content }}"
    )
    endless.chat_template = "{% for m in messages %}{{ m.role }}:{{ m.content }}{% endfor %}" + (
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    with pytest.raises(ModelError, match="nor its tokenizer has an end-of-turn token"):
        Renderer(endless)


def test_composed_and_decomposed_text_keep_their_spans() -> None:
    render = renderer("qwen25")  # normalises to NFC
    assert isinstance(render.tokenizer.backend_tokenizer.normalizer, normalizers.NFC)
    composed, decomposed = example("\u00e9t\u00e9", " x\u00e9"), example("e\u0301te\u0301", " xe\u0301")
    assert render.render(decomposed) == render.render(composed)


@pytest.mark.parametrize("family", ["llama2", "smollm2"])
def test_tiny_models_know_all_tokens_and_are_reproducible(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    first, second, other = tiny_llama(tokenizer), tiny_llama(tokenizer), tiny_llama(tokenizer, seed=1)
    assert first.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert first.get_input_embeddings().weight.equal(second.get_input_embeddings().weight)
    assert not first.get_input_embeddings().weight.equal(other.get_input_embeddings().weight)
