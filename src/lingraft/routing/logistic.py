"""Logistic regression with an l2 penalty, and a threshold for its scores: numpy alone, in double precision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_STEPS = 200
ENOUGH = 1e-9
"""Largest part of the gradient, for each example, at which the fit ends."""


@dataclass(frozen=True)
class Line:
    """Scores `x @ weights + bias`: log-odds of the class 1."""

    weights: np.ndarray
    bias: float

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return the score of each row of x (n, d)."""
        return np.asarray(x, dtype=np.float64) @ self.weights + self.bias


def fit(x: np.ndarray, y: np.ndarray, l2: float) -> Line:
    """Return the line that minimises sum_i s_i log(1 + exp(-+score_i)) + l2/2 |weights|^2.

    Both classes weigh the same (s_i = n / (2 n_class)); the bias is not penalised. Newton's method in the space that
    the rows span, so that it takes as long with 8,000 features as with as many as there are rows.

    Args:
        x: features (n, d).
        y: classes (n,), 0 or 1, both of which occur.
        l2: weight of the penalty, above 0.

    Raises:
        ValueError: one class alone, or a penalty that is none.
    """
    x, t = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    counts = np.array([(t == 0).sum(), (t == 1).sum()])
    if counts.min() < 1 or l2 <= 0:
        raise ValueError("a line needs rows of both classes and a penalty above 0")
    share = len(t) / (2 * counts)[t.astype(int)]
    _, _, basis = np.linalg.svd(x, full_matrices=False)  # weights = basis.T @ w, of the same length
    z = np.hstack([x @ basis.T, np.ones((len(t), 1))])
    penalty = np.append(np.full(len(basis), float(l2)), 0.0)
    w = np.zeros(z.shape[1])
    value = _loss(z, t, share, penalty, w)
    for _ in range(MAX_STEPS):
        p = _sigmoid(z @ w)
        gradient = z.T @ (share * (p - t)) + penalty * w
        if np.abs(gradient).max() <= ENOUGH * len(t):
            break
        hessian = (z * (share * p * (1 - p))[:, None]).T @ z + np.diag(penalty + 1e-12)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (new := _loss(z, t, share, penalty, w - size * step)) > value and size > 1e-10:
            size /= 2
        if new >= value:  # as near as double precision gets
            break
        w, value = w - size * step, new
    return Line(basis.T @ w[:-1], float(w[-1]))


def _sigmoid(scores: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(scores / 2))


def _loss(z: np.ndarray, t: np.ndarray, share: np.ndarray, penalty: np.ndarray, w: np.ndarray) -> float:
    scores = z @ w
    return float(share @ (np.logaddexp(0, scores) - t * scores) + 0.5 * penalty @ (w * w))


def best_threshold(scores: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the threshold above which a score is of class 1, and its balanced error, the mean of both classes' shares.

    Of thresholds with the same error the middle of the widest gap is taken, then the one nearest to 0.

    Args:
        scores: (n,).
        y: classes (n,), 0 or 1, both of which occur.
    """
    found = np.unique(scores)
    places = np.concatenate([[found[0] - 1.0], (found[1:] + found[:-1]) / 2, [found[-1] + 1.0]])
    gaps = np.concatenate([[0.0], np.diff(found), [0.0]])
    above = scores[None, :] > places[:, None]
    errors = 0.5 * (above[:, y == 0].mean(1) + (~above[:, y == 1]).mean(1))
    best = min(range(len(places)), key=lambda i: (round(float(errors[i]), 12), -gaps[i], abs(places[i])))
    return float(places[best]), float(errors[best])
