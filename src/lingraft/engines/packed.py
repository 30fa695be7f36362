"""Weights in the order in which a CPU's matrix kernels read them: sorted once for many steps, not at every product.

Products of few rows with a large weight, as in writing token by token, are otherwise spent on bringing the weight into
that order. PyTorch's compiler does the same when it freezes a model; here nothing is compiled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from lingraft.models.devices import resolve_dtype
from lingraft.models.sparse_layer import SparseLinear, sparse_layers

ROWS = 16
"""The number of rows that the order is chosen for; other numbers work as well, somewhat slower."""


class PackedLinear(nn.Module):
    """Computes what an `nn.Linear` on a CPU does, without gradients, from a packed copy of its weight.

    Args:
        linear: whose weight is copied.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.linear = linear
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)

    @property
    def weight(self) -> torch.Tensor:
        """The weight of the linear layer; empty while `release` holds it back."""
        return self.linear.weight

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias of the linear layer."""
        return self.linear.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the product with `inputs` (..., in features): (..., out features)."""
        return torch.ops.mkldnn._linear_pointwise(inputs, self._packed, self.bias, "none", [], "")

    def release(self) -> None:
        """Free the memory of the plain weight: the packed one says the same."""
        self.linear.weight.data = self.linear.weight.data.new_empty(0)

    def restore(self) -> None:
        """Give the linear layer its weight back, bit by bit what it was."""
        if self.linear.weight.numel() == 0:
            self.linear.weight.data = self._packed.to_dense()


def can_pack(model: nn.Module) -> bool:
    """Whether the model's device and type have kernels for packed weights."""
    weight = next(model.parameters())
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype in (torch.float32, resolve_dtype("auto", weight.device))


def _read(model: nn.Module) -> set[int]:
    """Return the ids of weights that are read, too: PEFT's DoRA takes the norms of what its linear layers sum up to."""
    layers = [module for module in model.modules() if len(getattr(module, "lora_magnitude_vector", ())) > 0]
    return {id(parameter) for layer in layers for parameter in layer.parameters()}


def _only_calls(layer: nn.Module) -> bool:
    """Whether a layer takes anything for the linear layer in it that computes the same; PEFT's for single rows of
    embeddings, around a head that is tied to them, computes with the weight instead."""
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, LoraLayer | SparseLinear) or not isinstance(layer, BaseTunerLayer)


@contextmanager
def packed_weights(model: nn.Module) -> Iterator[None]:
    """Compute with packed weights in all linear layers, where the machine can; afterwards the model is as it was.

    The memory of a weight is freed while its packed copy is used, unless another layer shares it (an output head that
    is tied to the embeddings) or an adapter reads it. Nothing may need gradients or switch adapters meanwhile.
    """
    if not can_pack(model):
        yield
        return
    used: Counter[int] = Counter()
    read = _read(model)
    for module in model.modules():
        used.update(id(parameter) for parameter in module._parameters.values() if parameter is not None)
    for layer in sparse_layers(model).values():
        layer.settle(learns=False)  # what is packed is the weight as it computes
    dtype = next(model.parameters()).dtype
    replaced: list[tuple[Any, str, PackedLinear]] = []
    try:
        for parent in filter(_only_calls, list(model.modules())):
            for name, child in list(parent.named_children()):
                if type(child) is nn.Linear and child.weight.dtype == dtype and not isinstance(parent, PackedLinear):
                    packed = PackedLinear(child)
                    setattr(parent, name, packed)
                    replaced.append((parent, name, packed))
                    if used[id(child.weight)] == 1 and id(child.weight) not in read:
                        packed.release()
        yield
    finally:
        for parent, name, packed in replaced:
            packed.restore()
            setattr(parent, name, packed.linear)
