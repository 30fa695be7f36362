"""Linear interpolation, against cases worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lingraft.core.errors import UsageError
from lingraft.merging.base import MERGERS, Weight

BASE = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
ONE = torch.tensor([[2.0, 2.0], [3.0, 8.0]])
OTHER = torch.tensor([[0.0, 6.0], [3.0, 4.0]])
UP = Weight(name="up.weight")


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [[1.0, 4.0], [3.0, 6.0]]),  # a soup
        ({"weights": [3, 1]}, [[1.5, 3.0], [3.0, 7.0]]),
        ({"weights": [3, 1], "normalise": False}, [[6.0, 12.0], [12.0, 28.0]]),
        ({"strength": 0.5}, [[1.0, 3.0], [3.0, 5.0]]),
        ({"strength": 2}, [[1.0, 6.0], [3.0, 8.0]]),
        ({"strength": 0}, [[1.0, 2.0], [3.0, 4.0]]),
        ({"weights": [2, -1]}, [[4.0, -2.0], [3.0, 12.0]]),
    ],
)
def test_worked_out_by_hand(params: dict[str, Any], expected: list[list[float]]) -> None:
    found = MERGERS.create({"kind": "linear", **params}).merge(UP, BASE.clone(), [ONE.clone(), OTHER.clone()])
    torch.testing.assert_close(found, torch.tensor(expected))


def test_one_model_is_interpolated_with_the_base() -> None:
    found = MERGERS.create({"kind": "linear", "strength": 0.25}).merge(UP, BASE.clone(), [ONE.clone()])
    torch.testing.assert_close(found, 0.75 * BASE + 0.25 * ONE)


@pytest.mark.parametrize("params", [{"weights": [1, -1]}, {"weights": [0, 0]}, {"weights": [0, 0], "normalise": False}])
def test_weights_that_sum_to_nothing_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"weights: they sum to 0, by which nothing can be divided; give others"):
        MERGERS.create({"kind": "linear", **params}).check(2)


def test_a_difference_of_models_is_allowed_where_nothing_is_divided() -> None:
    MERGERS.create({"kind": "linear", "weights": [1, -1], "normalise": False}).check(2)
