"""Rows that come and go: each is written as it is alone, whoever is beside it."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from builders import tiny_llama
from chains import marked_renderer
from lingraft.core.errors import NotFiniteError
from lingraft.engines.slot_batch import BatchRow, SlotBatch
from lingraft.engines.slot_cache import layers_for_slots

CONTEXT = 512


def tiny() -> Any:
    model = tiny_llama(marked_renderer().tokenizer, seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


def batch(model: Any, **options: Any) -> SlotBatch:
    limits = {"max_tokens": 4096, "max_rows": 8, "longest": CONTEXT, **options}
    return SlotBatch(model, layers_for_slots(model, CONTEXT), **limits)


def row(length: int, tokens: int, number: int = 0, **options: Any) -> BatchRow:
    ids = [(7 + 5 * place + 3 * number) % 200 for place in range(length)]
    return BatchRow(ids=ids, room=length + tokens, draws=random.Random(number), **options)


def write(found: SlotBatch, rows: list[BatchRow], arrivals: list[int]) -> list[list[int]]:
    """Write rows to their end; each comes at a step of its own."""
    lengths, step = [len(one.ids) for one in rows], 0
    open_ = dict(enumerate(rows))
    while open_:
        for number, one in enumerate(rows):
            if arrivals[number] == step:
                found.add(one)
        found.step()
        for number, one in list(open_.items()):
            if one.token is not None:
                one.ids.append(one.token)
                one.token = None
                if len(one.ids) == one.room:
                    found.remove(open_.pop(number))
        step += 1
    return [one.ids[length:] for one, length in zip(rows, lengths, strict=True)]


SIZES = [(3, 30), (70, 5), (130, 12), (1, 40), (64, 9), (200, 20), (9, 9), (33, 25), (65, 3), (20, 11)]


@pytest.mark.parametrize("temperature", [0.0, 1.3])
@pytest.mark.parametrize("padding", [1, 64])
def test_each_row_is_written_as_alone(temperature: float, padding: int) -> None:
    model = tiny()

    def rows() -> list[BatchRow]:
        return [row(*size, number, temperature=temperature, top_p=0.9) for number, size in enumerate(SIZES)]

    alone = [write(batch(model), [one], [0])[0] for one in rows()]
    chance = random.Random(1)
    for limits in ({}, {"max_rows": 3}, {"max_tokens": 700}):
        arrivals = [chance.randrange(12) for _ in SIZES]
        assert write(batch(model, padding=padding, **limits), rows(), arrivals) == alone
    assert len({tuple(one) for one in alone}) == len(alone)


def test_rows_of_several_ways_to_choose_are_written_together() -> None:
    model = tiny()
    ways = [{"temperature": 0.0}, {"temperature": 1.0}, {"temperature": 1.0, "top_p": 0.5}, {"top": 3}]

    def rows() -> list[BatchRow]:
        return [row(9, 12, number, **way) for number, way in enumerate(ways)]

    together = rows()
    found = write(batch(model), together, [0, 0, 1, 2])
    assert found == [write(batch(model), [one], [0])[0] for one in rows()]
    assert together[3].noted is not None
    assert len(together[3].noted.top) == 3
    assert together[0].noted is None


def test_a_long_prompt_is_read_between_the_steps_of_others() -> None:
    found, short, long = batch(tiny()), row(4, 40), row(400, 5, 1)
    found._piece = 64
    found.add(short)
    found.step()
    found.add(long)
    steps = 0
    while long.token is None:
        if short.token is not None:
            short.ids.append(short.token)
            short.token = None
        found.step()
        steps += short.token is not None
    assert steps >= 6


def test_rows_that_leave_make_room_wherever_they_are() -> None:
    found, rows = batch(tiny(), max_rows=2), [row(5, 9, number) for number in range(4)]
    for one in rows:
        found.add(one)
    found.step()
    assert [one.slot for one in rows] == [0, 1, -1, -1]
    found.remove(rows[2])  # while it waits
    found.remove(rows[0])
    found.step()
    assert [one.slot for one in rows] == [-1, 0, -1, 1]
    for one in (rows[1], rows[3]):
        found.remove(one)
    assert not found.step()
    assert found._cache is None


def test_numbers_that_are_none_are_the_error_of_their_row_alone() -> None:
    model = tiny()
    expected = write(batch(model), [row(9, 12, 1)], [0])[0]
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)  # it is tied
    with torch.no_grad():
        model.get_input_embeddings().weight[199] = float("nan")
    found, good = batch(model), row(9, 12, 1)
    bad = BatchRow(ids=[5, 6, 199], room=20)
    assert 199 not in [*good.ids, *expected]
    for one in (bad, good):
        found.add(one)
    found.step()
    assert isinstance(bad.error, NotFiniteError)
    assert good.token is not None
    found.remove(bad)
    good.ids.append(good.token)
    good.token = None
    later = row(9, 12, 1)  # takes the slot
    assert write(found, [later], [0]) == [expected]
    while len(good.ids) < good.room:
        good.ids += [good.token] if good.token is not None else []
        good.token = None
        found.step()
    assert good.ids[9:] == expected


def test_what_fails_is_told_to_all_and_the_next_are_written() -> None:
    model = tiny()
    found, rows = batch(model), [row(9, 4, number) for number in range(2)]
    broken = BatchRow(ids=[10**6, 10**6, 3], room=9)  # no such token
    for one in (*rows, broken):
        found.add(one)
    found.step()
    assert all(one.error is not None and one.slot == -1 for one in (*rows, broken))
    assert write(found, [row(9, 4)], [0]) == write(batch(model), [row(9, 4)], [0])


def test_what_prompts_have_in_common_is_read_once() -> None:
    model, before = tiny(), [(11 * place) % 190 for place in range(59)]

    def rows() -> list[BatchRow]:
        return [BatchRow(ids=[*before, *row(9, 0, number).ids], room=80) for number in range(4)]

    alone = [write(batch(model), [one], [0])[0] for one in rows()]
    found = batch(model)
    read: list[int] = []
    together = found._read_together
    found._read_together = lambda some, width: (read.append(width * len(some)), together(some, width))[1]  # type: ignore[method-assign]
    assert write(found, rows(), [0, 1, 1, 2]) == alone
    assert read[0] == 67
    assert read[1:] == [
        2 * (67 - 56),
        67 - 56,
    ]  # all but what is beyond a multiple of 8; two that come together at once


def watched(found: SlotBatch) -> list[int]:
    """Return how many prompts a batch reads together, each time from now on."""
    counts: list[int] = []
    together = found._read_together

    def reading(some: Any, width: int) -> None:
        counts.append(len(some))
        together(some, width)

    found._read_together = reading  # type: ignore[method-assign]
    return counts


def test_short_prompts_wait_a_little_for_others_where_many_rows_are_written() -> None:
    model = tiny()

    def crowd() -> list[BatchRow]:
        return [row(20, 40, number) for number in range(16)]

    def late() -> list[BatchRow]:
        return [row(12, 8, number) for number in range(20, 23)]

    alone = [write(batch(model), [one], [0])[0] for one in late()]
    found = batch(model, max_rows=32)
    counts = watched(found)
    assert write(found, [*crowd(), *late()], [*[0] * 16, 4, 5, 6])[16:] == alone
    assert counts == [16, 3]  # two steps, one for every eight rows that are written
    found = batch(model, max_rows=32)
    counts = watched(found)
    write(found, [*crowd(), *late()[:2], row(150, 8, 30)], [*[0] * 16, 4, 9, 10])
    assert counts == [16, 1, 2]  # a long one has none wait
    found = batch(model)
    counts = watched(found)
    assert write(found, late(), [0, 2, 3]) == alone
    assert counts == [1, 1, 1]


def test_rows_that_somebody_adds_at_once_take_turns_with_those_of_others() -> None:
    found, job = batch(tiny(), max_rows=2), object()
    many = [row(5, 2 + number, number, owner=job) for number in range(6)]
    mine, other = row(4, 2, 7), row(4, 2, 8)
    for one in (*many, mine, other):
        found.add(one)
    found.remove(many[5])  # which waits
    order: list[BatchRow] = []
    waiting = [*many[:5], mine, other]
    for _ in range(100):
        found.step()
        order += [one for one in waiting if one.slot >= 0 and one not in order]
        for one in [one for one in waiting if one.token is not None]:
            one.ids.append(one.token)
            one.token = None
            if len(one.ids) == one.room:
                found.remove(one)
                waiting.remove(one)
    assert not waiting
    assert order[:2] == [many[0], mine]
    assert {id(one) for one in order[2:4]} == {id(many[1]), id(other)}  # which get their slots in one step
    assert [one for one in order if one.owner is job] == many[:5]
