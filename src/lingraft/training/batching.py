"""Which rows train together: optimiser steps by a budget of real tokens, micro-batches by a limit on padded tokens.

One step is planned as a whole, before training, so that the loss can be normalised over all of it and an
interrupted run can continue at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lingraft.core.errors import DataError, UsageError
from lingraft.training.plan import Plan


def plan_steps(
    lengths: Sequence[int] | np.ndarray,
    supervised: Sequence[int] | np.ndarray,
    *,
    tokens_per_step: int,
    micro_tokens: int,
    epochs: float,
    seed: int,
    world_size: int = 1,
    max_tokens: int | None = None,
    max_steps: int | None = None,
    micro_cost: int = 64,
    packed: bool = False,
    units: np.ndarray | None = None,
) -> Plan:
    """Plan a run. Each epoch uses every row once, in an order that depends on `seed` and the epoch alone.

    Rows of a group are a unit: they are used together or not at all, and stand in one micro-batch, whatever its limit;
    what is said of a row below holds for the unit.

    Rows fill a step up to `tokens_per_step`; a longer row makes a step by itself. Where the last step of an epoch
    would be less than half full, its rows and those of the step before are divided again into two even steps, so that
    no step takes a disproportionate share of the updates. Within a step, rows are sorted by length and cut where
    padded tokens + `micro_cost` per micro-batch is least. Packed rows need no padding: they fill micro-batches up
    to the limit.

    Args:
        lengths: (rows,) tokens of each row.
        supervised: (rows,) supervised tokens of each row.
        tokens_per_step: real tokens of a step, over all devices.
        micro_tokens: padded tokens of a micro-batch; a longer row goes alone.
        epochs: passes over the rows. A fractional pass takes the first rows of its shuffled order (at least one row in
            all).
        seed: of the order of rows.
        world_size: devices; where rows allow, a step has a multiple of this many micro-batches.
        max_tokens: real tokens of the whole run; the first row is used whatever its length.
        max_steps: optimiser steps of the whole run.
        micro_cost: fixed cost of one more micro-batch, in padded tokens.
        packed: whether rows are laid end to end, so that a micro-batch costs their real tokens.
        units: (rows,) a number that rows of a group share, ascending; None: each row is by itself.

    Raises:
        DataError: there are no rows.
        UsageError: a budget or the number of epochs is not positive.
    """
    if len(lengths) != len(supervised):
        raise ValueError(f"{len(lengths)} lengths but {len(supervised)} supervised counts")
    if not len(lengths):
        raise DataError("there is no row to train on; check the filters and the size of the training data")
    for name, value in (
        ("tokens_per_step", tokens_per_step),
        ("micro_tokens", micro_tokens),
        ("epochs", epochs),
        ("world_size", world_size),
        ("max_tokens", 1 if max_tokens is None else max_tokens),
        ("max_steps", 1 if max_steps is None else max_steps),
    ):
        if value <= 0:
            raise UsageError(f"{name} is {value}; it must be greater than 0")
    whole = _Units.of(np.asarray(lengths, dtype=np.int64), np.asarray(supervised, dtype=np.int64), units)
    sizes = whole.sizes
    plan = Plan()
    left = max_tokens
    for epoch, count in enumerate(_epoch_counts(epochs, len(sizes))):
        order = np.random.default_rng([seed, epoch]).permutation(len(sizes))[:count]
        if left is not None:
            fitting = int(np.searchsorted(np.cumsum(sizes[order]), left, side="right"))
            order = order[: max(fitting, 0 if plan else 1)]
            left -= int(sizes[order].sum())
        for group in _fill(order, sizes, tokens_per_step):
            if packed:
                cut = _fill(group, sizes, micro_tokens)
            else:
                cut = _cut(group, whole, micro_tokens, micro_cost)
            micros = _balance(cut, whole, world_size)
            tokens = int(sizes[group].sum())
            plan.add(
                [whole.rows_of(micro) for micro in micros],
                tokens=tokens,
                padded_tokens=tokens if packed else sum(map(whole.padded, micros)),
                supervised=int(whole.supervised[group].sum()),
            )
            if len(plan) == max_steps:
                return plan
        if len(order) < count:
            break
    return plan


@dataclass(frozen=True)
class _Units:
    """What is trained together or not at all: a row, or the rows of a group. Arrays are (units,).

    Attributes:
        sizes: tokens.
        longest: tokens of the longest row.
        rows: number of rows.
        begins: number of the first row.
        supervised: supervised tokens.
    """

    sizes: np.ndarray
    longest: np.ndarray
    rows: np.ndarray
    begins: np.ndarray
    supervised: np.ndarray

    @classmethod
    def of(cls, lengths: np.ndarray, supervised: np.ndarray, units: np.ndarray | None) -> _Units:
        """Gather rows by the number of their unit."""
        if units is None:
            return cls(lengths, lengths, np.ones(len(lengths), np.int64), np.arange(len(lengths)), supervised)
        begins = np.flatnonzero(np.diff(units, prepend=units[0] - 1))
        rows = np.diff(begins, append=len(units))
        sums = (np.add.reduceat(values, begins) for values in (lengths, supervised))
        return cls(next(sums), np.maximum.reduceat(lengths, begins), rows, begins, next(sums))

    def padded(self, micro: np.ndarray) -> int:
        """Return the tokens of a micro-batch, padding counted."""
        return int(self.rows[micro].sum()) * int(self.longest[micro].max())

    def rows_of(self, micro: np.ndarray) -> np.ndarray:
        """Return the numbers of the rows of these units."""
        counts = self.rows[micro]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self.begins[micro], counts) + within


def _epoch_counts(epochs: float, rows: int) -> list[int]:
    whole = int(epochs)
    rest = round((epochs - whole) * rows)
    if not whole:
        rest = max(rest, 1)
    return [rows] * whole + ([rest] if rest else [])


def _fill(order: np.ndarray, sizes: np.ndarray, budget: int) -> list[np.ndarray]:
    groups: list[np.ndarray] = []
    ends = np.cumsum(sizes[order])
    begin = filled = 0
    while begin < len(order):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + budget, side="right")))
        groups.append(order[begin:end])
        begin, filled = end, int(ends[end - 1]) - before
    if len(groups) > 1 and 2 * filled < budget:
        pool = np.concatenate(groups[-2:])
        cuts = np.cumsum(sizes[pool])[:-1]
        cut = int(np.argmin(np.maximum(cuts, sizes[pool].sum() - cuts))) + 1
        groups[-2:] = [pool[:cut], pool[cut:]]
    return groups


def _cut(group: np.ndarray, units: _Units, limit: int, cost: int) -> list[np.ndarray]:
    """Cut the units, sorted by length, at least total cost (dynamic programme over the cut positions)."""
    rows = np.sort(group)
    rows = rows[np.argsort(-units.longest[rows], kind="stable")]
    longest, before = units.longest[rows], np.cumsum(units.rows[rows]) - units.rows[rows]
    best = np.zeros(len(rows) + 1, dtype=np.int64)
    begin_of = np.zeros(len(rows) + 1, dtype=np.int64)
    for end in range(1, len(rows) + 1):
        begins = np.arange(max(0, end - max(1, limit // int(longest[end - 1]))), end)
        count = before[end - 1] + units.rows[rows[end - 1]]
        padded = (count - before[begins]) * longest[begins]
        allowed = (padded <= limit) | (begins == end - 1)
        total = np.where(allowed, best[begins] + padded + cost, np.iinfo(np.int64).max)
        choice = int(np.argmin(total))
        best[end], begin_of[end] = total[choice], begins[choice]
    micros: list[np.ndarray] = []
    end = len(rows)
    while end:
        micros.append(rows[begin_of[end] : end])
        end = int(begin_of[end])
    return micros[::-1]


def _balance(micros: list[np.ndarray], units: _Units, world_size: int) -> list[np.ndarray]:
    """Split the largest micro-batches until each device gets equally many, or no micro-batch can be split."""
    while len(micros) % world_size:
        largest = max(range(len(micros)), key=lambda i: (len(micros[i]) > 1, units.padded(micros[i]), -i))
        micro = micros[largest]
        if len(micro) == 1:
            break
        micros[largest : largest + 1] = [micro[: len(micro) // 2], micro[len(micro) // 2 :]]
    return micros
