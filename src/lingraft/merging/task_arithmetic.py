"""Task arithmetic: the changes that training made, added to the base (arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.merging.base import Merger, Weight, Weighted
from lingraft.merging.changes import weighted_sum

if TYPE_CHECKING:
    from torch import Tensor


class TaskArithmetic(Merger):
    """theta = theta_0 + scale * sum_i w_i (theta_i - theta_0).

    A negative weight takes away what a model has learnt.
    """

    name: ClassVar[str] = "task_arithmetic"
    summary: ClassVar[str] = "the changes of all models, added to the base"
    paper: ClassVar[str] = "arXiv 2212.04089"
    cite: ClassVar[tuple[str, ...]] = ("ilharco-2023-editing",)

    class Params(Weighted):
        """Parameters of task arithmetic."""

        scale: float = Field(1.0, description="By which the sum of the changes is multiplied: lambda of the paper.")

    params: Params

    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return the base with the sum of the changes."""
        changes = [model.sub_(backbone) for model in models]
        return weighted_sum(changes, self.params.each(len(models))).mul_(self.params.scale).add_(backbone)
