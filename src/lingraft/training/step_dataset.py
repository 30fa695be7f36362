"""The rows of each step as a data set, made when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from lingraft.rendering.rows import Rendered
from lingraft.training.collate import Batch, collate
from lingraft.training.pair_losses import StepPairs
from lingraft.training.plan import Plan


def step_pairs(rows: Iterable[Rendered]) -> StepPairs:
    """Return what the preference pairs among the rows of a step are."""
    count = weight = chosen = 0.0
    for row in rows:
        if row.sign:
            own = float(sum(weight for weight in row.weights[1:] if weight > 0))
            count, weight, chosen = count + 0.5, weight + own, chosen + own * (row.sign > 0)
    return StepPairs(int(count), weight, chosen)


class StepDataset(Dataset[dict[str, Any]]):
    """Planned steps as dataset items: this device's micro-batches and the weight of the whole step.

    Devices take every n-th micro-batch; where one gets fewer than another, it repeats one with weight 0, since
    collective operations need equally many passes everywhere.

    `units`: (rows,) a number that rows of a group share; None: each row is by itself. `singly`: see `collate`.

    Attributes:
        limit: micro-batches of more padded tokens than this are halved; None as long as memory has sufficed.
    """

    def __init__(
        self,
        rows: Sequence[Rendered],
        steps: Plan,
        pad_id: int,
        roles: Sequence[str],
        *,
        packed: bool = False,
        share: bool = False,
        rank: int = 0,
        ranks: int = 1,
        units: np.ndarray | None = None,
        singly: bool = False,
    ) -> None:
        self.rows, self.steps, self.pad_id, self.roles = rows, steps, pad_id, roles
        self.packed, self.share, self.rank, self.ranks = packed, share, rank, ranks
        self.units, self.singly = units, singly
        self.limit: int | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        micros = [part for micro in self.steps[index].micros for part in self._parts(micro)]
        mine = [self._batch(micro) for micro in micros[self.rank :: self.ranks]]
        while len(mine) < math.ceil(len(micros) / self.ranks):
            mine.append((mine[0] if mine else self._batch(micros[0])).silent())
        rows = [row for micro in micros for row in micro]
        return {
            "micros": mine,
            "role_weights": self._role_weights(rows),
            "pairs": StepPairs() if self.units is None else step_pairs(map(self.rows.__getitem__, rows)),
        }

    def _parts(self, micro: Sequence[int]) -> list[Sequence[int]]:
        """Return the micro-batch, in halves of halves where it exceeds the limit."""
        if self.limit is None or self.size(micro) <= self.limit or not (cuts := self._cuts(micro)):
            return [micro]
        middle = min(cuts, key=lambda cut: abs(2 * cut - len(micro)))
        return [*self._parts(micro[:middle]), *self._parts(micro[middle:])]

    def _cuts(self, micro: Sequence[int]) -> list[int]:
        """Return where a micro-batch can be cut in two: rows of a group stay together."""
        of = micro if self.units is None else self.units[list(micro)]
        return [cut for cut in range(1, len(micro)) if of[cut] != of[cut - 1]]

    def size(self, micro: Sequence[int]) -> int:
        """Return the tokens of a micro-batch, padding counted."""
        lengths = [len(self.rows[row].input_ids) for row in micro]
        return sum(lengths) if self.packed else len(lengths) * max(lengths)

    def smallest(self, index: int) -> str:
        """Return in words what limits how small a step can be cut: its longest row, or the group that has it."""
        tokens = max(len(self.rows[row].input_ids) for micro in self.steps[index].micros for row in micro)
        return f"a single row{'' if self.units is None else ' or group with one'} of {tokens} tokens"

    def halve(self, index: int) -> int:
        """Lower the limit to half of the largest micro-batch of a step and return it; 0 if none can be halved."""
        micros = [part for micro in self.steps[index].micros for part in self._parts(micro) if self._cuts(part)]
        self.limit = max(map(self.size, micros)) // 2 if micros else 0
        return self.limit

    def _batch(self, micro: Sequence[int]) -> Batch:
        rows = [self.rows[i] for i in micro]
        return collate(rows, self.pad_id, self.roles, packed=self.packed, share=self.share, singly=self.singly)

    def _role_weights(self, indices: Iterable[int]) -> np.ndarray:
        """Return the sum of weights of each role, (roles,), over these rows."""
        number = {role: i for i, role in enumerate(self.roles)}
        sums = np.zeros(len(self.roles))
        for row in map(self.rows.__getitem__, indices):
            weights, spans = np.asarray(row.weights[1:], dtype=np.float64), np.asarray(row.span_of[1:])
            of_span = np.bincount(spans[weights > 0], weights[weights > 0], minlength=len(row.roles))
            np.add.at(sums, [number[role] for role in row.roles], of_span)
        return sums
