"""Plans in flat arrays against lists of steps, and the planning of many rows against one row after the other."""

from __future__ import annotations

import pickle
import tracemalloc
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.training.batching import plan_steps
from lingraft.training.plan import Plan, Step

MICROS = st.lists(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4).map(tuple), max_size=4).map(tuple)
STEPS = st.lists(st.builds(Step, MICROS, *[st.integers(0, 2**40)] * 3), max_size=6)


def planned(steps: list[Step]) -> Plan:
    plan = Plan()
    for step in steps:
        plan.add(
            [np.array(micro) for micro in step.micros],
            tokens=step.tokens,
            padded_tokens=step.padded_tokens,
            supervised=step.supervised,
        )
    return plan


@given(STEPS, st.slices(7))
def test_a_plan_is_the_sequence_of_its_steps(steps: list[Step], part: slice) -> None:
    plan = planned(steps)
    assert list(plan) == steps
    assert plan == steps
    assert plan[part] == steps[part]
    assert [plan[n] for n in range(-len(steps), len(steps))] == steps * 2
    assert pickle.loads(pickle.dumps(plan)) == plan
    totals = (sum(s.tokens for s in steps), sum(s.padded_tokens for s in steps), sum(s.supervised for s in steps))
    assert (plan.tokens, plan.padded_tokens, plan.supervised) == totals
    for count in range(len(steps) + 1):
        done = steps[:count]
        assert plan.done(count) == (sum(s.tokens for s in done), sum(s.supervised for s in done))
    with pytest.raises(IndexError):
        plan[len(steps)]


def test_the_digest_tells_plans_apart() -> None:
    step = Step(((1, 2), (3,)), 9, 9, 3)
    plans = [[step], [replace(step, micros=((1,), (2, 3)))], [replace(step, micros=((1, 2), (4,)))], [step, step], []]
    plans += [[replace(step, micros=((1, 2),)), replace(step, micros=((3,),))]]
    digests = [planned(plan).digest() for plan in plans]
    assert len(set(digests)) == len(plans)
    assert digests[0] == planned([step]).digest()


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 150), st.integers(0, 3))
def test_steps_are_filled_as_one_row_after_the_other_would(lengths: list[int], budget: int, seed: int) -> None:
    plan = plan_steps(
        lengths, lengths, tokens_per_step=budget, micro_tokens=10**6, epochs=1, seed=seed, packed=True
    )  # a micro-batch holds its whole step, in the shuffled order
    order = np.random.default_rng([seed, 0]).permutation(len(lengths)).tolist()
    groups: list[list[int]] = [[]]
    for row in order:
        if groups[-1] and sum(lengths[r] for r in groups[-1]) + lengths[row] > budget:
            groups.append([])
        groups[-1].append(row)
    found = [list(step.micros[0]) for step in plan]
    assert found[:-2] == groups[:-2]  # the last two may have been evened out
    assert [*chain(*found[-2:])] == [*chain(*groups[-2:])]


def test_many_rows_are_planned_in_a_few_bytes_each() -> None:
    lengths = np.random.default_rng(1).integers(20, 200, 8_000).astype(np.int32)
    tracemalloc.start()
    plan = plan_steps(lengths, lengths, tokens_per_step=4096, micro_tokens=4096, epochs=1, seed=1)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 8 * len(lengths)
    assert peak < 80 * len(lengths)
    assert sorted(row for step in plan for micro in step.micros for row in micro) == list(range(len(lengths)))
