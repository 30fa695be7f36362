"""STM: tokens that surprise the base are left out (Wu et al. 2025, arXiv 2501.14315)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives import TokenFactor

if TYPE_CHECKING:
    import torch

    from lingraft.training.terms import Chunk


class STM(TokenFactor):
    """Selective token masking.

    A token y of a reference is trained on where its perplexity under the untouched base, exp(-log p_base(y | x, y_<t)),
    is at most `threshold`; else it is masked. 2.5 is the paper's, which masks a fifth to a quarter of its tokens, and
    learns as from text that the model wrote itself.

    Departures: masks come from a pass of the base over each batch while training runs, not from one before it, and
    follow the same tokens; the loss is divided by the weight of all supervised tokens, masked ones included, where a
    mean over the kept ones would depend on how a step is cut. By default it is applied to references alone.
    """

    name: ClassVar[str] = "stm"
    summary: ClassVar[str] = "tokens of high perplexity under the base are masked"
    paper: ClassVar[str] = "arXiv 2501.14315"
    cite: ClassVar[tuple[str, ...]] = ("wu-2025-stm",)
    base: ClassVar[bool] = True

    class Params(TokenFactor.Params):
        """Parameters of STM."""

        threshold: float = Field(2.5, gt=1, description="highest perplexity under the base at which a token is kept")

    params: Params

    def factor(self, chunk: Chunk) -> torch.Tensor:
        """Return 1 for tokens that are kept and 0 for masked ones."""
        known = chunk.base_logits.gather(-1, chunk.labels.unsqueeze(-1)).squeeze(-1)
        surprise = chunk.base_logits.logsumexp(-1) - known
        return (surprise <= math.log(self.params.threshold)).to(chunk.base_logits.dtype)
