"""A base as it is while it is trained: type of its weights, attention, layers, adapter; afterwards it is as before."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from lingraft.models.adapter import start_from, take_off
from lingraft.models.devices import resolve_dtype
from lingraft.models.output_head import OutputHead, final_states, find_head
from lingraft.rendering.rows import Rendered
from lingraft.training.collate import Batch, collate, model_inputs
from lingraft.training.kernels import chosen_kernels, fast_layers
from lingraft.training.losses import span_loss
from lingraft.training.packing import BatchLayout, attention_for
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import ALL, Tuner, TunerInputs

CHECKED_TOKENS = 64


def batch_states(model: Any, batch: Batch, head: OutputHead, inner: Any = None) -> torch.Tensor:
    """Return the final hidden states of a batch's tokens, (rows, tokens, hidden); the loss makes the logits it needs.

    Args:
        model: with or without an adapter.
        batch: of rows.
        head: of the model.
        inner: the language model itself, where `model` is a wrapper of it for distributed training.
    """
    none = torch.empty(0, dtype=torch.long, device=batch.input_ids.device)

    def states(inputs: dict[str, Any]) -> torch.Tensor:
        return final_states(model, inputs, from_decoder=head.from_decoder, inner=inner, keep=none)

    if batch.alone is None:
        return states(batch.model_inputs())
    width = batch.input_ids.shape[1]
    each = [states(model_inputs(ids[None, :length])) for ids, length in zip(batch.input_ids, batch.alone, strict=True)]
    return torch.cat([nn.functional.pad(one, (0, 0, 0, width - one.shape[1])) for one in each])


def row_loss(model: Any, row: Rendered, head: OutputHead) -> torch.Tensor:
    """Return the sum of -log p x weight over the supervised tokens of a row by itself, differentiable.

    Args:
        model: with or without an adapter.
        row: to pass through it.
        head: of the model.
    """
    batch = collate([row], 0).to(model.device)
    return span_loss(batch_states(model, batch, head), batch.targets, head).total


@torch.no_grad()
def base_states(adapted: PeftModel, batch: Batch, head: OutputHead, typed: torch.autocast) -> torch.Tensor:
    """Return the final hidden states of the base, (rows, tokens, hidden): adapter off, dropout off.

    Args:
        adapted: the model in training.
        batch: of rows.
        head: of the model.
        typed: autocast of this pass alone: a shared one would hand the training pass weights that were cast here,
            without gradient.
    """
    adapted.eval()
    try:
        with adapted.disable_adapter(), typed:
            return batch_states(adapted, batch, head)
    finally:
        adapted.train()


@dataclass(frozen=True, kw_only=True)
class Base:
    """How a base is computed while it is trained.

    Attributes:
        layout: how rows share a pass.
        kernels: see `chosen_kernels`.
        autocast: type of matrix products; None leaves them in the type of the weights.
        sharded: whether each process holds a part of its weights (FSDP2).
        originals: the weights whose type has changed, as they were.
    """

    layout: BatchLayout
    kernels: str
    autocast: torch.dtype | None
    sharded: bool
    originals: Mapping[torch.nn.Parameter, torch.Tensor]

    def fast(self, adapted: PeftModel) -> contextlib.AbstractContextManager[Any]:
        """Let its layers compute as `kernels` says."""
        return fast_layers(adapted) if self.kernels == "fused" else contextlib.nullcontext()


@contextlib.contextmanager
def base_in_training(model: PreTrainedModel, settings: TrainSettings, input_ids: Sequence[int]) -> Iterator[Base]:
    """Hold a base as it is trained for the time of the block; its weights and the random states are then as before.

    Args:
        model: the base, without adapter.
        settings: how to train.
        input_ids: of a row, to try attention and output head.

    Raises:
        UsageError, ModelError: as `chosen_kernels`, `find_head` and `attention_for`.
    """
    dtype = resolve_dtype(settings.precision, model.device)
    sharded = bool(getattr(model, "is_distributed_loading_by_transformers", False))
    # The fused layers keep weights for the backward pass; those of a sharded base are gone by then.
    kernels = "plain" if sharded else chosen_kernels(settings, model.device)
    with random_states_kept(), _weights_in(model, dtype) as originals:
        head = find_head(model, input_ids[:CHECKED_TOKENS])
        with attention_for(model, settings.batching, input_ids, from_decoder=head.from_decoder) as layout:
            yield Base(
                layout=layout,
                kernels=kernels,
                autocast=None if dtype == torch.float32 else dtype,
                sharded=sharded,
                originals=originals,
            )


def adapter_on(
    model: PreTrainedModel,
    base: Base,
    tuner: Tuner,
    inputs: TunerInputs,
    selected: Mapping[str, torch.Tensor] = ALL,
    initial: Path | None = None,
) -> PeftModel:
    """Return `model` wrapped with what learns, as it begins; see `lingraft.training.train.train`.

    Args:
        model: the base, on the device to train on.
        base: the same in training, see `base_in_training`.
        tuner: which parameters learn.
        inputs: what the tuner may look at.
        selected: what it has selected, see `Tuner.select`.
        initial: folder of an adapter of the same form, whose weights training begins with; None for new ones.

    Raises:
        UsageError, ModelError: as `Tuner.apply` and `Tuner.continue_from`; the base has no adapter then.
    """
    adapted = tuner.apply(model, inputs, selected)
    try:
        start_from(adapted, base.originals)
        if initial is not None:
            tuner.continue_from(adapted, initial)
    except BaseException:
        take_off(adapted)
        raise
    return adapted


@contextlib.contextmanager
def _weights_in(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[dict[torch.nn.Parameter, torch.Tensor]]:
    """Hold the weights in `dtype` for the time of the block; then put back the very tensors that were there.

    Yields these, for the weights whose type has changed.

    Buffers keep their type: rotary frequencies rounded to bfloat16 would blur positions.
    """
    originals = {p: p.data for p in model.parameters() if p.is_floating_point() and p.dtype != dtype}
    try:
        for parameter in originals:
            parameter.data = parameter.data.to(dtype)
        yield originals
    finally:
        for parameter, data in originals.items():
            parameter.data = data


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the global random states back after the block: the Trainer seeds all of them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
