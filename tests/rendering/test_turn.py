"""Markers are control tokens of one id where they are meant, and text everywhere else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import FAMILIES, STYLES, tiny_tokenizer, with_markers
from lingraft.core.errors import DataError, ExampleError
from lingraft.data.records import Example, Generation, Message, Request, Sampling, Span
from lingraft.engines.finishing import finished, prompt_of
from lingraft.rendering.renderer import Renderer
from lingraft.translation.markers import Markers

MARKERS = Markers.for_languages(["th"])
EN, RESPONSE, TH = (MARKERS.span(token) for token in MARKERS.tokens)
NATIVE = (Message("user", "วันนี้อากาศดี?"),)
CHAIN = (
    EN,
    Span("What is the weather?", "english_query"),
    RESPONSE,
    Span("The weather is nice today, it's 12.", "english_reply"),
    TH,
    Span("วันนี้อากาศดี", "native_reply"),
)
every_family = pytest.mark.parametrize("family", FAMILIES)
words = st.sampled_from(
    ["the", "The weather", "วันนี้", "วันนี้ อากาศ", "12", "好。", "- x\n- y", "<EN>", "<im", "'s", "👍🏽"]
)
blanks = st.sampled_from(["", " ", "\n", " \n\n", "\t"])


@cache
def renderer(family: str, style: str | None = None) -> Renderer:
    return Renderer(with_markers(tiny_tokenizer(family, style), *MARKERS.tokens))


def id_of(render: Renderer, token: str) -> int:
    number = render.tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int)
    return number


@every_family
def test_a_marker_is_one_token_which_is_learnt(family: str) -> None:
    render = renderer(family)
    rendered = render.render(Example("e", NATIVE, CHAIN))
    for span, role in ((EN, 0), (RESPONSE, 2), (TH, 4)):
        places = [i for i, token in enumerate(rendered.input_ids) if token == id_of(render, span.text)]
        assert [i for i, number in enumerate(rendered.span_of) if number == role] == places
        assert [rendered.weights[i] for i in places] == [1.0]
    assert rendered.prompt_length == len(render.prompt_ids(NATIVE).ids)
    assert rendered.input_ids[: rendered.prompt_length] == render.prompt_ids(NATIVE).ids
    for number in (1, 3, 5):
        ids = [token for token, of in zip(rendered.input_ids, rendered.span_of, strict=True) if of == number]
        assert render.decode(ids).strip() == CHAIN[number].text


@every_family
@pytest.mark.parametrize("weight", [0.1, 0.0, 3.0])
@pytest.mark.parametrize("chat", [True, False])
def test_the_end_weighs_one_whatever_the_last_text_does(family: str, weight: float, chat: bool) -> None:
    render = renderer(family)
    spans = (Span("The weather is nice.", "translation"), Span(" It is a noun.", "rationale", weight=weight))
    example = Example("e", NATIVE if chat else (), spans)
    row = render.render(example) if chat else render.render_text(example)[0]
    cut = replace(example, end_turn=False)
    unended = render.render(cut) if chat else render.render_text(cut)[0]
    ends = row.input_ids[len(unended.input_ids) :]  # some templates have a space before the control token
    assert ends[-1] in render.end_ids
    first = row.span_of.index(1)
    count = len(unended.input_ids) - first
    assert row.weights == (*unended.weights[:first], *[weight] * count, *[1.0] * len(ends))
    assert row.span_of[-1] == 1


@every_family
def test_an_end_alone_teaches_nothing(family: str) -> None:
    spans = (Span("The weather is nice.", "translation", weight=0.0),)
    with pytest.raises(ExampleError, match="no supervised token"):
        renderer(family).render(Example("e", NATIVE, spans))


@every_family
def test_what_follows_a_marker_is_what_the_base_writes_when_it_answers(family: str) -> None:
    render = renderer(family)
    answer = "The weather is nice."
    base = render.render(Example("a", NATIVE, (Span(answer, "reply"),)))
    marked = render.render(Example("b", NATIVE, (RESPONSE, Span(answer, "reply"))))
    written = base.input_ids[base.prompt_length :]
    assert marked.input_ids[marked.prompt_length :] == (id_of(render, "<RESPONSE>"), *written)


@given(
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from(STYLES),
    st.booleans(),
    st.tuples(words, words, words),
    st.tuples(*[blanks] * 4),
    st.integers(1, 5),
)
def test_a_turn_begins_the_example_that_continues_it(
    family: str, style: str, chat: bool, texts: tuple[str, str, str], gaps: tuple[str, ...], length: int
) -> None:
    """Training, synthesis and the chain's prefill agree, whatever white space stands beside the markers."""
    render = renderer(family, style)
    english, reply, native = texts
    spans = (
        EN,
        Span(gaps[0] + english + gaps[1], "english_query"),
        RESPONSE,
        Span(gaps[2] + reply + gaps[3], "english_reply"),
        TH,
        Span(native, "native_reply"),
    )
    messages = NATIVE if chat else ()
    example = Example("e", messages, spans)
    whole = render.render(example) if chat else render.render_text(example)[0]
    turn = spans[: length - (length % 2 == 0)]  # ends with a marker
    prompt = render.prompt_ids(messages, turn=turn)
    assert whole.input_ids[: len(prompt.ids)] == prompt.ids
    assert prompt.ids[-1] == id_of(render, turn[-1].text)
    tidy = tuple(span if span.role == "marker" else Span(span.text.strip(), span.role) for span in spans)
    plain = Example("e", messages, tidy)
    assert (render.render(plain) if chat else render.render_text(plain)[0]).input_ids == whole.input_ids


@given(st.sampled_from(sorted(FAMILIES)), st.sampled_from(STYLES), st.booleans(), words, words)
def test_a_turn_that_ends_within_text(family: str, style: str, chat: bool, first: str, second: str) -> None:
    render = renderer(family, style)
    messages = NATIVE if chat else ()
    example = Example("e", messages, (EN, Span(f"{first} {second}", "text")))
    whole = render.render(example) if chat else render.render_text(example)[0]
    for turn in ((EN, Span(first, "text")), (EN, Span(first, "text"), Span(" ", "text"))):
        prompt = render.prompt_ids(messages, turn=turn)
        if second != "- x\n- y" and second[0].isalpha():  # where punctuation follows, tokens may merge: see prompt_ids
            assert whole.input_ids[: len(prompt.ids)] == prompt.ids
        assert render.decode(prompt.ids).strip().endswith(first)


@every_family
def test_a_prefill_is_a_turn_of_one_text(family: str) -> None:
    render = renderer(family)
    for text in ("The weather", "The weather ", " \n", "x\n\n"):
        assert render.prompt_ids(NATIVE, turn=(Span(text, "text"),)) == render.prompt_ids(NATIVE, text)


@every_family
def test_a_marker_that_somebody_typed_is_text(family: str) -> None:
    render = renderer(family)
    typed = "Say <EN> and <TH>!"
    rendered = render.render(Example("e", (Message("user", typed),), (EN, Span(typed, "text"), TH, Span("ดี", "text"))))
    assert rendered.input_ids.count(id_of(render, "<EN>")) == 1
    assert rendered.input_ids.count(id_of(render, "<TH>")) == 1
    inside = [token for token, of in zip(rendered.input_ids, rendered.span_of, strict=True) if of == 1]
    assert render.decode(inside).strip() == typed
    (row,) = render.render_text(Example("t", (), (Span(typed, "text"),)))
    assert id_of(render, "<EN>") not in row.input_ids
    assert id_of(render, "<EN>") not in render.prompt_ids((), typed).ids


@every_family
def test_a_marker_that_the_tokenizer_lacks_is_refused(family: str) -> None:
    render = Renderer(tiny_tokenizer(family))
    with pytest.raises(ExampleError, match=r"'e': the tokenizer has no token '<EN>': extend the vocabulary"):
        render.render(Example("e", NATIVE, CHAIN))
    with pytest.raises(ExampleError, match="no token '<EN>'"):
        render.render_text(Example("e", (), CHAIN))
    with pytest.raises(DataError, match="no token '<EN>'"):
        render.prompt_ids(NATIVE, turn=(EN,))
    with pytest.raises(ExampleError, match="no token 'the'"):
        renderer(family).render(Example("e", NATIVE, (Span("the", "marker"), Span("x", "text"))))


@every_family
def test_an_answer_to_a_turn_comes_without_the_space_of_the_tokenizer(family: str) -> None:
    render = renderer(family)
    for messages in (NATIVE, ()):
        request = Request("r", messages, Sampling(64), turn=CHAIN[:3])
        example = Example("e", messages, CHAIN[:4])
        whole = render.render(example) if messages else render.render_text(example)[0]
        prompt = prompt_of(render, request)
        answer = finished(render, request, prompt, whole.input_ids[len(prompt.ids) :])
        assert isinstance(answer, Generation)
        assert (answer.text.rstrip(), answer.finish_reason) == (CHAIN[3].text, "stop")
        within = Request("w", messages, Sampling(64), turn=(*CHAIN[:3], Span("The weather", "text")))
        prompt = prompt_of(render, within)
        answer = finished(render, within, prompt, whole.input_ids[len(prompt.ids) :])
        assert isinstance(answer, Generation)
        assert answer.text.rstrip() == " is nice today, it's 12."
