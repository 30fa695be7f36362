"""DARE: most changes dropped by chance and the others made larger, before they are merged (arXiv 2311.03099)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from lingraft.core.hashing import content_hash
from lingraft.merging.base import Merger, Weight, Weighted
from lingraft.merging.changes import elected, thin, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor


class Dare(Merger):
    """theta = theta_0 + scale * merge_i(m_i (theta_i - theta_0) / density), m_i drawn, 1 with probability `density`.

    What is left is summed (`linear`), or merged where it has the elected sign (`ties`, without trimming). What is drawn
    depends on the seed, the name of the weight and the place of the model in the list.
    """

    name: ClassVar[str] = "dare"
    summary: ClassVar[str] = "changes dropped by chance, the others made larger, then added or merged by their signs"
    paper: ClassVar[str] = "arXiv 2311.03099"
    cite: ClassVar[tuple[str, ...]] = ("yu-2024-language",)

    class Params(Weighted):
        """Parameters of DARE."""

        density: float = Field(
            0.5, gt=0, le=1, description="Share of each change's numbers that stays: 1 - p of the paper."
        )
        rescale: bool = Field(True, description="Whether those that stay are divided by `density`, as in the paper.")
        consensus: Literal["linear", "ties"] = Field(
            "linear", description="How the changes are merged: `linear` sums them, `ties` elects a sign and averages."
        )
        scale: float = Field(1.0, description="By which the merged change is multiplied.")
        seed: int = Field(0, ge=0, description="Of what is drawn.")

    params: Params

    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return the base with what is left of the changes."""
        import torch

        own, changes = self.params, [model.sub_(backbone) for model in models]
        for place, change in enumerate(changes):
            generator = torch.Generator().manual_seed(self.drawn(weight.name, place))
            thin(change, own.density, generator, rescale=own.rescale)
        shares = own.each(len(models))
        total = elected(changes, shares, normalise=True) if own.consensus == "ties" else weighted_sum(changes, shares)
        return total.mul_(own.scale).add_(backbone)

    def drawn(self, name: str, place: int) -> int:
        """Return the seed of what is dropped.

        Args:
            name: of the weight.
            place: of the model among the models, from 0 on.
        """
        return int(content_hash(["dare", self.params.seed, name, place])[:15], 16)
