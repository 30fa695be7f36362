"""The regression against scipy's optimiser on the same objective, and thresholds against all others."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from lingraft.routing.logistic import best_threshold, fit


@pytest.mark.parametrize(("rows", "features", "l2"), [(60, 5, 1.0), (30, 80, 0.5), (200, 3, 10.0)])
def test_the_minimum_is_scipys(rows: int, features: int, l2: float) -> None:
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, features))
    y = (x[:, 0] + rng.normal(size=rows) > 0.8).astype(int)
    share = rows / (2 * np.array([(y == 0).sum(), (y == 1).sum()]))[y]

    def loss(w: np.ndarray) -> float:
        scores = x @ w[:-1] + w[-1]
        return float(share @ (np.logaddexp(0, scores) - y * scores) + l2 / 2 * w[:-1] @ w[:-1])

    how = {"maxiter": 5000, "maxfun": 10**6, "ftol": 1e-14, "gtol": 1e-9}
    wanted = minimize(loss, np.zeros(features + 1), method="L-BFGS-B", options=how)
    found = fit(x, y, l2)
    assert loss(np.append(found.weights, found.bias)) <= wanted.fun + 1e-8
    np.testing.assert_allclose(np.append(found.weights, found.bias), wanted.x, atol=2e-3)


def test_separable_rows_have_a_finite_line() -> None:
    found = fit(np.array([[-1.0], [1.0]]), np.array([0, 1]), 1e-6)
    assert np.isfinite(found.weights).all()
    assert found.weights[0] > 1


@pytest.mark.parametrize(("y", "l2"), [([1, 1], 1.0), ([0, 1], 0.0)])
def test_what_has_no_line_is_refused(y: list[int], l2: float) -> None:
    with pytest.raises(ValueError, match="both classes"):
        fit(np.ones((2, 1)), np.array(y), l2)


def test_no_threshold_is_better() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        scores, y = rng.normal(size=12).round(1), np.array([0, 1] * 6)
        threshold, error = best_threshold(scores, y)
        assert error == pytest.approx(
            0.5 * ((scores[y == 0] > threshold).mean() + (scores[y == 1] <= threshold).mean())
        )
        others = [0.5 * ((scores[y == 0] > at).mean() + (scores[y == 1] <= at).mean()) for at in (*scores, -9, 9)]
        assert error <= min(others) + 1e-12


def test_the_middle_of_the_widest_gap_is_taken() -> None:
    assert best_threshold(np.array([-3.0, -1.0, 5.0, 6.0]), np.array([0, 0, 1, 1])) == (2.0, 0.0)
