"""A planned run in flat arrays: the steps of a million rows in a few megabytes."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import overload

import numpy as np


@dataclass(frozen=True)
class Step:
    """One optimiser step.

    Attributes:
        micros: row indices of each micro-batch.
        tokens: real tokens.
        padded_tokens: with padding.
        supervised: tokens with a weight.
    """

    micros: tuple[tuple[int, ...], ...]
    tokens: int
    padded_tokens: int
    supervised: int


class Plan(Sequence[Step]):
    """The steps of a run. Held are 4 bytes for each row of each epoch, 8 a micro-batch and 32 a step; a `Step` is made
    when it is asked for."""

    def __init__(self) -> None:
        self._rows = array("i")
        self._micro_ends = array("q", [0])
        self._step_ends = array("q", [0])
        self._tokens, self._padded, self._supervised = array("q", [0]), array("q", [0]), array("q", [0])  # so far

    def add(self, micros: Sequence[np.ndarray], *, tokens: int, padded_tokens: int, supervised: int) -> None:
        """Append a step; values as in `Step`."""
        for micro in micros:
            self._rows.frombytes(np.ascontiguousarray(micro, dtype=np.intc).tobytes())
            self._micro_ends.append(len(self._rows))
        self._step_ends.append(len(self._micro_ends) - 1)
        for sums, value in ((self._tokens, tokens), (self._padded, padded_tokens), (self._supervised, supervised)):
            sums.append(sums[-1] + value)

    def __len__(self) -> int:
        return len(self._tokens) - 1

    @overload
    def __getitem__(self, index: int) -> Step: ...

    @overload
    def __getitem__(self, index: slice) -> list[Step]: ...

    def __getitem__(self, index: int | slice) -> Step | list[Step]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        ends = self._micro_ends[self._step_ends[number] : self._step_ends[number + 1] + 1]
        return Step(
            micros=tuple(tuple(self._rows[begin:end]) for begin, end in pairwise(ends)),
            tokens=self._tokens[number + 1] - self._tokens[number],
            padded_tokens=self._padded[number + 1] - self._padded[number],
            supervised=self._supervised[number + 1] - self._supervised[number],
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan | list):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    @property
    def tokens(self) -> int:
        """Real tokens of the run."""
        return self._tokens[-1]

    @property
    def padded_tokens(self) -> int:
        """Tokens of the run with padding."""
        return self._padded[-1]

    @property
    def supervised(self) -> int:
        """Tokens with a weight of the run."""
        return self._supervised[-1]

    def done(self, steps: int) -> tuple[int, int]:
        """Return real and supervised tokens of the first steps."""
        return self._tokens[steps], self._supervised[steps]

    def padded_done(self, steps: int) -> int:
        """Return the tokens of the first steps with padding."""
        return self._padded[steps]

    def digest(self) -> str:
        """Return the SHA-256 of which rows train together, and when."""
        found = hashlib.sha256()
        for values in (self._rows, self._micro_ends, self._step_ends):
            found.update(f"{values.typecode}{len(values)}".encode())
            found.update(memoryview(values))
        return found.hexdigest()
