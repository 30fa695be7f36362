"""Spherical linear interpolation between two models (Shoemake 1985)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.merging.base import Merger, Weight
from lingraft.merging.changes import pieces

if TYPE_CHECKING:
    from torch import Tensor

PARALLEL = 0.9995
"""Cosine beyond which the arc is taken for the straight line, as by other programs: sin(omega) is then near 0."""


class Slerp(Merger):
    """theta = sin((1 - t) omega) / sin(omega) theta_1 + sin(t omega) / sin(omega) theta_2, omega the angle of both.

    Each weight is one vector. Where both are all but parallel, or one is 0, it is (1 - t) theta_1 + t theta_2. With one
    model alone theta_1 is the base.
    """

    name: ClassVar[str] = "slerp"
    summary: ClassVar[str] = "a point on the arc between two models, or between the base and one"
    paper: ClassVar[str] = "doi 10.1145/325334.325242"
    cite: ClassVar[tuple[str, ...]] = ("shoemake-1985-animating",)
    most: ClassVar[int] = 2

    class Params(Merger.Params):
        """Parameters of spherical interpolation."""

        t: float = Field(
            0.5, ge=0, le=1, description="How far to go from the first model (of one alone: the base) to the last."
        )

    params: Params

    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return the point on the arc."""
        one, other = (backbone, *models)[-2:]
        first, second = _factors(self.params.t, _cosine(one, other))
        return one.mul_(first).add_(other, alpha=second)


def _cosine(one: Tensor, other: Tensor) -> float:
    """Return the cosine of two weights, summed in float64; 1 where one of them is 0."""
    product = first = second = 0.0
    for a, b in pieces(one.contiguous(), other.contiguous()):
        wide, broad = a.double(), b.double()
        product += float(wide.dot(broad))
        first += float(wide.dot(wide))
        second += float(broad.dot(broad))
    return product / math.sqrt(first * second) if first and second else 1.0


def _factors(t: float, cosine: float) -> tuple[float, float]:
    if abs(cosine) > PARALLEL:
        return 1 - t, t
    omega = math.acos(cosine)
    return math.sin((1 - t) * omega) / math.sin(omega), math.sin(t * omega) / math.sin(omega)
