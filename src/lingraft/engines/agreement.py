"""Do two engines write the same? Greedy answers to the same requests, compared token by token."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine
from lingraft.engines.finishing import TopLogprobs

NEAR_TIES = {"float32": 0.01, "bfloat16": 0.25}
"""Type of the weights -> nats between the two best tokens below which rounding may decide.

In bfloat16 a logit between 16 and 32 is a multiple of 0.125, and each of the two compared may be off by one. In float32
what remains are sums in another order: log-probabilities of two engines agree to two decimals.
"""


@dataclass(frozen=True)
class AnswerDifference:
    """Where two answers to one request part.

    Attributes:
        position: number of equal tokens before it.
        tokens: what either wrote there, None at its end.
        gap: nats between the two best tokens there, in the first engine or, if it ended there, in the second.
    """

    id: str
    position: int
    tokens: tuple[int | None, int | None]
    gap: float | None


@dataclass(frozen=True)
class EngineAgreement:
    """How far two engines agree on `n` requests; differences in the order of the requests.

    Attributes:
        near_tie: nats between the two best tokens below which rounding is taken to explain a difference.
    """

    n: int
    differences: tuple[AnswerDifference, ...]
    near_tie: float

    @property
    def equal_share(self) -> float:
        """Share of requests with the same tokens and the same end."""
        return 1 - len(self.differences) / self.n

    def near_ties(self) -> list[AnswerDifference]:
        """Return the differences that rounding may explain."""
        return [found for found in self.differences if found.gap is not None and found.gap <= self.near_tie]

    def to_dict(self) -> dict[str, Any]:
        """Return the figures, JSON-ready; the distributions as least, median and greatest."""
        explained = self.near_ties()
        return {
            "requests": self.n,
            "equal_share": round(self.equal_share, 4),
            "first_difference": _spread([found.position for found in self.differences]),
            "gap_nats": _spread([round(found.gap, 4) for found in self.differences if found.gap is not None]),
            "near_tie_nats": self.near_tie,
            "near_ties": len(explained),
            "other": [found.id for found in self.differences if found not in explained],
        }

    def __str__(self) -> str:
        """Return the figures in words."""
        equal = self.n - len(self.differences)
        text = f"{equal} of {self.n} answers are equal ({100 * self.equal_share:.1f} %)"
        if not self.differences:
            return text
        found = self.to_dict()
        first = found["first_difference"]
        text += (
            f"; the others part after {first['min']} to {first['max']} equal tokens (median {first['median']:g}), "
            f"{found['near_ties']} of {len(self.differences)} where the two best tokens are within {self.near_tie:g} "
            "nats, so that rounding decides"
        )
        return text + (f"; not explained by that: {', '.join(found['other'][:5])}" if found["other"] else "")


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)} if values else None


def agreement(
    one: Engine, two: Engine, requests: Sequence[Request], graft: Path | None = None, *, dtype: str
) -> EngineAgreement:
    """Let two engines answer the same requests greedily and compare.

    The first engine is closed before the second starts, since both may need the memory.

    Args:
        one: the first engine; it is closed when it has answered.
        two: the second engine; it is closed, too.
        requests: asked of both; how they are to be sampled does not count.
        graft: folder of the adapter that both answer with; None for the base alone.
        dtype: type of the weights, one of `NEAR_TIES`.

    Raises:
        EngineError: no requests, or an engine leaves one out.
    """
    if not requests:
        raise EngineError("engines can only be compared on at least one request; give a file that holds some")
    greedy = [
        replace(request, sampling=replace(request.sampling, temperature=0.0), top_logprobs=2) for request in requests
    ]
    first, second = _answers(one, greedy, graft), _answers(two, greedy, graft)
    found = (_difference(first[request.id], second[request.id]) for request in greedy)
    return EngineAgreement(len(greedy), tuple(filter(None, found)), NEAR_TIES[dtype])


def _answers(engine: Engine, requests: Iterable[Request], graft: Path | None) -> Mapping[str, Generation]:
    asked = list(requests)
    try:
        answers = {answer.id: answer for answer in engine.generate(asked, graft)}
    finally:
        engine.close()
    lacking = [request.id for request in asked if request.id not in answers]
    if lacking:
        raise EngineError(f"engine {engine.name!r} left out {len(lacking)} requests, such as {lacking[0]!r}")
    return answers


def _difference(one: Generation, two: Generation) -> AnswerDifference | None:
    """Return where two answers part, None if they are equal."""
    if one.token_ids == two.token_ids and one.finish_reason == two.finish_reason:
        return None
    pairs = zip(one.token_ids, two.token_ids, strict=False)
    shorter = min(len(one.token_ids), len(two.token_ids))
    position = next((i for i, (mine, theirs) in enumerate(pairs) if mine != theirs), shorter)
    best = next((both for both in (_best(one, position), _best(two, position)) if both), ())
    gap = best[0][1] - best[1][1] if best else None
    written = tuple(answer.token_ids[position] if position < len(answer.token_ids) else None for answer in (one, two))
    return AnswerDifference(one.id, position, (written[0], written[1]), gap)


def _best(answer: Generation, position: int) -> TopLogprobs:
    """Return the two best tokens at a position; nothing if the answer ended there."""
    return answer.logprobs[position] if answer.logprobs and position < len(answer.logprobs) else ()
