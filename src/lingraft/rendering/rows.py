"""Rendered examples: token ids, weights, losses, and what a teacher said of their tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

RENDERING = "rendering:1"
"""Names how examples become tokens and weights; the number grows when the same example becomes others."""


@dataclass(frozen=True, eq=False)
class RenderedTeacher:
    """Recorded distributions of m tokens of an example.

    Attributes:
        positions: (m,) int64, ascending; index in `input_ids` of the token that the distribution predicts.
        ids: (m, k) int64, most probable tokens. Rows with fewer than k repeat their first id.
        logprobs: (m, k) float32, natural log; -inf for repeated ids.
    """

    positions: np.ndarray
    ids: np.ndarray
    logprobs: np.ndarray

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RenderedTeacher):
            return NotImplemented
        return all(
            np.array_equal(mine, theirs)
            for mine, theirs in (
                (self.positions, other.positions),
                (self.ids, other.ids),
                (self.logprobs, other.logprobs),
            )
        )

    def __hash__(self) -> int:
        return hash((self.positions.tobytes(), self.ids.tobytes(), self.logprobs.tobytes()))


@dataclass(frozen=True)
class Rendered:
    """An example as tokens. `weights` and `span_of` have the length of `input_ids`.

    Attributes:
        weights: weight of predicting *this* token; 0 where it is not supervised.
        span_of: index of the token's span, -1 for the prompt. End-of-turn tokens belong to the last span.
        losses: kind of loss per span. Tokens of a span whose loss needs a teacher but which are not among the teacher's
            positions are trained by ce.
        roles: role per span.
        teacher: recorded distributions, if a span has a teacher; possibly of no token at all.
        group: see `Example`; "" for a row by itself.
        sign: see `Example`.
    """

    id: str
    input_ids: tuple[int, ...]
    weights: tuple[float, ...]
    span_of: tuple[int, ...]
    losses: tuple[str, ...]
    roles: tuple[str, ...]
    teacher: RenderedTeacher | None = None
    group: str = ""
    sign: int = 0

    @property
    def supervised(self) -> int:
        """Number of tokens with a weight."""
        return sum(weight > 0 for weight in self.weights)

    @property
    def prompt_length(self) -> int:
        """Number of prompt tokens."""
        return sum(span < 0 for span in self.span_of)


@dataclass(frozen=True)
class Placed:
    """Tokens with the characters they stand for.

    Attributes:
        ids: of the tokens.
        starts: first character of each token.
        ends: the character after its last.
        text: what they are tokens of.
    """

    ids: list[int]
    starts: list[int]
    ends: list[int]
    text: str

    def runs(self, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (first token, token after the last, first character, character after the last) of the shortest runs
        of tokens [begin, end) that stand for characters of their own; several tokens may spell one character."""
        first = begin
        while first < end:
            after, last = first + 1, self.ends[first]
            while after < end and self.starts[after] < last:
                last = max(last, self.ends[after])
                after += 1
            yield first, after, self.starts[first], last
            first = after
