"""What learns, as changes of the base's weights: low-rank updates by their factors, all else whole.

The norm of an update s B A, also of its difference from another, and also with rows and columns weighed, needs no
matrix of the size of the layer: |B A|^2 is the sum over (B^T B) * (A A^T), which are as large as the rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer

LEARNT = "default"
"""Name under which PEFT has the adapter that learns."""


@dataclass(frozen=True, eq=False)
class Update:
    """The update of one layer, scale x B A; a layer of experts has one for each of them.

    Attributes:
        name: of the layer.
        layer: the layer itself.
        a: the first factor, (rank, in); of a layer of e experts (e x rank, in).
        b: the second factor, (out, rank); of a layer of experts (out, rank x e).
        scale: of the product.
        experts: how many matrices the layer has.
        linear: whether the layer takes vectors and returns their product with one matrix.
    """

    name: str
    layer: Any
    a: torch.Tensor
    b: torch.Tensor
    scale: float
    experts: int
    linear: bool

    def factors(
        self, a: torch.Tensor | None = None, b: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A (experts, rank, in) and scale x B (experts, out, rank), differentiable: its own, or given ones."""
        first, second = (self.a if a is None else a).flatten(1), (self.b if b is None else b).flatten(1)
        first = first.reshape(self.experts, -1, first.shape[-1])
        return first, self.scale * second.reshape(len(second), -1, self.experts).permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class Whole:
    """A weight that learns as it is.

    Attributes:
        name: of the parameter.
        weight: it.
        of_base: the base's own, where the model still has it.
    """

    name: str
    weight: torch.Tensor
    of_base: torch.Tensor | None


def learnt_weights(model: PeftModel) -> tuple[list[Update], list[Whole]]:
    """Return all that learns in an adapted model, in the model's order."""
    updates: list[Update] = []
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer) and (found := _factors(module)):
            a, b = found
            if a.requires_grad and b.requires_grad:
                base: Any = module.get_base_layer()
                linear = a.dim() == 2 and hasattr(base, "weight") and getattr(module, "parameter_name", None) is None
                linear = linear and not isinstance(base, torch.nn.Embedding)
                experts = int(getattr(module, "num_experts", 1))
                updates.append(Update(name, module, a, b, float(module.scaling[LEARNT]), experts, linear))
    of_updates = {id(factor) for one in updates for factor in (one.a, one.b)}
    everything = dict(model.named_parameters(remove_duplicate=False))
    whole: dict[int, Whole] = {}
    for name, parameter in everything.items():
        if parameter.requires_grad and id(parameter) not in of_updates:
            original = everything.get(name.replace(f".modules_to_save.{LEARNT}.", ".original_module."))
            of_base = None if original is parameter else original
            whole.setdefault(id(parameter), Whole(name, parameter, of_base))
    return updates, list(whole.values())


def _factors(module: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    if LEARNT in module.lora_A:
        return module.lora_A[LEARNT].weight, module.lora_B[LEARNT].weight
    if LEARNT in module.lora_embedding_A:
        return module.lora_embedding_A[LEARNT], module.lora_embedding_B[LEARNT]
    return None


def squared_norm(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the sum of squares of the entries of B A.

    Args:
        a: (experts, rank, in).
        b: (experts, out, rank).
    """
    return ((b.transpose(1, 2) @ b) * (a @ a.transpose(1, 2))).sum()


class Start:
    """What learns, and what it was when the stage began.

    Attributes:
        updates: low-rank ones.
        whole: weights that learn as they are.
        parameters: all that learns: both factors of each update, then the others.
        begun: copies of them as they were.
    """

    def __init__(self, model: PeftModel) -> None:
        self.updates, self.whole = learnt_weights(model)
        self.parameters = [factor for one in self.updates for factor in (one.a, one.b)]
        self.parameters += [one.weight for one in self.whole]
        self.begun = [parameter.detach().clone() for parameter in self.parameters]
        self._nothing = [not bool(second.any()) for second in self.begun[1 : 2 * len(self.updates) : 2]]

    def moved(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return factors A and B, differentiable, of what an update has gained since."""
        a, b = self.updates[number].factors()
        if self._nothing[number]:  # whatever its first factor was, which may turn freely
            return a, b
        first, second = self.updates[number].factors(self.begun[2 * number], self.begun[2 * number + 1])
        return torch.cat([a, first], dim=1), torch.cat([b, -second], dim=2)

    def moved_whole(self) -> list[torch.Tensor]:
        """Return by how much the other weights have changed, differentiable."""
        begun = self.begun[2 * len(self.updates) :]
        return [one.weight - before for one, before in zip(self.whole, begun, strict=True)]


def add_to_gradients(value: torch.Tensor, parameters: list[torch.Tensor], strength: float) -> None:
    """Add strength x the gradient of a scalar to that of parameters."""
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    with torch.no_grad():
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = strength * gradient
            else:
                parameter.grad.add_(gradient.to(parameter.grad.dtype), alpha=strength)
