"""A graft of another strength: a point on the straight line through the base and what the graft makes of it.

Low-rank updates and changes of single numbers are multiplied. What replaces weights (embeddings, whole layers), and
layers whose rows have lengths of their own (DoRA), go by linear interpolation: theta_0 + s (theta - theta_0). The rows
of pieces that a vocabulary has added stay as they were trained: the base has none to which they could go back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lingraft.core.errors import ModelError, first_line
from lingraft.merging.base import Weight
from lingraft.merging.linear import Linear
from lingraft.models.adapter import Parts, read_parts, write_parts
from lingraft.models.growth import extended
from lingraft.models.loading import LoadedModel
from lingraft.models.vocabulary import Vocabulary

VERSION = 1
"""Grows when the same graft and strength give other weights."""


def write_at_strength(loaded: LoadedModel, graft: Path, strength: float, out: Path) -> None:
    """Write the adapter of a graft at another strength; vocabulary and `lingraft.json` are the caller's.

    Args:
        loaded: the base, as it was loaded.
        graft: folder of the graft.
        strength: 1 is the graft itself, 0 the base.
        out: folder to write.

    Raises:
        ModelError: the graft is damaged, does not fit the base, or replaces what the base has in 4 bits.
    """
    vocabulary = Vocabulary.in_folder(graft)
    new = range(vocabulary.info.base_tokens, vocabulary.info.rows) if vocabulary else ()
    with extended(loaded, vocabulary) as grown:
        parts = read_parts(graft)
        try:
            write_parts(at_strength(parts, grown.model, strength, new), out)
        except (AttributeError, RuntimeError) as error:
            raise ModelError(
                f"the adapter in {graft} does not fit the base ({first_line(error)}); give the base it was trained on, "
                f"not in 4 bits"
            ) from error


@torch.no_grad()
def at_strength(parts: Parts, model: Any, strength: float, new: Collection[int] = ()) -> Parts:
    """Return what an adapter does to its base at another strength.

    Args:
        parts: what it does as it is.
        model: the base, grown to the adapter's vocabulary.
        strength: 1 is the adapter itself, 0 the base.
        new: rows of embeddings and output head that the vocabulary has added, those that fill up among them.

    Raises:
        AttributeError, RuntimeError: the adapter is of another base.
    """
    between = _Between(model, strength, new)
    found = Parts(parts.config, sparse={layer: one.times(strength) for layer, one in parts.sparse.items()})
    buffers = {name for name, _ in model.named_buffers()}
    for name, value in parts.whole.items():
        found.whole[name] = value if name in buffers else between.weight(name, value)
    layers = set(parts.config.modules_to_save or ()) if not parts.sparse else set()
    for layer, factors in parts.factors.items():
        if factors.lengths is None:
            found.factors[layer] = replace(factors, b=factors.b * strength)
            continue
        weight = f"{layer}.weight"
        for name, own in model.get_submodule(layer).named_parameters(prefix=layer):
            found.whole[name] = own.detach().float().clone()
        found.whole[weight] = between.weight(weight, factors.on(model.get_parameter(weight).detach().cpu()))
        layers.add(layer)
    for layer, (ids, values) in parts.rows.items():
        found.rows[layer] = ids, between.rows(f"{layer}.weight", ids, values)
    if layers:
        found.config.modules_to_save = sorted(layers)
    return found


class _Between:
    """Weights between those of the base and others."""

    def __init__(self, model: Any, strength: float, new: Collection[int]) -> None:
        self._model, self._new = model, sorted(new)
        self._linear = Linear(Linear.Params(strength=strength))
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        self._ends = {id(parameter) for layer in ends if layer is not None for parameter in layer.parameters()}

    def weight(self, name: str, value: Tensor) -> Tensor:
        """Return a weight, in float32; new rows of embeddings and output head as they are."""
        parameter = self._model.get_parameter(name)
        found = self._point(name, parameter, value)
        if id(parameter) in self._ends and self._new:
            kept = torch.tensor(self._new)
            found.index_copy_(0, kept, value.float()[kept])
        return found

    def rows(self, name: str, ids: list[int], values: Tensor) -> Tensor:
        """Return rows of a weight, in float32; new ones as they are."""
        parameter, places = self._model.get_parameter(name), torch.tensor(ids)
        found = self._point(name, parameter[places.to(parameter.device)], values)
        new = set(self._new)
        kept = torch.tensor([place for place, number in enumerate(ids) if number in new], dtype=torch.long)
        return found.index_copy_(0, kept, values.float()[kept])

    def _point(self, name: str, own: Tensor, value: Tensor) -> Tensor:
        if own.shape != value.shape or not own.is_floating_point():
            raise RuntimeError(f"{name}: {tuple(value.shape)} numbers for {tuple(own.shape)}")
        # Copies: a merger works in what it is given.
        backbone, model = (one.detach().to("cpu", torch.float32, copy=True) for one in (own, value))
        return self._linear.merge(Weight(name=name), backbone, [model])
