"""The arc between two models, against plane geometry."""

from __future__ import annotations

import math

import pytest
import torch

from lingraft.core.errors import UsageError
from lingraft.merging.base import MERGERS, Weight

UP = Weight(name="up.weight")


def slerp(t: float, *models: torch.Tensor, base: torch.Tensor | None = None) -> torch.Tensor:
    start = torch.zeros_like(models[0]) if base is None else base.clone()
    return MERGERS.create({"kind": "slerp", "t": t}).merge(UP, start, [model.clone() for model in models])


@pytest.mark.parametrize("t", [0.0, 0.25, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("angle", [0.1, 1.0, 2.5])
def test_on_a_circle_it_is_a_part_of_the_angle(t: float, angle: float) -> None:
    one, other = torch.tensor([2.0, 0.0]), 2 * torch.tensor([math.cos(angle), math.sin(angle)])
    expected = 2 * torch.tensor([math.cos(t * angle), math.sin(t * angle)])
    torch.testing.assert_close(slerp(t, one, other), expected)


def test_one_model_alone_is_seen_from_the_base() -> None:
    base, model = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    torch.testing.assert_close(slerp(0.5, model, base=base), torch.full((1, 2), math.sqrt(0.5)))
    assert torch.equal(slerp(0, model, base=base), base)


def test_parallel_weights_are_interpolated_straight() -> None:
    one = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(slerp(0.25, one, 3 * one), 1.5 * one)
    torch.testing.assert_close(slerp(0.25, one, -one), 0.5 * one)
    torch.testing.assert_close(slerp(0.25, torch.zeros(3), one), 0.25 * one)


def test_beyond_the_ends_there_is_nothing() -> None:
    with pytest.raises(UsageError, match=r"merger slerp.t: .*less than or equal to 1"):
        MERGERS.create({"kind": "slerp", "t": 1.5})
