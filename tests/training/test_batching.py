"""Step plans: every row once per epoch, budgets kept, deterministic."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.core.errors import DataError, UsageError
from lingraft.training.batching import plan_steps
from lingraft.training.plan import Plan

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def plan(lengths: list[int], **changes: float) -> Plan:
    settings = {"tokens_per_step": 100, "micro_tokens": 64, "epochs": 1.0, "seed": 0} | changes
    return plan_steps(lengths, [size // 2 for size in lengths], **settings)  # type: ignore[arg-type]


def used(steps: Plan) -> Counter[int]:
    return Counter(row for step in steps for micro in step.micros for row in micro)


@given(LENGTHS, st.integers(1, 3), st.integers(1, 4), st.integers(0, 5))
def test_each_epoch_uses_every_row_once_within_the_budgets(
    lengths: list[int], epochs: int, world: int, seed: int
) -> None:
    steps = plan(lengths, epochs=epochs, world_size=world, seed=seed)
    assert used(steps) == dict.fromkeys(range(len(lengths)), epochs)
    for step in steps:
        rows = [row for micro in step.micros for row in micro]
        assert step.tokens == sum(lengths[row] for row in rows)
        assert step.tokens <= 100 or len(rows) == 1
        assert step.supervised == sum(lengths[row] // 2 for row in rows)
        padded = [len(micro) * max(lengths[row] for row in micro) for micro in step.micros]
        assert step.padded_tokens == sum(padded)
        assert all(size <= 64 or len(micro) == 1 for size, micro in zip(padded, step.micros, strict=True))
        assert len(step.micros) % world == 0 or all(len(micro) == 1 for micro in step.micros)


@given(LENGTHS, st.integers(1, 3), st.integers(0, 5))
def test_packed_steps_hold_the_same_rows_in_few_full_micro_batches(lengths: list[int], world: int, seed: int) -> None:
    padded, packed = (plan(lengths, seed=seed, world_size=world, packed=packed) for packed in (False, True))
    assert len(padded) == len(packed)
    for one, two in zip(padded, packed, strict=True):
        assert used([one]) == used([two])
        assert (one.tokens, one.supervised) == (two.tokens, two.supervised)
        assert two.padded_tokens == two.tokens
        sizes = [sum(lengths[row] for row in micro) for micro in two.micros]
        assert all(size <= 64 or len(micro) == 1 for size, micro in zip(sizes, two.micros, strict=True))
        if world == 1:  # no two neighbours would have fitted into one
            assert all(a + b > 64 for a, b in pairwise(sizes))


@given(LENGTHS, st.integers(0, 5))
def test_no_small_step_ends_an_epoch(lengths: list[int], seed: int) -> None:
    steps = plan(lengths, seed=seed)
    longest = max(lengths)
    assert len(steps) == 1 or steps[-1].tokens >= 50 - longest


def test_rows_of_a_small_last_step_are_shared_with_the_step_before() -> None:
    steps = plan([10] * 12)  # 100 + 20 tokens, divided anew
    assert [step.tokens for step in steps] == [60, 60]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7))
def test_micro_batches_are_the_cheapest_cut(lengths: list[int]) -> None:
    def cost(parts: list[list[int]]) -> int:
        return sum(len(part) * max(part) + 5 for part in parts)

    steps = plan(lengths, tokens_per_step=1000, micro_cost=5)
    found = cost([[lengths[row] for row in micro] for micro in steps[0].micros])
    ordered = sorted(lengths, reverse=True)
    best = None
    for cuts in product([False, True], repeat=len(ordered) - 1):
        parts = [[ordered[0]]]
        for cut, size in zip(cuts, ordered[1:], strict=True):
            if cut:
                parts.append([size])
            else:
                parts[-1].append(size)
        if all(len(part) * max(part) <= 64 or len(part) == 1 for part in parts):
            best = min(cost(parts), best or cost(parts))
    assert found == best


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3), min_size=1, max_size=15),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([(1.0, None), (2.4, None), (3.0, 300)]),
)
def test_rows_of_a_group_are_used_together_and_stand_in_one_micro_batch(
    groups: list[list[int]], world: int, packed: bool, amount: tuple[float, int | None]
) -> None:
    lengths = [length for group in groups for length in group]
    units = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    epochs, max_tokens = amount
    steps = plan(lengths, units=units, world_size=world, packed=packed, epochs=epochs, max_tokens=max_tokens)  # type: ignore[arg-type]
    everything = used(steps)
    for number, group in enumerate(groups):
        rows = np.flatnonzero(units == number).tolist()
        assert len({everything[row] for row in rows}) == 1
        if max_tokens is None:
            assert everything[rows[0]] in (int(epochs), int(epochs) + (epochs > 1))
        for micro in (micro for step in steps for micro in step.micros):
            assert sum(row in micro for row in rows) % len(group) == 0
    for step in steps:
        rows = [row for micro in step.micros for row in micro]
        assert step.tokens == sum(lengths[row] for row in rows)
        assert step.supervised == sum(lengths[row] // 2 for row in rows)
        costs = [
            sum(lengths[row] for row in micro) if packed else len(micro) * max(lengths[row] for row in micro)
            for micro in step.micros
        ]
        assert step.padded_tokens == sum(costs)
        held = [len({int(units[row]) for row in micro}) for micro in step.micros]
        assert all(cost <= 64 or count == 1 for cost, count in zip(costs, held, strict=True))
        assert len(held) % world == 0 or max(held) == 1


def test_groups_of_one_are_planned_as_rows_are() -> None:
    lengths = np.random.default_rng(0).integers(5, 30, 50).tolist()
    for packed in (True, False):
        assert plan(lengths, epochs=2, packed=packed) == plan(lengths, epochs=2, packed=packed, units=np.arange(7, 57))  # type: ignore[arg-type]


def test_same_seed_same_plan_and_epochs_differ() -> None:
    lengths = np.random.default_rng(0).integers(5, 30, 50).tolist()
    once, again, other = plan(lengths, epochs=2), plan(lengths, epochs=2), plan(lengths, epochs=2, seed=1)
    assert once == again
    assert once != other
    first = plan(lengths)
    assert once[: len(first)] == first
    assert once[len(first) :][0] != first[0]


def test_fraction_of_an_epoch() -> None:
    counts = used(plan([10] * 20, epochs=1.25))
    assert sorted(counts.values()) == [1] * 15 + [2] * 5
    assert sum(used(plan([10] * 20, epochs=0.001)).values()) == 1


def test_max_tokens_is_a_budget_over_all_epochs() -> None:
    assert sum(step.tokens for step in plan([10] * 8, epochs=5, max_tokens=255)) == 250
    assert sum(step.tokens for step in plan([10] * 8, epochs=5, max_tokens=160)) == 160
    assert sum(step.tokens for step in plan([50], max_tokens=20)) == 50  # a run has at least one row


@pytest.mark.parametrize("name", ["tokens_per_step", "micro_tokens", "epochs", "world_size", "max_tokens"])
def test_budgets_must_be_positive(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} is 0"):
        plan([10], **{name: 0})


def test_no_rows() -> None:
    with pytest.raises(DataError, match="no row"):
        plan([])
