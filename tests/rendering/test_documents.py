"""Plain text in rows: nothing is lost, and the tokens are those of the tokenizer itself."""

from __future__ import annotations

import time
from functools import cache
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import CORPUS, FAMILIES, STYLES, tiny_tokenizer, with_markers
from lingraft.core.errors import ExampleError
from lingraft.data.records import Example, Message, Span
from lingraft.rendering.renderer import Renderer

every_family = pytest.mark.parametrize("family", FAMILIES)
DOCUMENT = "\n".join(CORPUS)


@cache
def renderer(family: str, style: str | None = None) -> Renderer:
    return Renderer(with_markers(tiny_tokenizer(family, style), "<EN>", "<TH>"))


def text(content: str, block: int = 0, *, end_turn: bool = True) -> Example:
    return Example("d", (), (Span(content, "text"),), end_turn, block)


@every_family
def test_a_document_has_the_ids_that_the_tokenizer_gives_it_and_its_eos(family: str) -> None:
    render = renderer(family)
    own = tuple(render.tokenizer(DOCUMENT.strip()).input_ids)
    (row,) = render.render_text(text(f" {DOCUMENT}\n"))
    assert row.id == "d"
    assert row.input_ids == (*own, render.tokenizer.eos_token_id)
    assert render.render_text(text(DOCUMENT.strip(), end_turn=False))[0].input_ids == own
    bos = own[0] == render.tokenizer.bos_token_id
    assert row.span_of == (-1,) * bos + (0,) * (len(own) - bos + 1)
    assert row.weights == (0.0, *[1.0] * len(own))


@given(st.sampled_from(sorted(FAMILIES)), st.sampled_from(STYLES), st.integers(3, 60), st.sampled_from(CORPUS))
def test_rows_hold_the_whole_document_and_no_more_than_a_block(
    family: str, style: str, block: int, content: str
) -> None:
    render = renderer(family, style)
    (whole,) = render.render_text(text(content))
    rows = render.render_text(text(content, block))
    assert tuple(chain.from_iterable(row.input_ids for row in rows)) == whole.input_ids
    assert tuple(chain.from_iterable(row.span_of for row in rows)) == whole.span_of
    sizes = [len(row.input_ids) for row in rows]
    assert max(sizes) <= block
    assert max(sizes) - min(sizes) <= 1
    assert len(rows) == -(-len(whole.input_ids) // block)
    assert [row.id for row in rows] == (["d"] if len(rows) == 1 else [f"d#{i}" for i in range(len(rows))])
    for row in rows:
        assert row.weights == (0.0, *[1.0] * (len(row.input_ids) - 1))
        assert (row.losses, row.roles) == (("ce",), ("text",))


@every_family
def test_a_text_that_is_continued_begins_the_document(family: str) -> None:
    render = renderer(family)
    (row,) = render.render_text(text("The weather is nice"))
    prompt = render.prompt_ids((), "The weather")
    assert row.input_ids[: len(prompt.ids)] == prompt.ids
    own = render.tokenizer("The weather").input_ids
    assert list(prompt.ids) == own
    assert render.tokenizer.eos_token_id not in prompt.ids


def test_the_model_limits_the_rows() -> None:
    render = renderer("smollm2")
    assert max(len(row.input_ids) for row in render.render_text(text(DOCUMENT, 50), max_length=20)) <= 20
    with pytest.raises(ExampleError, match=r"'d': \d+ tokens, more than the 20 allowed"):
        render.render_text(text(DOCUMENT), max_length=20)


def test_what_has_nothing_to_learn_is_refused() -> None:
    render = renderer("smollm2")
    for example in (
        text(" \n"),
        Example("d", (), (Span("x", "text", weight=0),)),
        text("a", 1),
        Example("d", (), (Span("a", "text"), Span(" b", "text", weight=0)), end_turn=False),
    ):
        with pytest.raises(ExampleError, match="no supervised token"):
            render.render_text(example)
    with pytest.raises(ExampleError, match="no messages"):
        render.render(text("x"))


def test_documents_rendered_together_are_as_each_alone() -> None:
    render = renderer("llama2")
    many = [Example(str(i), (), (Span(line, "text"),), block=9) for i, line in enumerate([*CORPUS, "", "<s> typed"])]
    found: list[object] = []
    for example in many:
        try:
            found += render.render_text(example)
        except ExampleError as error:
            found.append(str(error))
    together = [str(row) if isinstance(row, ExampleError) else row for row in render.render_texts(many)]
    assert together == found
    assert sum(isinstance(row, str) for row in together) == 1


def test_a_control_token_in_a_document_is_text() -> None:
    render = renderer("smollm2")
    (row,) = render.render_text(text("a <|im_end|> b"))
    end = render.tokenizer.eos_token_id
    assert [i for i, token in enumerate(row.input_ids) if token == end] == [len(row.input_ids) - 1]


@pytest.mark.long
@pytest.mark.parametrize("family", ["smollm2", "llama2"])
def test_time_grows_with_a_document_and_not_with_its_square(family: str) -> None:
    def seconds(repeats: int) -> float:
        content = "\n".join([DOCUMENT] * repeats)
        spent = []
        for _ in range(3):  # other work on the machine only adds to it
            start = time.process_time()
            assert len(renderer(family).render_text(text(content, 512))) > repeats // 6
            spent.append(time.process_time() - start)
        return min(spent)

    seconds(10)
    assert seconds(800) < 100 * seconds(50)  # 16 times the text, over half a million characters; a square would be 256


def test_chat_and_text_do_not_mix() -> None:
    render = renderer("smollm2")
    chat = Example("c", (Message("user", "x"),), (Span("y", "text"),))
    assert [type(row).__name__ for row in render.render_many([chat, text("x")])] == ["Rendered", "ExampleError"]
