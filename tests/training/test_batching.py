"""Step plans: every row once per epoch, budgets kept, deterministic; collation against the rows themselves."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_rows import random_rows

from lingraft.chat import Rendered
from lingraft.errors import DataError, UsageError
from lingraft.training.batching import Step, collate, plan_steps

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


def plan(lengths: list[int], **changes: float) -> list[Step]:
    settings = {"tokens_per_step": 100, "micro_tokens": 64, "epochs": 1.0, "seed": 0} | changes
    return plan_steps(lengths, [size // 2 for size in lengths], **settings)  # type: ignore[arg-type]


def used(steps: list[Step]) -> Counter[int]:
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


def test_collate_lists_what_each_row_supervises() -> None:
    rows = random_rows(5, weight=0.5)
    batch = collate(rows, 0)
    width = max(len(row.input_ids) for row in rows)
    found = {
        (int(position) // width, int(position) % width + 1): (int(label), float(weight), batch.targets.role_names[role])
        for position, label, weight, role in zip(
            batch.targets.positions, batch.targets.labels, batch.targets.weights, batch.targets.roles, strict=True
        )
    }
    expected = {
        (r, t): (row.input_ids[t], row.weights[t], row.roles[row.span_of[t]])
        for r, row in enumerate(rows)
        for t in range(1, len(row.input_ids))
        if row.weights[t] > 0
    }
    assert found == expected
    assert batch.attention_mask is not None
    for ids, mask, positions, row in zip(batch.input_ids, batch.attention_mask, batch.position_ids, rows, strict=True):
        size = len(row.input_ids)
        assert ids.tolist() == [*row.input_ids, *[0] * (width - size)]
        assert mask.tolist() == [1] * size + [0] * (width - size)
        assert positions.tolist() == list(range(width))


def test_no_mask_without_padding() -> None:
    assert collate(random_rows(3, shortest=9, longest=9), 0).attention_mask is None


def test_first_token_of_a_row_is_never_a_target() -> None:
    row = Rendered("raw", (5, 6, 7), (1.0, 1.0, 1.0), (0, 0, 0), ("ce",), ("text",))
    targets = collate([row], 0).targets
    assert targets.positions.tolist() == [0, 1]
    assert targets.labels.tolist() == [6, 7]


def test_broken_rows_are_named() -> None:
    with pytest.raises(DataError, match=r"'bad'.*prompt token"):
        collate([Rendered("bad", (1, 2, 3), (0.0, 1.0, 1.0), (-1, -1, 0), ("ce",), ("text",))], 0)
    with pytest.raises(DataError, match=r"'bad'.*differ"):
        collate([Rendered("bad", (1, 2, 3), (0.0, 1.0), (-1, 0), ("ce",), ("text",))], 0)
