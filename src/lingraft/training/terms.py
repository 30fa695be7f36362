"""Terms of losses: what each kind of span loss says of a token, from its logits.

A kind of loss is one function of a chunk of logits; chunks, weights, gradients, layouts and normalisation are those of
`lingraft.training.losses`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

NOT_GIVEN = torch.empty(0)


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What a loss, or an objective, sees of m positions of one kind.

    Attributes:
        logits: (m, vocabulary) the student's, float32 (float64 if the hidden states are).
        labels: (m,).
        teacher_ids: (m, k), see `Targets`; given to losses that need a teacher.
        teacher_logprobs: (m, k), likewise.
        base_logits: (m, vocabulary) without gradient; given to losses and objectives that need the base.
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
    value: torch.Tensor = _KL.apply(chunk.logits, chunk.base_logits)
    return value


class _KL(torch.autograd.Function):
    """KL(base || student), (m,), from two tables of logits; what it keeps is its gradient, softmax(student) -
    softmax(base), and nothing else of their size."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, base_logits: torch.Tensor) -> torch.Tensor:
        student, base = logits.log_softmax(-1), base_logits.log_softmax(-1)
        gap = base - student
        value = gap.mul_(base.exp_()).sum(-1)
        ctx.save_for_backward(student.exp_().sub_(base))
        return value

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[0].unsqueeze(-1), None


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

FACTORED = "ce"
"""The loss kind that token factors multiply."""
