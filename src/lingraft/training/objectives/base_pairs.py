"""What the losses of preference pairs have in common: two answers to one question, of which one is the better."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from lingraft.training.objectives import Objective

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """What is known of m preference pairs.

    Attributes:
        chosen: (m,) log-probability of the chosen answer in nats: the sum of weight x log p over its supervised tokens,
            the weights being those of its spans.
        rejected: (m,) of the rejected answer.
        chosen_tokens: (m,) sum of the weights of the chosen answer's tokens: their number, unless a span weighs less.
        rejected_tokens: (m,) of the rejected answer's.
        base_chosen: (m,) as `chosen`, of the base, without gradient; where the objective needs it.
        base_rejected: (m,) as `rejected`, of the base.
        mean_chosen_tokens: mean of `chosen_tokens` over all pairs of the step.
    """

    chosen: torch.Tensor
    rejected: torch.Tensor
    chosen_tokens: torch.Tensor
    rejected_tokens: torch.Tensor
    base_chosen: torch.Tensor
    base_rejected: torch.Tensor
    mean_chosen_tokens: float


class PairObjective(Objective):
    """A loss of preference pairs: what pairs are trained by in place of cross-entropy.

    Rows of pairs have the sum of weight x loss of the objectives of this kind, and nothing else: factors and terms of
    tokens do not apply to them. The mean loss over a step's pairs counts as much as the supervised tokens of both
    answers do among all those of the step: a step of pairs alone has their mean loss, and beside other rows pairs have
    the share of the step that their tokens are.
    """

    class Params(Objective.Params):
        """Parameters of a loss of preference pairs."""

        beta: float = Field(0.1, gt=0, description="how far the model may move for a preference: the larger, the less")

    @abstractmethod
    def loss(self, pairs: PairScores) -> torch.Tensor:
        """Return the loss of each pair, (m,), differentiable in `chosen` and `rejected`.

        Args:
            pairs: what model and base say of m pairs.
        """
