"""CC, confident-conflict masking: tokens that contradict a base sure of itself are left out (arXiv 2609.28395)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives import TokenFactor

if TYPE_CHECKING:
    import torch

    from lingraft.training.terms import Chunk


class CC(TokenFactor):
    """Confident-conflict masking.

    A token of a reference is masked where the untouched base gives another token a probability of `confidence` or more;
    all others are trained on, those that the base finds unlikely without a favourite of its own among them, which `stm`
    would mask.

    Departures: the paper's threshold is not known to us, and 0.8 is our choice; as for `stm`, masks come from a pass of
    the base over each batch, the loss is divided by the weight of all supervised tokens, masked ones included, and by
    default it is applied to references alone.
    """

    name: ClassVar[str] = "cc"
    summary: ClassVar[str] = "tokens where the base is confident of another one are masked"
    paper: ClassVar[str] = "arXiv 2609.28395"
    cite: ClassVar[tuple[str, ...]] = ("https://arxiv.org/abs/2609.28395",)
    base: ClassVar[bool] = True

    class Params(TokenFactor.Params):
        """Parameters of CC."""

        confidence: float = Field(
            0.8, gt=0, le=1, description="probability of another token under the base from which a token is masked"
        )

    params: Params

    def factor(self, chunk: Chunk) -> torch.Tensor:
        """Return 1 for tokens that are kept and 0 for masked ones."""
        best = chunk.base_logits.max(-1)
        sure = (best.values - chunk.base_logits.logsumexp(-1)).exp() >= self.params.confidence
        return (~(sure & (best.indices != chunk.labels))).to(chunk.base_logits.dtype)
