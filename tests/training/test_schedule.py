"""Rates of the schedules: against closed forms, and none of them 0."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from lingraft.training.schedule import schedule
from lingraft.training.settings import TrainSettings

NAMES = get_args(TrainSettings.model_fields["schedule"].annotation)


def rates(name: str, steps: int, warmup_steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=2.0)
    rate = schedule(name, optimizer, steps=steps, warmup_steps=warmup_steps)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        rate.step()
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (2, 1), (3, 3), (40, 2)])
def test_no_step_has_rate_0(name: str, steps: int, warmup: int) -> None:
    found = rates(name, steps, warmup)
    assert all(0 < rate <= 2.0 for rate in found)
    if warmup < steps:
        assert max(found) == pytest.approx(2.0)


def test_the_shares_are_those_of_the_closed_forms() -> None:
    up = [2 * i / 3 for i in (1, 2)]
    assert rates("linear", 10, 2) == pytest.approx([*up, *(2 * (8 - i) / 8 for i in range(8))])
    assert rates("cosine", 10, 2) == pytest.approx([*up, *(1 + math.cos(math.pi * i / 8) for i in range(8))])
    assert rates("constant_with_warmup", 10, 2) == pytest.approx([*up, *[2.0] * 8])
    assert rates("linear", 4, 0) == pytest.approx([2.0, 1.5, 1.0, 0.5])
