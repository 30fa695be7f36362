"""IPO: identity preference optimisation (Azar et al. 2023, arXiv 2310.12036)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lingraft.training.objectives.base_pairs import PairObjective, PairScores

if TYPE_CHECKING:
    import torch


class IPO(PairObjective):
    """loss = (h - 1 / (2 beta))^2 with h = (log p(w) - log p0(w)) / |w| - (log p(l) - log p0(l)) / |l| for a chosen
    answer w and a rejected answer l; p0 is the base (equation 17 of the paper, whose tau is `beta`).

    Unlike DPO's, its optimum is at a finite distance from the base, also where every pair is unanimous. Departures:
    log-probabilities are means over an answer's tokens, not sums, as in TRL, whose authors have confirmed it with those
    of the paper; and the reference is what the adapter is put on, see `dpo`.
    """

    name: ClassVar[str] = "ipo"
    summary: ClassVar[str] = "as dpo, to a set distance between chosen and rejected answers and no further"
    paper: ClassVar[str] = "arXiv 2310.12036"
    cite: ClassVar[tuple[str, ...]] = ("azar-2024-ipo",)
    base: ClassVar[bool] = True

    def loss(self, pairs: PairScores) -> torch.Tensor:
        """Return the loss of each pair."""
        chosen = (pairs.chosen - pairs.base_chosen) / pairs.chosen_tokens
        rejected = (pairs.rejected - pairs.base_rejected) / pairs.rejected_tokens
        return (chosen - rejected - 1 / (2 * self.params.beta)) ** 2
