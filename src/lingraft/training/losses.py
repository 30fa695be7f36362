"""Span losses: weighted sums over supervised positions, from hidden states, without keeping logits.

The loss of a step is sum(weight x term) / sum(weight) over everything in it. This module returns the sums of one
micro-batch; the trainer divides.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from lingraft.errors import ModelError

LOGITS_PER_CHUNK = 2**24  # 64 MiB of float32; larger chunks are not faster


@dataclass(frozen=True)
class Targets:
    """The n supervised positions of a micro-batch.

    Attributes:
        positions: (n,) index, into the flattened (rows x length), of the hidden state that predicts the token.
        labels: (n,) the token to predict.
        weights: (n,) float32.
        roles: (n,) index into `role_names`.
        segments: (loss kind, begin, end): the positions are grouped by kind.
    """

    positions: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    roles: torch.Tensor
    role_names: tuple[str, ...]
    segments: tuple[tuple[str, int, int], ...]

    def to(self, device: torch.device) -> Targets:
        """Return the targets on `device`."""
        return replace(
            self,
            positions=self.positions.to(device),
            labels=self.labels.to(device),
            weights=self.weights.to(device),
            roles=self.roles.to(device),
        )


def cross_entropy(logits: torch.Tensor, targets: Targets, chosen: slice) -> torch.Tensor:
    """Return -log p(label) in nats, (n,), of float32 logits (n, vocabulary) for the `chosen` targets."""
    return F.cross_entropy(logits, targets.labels[chosen], reduction="none")


LOSSES: dict[str, Callable[[torch.Tensor, Targets, slice], torch.Tensor]] = {"ce": cross_entropy}
"""Loss kind of a span -> term per position, from (float32 logits of these positions, all targets, which of them)."""


@dataclass(frozen=True)
class OutputHead:
    """From final hidden states (n, hidden) to the logits (n, vocabulary) that the model itself would give."""

    module: nn.Module
    scale: float = 1.0
    softcap: float | None = None

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        weight: Any = self.module.weight
        return int(weight.shape[0])

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits in the dtype of the head."""
        logits = self.module(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        return logits


def find_head(model: Any, input_ids: Sequence[int]) -> OutputHead:
    """Return the output head of a causal language model, checked against the model's own logits on one row.

    Knows `final_logit_softcapping` (Gemma), `logits_scaling` (Granite divides, others multiply), `logit_scale`
    (Cohere) and `lm_head_multiplier` (Falcon-H1).

    Raises:
        ModelError: the model has no output head, gives no hidden states, or does something else to its logits.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    name = type(base).__name__
    module = model.get_output_embeddings()
    if module is None:
        raise ModelError(f"{name} has no output head; Lingraft trains causal language models only")
    config = model.config.get_text_config()
    softcap = getattr(config, "final_logit_softcapping", None)
    scales = [1.0]
    for key, inverse_first in (("logits_scaling", True), ("logit_scale", False), ("lm_head_multiplier", False)):
        value = getattr(config, key, None)
        if value:
            scales = [1.0 / value, value] if inverse_first else [value]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            row = torch.tensor([list(input_ids)], device=module.weight.device)
            outputs = model(input_ids=row, output_hidden_states=True, use_cache=False)
            if not outputs.hidden_states:
                raise ModelError(f"{name} returns no hidden states; Lingraft cannot train this architecture")
            expected = outputs.logits.float()
            tolerance = 1e-4 if outputs.logits.dtype == torch.float32 else 2e-2
            for scale, cap in itertools.product(scales, (softcap, None) if softcap else (None,)):
                head = OutputHead(module, scale, cap)
                error = (head(outputs.hidden_states[-1]).float() - expected).abs().max()
                if error <= tolerance * expected.abs().max():
                    return head
    finally:
        model.train(was_training)
    raise ModelError(
        f"{name} changes its logits after the output head in a way Lingraft does not know; its training would be wrong"
    )


@dataclass(frozen=True)
class SpanLoss:
    """Sums over one micro-batch: `total` of weight x term (differentiable), `by_role` (roles,) the same per role."""

    total: torch.Tensor
    by_role: torch.Tensor


def span_loss(hidden: torch.Tensor, targets: Targets, head: OutputHead, chunk: int | None = None) -> SpanLoss:
    """Return the weighted loss sums of a micro-batch.

    Logits exist for supervised positions only and one chunk at a time. The gradient of a chunk is taken together with
    its value, so that no logits are kept or computed twice (the idea of Liger Kernel's fused linear
    cross-entropy, arXiv 2410.10989, here for any loss kind and head).

    Args:
        hidden: (rows, length, hidden) final hidden states.
        targets: what is supervised.
        head: gives the logits.
        chunk: positions per chunk; by default as many as give `LOGITS_PER_CHUNK` logits.
    """
    size = chunk or max(1, LOGITS_PER_CHUNK // head.vocabulary)
    chosen = hidden.reshape(-1, hidden.shape[-1]).index_select(0, targets.positions)
    parameters = [parameter for parameter in head.module.parameters() if parameter.requires_grad]
    by_role = torch.zeros(len(targets.role_names), device=hidden.device)

    pieces = [
        (kind, slice(start, min(start + size, end)))
        for kind, begin, end in targets.segments
        for start in range(begin, end, size)
    ]

    def weighted_sum(states: torch.Tensor, kind: str, part: slice) -> torch.Tensor:
        values = LOSSES[kind](head(states).float(), targets, part) * targets.weights[part]
        by_role.index_add_(0, targets.roles[part], values.detach())
        return values.sum()

    if torch.is_grad_enabled() and (chosen.requires_grad or parameters):
        total = _ChunkedSum.apply(weighted_sum, pieces, chosen, *parameters)
    else:
        total = torch.zeros((), device=hidden.device)
        for kind, part in pieces:
            total += weighted_sum(chosen[part], kind, part)
    return SpanLoss(total, by_role)


class _ChunkedSum(torch.autograd.Function):
    """Sum of a scalar function over chunks of `states`; gradients are accumulated chunk by chunk in the forward."""

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[[torch.Tensor, str, slice], torch.Tensor],
        pieces: Sequence[tuple[str, slice]],
        states: torch.Tensor,
        *parameters: torch.Tensor,
    ) -> torch.Tensor:
        total = torch.zeros((), device=states.device)
        of_states = torch.zeros_like(states)
        of_parameters = [torch.zeros_like(parameter, dtype=torch.float32) for parameter in parameters]
        for kind, part in pieces:
            with torch.enable_grad():
                leaf = states[part].detach().requires_grad_()
                value = function(leaf, kind, part)
                gradients = torch.autograd.grad(value, [leaf, *parameters])
            total += value.detach()
            of_states[part] = gradients[0]
            for accumulated, gradient in zip(of_parameters, gradients[1:], strict=True):
                accumulated += gradient
        ctx.save_for_backward(of_states, *of_parameters)
        ctx.dtypes = [parameter.dtype for parameter in parameters]
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        of_states, *of_parameters = ctx.saved_tensors
        factor = outer[0]
        scaled = [(g * factor).to(dtype) for g, dtype in zip(of_parameters, ctx.dtypes, strict=True)]
        return None, None, (of_states * factor).to(of_states.dtype), *scaled
