"""DPO: direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from lingraft.training.objectives.base_pairs import PairObjective, PairScores

if TYPE_CHECKING:
    import torch


class DPO(PairObjective):
    """loss = -log sigmoid(beta x ((log p(w) - log p0(w)) - (log p(l) - log p0(l)))) for a chosen answer w and a
    rejected answer l, each log-probability summed over the answer's tokens; p0 is the base (equation 7 of the paper).

    Departure: the reference p0 is what the adapter is put on, in every stage: also where the stage continues an adapter
    that another stage has trained, of which the paper would take a copy.
    """

    name: ClassVar[str] = "dpo"
    summary: ClassVar[str] = "chosen answers gain on rejected ones, measured from the base"
    paper: ClassVar[str] = "arXiv 2305.18290"
    cite: ClassVar[tuple[str, ...]] = ("rafailov-2023-dpo",)
    base: ClassVar[bool] = True

    def loss(self, pairs: PairScores) -> torch.Tensor:
        """Return the loss of each pair."""
        from torch.nn import functional as F

        gain = (pairs.chosen - pairs.base_chosen) - (pairs.rejected - pairs.base_rejected)
        return -F.logsigmoid(self.params.beta * gain)
