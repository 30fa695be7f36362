"""A prefilled prompt begins the training example that continues it: the model is trained on what it was asked."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from builders import FAMILIES, STYLES, tiny_tokenizer
from lingraft.data.records import Example, Message, Span
from lingraft.rendering.renderer import Renderer

MESSAGES = (Message("user", "Translate into English: Das Wetter ist schön."),)
families = st.sampled_from(sorted(FAMILIES))
styles = st.sampled_from(STYLES)

# Letters of several scripts and lengths in UTF-8, digits, punctuation, emoji made of several characters.
_PARTS = [*"aeThWé2059.,:;!?-(\"'*#", "ßen", "the", "天", "好吗", "。", "วัน", "ดี", "да", "👍🏽", "🇩🇪", "it's", "_x"]
solid = st.lists(st.sampled_from(_PARTS), min_size=1, max_size=6).map("".join)
_GAPS = [" ", " ", "  ", "\n", "\n\n", "\t", " \n", "\u3000", "\u00a0"]
running = st.lists(st.tuples(solid, st.sampled_from(_GAPS)), max_size=4).map(lambda pairs: "".join(map("".join, pairs)))
blanks = st.sampled_from([" ", "  ", "\t", " \t ", "\u3000", "\u00a0"])


@cache
def renderer(family: str, style: str | None = None) -> Renderer:
    return Renderer(tiny_tokenizer(family, style))


def training_ids(render: Renderer, prefill: str, continuation: str) -> tuple[int, ...]:
    spans = (Span(prefill, "translation"), Span(continuation, "rationale"))
    return render.render(Example("e", MESSAGES, spans)).input_ids


def holds(render: Renderer, prefill: str, continuation: str) -> bool:
    ids = render.prompt_ids(MESSAGES, prefill).ids
    return training_ids(render, prefill, continuation)[: len(ids)] == ids


@given(families, styles, running, solid, blanks, running, solid)
def test_prefill_that_ends_with_a_word_and_a_continuation_that_starts_one(
    family: str, style: str, head: str, last: str, gap: str, middle: str, tail: str
) -> None:
    assert holds(renderer(family, style), head + last, gap + middle + tail)


@given(families, styles, running, solid, blanks, running, solid)
def test_prefill_that_ends_with_blanks(
    family: str, style: str, head: str, last: str, gap: str, middle: str, tail: str
) -> None:
    render = renderer(family, style)
    assert render.prompt_ids(MESSAGES, head + last + gap).dropped == gap
    assert holds(render, head + last + gap, middle + tail)


@given(families, styles, running, solid, st.sampled_from(["\n", "\n\n", "\n\n\n", ":\n", " \n"]), running, solid)
def test_prefill_that_ends_with_newlines_and_a_continuation_that_starts_with_a_letter(
    family: str, style: str, head: str, last: str, newlines: str, middle: str, tail: str
) -> None:
    # One exception is known: GPT-2 splitting individual digits first (SmolLM2), see the last test.
    assume((middle + tail)[0].isalpha())
    assert holds(renderer(family, style), head + last + newlines, middle + tail)


DELIMITERS = (
    "\n\nNote:",
    "\n\nExplanation:",
    "\n\n[Note]",
    "\n\n----\n\n",
    "\n\n#### Note\n\n",
    "\n\nNote: ",
    "\n\n- ",
)


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("style", STYLES)
def test_delimiters_in_use(style: str, delimiter: str) -> None:
    for family in FAMILIES:
        for target in ("The weather is nice.", "今天天气很好。", "วันนี้อากาศดี 👍🏽", "2024!", 'He said "no"'):
            for words in ("The verb is first.", "这里是动词。", "คำนี้", "**Bold** words"):
                continuation = words if delimiter[-1].isspace() else " " + words
                assert holds(renderer(family, style), target + delimiter, continuation)


@given(families, styles, running, solid, st.sampled_from(["", *_GAPS]), running)
def test_no_text_of_a_prefill_is_lost_or_added(
    family: str, style: str, head: str, last: str, gap: str, rest: str
) -> None:
    render = renderer(family, style)
    prefill = head + last + gap + rest
    prompt = render.prompt_ids(MESSAGES, prefill)
    bare = render.prompt_ids(MESSAGES)
    assert prompt.ids[: len(bare.ids)] == bare.ids
    assert bare.dropped.strip() == prompt.dropped.strip() == ""
    text = render.decode(prompt.ids[len(bare.ids) :]) + prompt.dropped
    assert text.lstrip() == prefill.lstrip()


@pytest.mark.parametrize("family", FAMILIES)
def test_white_space_alone_is_no_prefill(family: str) -> None:
    render = renderer(family)
    assert render.prompt_ids(MESSAGES, " \n") == render.prompt_ids(MESSAGES)
    assert render.prompt_ids(MESSAGES, "\n The").ids == render.prompt_ids(MESSAGES, "The").ids


@pytest.mark.parametrize(("family", "space"), [("llama2", " "), ("mistral_v03", " "), ("smollm2", ""), ("gemma2", "")])
def test_space_in_front_of_an_answer_is_left_to_the_model(family: str, space: str) -> None:
    render = renderer(family)
    prompt = render.prompt_ids(MESSAGES)
    written = training_ids(render, "The weather", " is nice.")[len(prompt.ids) :]
    assert prompt.dropped == space
    assert render.decode(written).removeprefix(prompt.dropped).rstrip() == "The weather is nice."


@pytest.mark.parametrize(
    ("family", "prefill", "continuation"),
    [
        ("smollm2", "x\n\n", "1. y"),  # digits are split off first, so that the newlines stand at the end of a text
        ("smollm2", "x\n\n", " y"),  # both newlines stand before more white space
        ("llama3", "x.", "\n\ny"),  # punctuation takes the following newline along
        ("llama3", "th", "e y"),  # the middle of a word
    ],
)
def test_known_limits_are_as_documented(family: str, prefill: str, continuation: str) -> None:
    render = renderer(family)
    assert not holds(render, prefill, continuation)
    ids = training_ids(render, prefill, continuation)  # the text is right all the same
    assert render.decode(ids[len(render.prompt_ids(MESSAGES).ids) :]) == prefill + continuation
