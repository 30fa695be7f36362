"""Faster layers for LoRA training on a CPU, with the results of the libraries' own.

- LoRA linear: y = x W^T + s drop(x) A^T B^T as one step of the gradient graph. PEFT casts the input to float32 for the
  adapter, draws dropout number by number and adds activations of full size; here the adapter works in the type of the
  base, adds into the base's product, and keeps nothing but x, x A^T and the mask (the backward pass is that of
  Unsloth's fused LoRA layers, https://github.com/unslothai/unsloth).
- RMSNorm: forward and backward in blocks of rows that stay in the cache.

`fast_layers` puts them in the place of a model's own layers for the time of a block. What it does not recognise stays.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.utils import is_liger_kernel_available

from lingraft.core.errors import UsageError
from lingraft.core.packages import install_command
from lingraft.training.settings import TrainSettings

NORM_ROWS = 128  # rows of one block of a norm
BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
PROBE_ROWS = 5


def _shaped(rows: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return `rows`, which nothing else refers to, in another shape, and not as a view: autograd does not let the model
    change a view that a custom function returns in place, as some do (`output += shared`)."""
    result: torch.Tensor = torch.ops.aten._unsafe_view(rows, list(shape))
    return result


class _LoraLinear(torch.autograd.Function):
    """x W^T + bias + s drop(x) A^T B^T; W and bias are frozen, A and B learn in float32 whatever the type of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
        dropout: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        mask, kept = dropout_mask(rows, dropout) if dropout else (None, 1.0)
        scale = scale / kept
        low = _masked(rows, mask) @ a.to(x.dtype).t()
        result = F.linear(rows, weight, bias).addmm_(low, (b * scale).to(x.dtype).t())
        ctx.save_for_backward(rows, mask, weight, a, b, low)
        ctx.scale = scale
        return _shaped(result, (*x.shape[:-1], weight.shape[0]))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, mask, weight, a, b, low = ctx.saved_tensors
        grad = outer[0].reshape(-1, weight.shape[0])
        of_low = grad @ (b * ctx.scale).to(grad.dtype)
        of_a = (of_low.t() @ _masked(rows, mask)).to(a.dtype)
        of_b = (grad.t() @ low).to(b.dtype).mul_(ctx.scale)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = grad @ weight
            if mask is None:
                of_x.addmm_(of_low, a.to(grad.dtype))
            else:
                of_x += _masked(of_low @ a.to(grad.dtype), mask)
            of_x = of_x.view(*outer[0].shape[:-1], weight.shape[1])
        return of_x, None, None, of_a, of_b, None, None


def dropout_mask(x: torch.Tensor, p: float) -> tuple[torch.Tensor, float]:
    """Return which elements of `x` survive, and the probability that one does.

    One random number serves several elements, which is about five times as fast as `torch.bernoulli`; the probability
    of dropping is therefore a multiple of 2**-15 (of 2**-31 for float32) near `p`.

    Args:
        x: any shape, of a floating-point type.
        p: probability of dropping an element.

    Returns:
        An integer mask of the shape of `x` with all bits set where an element stays; the exact probability of staying.
    """
    kind = BITS[x.element_size()]
    bits = 8 * x.element_size()
    draws = torch.empty(-(-x.numel() * x.element_size() // 8), dtype=torch.int64, device=x.device)
    numbers = draws.random_(-(2**63), None).view(kind)[: x.numel()].view(x.shape)
    levels = 2 ** (bits - 1)  # one bit fewer than the type has, so that the difference below cannot overflow
    below = round(p * levels)
    numbers.bitwise_right_shift_(1).sub_(below - levels // 2).bitwise_right_shift_(bits - 1).bitwise_not_()
    return numbers, 1 - below / levels


def _masked(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x if mask is None else (x.view(mask.dtype) & mask).view(x.dtype)


class FastLoraLinear(PeftLinear):
    """PEFT's LoRA layer with the fused step; whatever that does not cover goes PEFT's own way."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return the layer's output for `x` (..., in)."""
        base = self.get_base_layer()
        active = [name for name in self.active_adapters if name in self.lora_A]
        if args or kwargs or self.disable_adapters or self.merged or len(active) != 1:
            return super().forward(x, *args, **kwargs)
        name = active[0]
        device = x.device.type
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == base.weight.dtype:
            x = x.to(base.weight.dtype)
        learns = torch.is_grad_enabled() and self.lora_A[name].weight.requires_grad
        if not learns or x.dtype != base.weight.dtype or self.lora_B[name].bias is not None:
            return super().forward(x)
        dropout = getattr(self.lora_dropout[name], "p", 0.0) if self.training else 0.0
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        result: torch.Tensor = _LoraLinear.apply(x, base.weight, base.bias, a, b, self.scaling[name], dropout)
        return result


def _can_fuse(layer: PeftLinear) -> bool:
    base = layer.get_base_layer()
    return (
        type(base) is nn.Linear
        and type(base.weight) is nn.Parameter  # not a shard of it
        and not base._forward_hooks
        and not base._forward_pre_hooks
        and not hasattr(base, "_hf_hook")
        and not any(parameter.requires_grad for parameter in base.parameters())
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and all(type(dropout) in (nn.Dropout, nn.Identity) for dropout in layer.lora_dropout.values())
    )


class _RmsNorm(torch.autograd.Function):
    """weight x x / rms(x) with a frozen weight, computed in float32 (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        wide = torch.promote_types(x.dtype, torch.float32)
        inverse = torch.linalg.vector_norm(rows, dim=-1, keepdim=True, dtype=wide)
        inverse.square_().div_(rows.shape[-1]).add_(eps).rsqrt_()
        result = torch.empty_like(rows)
        for part in _blocks(len(rows)):
            result[part] = rows[part].to(wide) * inverse[part]
            result[part] *= weight
        ctx.save_for_backward(rows, weight, inverse)
        return _shaped(result, x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, inverse = ctx.saved_tensors
        grad = outer[0].reshape(rows.shape)
        wide_weight = weight.to(inverse.dtype)
        result = torch.empty_like(rows)
        for part in _blocks(len(rows)):
            of_unit = grad[part].to(inverse.dtype) * wide_weight
            unit = rows[part].to(inverse.dtype) * inverse[part]
            along = (of_unit * unit).mean(-1, keepdim=True)
            result[part] = of_unit.sub_(unit.mul_(along)).mul_(inverse[part])
        return result.view(outer[0].shape), None, None


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(begin, begin + NORM_ROWS) for begin in range(0, rows, NORM_ROWS))


@cache
def _fast_norm(kind: Any, eps_name: str) -> type[nn.Module]:
    """Return a subclass of an RMSNorm layer that computes it in blocks."""

    class FastNorm(kind):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.dtype != self.weight.dtype or self.weight.requires_grad:
                return super().forward(x)
            result: torch.Tensor = _RmsNorm.apply(x, self.weight, getattr(self, eps_name))
            return result

    return FastNorm


@torch.no_grad()
def _norm_like(layer: nn.Module) -> type[nn.Module] | None:
    """Return the fast class for `layer` if it computes weight x x / rms(x), as tried on random input."""
    weight = getattr(layer, "weight", None)
    eps_name = next((name for name in ("variance_epsilon", "eps") if isinstance(getattr(layer, name, None), float)), "")
    if type(weight) is not nn.Parameter or weight.dim() != 1 or not eps_name or len(list(layer.parameters())) != 1:
        return None
    if "RMSNorm" not in type(layer).__name__ or weight.requires_grad:
        return None
    if len(inspect.signature(layer.forward).parameters) != 1:  # a gated norm takes its gate as well
        return None
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(PROBE_ROWS, len(weight), generator=generator).to(weight)
    expected, found = layer(x), _RmsNorm.apply(x, weight, getattr(layer, eps_name))
    tolerance = 8 * torch.finfo(weight.dtype).eps
    same = expected.dtype == found.dtype and torch.allclose(expected.float(), found.float(), tolerance, tolerance)
    own: Any = type(layer)
    return _fast_norm(own, eps_name) if same else None


@contextlib.contextmanager
def fast_layers(model: nn.Module) -> Iterator[int]:
    """Let the layers of `model` that are recognised compute faster for the time of the block; yield how many.

    A layer becomes an instance of a subclass of its own class, as `torch.distributed.fsdp.fully_shard` does it:
    parameters, their names, hooks and what is saved stay as they are.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []
    try:
        for module in model.modules():
            kind = FastLoraLinear if type(module) is PeftLinear and _can_fuse(module) else _norm_like(module)
            if kind is not None:
                changed.append((module, type(module)))
                module.__class__ = kind
        yield len(changed)
    finally:
        for module, original in changed:
            module.__class__ = original


def chosen_kernels(settings: TrainSettings, device: torch.device) -> str:
    """Return which layers compute, `plain`, `fused` or `liger`, for the choice in the settings.

    Raises:
        UsageError: the device cannot do it, or it is not installed.
    """
    if settings.compile and device.type != "cuda":
        raise UsageError(
            f"train.compile is for CUDA GPUs, and the model is on {device.type}, where it takes minutes and gains "
            f"nothing; set it to false"
        )
    choice = settings.kernels
    if choice == "auto":
        return "fused" if device.type == "cpu" else "plain"
    if choice == "fused" and device.type != "cpu":
        raise UsageError(
            f"train.kernels: fused is made for CPUs, and the model is on {device.type}; use plain, liger or auto"
        )
    if choice == "liger" and device.type != "cuda":
        raise UsageError(
            f"train.kernels: liger needs a CUDA GPU, and the model is on {device.type}; use auto, plain or fused"
        )
    if choice == "liger" and not is_liger_kernel_available():
        raise UsageError(f"train.kernels: liger is not installed; run `{install_command('liger_kernel')}`")
    return choice
