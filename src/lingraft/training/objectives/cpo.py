"""CPO: contrastive preference optimisation for translation (Xu et al. 2024, arXiv 2401.08417)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.training.objectives.base_pairs import PairObjective, PairScores

if TYPE_CHECKING:
    import torch


class CPO(PairObjective):
    """loss = -log sigmoid(beta x (log p(w) - log p(l))) + alpha x NLL(w) for a chosen answer w and a rejected answer l,
    each log-probability summed over the answer's tokens (equation 5 of the paper).

    No reference model: nothing but the second term holds the model where it is, so that it costs no pass of the base
    and keeps less; put `kl_base` on replay beside it, or use `dpo`. Departure: NLL(w) is -log p(w) per token, a mean
    over all tokens of the step's chosen answers, as in the authors' code and in TRL; the paper writes it as a sum.
    """

    name: ClassVar[str] = "cpo"
    summary: ClassVar[str] = "chosen answers gain on rejected ones and are learnt, without a reference model"
    paper: ClassVar[str] = "arXiv 2401.08417"
    cite: ClassVar[tuple[str, ...]] = ("xu-2024-cpo",)

    class Params(PairObjective.Params):
        """Parameters of CPO."""

        alpha: float = Field(1.0, ge=0, description="strength of the cross-entropy on chosen answers")

    def loss(self, pairs: PairScores) -> torch.Tensor:
        """Return the loss of each pair."""
        from torch.nn import functional as F

        preference = -F.logsigmoid(self.params.beta * (pairs.chosen - pairs.rejected))
        return preference - self.params.alpha / pairs.mean_chosen_tokens * pairs.chosen
