"""Span losses: weighted sums over supervised positions, from hidden states, without keeping logits.

The loss of a step is sum(weight x term) / sum(weight) over everything in it. This module returns the sums of one
micro-batch; the trainer divides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch.nn import functional as F

from lingraft.models.output_head import LOGITS_PER_CHUNK, OutputHead

NOT_GIVEN = torch.empty(0)


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The n supervised positions of a micro-batch.

    Attributes:
        positions: (n,) index, into the flattened (rows x length), of the hidden state that predicts the token.
        labels: (n,) the token to predict.
        weights: (n,) float32.
        roles: (n,) index into `role_names`.
        segments: (loss kind, begin, end): the positions are grouped by kind.
        teacher_ids: (n, k) the teacher's most probable tokens, where a kind needs them; rows of other kinds are not
            read.
        teacher_logprobs: (n, k) their log-probabilities. One of -inf marks an entry as absent; its id must then be that
            of another entry of the row.
    """

    positions: torch.Tensor
    labels: torch.Tensor
    weights: torch.Tensor
    roles: torch.Tensor
    role_names: tuple[str, ...]
    segments: tuple[tuple[str, int, int], ...]
    teacher_ids: torch.Tensor | None = None
    teacher_logprobs: torch.Tensor | None = None

    @property
    def need_base(self) -> bool:
        """Whether a kind among them needs the base's hidden states."""
        return any(LOSSES[kind].base for kind, _, _ in self.segments)

    def to(self, device: torch.device) -> Targets:
        """Return the targets on `device`."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What a loss sees of m positions of one kind.

    Attributes:
        logits: (m, vocabulary) the student's, float32 (float64 if the hidden states are).
        labels: (m,).
        teacher_ids: (m, k), see `Targets`; given to losses that need a teacher.
        teacher_logprobs: (m, k), likewise.
        base_logits: (m, vocabulary) without gradient; given to losses that need the base.
    """

    logits: torch.Tensor
    labels: torch.Tensor
    teacher_ids: torch.Tensor = NOT_GIVEN
    teacher_logprobs: torch.Tensor = NOT_GIVEN
    base_logits: torch.Tensor = NOT_GIVEN


def _log_sum_of_rest(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the logsumexp, (m,), of all logits but those of `ids` (m, k).

    It is summed, not taken as a difference from the whole, which would cancel where the rest is small.
    """
    absent = torch.finfo(logits.dtype).min / 2  # finite, so that no gradient is NaN even if nothing is left
    return logits.scatter(-1, ids, absent).logsumexp(-1)


def cross_entropy(chunk: Chunk) -> torch.Tensor:
    """Return -log p(label) in nats, (m,)."""
    return F.cross_entropy(chunk.logits, chunk.labels, reduction="none")


def teacher_kl(chunk: Chunk) -> torch.Tensor:
    """Return KL(teacher || student) in nats, (m,), over the recorded tokens and one event for all others.

    A lower bound of the KL over the whole vocabulary, by the log-sum inequality; equal to it where teacher and student
    spread the tail alike. The mass of the tail is what the recorded probabilities leave; where rounding makes them sum
    to more than 1 they are divided by the sum.
    """
    recorded = chunk.teacher_logprobs.to(chunk.logits.dtype)
    present = recorded.isfinite()
    recorded = recorded - recorded.logsumexp(-1, keepdim=True).clamp(min=0)
    p = recorded.exp()
    p_tail = (1 - p.sum(-1)).clamp(min=0)
    top = chunk.logits.gather(-1, chunk.teacher_ids).masked_fill(~present, torch.finfo(chunk.logits.dtype).min / 2)
    rest = _log_sum_of_rest(chunk.logits, chunk.teacher_ids)
    whole = torch.logaddexp(top.logsumexp(-1), rest)
    of_top = torch.where(present, p * (recorded - (top - whole.unsqueeze(-1))), 0).sum(-1)
    return of_top + torch.xlogy(p_tail, p_tail) - p_tail * (rest - whole)


def base_kl(chunk: Chunk) -> torch.Tensor:
    """Return KL(base || student) in nats, (m,), over the whole vocabulary."""
    student, base = chunk.logits.log_softmax(-1), chunk.base_logits.log_softmax(-1)
    return F.kl_div(student, base, reduction="none", log_target=True).sum(-1)


def unlikelihood(chunk: Chunk) -> torch.Tensor:
    """Return -log(1 - p(label)) in nats, (m,): teaches not to write the token (Welleck et al., arXiv 1908.04319).

    Taken as the log of the whole over the rest, which stays exact where p is nearly 1.
    """
    return chunk.logits.logsumexp(-1) - _log_sum_of_rest(chunk.logits, chunk.labels.unsqueeze(-1))


@dataclass(frozen=True)
class Loss:
    """A kind of loss: its term per position, and whether it needs a recorded teacher or the base's hidden states."""

    term: Callable[[Chunk], torch.Tensor]
    teacher: bool = False
    base: bool = False


LOSSES: dict[str, Loss] = {
    "ce": Loss(cross_entropy),
    "kl": Loss(teacher_kl, teacher=True),
    "kl_base": Loss(base_kl, base=True),
    "unlikelihood": Loss(unlikelihood),
}
"""Loss kind of a span -> loss. A token without a recorded teacher, in a span whose loss needs one, falls back to ce."""


@dataclass(frozen=True)
class SpanLoss:
    """Sums over one micro-batch: `total` of weight x term (differentiable), `by_role` (roles,) the same per role."""

    total: torch.Tensor
    by_role: torch.Tensor


def span_loss(
    hidden: torch.Tensor,
    targets: Targets,
    head: OutputHead,
    chunk: int | None = None,
    base_hidden: torch.Tensor | None = None,
) -> SpanLoss:
    """Return the weighted loss sums of a micro-batch.

    Logits exist for supervised positions only and one chunk at a time. The gradient of a chunk is taken together with
    its value, so that no logits are kept or computed twice (the idea of Liger Kernel's fused linear
    cross-entropy, arXiv 2410.10989, here for any loss kind and head). Terms are computed and summed in float32, or in
    float64 if the hidden states are.

    Args:
        hidden: (rows, length, hidden) final hidden states.
        targets: what is supervised.
        head: gives the logits.
        chunk: positions per chunk; by default as many as give `LOGITS_PER_CHUNK` logits.
        base_hidden: like `hidden`, of the base without its adapter; needed if `targets.need_base`.
    """
    size = chunk or max(1, LOGITS_PER_CHUNK // head.vocabulary)
    dtype = _accumulated(hidden.dtype)
    chosen = hidden.reshape(-1, hidden.shape[-1]).index_select(0, targets.positions)
    base = None
    if base_hidden is not None:
        base = base_hidden.detach().reshape(-1, hidden.shape[-1]).index_select(0, targets.positions)
    parameters = [parameter for parameter in head.module.parameters() if parameter.requires_grad]
    by_role = torch.zeros(len(targets.role_names), dtype=dtype, device=hidden.device)

    pieces = [
        (kind, slice(start, min(start + size, end)))
        for kind, begin, end in targets.segments
        for start in range(begin, end, size)
    ]

    def weighted_sum(states: torch.Tensor, kind: str, part: slice) -> torch.Tensor:
        loss, needed = LOSSES[kind], {}
        if loss.teacher:
            if targets.teacher_ids is None or targets.teacher_logprobs is None:
                raise ValueError(f"loss {kind} needs the log-probabilities of a teacher")
            needed = {"teacher_ids": targets.teacher_ids[part], "teacher_logprobs": targets.teacher_logprobs[part]}
        if loss.base:
            if base is None:
                raise ValueError(f"loss {kind} needs the hidden states of the base")
            with torch.no_grad():
                needed["base_logits"] = head(base[part]).to(dtype)
        values = (
            loss.term(Chunk(logits=head(states).to(dtype), labels=targets.labels[part], **needed))
            * targets.weights[part]
        )
        by_role.index_add_(0, targets.roles[part], values.detach())
        return values.sum()

    if torch.is_grad_enabled() and (chosen.requires_grad or parameters):
        total = _ChunkedSum.apply(weighted_sum, pieces, chosen, *parameters)
    else:
        total = torch.zeros((), dtype=dtype, device=hidden.device)
        for kind, part in pieces:
            total += weighted_sum(chosen[part], kind, part)
    return SpanLoss(total, by_role)


def _accumulated(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which values of `dtype` are summed."""
    return torch.promote_types(dtype, torch.float32)


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
        total = torch.zeros((), dtype=_accumulated(states.dtype), device=states.device)
        of_states = torch.zeros_like(states)
        of_parameters = [torch.zeros_like(p, dtype=_accumulated(p.dtype)) for p in parameters]
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
