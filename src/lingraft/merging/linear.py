"""Linear interpolation of weights: soups, WiSE-FT, the strength of what was learnt (arXiv 2203.05482, 2109.01903)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.merging.base import Merger, Weight, Weighted
from lingraft.merging.changes import sums_to_nothing, weighted_sum

if TYPE_CHECKING:
    from torch import Tensor


class Linear(Merger):
    """theta = theta_0 + strength * (sum_i w_i theta_i / sum_i w_i - theta_0).

    With one model and a strength between 0 and 1 it is WiSE-FT (arXiv 2109.01903): the straight line between the base
    and what was trained from it, for adapters of any kind, trained embeddings included. With several it is a model soup
    (arXiv 2203.05482), of seeds for example. LM-Cocktail (arXiv 2311.13534) is the same sum, the base among the models;
    it takes its weights from losses on a few examples, where here they are given.
    """

    name: ClassVar[str] = "linear"
    summary: ClassVar[str] = "weighted mean of the models, or a point between it and the base: soups, WiSE-FT"
    paper: ClassVar[str] = "arXiv 2109.01903, 2203.05482, 2311.13534"
    cite: ClassVar[tuple[str, ...]] = ("wortsman-2022-robust", "wortsman-2022-soups", "xiao-2024-cocktail")

    class Params(Weighted):
        """Parameters of linear interpolation."""

        normalise: bool = Field(True, description="Whether the weights are divided by their sum.")
        strength: float = Field(
            1.0,
            description="How far to go from the base (0) to the mean of the models (1): alpha of WiSE-FT. More than 1 "
            "goes beyond it.",
        )

    params: Params

    def refusal(self, models: int) -> tuple[str, str] | None:
        """Return what does not go with so many models, weights that sum to nothing among it."""
        if (found := super().refusal(models)) is not None:
            return found
        return sums_to_nothing(self.params.each(models), normalise=self.params.normalise)

    def keeps_base(self, models: int) -> bool:
        """Whether the weights sum to 1, so that the mean of the same is the same."""
        return self.params.normalise or abs(sum(self.params.each(models)) - 1) < 1e-9

    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return the mean of the models, as far from the base as asked for."""
        shares = self.params.each(len(models))
        total = sum(shares) if self.params.normalise else 1.0
        mean = weighted_sum(models, [share / total for share in shares])
        if self.params.strength == 1:
            return mean
        return mean.sub_(backbone).mul_(self.params.strength).add_(backbone)
