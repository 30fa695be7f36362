"""Mergers of changes (task arithmetic, TIES, DARE, Chat Vector), against cases worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lingraft.merging.base import MERGERS, Weight

BASE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
ONE = torch.tensor([[2.0, 2.0], [3.0, 8.0]])  # +1 0 0 +4
OTHER = torch.tensor([[0.0, 5.0], [3.0, 2.0]])  # -1 +3 0 -2
UP = Weight(name="up.weight")


def merged(kind: str, weight: Weight = UP, **params: Any) -> torch.Tensor:
    return MERGERS.create({"kind": kind, **params}).merge(weight, BASE.clone(), [ONE.clone(), OTHER.clone()])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [[1.0, 5.0], [3.0, 6.0]]),
        ({"scale": 0.5}, [[1.0, 3.5], [3.0, 5.0]]),
        ({"weights": [1, -1]}, [[3.0, -1.0], [3.0, 10.0]]),
        ({"weights": [2, 1], "scale": 2}, [[3.0, 8.0], [3.0, 16.0]]),
    ],
)
def test_task_arithmetic(params: dict[str, Any], expected: list[list[float]]) -> None:
    assert torch.equal(merged("task_arithmetic", **params), torch.tensor(expected))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        # +1 against -1 sums to 0, whose sign counts as positive; +4 outweighs -2.
        ({"density": 1}, [[2.0, 5.0], [3.0, 8.0]]),
        ({"density": 0.5}, [[2.0, 5.0], [3.0, 8.0]]),  # +1 +4 and +3 -2 stay
        ({"density": 0.25}, [[1.0, 5.0], [3.0, 8.0]]),  # +4 and +3 stay
        ({"density": 0.25, "scale": 2}, [[1.0, 8.0], [3.0, 12.0]]),
        ({"density": 1, "weights": [1, 3]}, [[0.0, 5.0], [3.0, 2.0]]),
        ({"density": 1, "weights": [1, 3], "normalise": False}, [[-2.0, 11.0], [3.0, -2.0]]),
    ],
)
def test_ties(params: dict[str, Any], expected: list[list[float]]) -> None:
    assert torch.equal(merged("ties", **params), torch.tensor(expected))


def test_by_default_ties_keeps_a_fifth_as_the_paper_does() -> None:
    assert MERGERS.create({"kind": "ties"}).params.density == 0.2


@pytest.mark.parametrize("consensus", ["linear", "ties"])
def test_dare_drops_nothing_or_makes_what_stays_larger(consensus: str) -> None:
    whole = merged("dare", density=1, consensus=consensus)
    expected = merged("task_arithmetic") if consensus == "linear" else merged("ties", density=1)
    assert torch.equal(whole, expected)
    zero, change = torch.zeros(64, 64), torch.ones(64, 64)
    merger = MERGERS.create({"kind": "dare", "density": 0.25, "consensus": consensus})
    found = merger.merge(UP, zero.clone(), [change.clone()])
    assert set(found.flatten().tolist()) == {0.0, 4.0}
    assert found.mean().item() == pytest.approx(1, abs=0.1)


def test_dare_draws_by_seed_name_and_model() -> None:
    def drawn(seed: int, name: str, place: int) -> torch.Tensor:
        models = [torch.zeros(32, 32) for _ in range(3)]
        models[place] += 1
        merger = MERGERS.create({"kind": "dare", "seed": seed})
        found: torch.Tensor = merger.merge(Weight(name=name), torch.zeros(32, 32), models)
        return found

    found = drawn(0, "a.weight", 0)
    assert torch.equal(found, drawn(0, "a.weight", 0))
    for other in (drawn(1, "a.weight", 0), drawn(0, "b.weight", 0), drawn(0, "a.weight", 1)):
        assert not torch.equal(found, other)


def test_chat_vector_adds_what_made_the_chat_model() -> None:
    assert torch.equal(merged("chat_vector"), torch.tensor([[1.0, 5.0], [3.0, 6.0]]))
    assert torch.equal(merged("chat_vector", ratio=0.5), torch.tensor([[1.5, 3.5], [3.0, 7.0]]))


def test_chat_vector_copies_rows_of_other_vocabularies() -> None:
    grown = torch.arange(8.0).reshape(4, 2)
    weight = Weight(name="embed_tokens.weight", embedding=True, rows={3: 1})
    found = MERGERS.create({"kind": "chat_vector"}).merge(weight, BASE.clone(), [grown.clone(), OTHER.clone()])
    assert found.tolist() == [[0, 1], [2, 3], [4, 5], [3, 2]]
    assert torch.equal(merged("chat_vector", Weight(name="lm_head.weight", head=True, rows={})), ONE)
