"""TIES: trim changes, elect a sign, merge what agrees with it (arXiv 2306.01708)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.merging.base import Merger, Weight, Weighted
from lingraft.merging.changes import elected, trim

if TYPE_CHECKING:
    from torch import Tensor


class Ties(Merger):
    """theta = theta_0 + scale * mean over those of one sign of the largest numbers of each theta_i - theta_0.

    Of each change the `density` largest numbers by magnitude stay, and the others become 0. At each place the sign of
    the sum of what is left is elected, and the mean of the numbers of that sign is taken (zeros do not count).

    Departures: the largest numbers are chosen in each weight by itself, so that weights can be merged one after the
    other, where the paper chooses in the whole model; models may be weighed.
    """

    name: ClassVar[str] = "ties"
    summary: ClassVar[str] = "the largest changes alone, and where signs differ those of the stronger one"
    paper: ClassVar[str] = "arXiv 2306.01708"
    cite: ClassVar[tuple[str, ...]] = ("yadav-2023-ties",)

    class Params(Weighted):
        """Parameters of TIES."""

        density: float = Field(0.2, gt=0, le=1, description="Share of each change's numbers that stays, the largest.")
        scale: float = Field(1.0, description="By which the merged change is multiplied: lambda of the paper.")
        normalise: bool = Field(
            True, description="Whether the numbers of one sign are averaged, as in the paper, or summed."
        )

    params: Params

    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return the base with the merged change."""
        own, changes = self.params, [model.sub_(backbone) for model in models]
        for change in changes:
            trim(change, own.density)
        return elected(changes, own.each(len(models)), normalise=own.normalise).mul_(own.scale).add_(backbone)
