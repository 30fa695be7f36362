"""Low-rank updates kept orthogonal to the leading singular directions of the weights that they are added to.

OPLoRA (arXiv 2510.13003) trains delta = P_L B A P_R with P_L = I - U_k U_k^T and P_R = I - V_k V_k^T, U_k and V_k being
the k left and right singular vectors of the weight with the largest singular values. As the projections are linear and
B and A enter through them alone, B and A may as well be projected themselves: at the start, and after each step, whose
gradients are projected too. The products are those of the paper whatever the optimiser, and what is kept is plain LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from lingraft.core.errors import UsageError


def leading_directions(weight: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the singular vectors of a matrix with the k largest singular values: left (out, k) and right (in, k).

    They are computed from the products of rows, or of columns where these are fewer, in float64.

    Args:
        weight: (out, in), of any floating-point type.
        k: below both dimensions.
    """
    exact = weight.detach().to("cpu" if weight.device.type == "mps" else weight.device, torch.float64)
    wide = exact.shape[0] <= exact.shape[1]
    rows = exact if wide else exact.T
    left = torch.linalg.eigh(rows @ rows.T).eigenvectors[:, -k:]
    left, right = (torch.linalg.qr(found).Q.to(weight.device, torch.float32) for found in (left, rows.T @ left))
    return (left, right) if wide else (right, left)


def matrix_of(layer: Any, originals: Mapping[nn.Parameter, torch.Tensor]) -> torch.Tensor:
    """Return the weight of an adapted layer as (out, in): as it was where it is held in another type meanwhile, and as
    it is computed with where it is in 4 bits."""
    from peft.utils.integrations import dequantize_module_weight

    base = layer.get_base_layer()
    weight = originals[base.weight] if base.weight in originals else dequantize_module_weight(base)
    return weight.T if layer.fan_in_fan_out else weight


def adapted_matrices(model: nn.Module, k: int) -> list[Any]:
    """Return the layers of a model that have a low-rank update.

    Args:
        model: wrapped by PEFT.
        k: number of directions that updates are kept away from.

    Raises:
        UsageError: one is no matrix, or has not more directions than k.
    """
    from peft.tuners.lora import Embedding, LoraLayer

    layers: list[Any] = []
    for name, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        short = name.rpartition(".")[2]
        if isinstance(layer, Embedding) or "default" not in layer.lora_A or hasattr(layer, "parameter_name"):
            raise UsageError(
                f"tuner.orthogonal: is for layers that are one matrix; take {short!r} out of tuner.targets"
            )
        fewest = min(int(layer.in_features or 0), int(layer.out_features or 0))
        if fewest <= k:
            raise UsageError(
                f"tuner.orthogonal: {k} leaves nothing of {short!r} to learn, which has {fewest} directions; lower it"
            )
        layers.append(layer)
    return layers


class OrthogonalUpdates:
    """The low-rank updates of a model, kept orthogonal to k left and k right directions of each weight.

    When it is made the updates are projected, and gradients are from then on; calling it projects the updates again.

    Args:
        model: wrapped by PEFT; LoRA on matrices alone.
        k: number of directions on either side.
        originals: weights that are held in another type meanwhile, as they were.

    Raises:
        UsageError: an adapted layer is no matrix, or has not more directions than k.
    """

    def __init__(self, model: nn.Module, k: int, originals: Mapping[nn.Parameter, torch.Tensor]) -> None:
        self._factors: list[tuple[nn.Parameter, torch.Tensor, bool]] = []
        for layer in adapted_matrices(model, k):
            left, right = leading_directions(matrix_of(layer, originals), k)
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            for factor, directions, of_rows in ((a, right, True), (b, left, False)):
                self._factors.append((factor, directions, of_rows))
                factor.register_hook(partial(_without, directions=directions, of_rows=of_rows))
        self()

    @torch.no_grad()
    def __call__(self) -> None:
        """Project the updates."""
        for factor, directions, of_rows in self._factors:
            factor.copy_(_without(factor, directions, of_rows))


def _without(factor: torch.Tensor, directions: torch.Tensor, of_rows: bool) -> torch.Tensor:
    """Return a factor, or its gradient, without what lies in some directions.

    Args:
        factor: (rank, in) or (out, rank).
        directions: orthonormal columns, (in, k) or (out, k).
        of_rows: whether it is the rows of `factor` that are projected, else its columns.
    """
    if of_rows:
        return factor - (factor @ directions) @ directions.T
    return factor - directions @ (directions.T @ factor)
