"""EAFT: tokens count by how uncertain the model is (Diao et al. 2026, arXiv 2601.02151)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives import TokenFactor

if TYPE_CHECKING:
    import torch

    from lingraft.training.terms import Chunk


class EAFT(TokenFactor):
    """Entropy-adaptive fine-tuning.

    loss = -sum_t H_t log p(y_t | x, y_<t), where H_t is the entropy of the model's own distribution at t, over its
    `top_k` most probable tokens made to sum to 1, divided by log(top_k). Where the model is sure of itself and the
    reference says something else, which is what makes it forget, the gradient is muted; where it is unsure it learns.

    H_t is taken from the model as it is while it learns, without gradient. The sum is divided by all supervised
    tokens, as plain cross-entropy is. Departures: by default it is applied to references alone (`on`), since what the
    base wrote itself conflicts with nothing, and `weight` below 1 mixes it with plain cross-entropy.
    """

    name: ClassVar[str] = "eaft"
    summary: ClassVar[str] = (
        "tokens count by the entropy of the model's own distribution: confident conflicts are muted"
    )
    paper: ClassVar[str] = "arXiv 2601.02151"
    cite: ClassVar[tuple[str, ...]] = ("diao-2026-eaft",)

    class Params(TokenFactor.Params):
        """Parameters of EAFT."""

        top_k: int = Field(20, ge=2, le=1000, description="most probable tokens that the entropy is taken over")

    params: Params

    def factor(self, chunk: Chunk) -> torch.Tensor:
        """Return the normalised entropy, between 0 and 1."""
        k = min(self.params.top_k, chunk.logits.shape[-1])
        p = chunk.logits.topk(k, dim=-1).values.softmax(-1)
        return -p.xlogy(p).sum(-1) / math.log(k)
