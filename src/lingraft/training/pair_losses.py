"""Losses of preference pairs: one factor for each answer, then the chunked cross-entropy that everything else has.

The loss of a pair depends on the log-probabilities of its two answers alone. These are summed first, without gradient
and from the states that are there already; the derivatives of the loss by them become weights of the answers' tokens,
of either sign, and the cross-entropy with these weights has the gradient of the loss. No logits are kept, no pass
through the model is added but that of the base where an objective compares with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from lingraft.models.output_head import OutputHead
from lingraft.training.losses import SpanLoss, Targets, span_loss
from lingraft.training.objectives.base_pairs import PairObjective, PairScores

_NONE = torch.empty(0)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """The preference pairs of a micro-batch.

    Attributes:
        targets: the supervised positions of their rows.
        answer_of: (n,) of each position, the number of its answer: 2p of the chosen one of pair p, 2p + 1 of the
            rejected one.
        count: number of pairs.
        silent: whether they cost a pass and teach nothing.
    """

    targets: Targets
    answer_of: torch.Tensor
    count: int
    silent: bool = False

    def to(self, device: torch.device) -> Pairs:
        """Return the pairs on `device`."""
        return replace(self, targets=self.targets.to(device), answer_of=self.answer_of.to(device))


@dataclass(frozen=True)
class StepPairs:
    """The preference pairs of a whole optimiser step, on all devices.

    Attributes:
        count: how many.
        weight: sum of the weights of all their supervised tokens.
        chosen_weight: the same of their chosen answers.
    """

    count: int = 0
    weight: float = 0.0
    chosen_weight: float = 0.0


def pair_loss(
    hidden: torch.Tensor,
    pairs: Pairs,
    step: StepPairs,
    head: OutputHead,
    objectives: Sequence[PairObjective],
    base_hidden: torch.Tensor | None = None,
    chunk: int | None = None,
) -> SpanLoss:
    """Return the loss sums of a micro-batch's preference pairs: what they add to those of its other rows.

    Of `SpanLoss`, `by_role` divides the loss of a pair among the roles of its tokens by their weights, and
    `of_objectives` holds, for each objective, the sum of its losses and the number of pairs.

    Args:
        hidden: (rows, length, hidden) final hidden states.
        pairs: of the micro-batch.
        step: what the losses are divided by.
        head: gives the logits.
        objectives: those of pairs, at least one.
        base_hidden: like `hidden`, of the base without its adapter, where an objective needs it.
        chunk: see `span_loss`.

    Raises:
        ValueError: an objective needs the base's states, and there are none.
    """
    targets, answers = pairs.targets, 2 * pairs.count
    by_answer = replace(targets, roles=pairs.answer_of, role_names=("",) * answers)

    def scores(states: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return -span_loss(states.detach(), by_answer, head, chunk).by_role

    own = scores(hidden).requires_grad_()
    base = _NONE
    if asking := [one.name for one in objectives if one.base]:
        if base_hidden is None:
            raise ValueError(f"objective {asking[0]} needs the hidden states of the base")
        base = scores(base_hidden)
    tokens = torch.zeros_like(own).index_add_(0, pairs.answer_of, targets.weights.to(own.dtype)).detach()
    known = PairScores(
        chosen=own[0::2],
        rejected=own[1::2],
        chosen_tokens=tokens[0::2],
        rejected_tokens=tokens[1::2],
        base_chosen=base[0::2],
        base_rejected=base[1::2],
        mean_chosen_tokens=step.chosen_weight / step.count,
    )
    audible = 0.0 if pairs.silent else 1.0
    with torch.enable_grad():
        said = [one.loss(known) for one in objectives]
        scale = audible * step.weight / step.count
        losses = torch.stack([one.params.weight * scale * loss for one, loss in zip(objectives, said, strict=True)])
        (slopes,) = torch.autograd.grad(losses.sum(), own)
    losses = losses.detach().sum(0)
    # The term of a token is -log p, so that its weight is the slope with the sign turned.
    signed = replace(targets, weights=targets.weights.to(slopes.dtype) * -slopes[pairs.answer_of])
    surrogate = span_loss(hidden, signed, head, chunk).total
    pair_of = pairs.answer_of // 2
    share = targets.weights.to(losses.dtype) / (tokens[0::2] + tokens[1::2])[pair_of]
    by_role = torch.zeros(len(targets.role_names), dtype=losses.dtype, device=losses.device)
    by_role.index_add_(0, targets.roles, losses[pair_of] * share)
    of_objectives = [torch.stack([loss.detach().sum(), loss.new_tensor(pairs.count)]) * audible for loss in said]
    return SpanLoss(surrogate + (losses.sum() - surrogate).detach(), by_role, torch.stack(of_objectives))
