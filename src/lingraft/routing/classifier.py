"""Decider "classifier": a line through the base's own states, learnt in seconds from a run's requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import stable_fraction
from lingraft.data.records import Request
from lingraft.routing.base import BASE, GRAFT, Decider, Lessons, Route, RouteInputs
from lingraft.routing.logistic import best_threshold, fit
from lingraft.routing.training import examples

LEAST = 8
"""Requests of either kind from which something can be learnt."""


class ClassifierDecider(Decider):
    """Logistic regression on what the base is about to do with a prompt: its states at the last token, in three of the
    upper layers.

    Features are standardised; both kinds of requests weigh the same. The threshold is chosen on a fifth of the requests
    that the line has not seen, by the mean of both error rates. It costs one pass of the base over each prompt.
    """

    name: ClassVar[str] = "classifier"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = "logistic regression on the base's own states, learnt from the run's requests"
    learns: ClassVar[bool] = True
    reads: ClassVar[bool] = True

    class Params(Decider.Params):
        """Parameters of the decider."""

        max_examples: int = Field(200, ge=2 * LEAST, description="pairs and prompts that it learns from, at most, each")
        contrasts: bool = Field(
            True, description="learn from shipped wordings in other words and languages and from other tasks as well"
        )
        l2: float = Field(1.0, gt=0, description="weight of the penalty on squared weights of standardised features")
        held_out: float = Field(0.2, gt=0, lt=0.9, description="share of the requests that only choose the threshold")

    params: Params
    _line: tuple[np.ndarray, float] | None = None

    def learn(self, lessons: Lessons, inputs: RouteInputs) -> dict[str, Any]:
        """Fit the line and choose its threshold; see `Decider.learn`."""
        if len(lessons.pairs) < LEAST or len(lessons.general) < LEAST:
            lacking = "training pairs" if len(lessons.pairs) < LEAST else "general prompts that are replayed"
            raise DataError(
                f"the decider 'classifier' has fewer than {LEAST} {lacking} to learn from; give the run more, or route "
                f"by 'form'"
            )
        settings = self.params
        kinds = examples(lessons, inputs.wordings, settings.max_examples, contrast=settings.contrasts)
        x = self._states([*kinds[1], *kinds[0]], inputs).astype(np.float64)
        y = np.repeat([0, 1], [len(kinds[1]), len(kinds[0])])
        chosen = np.concatenate([self._held_out(one, lessons.seed) for one in (kinds[1], kinds[0])])
        mean, spread = x[~chosen].mean(0), x[~chosen].std(0)
        spread = np.where(spread > 1e-6 * max(1e-12, spread.max()), spread, np.inf)  # what never varies says nothing
        line = fit((x[~chosen] - mean) / spread, y[~chosen], settings.l2)
        threshold, error = best_threshold(line.scores((x[chosen] - mean) / spread), y[chosen])
        weights = (line.weights / spread).astype(np.float32)
        self._line = weights, float(line.bias - weights.astype(np.float64) @ mean - threshold)
        return {
            "translations": len(kinds[0]),
            "others": len(kinds[1]),
            "held_out": int(chosen.sum()),
            "held_out_error_percent": round(100 * error, 2),
            "threshold": round(threshold, 4),
        }

    def _held_out(self, requests: Sequence[Request], seed: int) -> np.ndarray:
        """Return which requests only choose the threshold: the share that is wanted, by their ids."""
        drawn = np.array([stable_fraction("route", seed, one.id) for one in requests])
        count = min(len(drawn) - 1, max(1, round(self.params.held_out * len(drawn))))
        return drawn <= np.sort(drawn)[count - 1]

    def _states(self, requests: Sequence[Request], inputs: RouteInputs) -> np.ndarray:
        if inputs.states is None:
            raise UsageError("the decider 'classifier' reads the base's states, and there is no base; give it one")
        return inputs.states(requests)

    def decide(self, requests: Sequence[Request], inputs: RouteInputs) -> list[Route]:
        """Return who answers each request; see `Decider.decide`."""
        asked = [i for i, one in enumerate(requests) if one.messages or one.prompt_ids]
        routes: list[Route] = [BASE] * len(requests)
        if asked:
            scores = self.scores([requests[i] for i in asked], inputs)
            for i, score in zip(asked, scores, strict=True):
                routes[i] = GRAFT if score > 0 else BASE
        return routes

    def scores(self, requests: Sequence[Request], inputs: RouteInputs) -> np.ndarray:
        """Return how far each request is above the threshold, in log-odds: above 0 the graft answers.

        Raises:
            UsageError: nothing was learnt.
        """
        if self._line is None:
            raise UsageError("the decider 'classifier' has learnt nothing yet; route by 'form' or 'caller'")
        weights, bias = self._line
        return np.asarray(self._states(requests, inputs).astype(np.float64) @ weights.astype(np.float64) + bias)

    def learnt(self) -> Mapping[str, np.ndarray]:
        """Return weights and bias; see `Decider.learnt`."""
        if self._line is None:
            return {}
        return {"weights": self._line[0], "bias": np.array([self._line[1]], np.float64)}

    def remember(self, learnt: Mapping[str, np.ndarray]) -> None:
        """Take weights and bias; see `Decider.remember`."""
        weights, bias = learnt.get("weights"), learnt.get("bias")
        if weights is None or bias is None or weights.ndim != 1 or bias.shape != (1,):
            raise ValueError("it lacks weights or bias")
        if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
            raise ValueError("its weights hold what is no number")
        self._line = weights.astype(np.float32), float(bias[0])
