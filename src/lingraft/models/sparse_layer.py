"""Linear layers of which single numbers are changed: PEFT's SHiRA (arXiv 2406.13175) with a lean forward and backward.

PEFT's own layer keeps the changed copy of every weight until the backward pass, and adds and subtracts when it merges,
which does not give the base back bit for bit. This one, a subclass:

- while it learns, makes the changed weight anew in the backward pass: what learns is one float32 vector a layer, and
  one weight of one layer at a time is in memory twice;
- otherwise puts the changed numbers into the weight itself, so that it computes as fast as the base, and the very
  numbers back when the adapter is switched or taken off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners.shira import Linear as PeftLinear
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lingraft.core.errors import ModelError
from lingraft.models.adapter_config import shira_config
from lingraft.models.devices import quiet
from lingraft.models.sparse_entries import Entries, changed, common_rank


class _ChangedLinear(torch.autograd.Function):
    """x (W + D)^T + bias, D sparse: the values of D learn in float32, W and bias are frozen."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        places: torch.Tensor,
        values: torch.Tensor,
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight, places, values)
        return F.linear(x, changed(weight, places, values).to(x.dtype), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, places, values = ctx.saved_tensors
        grad = outer[0].reshape(-1, weight.shape[0])
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = (grad @ changed(weight, places, values).to(grad.dtype)).view(x.shape)
        of_weight = grad.t() @ x.reshape(-1, x.shape[-1]).to(grad.dtype)
        return of_x, None, None, None, of_weight[places[0], places[1]].to(values.dtype)


class SparseLinear(PeftLinear):
    """PEFT's SHiRA layer with one adapter, `default`."""

    _originals: torch.Tensor | None = None

    def put(self, places: torch.Tensor, values: torch.Tensor) -> None:
        """Set what is changed: `places` (2, n) and, at them, `values` (n,), which then are its parameter."""
        self.unmerge()  # what stands in the weight is that of the places before
        device = self._weight.device
        self.shira_indices["default"] = places.to(device, torch.int32)
        learns = self.shira_weight["default"].requires_grad
        self.shira_weight["default"] = nn.Parameter(values.to(device, torch.float32), requires_grad=learns)

    @property
    def _weight(self) -> torch.Tensor:
        base: Any = self.get_base_layer()
        return torch.as_tensor(base.weight.data)

    @property
    def places(self) -> torch.Tensor:
        """Rows and columns of the changed numbers, (2, n)."""
        device = self.shira_weight["default"].device
        found = self.shira_indices["default"]
        if found.device != device:
            found = self.shira_indices["default"] = found.to(device)
        return found.long()

    @property
    def values(self) -> torch.Tensor:
        """What is added to them, its scale included."""
        return self.shira_weight["default"] * self.scaling["default"]

    def entries(self) -> Entries:
        """Return what is changed, on the CPU and apart from the layer."""
        values = self.shira_weight["default"].detach().cpu().clone()
        return Entries(self.places.cpu(), values, sum(self._weight.shape))

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the layer's output for `x` (..., in)."""
        base: Any = self.get_base_layer()
        self.settle(learns=torch.is_grad_enabled() and self.shira_weight["default"].requires_grad)
        if self.disable_adapters or self.merged:
            plain: torch.Tensor = base(x, *args, **kwargs)
            return plain
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        bias = None if base.bias is None else base.bias.to(x.dtype)
        found: torch.Tensor = _ChangedLinear.apply(x, base.weight, bias, self.places, self.values)
        return found

    def settle(self, *, learns: bool) -> None:
        """Put the changed numbers into the weight, or take them out where the adapter is off or `learns`."""
        if self.disable_adapters or learns:
            self.unmerge()
        else:
            self.merge()

    @torch.no_grad()
    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Put the changed numbers into the base's weight; `unmerge` gives back what was there."""
        if self.merged or self._weight.is_meta:
            return
        weight, (rows, columns) = self._weight, self.places
        self._originals = weight[rows, columns]
        weight[rows, columns] = (self._originals.float() + self.values).to(weight.dtype)
        self.merged_adapters.append("default")

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the base's own numbers back."""
        if not self.merged:
            return
        assert self._originals is not None
        rows, columns = self.places
        self._weight[rows, columns] = self._originals
        self._originals = None
        self.merged_adapters.clear()


def sparse_layers(model: nn.Module) -> dict[str, SparseLinear]:
    """Return the layers of a model that single numbers are changed of, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, SparseLinear)}


def make_sparse(model: nn.Module) -> None:
    """Let PEFT's SHiRA layers in a model compute as those of this module do.

    A layer becomes an instance of a subclass of its own class, as `torch.distributed.fsdp.fully_shard` does it.
    """
    for module in model.modules():
        if type(module) is PeftLinear:
            module.__class__ = SparseLinear


def wrapped(model: Any, entries: Mapping[str, Entries], task: str | None = "CAUSAL_LM") -> Any:
    """Return a base wrapped by PEFT so that single numbers of its weights are changed.

    Args:
        model: the base, without adapter.
        entries: by the names of its linear layers.
        task: PEFT's `task_type`.

    Raises:
        ModelError: a layer is none, in 4 bits, a part of one or shared, or lacks one of the places.
    """
    from peft import get_peft_model

    if odd := next((reason for name, one in entries.items() if (reason := _unfit(model, name, one))), None):
        raise ModelError(f"single numbers of {type(model).__name__} cannot be changed so: {odd}")
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices), quiet():
        adapted = get_peft_model(model, shira_config(list(entries), 1, task))
    make_sparse(adapted)
    layers = sparse_layers(adapted.get_base_model())
    for name, layer in layers.items():
        layer.put(entries[name].places, entries[name].values)
    adapted.peft_config["default"].r = common_rank(entries)
    return adapted


def _unfit(model: Any, name: str, entries: Entries) -> str:
    """Return why a layer cannot be changed so; "" if it can."""
    try:
        layer: Any = model.get_submodule(name)
    except AttributeError:
        return f"it has no layer {name}"
    if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter or not layer.weight.is_floating_point():
        return f"{name} is no plain linear layer, or in 4 bits, or a part of one; use the base whole and unquantised"
    if sum(parameter is layer.weight for _, parameter in model.named_parameters(remove_duplicate=False)) > 1:
        return f"{name} shares its weight with another layer"
    if twin := next((other for other, _ in model.named_modules() if other.endswith(f".{name}")), None):
        return f"PEFT takes {twin} for {name}"
    return "" if entries.fits(layer.weight.shape) else f"the weight of {name} has another shape than the changes"


def entries_of(model: Any) -> dict[str, Entries]:
    """Return the numbers that an adapter on a model changes, by layer; {} where it is of another kind."""
    layers = sparse_layers(model.get_base_model())
    return {name: layer.entries() for name, layer in layers.items()}
