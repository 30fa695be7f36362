"""Teachers' distributions on rendered tokens; truth: bytes of tokens, counted without decoder and offsets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from builders import FAMILIES, STYLES, tiny_tokenizer, token_bytes
from lingraft.core.errors import ExampleError
from lingraft.data.records import Example, Message, Span, Teacher
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.rendering.teacher import place

every_combination = pytest.mark.parametrize(
    ("family", "style"), [(family, style) for family in FAMILIES for style in STYLES]
)
MESSAGES = (Message("user", "Translate into English: Das Wetter ist heute schön."),)
TRANSLATION = Span("The weather is nice, 今天 🎉.", "translation")
SEPARATOR = Span("\n\nExplanation:", "separator")
RATIONALE = " 1. \"schön\" is an adjective 🇩🇪, 今天天气很好.\n\n- It's 12 o'clock:  été วันนี้"
K = 3


@cache
def renderer(family: str = "smollm2", style: str | None = None) -> Renderer:
    return Renderer(tiny_tokenizer(family, style))


def best(token: int, number: int, k: int = K) -> tuple[tuple[int, float], ...]:
    """Distinct values by position, so that a shifted alignment is seen."""
    return tuple((token + rank, round(math.log(0.5 ** (rank + 1)) - number / 1000, 4)) for rank in range(k))


def teacher_of(ids: Sequence[int], *, end: bool = False) -> Teacher:
    logprobs = [best(token, number) for number, token in enumerate(ids)]
    return Teacher(tuple(ids), (*logprobs, *([best(0, len(ids))] if end else [])))


def render(teacher: Teacher | None, text: str = RATIONALE, *, end_turn: bool = True, own: Renderer) -> Rendered:
    spans = (TRANSLATION, SEPARATOR, Span(text, "rationale", "kl", teacher=teacher))
    return own.render(Example("e1", MESSAGES, spans, end_turn))


def tokens_of(rendered: Rendered, span: int) -> list[int]:
    return [token for token, of in zip(rendered.input_ids, rendered.span_of, strict=True) if of == span]


def written(own: Renderer) -> list[int]:
    """The tokens of the rationale as they are rendered."""
    return tokens_of(render(None, end_turn=False, own=own), 2)


@cache
def vocabulary_of(own: Renderer) -> dict[bytes, int]:
    return {token_bytes(own.tokenizer, number): number for number in range(len(own.tokenizer))}


def otherwise(ids: Sequence[int], own: Renderer, rng: np.random.Generator) -> list[int]:
    """The same bytes in other tokens: some are replaced by the tokens of their single characters."""
    vocabulary = vocabulary_of(own)
    out: list[int] = []
    for token in ids:
        try:
            characters = token_bytes(own.tokenizer, token).decode()
        except UnicodeDecodeError:
            characters = ""  # a part of a character
        parts = [vocabulary.get(character.encode()) for character in characters]
        if len(parts) > 1 and None not in parts and rng.random() < 0.4:
            out += [part for part in parts if part is not None]
        else:
            out.append(token)
    return out


def by_bytes(ids: Sequence[int], own: Renderer) -> dict[tuple[int, int], tuple[int, list[int]]]:
    """Byte interval of each shortest run of tokens that holds whole characters -> first token, ids."""
    runs, begin, held, first = {}, 0, b"", 0
    for number, token in enumerate(ids):
        held += token_bytes(own.tokenizer, token)
        try:
            held.decode()
        except UnicodeDecodeError:
            continue
        runs[begin, begin + len(held)] = (first, list(ids[first : number + 1]))
        begin, held, first = begin + len(held), b"", number + 1
    return runs


def found(rendered: Rendered) -> dict[int, tuple[tuple[int, float], ...]]:
    if rendered.teacher is None:
        return {}
    t = rendered.teacher
    assert t.positions.dtype == t.ids.dtype == np.int64
    assert t.logprobs.dtype == np.float32
    return {
        int(position): tuple(zip(ids.tolist(), logprobs.tolist(), strict=True))
        for position, ids, logprobs in zip(t.positions, t.ids, t.logprobs, strict=True)
    }


def as_float32(entries: dict[int, tuple[tuple[int, float], ...]]) -> dict[int, tuple[tuple[int, float], ...]]:
    return {at: tuple((token, float(np.float32(value))) for token, value in pairs) for at, pairs in entries.items()}


@every_combination
def test_a_teacher_who_wrote_the_rendered_tokens_covers_them_all(family: str, style: str) -> None:
    own = renderer(family, style)
    ids = written(own)
    rendered = render(teacher_of(ids), own=own)
    first = rendered.span_of.index(2)
    assert found(rendered) == as_float32({first + i: best(token, i) for i, token in enumerate(ids)})


@every_combination
def test_only_the_same_token_for_the_same_characters_gets_a_distribution(family: str, style: str) -> None:
    own = renderer(family, style)
    plain, ids = render(None, own=own), written(own)
    first = plain.span_of.index(2)
    shares = []
    for seed in range(5):
        others = otherwise(ids, own, np.random.default_rng(seed))
        theirs = by_bytes(others, own)
        expected = {
            first + own_first + i: best(run[i], theirs[place_][0] + i)
            for place_, (own_first, run) in by_bytes(ids, own).items()
            if place_ in theirs and theirs[place_][1] == run
            for i in range(len(run))
        }
        assert found(render(teacher_of(others), own=own)) == as_float32(expected)
        shares.append(len(expected) / len(ids))
    assert min(shares) < 1  # something was written otherwise
    assert max(shares) > 0.2


@every_combination
def test_places_equal_the_decoded_text(family: str, style: str) -> None:
    own = renderer(family, style)
    ids = written(own)
    placed = place(own.tokenizer.backend_tokenizer, own._anchor, ids)
    assert placed.text == own.decode(ids) == RATIONALE
    assert placed.ids == ids


def test_after_a_different_word_nothing_is_found() -> None:
    own = renderer()
    ids = written(own)
    changed = RATIONALE.replace("adjective", "adverb")
    rendered = render(teacher_of(ids), changed, own=own)
    kept = own.decode([rendered.input_ids[position] for position in sorted(found(rendered))])
    assert changed.startswith(kept)
    assert kept.startswith(' 1. "schön" is an')
    assert len(kept) <= RATIONALE.index("adjective") + len("ad")


def test_text_without_its_edges() -> None:
    own = renderer()
    ids = written(own)
    whole = own.decode(ids)
    text = whole[1 : whole.index("o'clock")].rstrip()  # without the first space, and cut
    rendered = render(teacher_of(ids), text, own=own)
    positions = sorted(found(rendered))
    covered = own.decode([rendered.input_ids[position] for position in positions])
    assert covered in text
    assert len(covered) > len(text) - 6  # a token at either edge is lost at most
    for position, pairs in found(rendered).items():
        assert pairs[0][0] == rendered.input_ids[position]


def test_leading_blank_lines_the_renderer_strips() -> None:
    own = renderer()
    reply = Span("I am fine, it is 12 o'clock.", "reply", "kl")
    ids = own.tokenizer("\n\n" + reply.text, add_special_tokens=False).input_ids
    rendered = own.render(Example("e1", MESSAGES, (replace(reply, teacher=teacher_of(ids)),)))
    assert len(found(rendered)) >= len(tokens_of(rendered, 0)) - 2  # the first, the end of the turn


@every_combination
def test_distribution_at_the_end_of_the_turn(family: str, style: str) -> None:
    own = renderer(family, style)
    plain, ids = render(None, own=own), written(own)
    at_end = plain.span_of.index(2) + len(ids)
    ended = teacher_of(ids, end=True)
    if family == "llama2":  # its template puts a space before the token that ends the turn
        assert at_end not in found(render(ended, own=own))
        return
    assert plain.input_ids[at_end] in own.end_ids
    assert found(render(ended, own=own))[at_end] == as_float32({0: best(0, len(ids))})[0]
    assert at_end not in found(render(teacher_of(ids), own=own))
    assert at_end not in found(render(ended, end_turn=False, own=own))
    assert at_end not in found(render(ended, RATIONALE[:-3], own=own))  # cut: the base did not end here


def test_spans_without_weight_or_teacher_have_none() -> None:
    own = renderer()
    ids = written(own)
    spans = (TRANSLATION, SEPARATOR, Span(RATIONALE, "rationale", "kl", 0.0, teacher_of(ids)))
    assert found(own.render(Example("e1", MESSAGES, spans))) == {}
    assert render(None, own=own).teacher is None
    other = render(teacher_of(own.tokenizer("Entirely other words").input_ids), own=own).teacher
    assert other is not None  # there is a teacher, of no token
    assert other.ids.shape == other.logprobs.shape == (0, 1)


def test_two_spans_with_teachers() -> None:
    own = renderer()
    plain = render(None, end_turn=False, own=own)
    ids = [tokens_of(plain, span) for span in range(3)]
    spans = (
        replace(TRANSLATION, loss="kl", teacher=teacher_of(ids[0])),
        SEPARATOR,
        Span(RATIONALE, "rationale", "kl", teacher=teacher_of(ids[2])),
    )
    rendered = own.render(Example("e1", MESSAGES, spans))
    assert rendered.teacher is not None
    positions = rendered.teacher.positions.tolist()
    assert positions == sorted(positions)
    assert {rendered.span_of[position] for position in positions} == {0, 2}
    assert len(positions) == len(ids[0]) + len(ids[2])


def test_fewer_entries_are_filled_up_as_absent() -> None:
    own = renderer()
    ids = written(own)
    teacher = Teacher(tuple(ids), tuple(best(token, i, k=1 + i % K) for i, token in enumerate(ids)))
    rendered = render(teacher, own=own).teacher
    assert rendered is not None
    assert rendered.ids.shape == rendered.logprobs.shape == (len(ids), K)
    for i, (token, row_ids, row) in enumerate(zip(ids, rendered.ids, rendered.logprobs, strict=True)):
        count = 1 + i % K
        assert np.isfinite(row[:count]).all()
        assert (row[count:] == -np.inf).all()
        assert (row_ids[count:] == token).all()


def test_broken_records_are_named() -> None:
    own = renderer()
    ids = written(own)
    whole = teacher_of(ids)
    for logprobs in (whole.logprobs[:-1], (*whole.logprobs[:-1], ()), whole.logprobs + whole.logprobs):
        with pytest.raises(ExampleError, match="distributions are recorded; synthesise it again"):
            render(Teacher(whole.token_ids, logprobs), own=own)


def test_equality_and_hash_follow_the_values() -> None:
    own = renderer()
    ids = written(own)
    one, same = (render(teacher_of(ids), own=own) for _ in range(2))
    assert one == same
    assert hash(one) == hash(same)
    assert one.teacher is not None
    changed = replace(one.teacher, logprobs=one.teacher.logprobs - 1)
    assert one != replace(one, teacher=changed)
    assert one.teacher != "a teacher"
