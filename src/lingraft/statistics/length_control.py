"""Length-controlled win rate: what the win rate would be if both answers were equally long.

Source: Dubois, Galambosi, Liang & Hashimoto 2024, "Length-Controlled AlpacaEval: A Simple Way to Debias Automatic
Evaluators" (arXiv 2404.04475).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RIDGE = 1.0
"""Penalty RIDGE / 2 x b^2 beside the summed log-loss: a standard normal prior on b, which keeps it finite."""

FEWEST = 30
"""Pairs of answers below which two parameters are not fitted: the result would be an extrapolation."""


def length_controlled(preferences: Sequence[float], excess: Sequence[float]) -> tuple[float, np.ndarray]:
    """Return the length-controlled win rate (a share), and a pseudo-value of each item whose mean it is.

    Fitted is P(win) = sigmoid(a + b tanh(d / sd(d))), d being how much longer the system's answer is; the result is
    sigmoid(a). Departures from the paper: its term for the difficulty of each instruction is left out (it is fitted on
    many models' verdicts, here there are two), and its cross-validated penalty is a fixed one on b alone.

    The pseudo-values are those of the infinitesimal jackknife (Efron & Tibshirani 1993, chapter 11): the result plus n
    times its derivative by the item's weight. Resampling them gives the interval of the result to first order; sd(d) is
    taken as fixed.

    Args:
        preferences: 1 where the system wins, 0 where it loses, 0.5 a tie; of n items, at least one.
        excess: length of the system's answer minus that of the other, in characters.
    """
    won = np.asarray(preferences, dtype=np.float64)
    share = float(won.mean())
    if share in (0.0, 1.0):  # nothing but wins, or losses: the limit of the fit
        return share, np.full(len(won), share)
    longer = np.asarray(excess, dtype=np.float64)
    spread = float(longer.std())
    features = np.column_stack([np.ones(len(won)), np.tanh(longer / spread) if spread else np.zeros(len(won))])
    penalty = np.diag([0.0, RIDGE])
    weights = np.array([np.log(share / (1 - share)), 0.0])
    loss = _loss(weights, features, won)
    for _ in range(100):  # Newton with halved steps: the loss is convex and has one minimum
        chance = _sigmoid(features @ weights)
        slope = features.T @ (chance - won) + penalty @ weights
        curvature = (features.T * (chance * (1 - chance))) @ features + penalty
        step = np.linalg.solve(curvature, slope)
        scale = 1.0
        while (next_loss := _loss(weights - scale * step, features, won)) > loss and scale > 1e-9:
            scale /= 2
        weights, loss = weights - scale * step, next_loss
        if float(np.abs(step).max()) < 1e-10:
            break
    chance = _sigmoid(features @ weights)
    curvature = (features.T * (chance * (1 - chance))) @ features + penalty
    result = float(_sigmoid(weights[:1])[0])
    parts = features * (won - chance)[:, None]
    parts -= parts.mean(axis=0)  # their sum is the penalty's share, which no item causes
    moved = parts @ np.linalg.solve(curvature, np.array([result * (1 - result), 0.0]))
    return result, result + len(won) * moved


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(values / 2))


def _loss(weights: np.ndarray, features: np.ndarray, won: np.ndarray) -> float:
    logits = features @ weights
    return float(np.sum(np.logaddexp(0.0, logits) - won * logits) + RIDGE / 2 * weights[1] ** 2)
