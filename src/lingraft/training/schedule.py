"""The learning rate of each step: transformers' schedules, of which no step has rate 0."""

from __future__ import annotations

from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler


def schedule(name: str, optimizer: Optimizer, *, steps: int, warmup_steps: int) -> LambdaLR:
    """Return a transformers schedule that begins and ends between its own steps.

    Transformers' warm-up gives the first step the rate 0, and its decay would reach 0 one step after the last: with one
    step of warm-up and few in all, nothing or next to nothing is learnt. Here the schedule is one step longer at its
    beginning: step i of w warm-up steps has the share (i + 1) / (w + 1) of the highest rate.

    Args:
        name: as transformers names it.
        optimizer: whose learning rates follow the schedule.
        steps: optimiser steps in all.
        warmup_steps: of these, for warm-up.
    """
    longer = get_scheduler(name, optimizer, num_warmup_steps=warmup_steps + 1, num_training_steps=steps + 1)
    return LambdaLR(optimizer, [_later(factor, steps) for factor in longer.lr_lambdas])


def _later(factor: Callable[[int], float], steps: int) -> Callable[[int], float]:
    return lambda step: factor(min(step + 1, steps))  # what comes after the last step is never used
