"""The length-controlled win rate against an independent fit and finite differences, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lingraft.statistics.length_control import RIDGE, length_controlled


def _refit(won: np.ndarray, excess: np.ndarray, weights: np.ndarray, spread: float) -> float:
    """Weighted logistic regression by L-BFGS on the loss written out."""
    y, w = torch.tensor(won, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)
    x = torch.tanh(torch.tensor(excess, dtype=torch.float64) / spread)
    parameters = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [parameters], max_iter=500, tolerance_grad=1e-13, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        search.zero_grad()
        p = torch.sigmoid(parameters[0] + parameters[1] * x)
        value = -(w * (y * p.log() + (1 - y) * (1 - p).log())).sum() + RIDGE / 2 * parameters[1] ** 2
        value.backward()
        return value

    search.step(loss)
    return 1 / (1 + math.exp(-float(parameters[0].detach())))


def _sample(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    excess = random.normal(80, 250, count).round()
    chance = 1 / (1 + np.exp(-(-0.4 + 1.3 * np.tanh(excess / 250))))
    return np.round((random.random(count) < chance) * 0.5 + (random.random(count) < chance) * 0.5, 1), excess


@pytest.mark.parametrize(("seed", "count"), [(1, 200), (2, 40), (3, 9)])
def test_the_fit_is_that_of_another_optimiser(seed: int, count: int) -> None:
    won, excess = _sample(seed, count)
    result, values = length_controlled(won.tolist(), excess.tolist())
    assert result == pytest.approx(_refit(won, excess, np.ones(count), float(excess.std())), abs=1e-7)
    assert values.mean() == pytest.approx(result, abs=1e-12)


def test_a_preference_for_length_is_taken_out() -> None:
    won, excess = _sample(1, 4000)
    result, _ = length_controlled(won.tolist(), excess.tolist())
    assert won.mean() > 0.46
    assert result == pytest.approx(1 / (1 + math.exp(0.4)), abs=0.02)  # the truth behind the sample


def test_pseudo_values_are_derivatives_by_the_items_weights() -> None:
    won, excess = _sample(4, 30)
    spread = float(excess.std())
    result, values = length_controlled(won.tolist(), excess.tolist())
    step = 1e-4
    slopes = []
    for item in range(30):
        up, down = np.ones(30), np.ones(30)
        up[item] += step
        down[item] -= step
        slopes.append((_refit(won, excess, up, spread) - _refit(won, excess, down, spread)) / (2 * step))
    expected = result + 30 * (np.array(slopes) - np.mean(slopes))
    assert values == pytest.approx(expected, abs=1e-4)


def test_extremes() -> None:
    assert length_controlled([1.0, 1.0], [5.0, -5.0])[0] == 1.0
    assert length_controlled([0.0], [0.0])[0] == 0.0
    result, values = length_controlled([0.5] * 4, [0.0] * 4)
    assert result == 0.5
    assert set(values.tolist()) == {0.5}
    assert length_controlled([1.0, 0.0, 0.5, 1.0], [7.0] * 4)[0] == pytest.approx(0.625)  # equal lengths: plain share
    # Length decides all: the slope stays finite, and half of the answers of equal length win.
    result, _ = length_controlled([1.0, 1.0, 0.0, 0.0], [900.0, 800.0, -800.0, -900.0])
    assert result == pytest.approx(0.5, abs=1e-9)
