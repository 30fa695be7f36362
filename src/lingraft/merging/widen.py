"""WIDEN: weights disentangled into magnitudes and directions, merged column by column (arXiv 2408.03092)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.merging.base import Merger, Weight

if TYPE_CHECKING:
    from torch import Tensor


class Widen(Merger):
    """theta = theta_0 + sum_n s_n (theta_n - theta_0), with a weight s_n for each column and model.

    Of a matrix (out, in) each column is its length times its direction. Within each model the columns are ranked by how
    much the length has changed, |m_n - m|, and by how much the direction has, 1 - cos; a rank is divided by the number
    of columns. The score of a column is the softmax of its ranks over the models, but `score_calibration_value` where
    its rank is more than `above_average_value_ratio` times the model's mean; s_n is the mean of both scores. Of vectors
    (norms, biases) the numbers themselves are scored by |theta_n - theta_0|, without ranks. Columns of embeddings are
    those of tokens.

    It is for models of which some have changed far more than others, as by continued pre-training, where sums of
    changes fail. Scores are not normalised: a column that changed much in two models has both changes added in full.

    Departures: a column of zeros has no direction, and counts as turned wholly (1) where the other has one; tensors of
    more than two dimensions are merged matrix by matrix.
    """

    name: ClassVar[str] = "widen"
    summary: ClassVar[str] = "column by column, by how much lengths and directions have changed in each model"
    paper: ClassVar[str] = "arXiv 2408.03092"
    cite: ClassVar[tuple[str, ...]] = ("yu-2024-extend",)

    class Params(Merger.Params):
        """Parameters of WIDEN."""

        above_average_value_ratio: float = Field(
            1.0, ge=0, description="How many times the mean rank of its model a rank has to exceed to be calibrated."
        )
        score_calibration_value: float = Field(1.0, description="Score of what is calibrated.")

    params: Params

    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return the base with the change of each model, weighed column by column."""
        if backbone.dim() < 2:
            return self._vector(backbone, models)
        turned = weight.embedding or weight.transposed
        matrices = [tensor.reshape(-1, *tensor.shape[-2:]) for tensor in (backbone, *models)]
        for base, *others in zip(*matrices, strict=True):
            self._matrix(base.T if turned else base, [other.T if turned else other for other in others])
        return matrices[0].reshape(backbone.shape)

    def _vector(self, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        import torch

        changes = torch.stack([model - backbone for model in models])
        size = changes.abs()
        scores = self._scores(size.reshape(len(models), -1)).reshape(size.shape)
        return backbone + (scores * changes).sum(0)

    def _matrix(self, base: Tensor, models: Sequence[Tensor]) -> None:
        """Add to a base (out, in) the change of each model, in the memory of the base."""
        import torch

        length = torch.linalg.vector_norm(base, dim=0)
        lengths, turns = [], []
        for model in models:
            own = torch.linalg.vector_norm(model, dim=0)
            lengths.append(_ranks((own - length).abs()))
            turns.append(_ranks(_turn(base, model, length, own)))
        columns = base.shape[1]
        weights = (self._scores(torch.stack(lengths), columns) + self._scores(torch.stack(turns), columns)) / 2
        for model in models:  # all of them while the base is as it was
            model.sub_(base)
        for model, own in zip(models, weights, strict=True):
            base.add_(model.mul_(own))

    def _scores(self, values: Tensor, columns: int = 1) -> Tensor:
        """Return the scores (models, n), float32, of changes of that shape, or of ranks that are divided by columns.

        Compared is before the division, in float64: the mean of whole ranks is exact, and the rank that is the mean is
        not above it.
        """
        wide = values.double()
        above = wide > self.params.above_average_value_ratio * wide.mean(dim=1, keepdim=True)
        return (wide / columns).softmax(dim=0).masked_fill(above, self.params.score_calibration_value).float()


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value, a whole number from 0 on; of equal ones the first is lower."""
    return values.argsort(stable=True).argsort()


def _turn(base: Tensor, model: Tensor, length: Tensor, own: Tensor) -> Tensor:
    """Return 1 - cos of the columns of two matrices (out, in), whose lengths are given; (in,)."""
    import torch

    product = torch.zeros_like(length)
    for rows in range(0, len(base), 256):
        product += (base[rows : rows + 256] * model[rows : rows + 256]).sum(0)
    both = length * own
    cosine = torch.where(both > 0, product / both.clamp_min(torch.finfo(both.dtype).tiny), 0.0)
    return torch.where((length == 0) & (own == 0), 0.0, 1 - cosine)
