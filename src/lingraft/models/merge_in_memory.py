"""An adapter added to the weights of a base in memory, for the time of a block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lingraft.core.errors import ModelError, first_line
from lingraft.models.adapter import Parts, read_parts
from lingraft.models.sparse_entries import changed


@contextmanager
def merged(model: nn.Module, folder: Path) -> Iterator[None]:
    """Hold the sum of a model and an adapter in the model's weights; its very tensors are back afterwards.

    Sums are rounded to the type of the weights; what the adapter replaces is held as the adapter has it, in float32.
    The weights that the adapter changes are in memory twice meanwhile.

    Args:
        model: whole, unquantised, grown to the adapter's vocabulary and without an adapter of its own.
        folder: of the adapter.

    Raises:
        ModelError: damaged, not a plain adapter, or it does not fit the model.
    """
    parts = read_parts(folder)
    originals: dict[nn.Parameter, torch.Tensor] = {}
    try:
        try:
            for parameter, value in _sums(model, parts):
                originals.setdefault(parameter, parameter.data)
                parameter.data = value
        except (AttributeError, RuntimeError) as error:
            raise ModelError(
                f"the adapter in {folder} cannot be merged into the base ({first_line(error)}); use the "
                f"base it was trained on, unquantised and unsharded, and an adapter of its linear layers"
            ) from error
        yield
    finally:
        for parameter, data in originals.items():
            parameter.data = data


@torch.no_grad()
def _sums(model: Any, parts: Parts) -> Iterator[tuple[nn.Parameter, torch.Tensor]]:
    """Yield the parameters that an adapter changes with their new values."""
    names = Counter(id(parameter) for _, parameter in model.named_parameters(remove_duplicate=False))
    for layer, factors in parts.factors.items():
        if names[id(model.get_parameter(f"{layer}.weight"))] > 1:
            raise RuntimeError(f"{layer} shares its weight with another layer, which has no such update")
        parameter = model.get_parameter(f"{layer}.weight")
        yield parameter, _shaped(factors.on(parameter.data).to(parameter.dtype), parameter)
    for layer, entries in parts.sparse.items():
        parameter = model.get_parameter(f"{layer}.weight")
        if names[id(parameter)] > 1 or not entries.fits(parameter.shape):
            raise RuntimeError(f"the weight of {layer} is shared or of another shape")
        places, values = entries.places.to(parameter.device), entries.values.to(parameter.device)
        yield parameter, changed(parameter.data, places, values)
    buffers = {name for name, _ in model.named_buffers()}
    for name, value in parts.whole.items():
        if name in buffers:  # kept beside the weights of a whole layer, and the base's own
            continue
        parameter = model.get_parameter(name)
        yield parameter, _shaped(value.float().to(parameter.device), parameter)
    for layer, (ids, values) in parts.rows.items():
        parameter = model.get_parameter(f"{layer}.weight")
        places = torch.tensor(ids, device=parameter.device)
        yield parameter, parameter.data.float().index_copy(0, places, values.float().to(parameter.device))


def _shaped(value: torch.Tensor, parameter: nn.Parameter) -> torch.Tensor:
    if value.shape != parameter.shape:
        raise RuntimeError(f"{tuple(value.shape)} numbers for {tuple(parameter.shape)}")
    return value
