"""KL from the base, as a penalty on each token (learning without forgetting, Li & Hoiem 2016, arXiv 1606.09282)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives import SpanTerm

if TYPE_CHECKING:
    import torch

    from lingraft.training.terms import Chunk


class KLBase(SpanTerm):
    """KL(base || model) in nats over the whole vocabulary, at each supervised token of the roles in `on`.

    loss = sum(w x ce) / sum(w) + weight x sum(w x KL) / sum(w). On translations it holds back how far the reference
    may pull the model from what the base would have said, which is the distance that forgetting goes with (arXiv
    2509.04259); on replay it teaches whole distributions where cross-entropy teaches the words alone.

    Departures from the paper: the whole vocabulary at temperature 1, in place of a softened softmax over classes; the
    base's distributions come from a pass of the same model without its adapter, so that nothing is recorded; both terms
    are divided by the weight of all supervised tokens.
    """

    name: ClassVar[str] = "kl_base"
    summary: ClassVar[str] = "KL(base || model) over the whole vocabulary on the chosen tokens"
    paper: ClassVar[str] = "arXiv 1606.09282"
    cite: ClassVar[tuple[str, ...]] = ("li-2016-learning",)
    base: ClassVar[bool] = True

    class Params(SpanTerm.Params):
        """Parameters of the penalty."""

        weight: float = Field(0.1, ge=0, description="of a nat of divergence beside one of cross-entropy; 0 is without")

    params: Params

    def term(self, chunk: Chunk) -> torch.Tensor:
        """Return KL(base || model) of each token."""
        from lingraft.training.terms import base_kl

        return base_kl(chunk)
