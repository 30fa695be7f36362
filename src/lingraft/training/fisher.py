"""Diagonal Fisher information of what learns, from the rows that hold the base's own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from lingraft.core.errors import DataError
from lingraft.rendering.rows import Rendered
from lingraft.training.learnt_weights import Start, Update, squared_norm

ANSWERS = "reply"
"""Role of the spans that are the base's own answers."""


@dataclass(frozen=True)
class Fisher:
    """Squared gradients of log-probabilities, a token.

    Attributes:
        layers: number of an update -> sums over the columns, (out,), and over the rows, (in,), of its layer's.
        others: number of a parameter, as `Start.parameters` has them -> its own; factors of layers above are not there.
    """

    layers: dict[int, tuple[torch.Tensor, torch.Tensor]]
    others: dict[int, torch.Tensor]

    def weighed(self, start: Start) -> torch.Tensor:
        """Return the sum of Fisher information x squared change since the start, differentiable in what learns."""
        parts = []
        for number, (of_rows, of_columns) in self.layers.items():
            a, b = start.moved(number)
            total = of_rows.sum().clamp(min=torch.finfo(of_rows.dtype).tiny)  # nothing at all is divided by something
            parts.append(squared_norm(a * of_columns.sqrt(), b * (of_rows / total).sqrt()[:, None]))
        for number, own in self.others.items():
            parts.append((own * (start.parameters[number] - start.begun[number]).square()).sum())
        return sum(parts[1:], parts[0])


def measure_fisher(
    model: PeftModel,
    start: Start,
    rows: Sequence[Rendered],
    loss: Callable[[Rendered], torch.Tensor],
    *,
    samples: int,
    seed: int,
) -> Fisher:
    """Return the Fisher information of what learns, at the weights it has now; it follows from the arguments alone.

    Args:
        model: with its adapter.
        start: what learns.
        rows: of which those with the base's own answers are used.
        loss: gives the sum of -log p over the supervised tokens of a row, differentiable in what learns.
        samples: at most so many rows, drawn by `seed`.
        seed: of the run.

    Raises:
        DataError: none is an answer of the base's own.
    """
    found = [number for number, row in enumerate(rows) if ANSWERS in row.roles and not row.sign]
    if not found:
        raise DataError(
            "objective 'ewc' measures what matters on the base's own answers to general prompts, and there are none "
            "among the rows of this stage; put the method `recovery` beside its first"
        )
    if len(found) > samples:
        found = sorted(np.random.default_rng([seed, len(found)]).choice(found, samples, replace=False).tolist())
    factors = 2 * len(start.updates)
    measured = _Measured(
        layers={number: one for number, one in enumerate(start.updates) if one.linear},
        others={
            number: parameter
            for number, parameter in enumerate(start.parameters)
            if number >= factors or not start.updates[number // 2].linear
        },
    )
    was_training = model.training
    model.eval()
    tokens = 0.0
    try:
        for number in found:
            tokens += measured.add(loss, rows[number])
    finally:
        model.train(was_training)
    return measured.fisher(tokens)


@dataclass
class _Measured:
    """Squared gradients so far; see `Fisher`."""

    layers: dict[int, Update]
    others: dict[int, torch.Tensor]

    def __post_init__(self) -> None:
        self.of_layers = {
            number: (one.b.new_zeros(one.b.shape[0]), one.a.new_zeros(one.a.shape[1]))
            for number, one in self.layers.items()
        }
        self.of_others = {number: torch.zeros_like(parameter) for number, parameter in self.others.items()}

    def add(self, loss_of: Callable[[Rendered], torch.Tensor], row: Rendered) -> float:
        """Add those of the answer in a row, and return the number of its tokens."""
        answers = [role == ANSWERS for role in row.roles]
        weights = tuple(
            float(weight > 0 and span >= 0 and answers[span])
            for weight, span in zip(row.weights, row.span_of, strict=True)
        )
        if not any(weights[1:]):
            return 0.0
        answer = replace(row, weights=weights, losses=("ce",) * len(row.losses), teacher=None)
        seen: list[tuple[int, torch.Tensor, torch.Tensor]] = []

        def noted(number: int) -> Any:
            def hook(_: torch.nn.Module, given: Any, made: torch.Tensor) -> None:
                if made.requires_grad:  # else of a pass that nothing is learnt from
                    seen.append((number, given[0].detach(), made))

            return hook

        handles = [one.layer.register_forward_hook(noted(number)) for number, one in self.layers.items()]
        try:
            loss = loss_of(answer)
        finally:
            for handle in handles:
                handle.remove()
        sought = [*(made for _, _, made in seen), *self.others.values()]
        gradients = torch.autograd.grad(loss, sought, allow_unused=True)
        self._add_layers([(number, given) for number, given, _ in seen], gradients[: len(seen)])
        for number, gradient in zip(self.others, gradients[len(seen) :], strict=True):
            if gradient is not None:
                self.of_others[number] += gradient.square()
        return sum(weights[1:])

    def _add_layers(self, given: Sequence[tuple[int, torch.Tensor]], gradients: Sequence[torch.Tensor | None]) -> None:
        calls: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        for (number, inputs), gradient in zip(given, gradients, strict=True):
            if gradient is not None:
                calls.setdefault(number, []).append((inputs, gradient))
        for number, made in calls.items():
            of_rows, of_columns = self.of_layers[number]
            of_weight = torch.zeros(len(of_rows), len(of_columns), dtype=of_rows.dtype, device=of_rows.device)
            for inputs, gradient in made:
                of_weight += gradient.flatten(0, -2).to(of_rows.dtype).T @ inputs.flatten(0, -2).to(of_rows.dtype)
            squares = of_weight.square()
            of_rows += squares.sum(1)
            of_columns += squares.sum(0)

    def fisher(self, tokens: float) -> Fisher:
        """Return the mean a token, the same in all processes."""
        for value in (*(one for pair in self.of_layers.values() for one in pair), *self.of_others.values()):
            value /= tokens
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.broadcast(value, 0)  # kernels of a GPU may round otherwise in another process
        return Fisher(self.of_layers, self.of_others)
