"""Rows to the tensors of one micro-batch, in one of two layouts.

Padded: a row of the batch for each example, filled up on the right. No attention mask is needed: attention is
causal, so that no token looks at what follows it, and what stands in the padding is never read.

Packed: all examples end to end in one row, position ids restarting, nothing padded. Attention must then be kept within
each example, see `lingraft.training.packing`. What all of them begin with (system prompt, instruction) may stand
there once: what follows cannot change it, so that its states, and the sum of the gradients that reach them, are
those of as many copies. Only dropout is drawn once instead of once a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from lingraft.core.errors import DataError
from lingraft.rendering.rows import Rendered
from lingraft.training.losses import Targets
from lingraft.training.pair_losses import Pairs
from lingraft.training.terms import LOSSES

SHARED = "shared_prefix"  # argument of the attention function
SHORTEST_PREFIX = 8


def model_inputs(input_ids: torch.Tensor, lengths: Sequence[int] | None = None, prefix: int = 0) -> dict[str, Any]:
    """Return the arguments of a transformers model: ids, and positions that count from 0 in each example.

    Args:
        input_ids: (rows, longest), padded on the right; (1, tokens) if packed.
        lengths: of the packed examples. They are passed on in the words of transformers' flash attention
            (`FlashAttentionKwargs`).
        prefix: tokens at the beginning of a packed row that belong to each of its examples, not counted in `lengths`.
    """
    device = input_ids.device
    if lengths is None:
        positions = torch.arange(input_ids.shape[1], device=device).expand(input_ids.shape)
        return {"input_ids": input_ids, "position_ids": positions}
    positions = torch.cat([torch.arange(prefix), *(torch.arange(prefix, prefix + length) for length in lengths)])
    if prefix:
        lengths = [prefix, *lengths]
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
    return {
        "input_ids": input_ids,
        "position_ids": positions.unsqueeze(0).to(device),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        **({SHARED: prefix} if prefix else {}),
    }


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all rows begin with, at most one fewer than the shortest row has.

    0 where sharing them would save too little: for a single row, or below `SHORTEST_PREFIX`.
    """
    same = min(len(row) for row in rows) - 1
    for row in rows[1:]:
        differ = np.flatnonzero(np.asarray(row[:same]) != np.asarray(rows[0][:same]))
        same = int(differ[0]) if len(differ) else same
    return same if len(rows) > 1 and same >= SHORTEST_PREFIX else 0


@dataclass(frozen=True)
class Batch:
    """A micro-batch as tensors.

    Attributes:
        input_ids: (rows, longest), padded on the right; (1, tokens) if packed.
        targets: what is supervised.
        lengths: of the examples, if packed, without the shared prefix; else None.
        prefix: tokens at the beginning of the packed row that all examples share.
        pairs: preference pairs among the rows, of which nothing is in `targets`; None where there are none.
        alone: tokens of each row, where the model computes padded rows otherwise than alone, so that each of several
            rows has a pass of its own; else None.
    """

    input_ids: torch.Tensor
    targets: Targets
    lengths: tuple[int, ...] | None = None
    prefix: int = 0
    pairs: Pairs | None = None
    alone: tuple[int, ...] | None = None

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        pairs = None if self.pairs is None else self.pairs.to(device)
        return replace(self, input_ids=self.input_ids.to(device), targets=self.targets.to(device), pairs=pairs)

    def silent(self) -> Batch:
        """Return the batch with all weights 0: it costs a pass and teaches nothing."""
        targets = replace(self.targets, weights=torch.zeros_like(self.targets.weights))
        return replace(self, targets=targets, pairs=None if self.pairs is None else replace(self.pairs, silent=True))

    def model_inputs(self) -> dict[str, Any]:
        """Return the arguments of a transformers model."""
        return model_inputs(self.input_ids, self.lengths, self.prefix)


@dataclass
class _Supervised:
    """Supervised tokens of one loss kind: columns of the targets, and teachers' rows where the kind needs them."""

    columns: list[np.ndarray] = field(default_factory=list)
    ids: list[np.ndarray] = field(default_factory=list)
    logprobs: list[np.ndarray] = field(default_factory=list)


def collate(
    rows: Sequence[Rendered],
    pad_id: int,
    roles: Sequence[str] | None = None,
    *,
    packed: bool = False,
    share: bool = False,
    singly: bool = False,
) -> Batch:
    """Lay out rows and list the supervised positions, grouped by loss kind.

    A token is predicted from the position before it; the first token of a row has none and is never supervised. A
    token whose loss needs a teacher and has none is trained by cross-entropy.

    Args:
        rows: rendered examples.
        pad_id: token id that fills short rows.
        roles: names that `Targets.roles` indexes; by default the roles of these rows in alphabetical order.
        packed: rows end to end, without padding.
        share: what all packed rows begin with is put there once.
        singly: rows that stand together have passes of their own.

    Raises:
        DataError: a row's fields disagree in length, or a prompt token has a weight.
    """
    names = sorted({role for row in rows for role in row.roles}) if roles is None else list(roles)
    prefix = common_prefix([row.input_ids for row in rows]) if packed and share else 0
    lengths = [len(row.input_ids) - prefix for row in rows]
    width = max(lengths)
    begins = list(accumulate(lengths, initial=prefix))[:-1] if packed else [i * width for i in range(len(rows))]
    input_ids = np.full(prefix + sum(lengths) if packed else len(rows) * width, pad_id, dtype=np.int64)
    plain: dict[str, _Supervised] = {}
    compared: dict[str, _Supervised] = {}
    answers = {1: 0, -1: 1}  # of the next pair: the first chosen row goes with the first rejected one, and so on
    for row, begin in zip(rows, begins, strict=True):
        ids, weights, spans = np.asarray(row.input_ids), np.asarray(row.weights, np.float32), np.asarray(row.span_of)
        if not len(ids) == len(weights) == len(spans) or len(row.losses) != len(row.roles):
            raise DataError(f"example {row.id!r}: its ids, weights and spans differ in number; render it again")
        input_ids[:prefix], input_ids[begin : begin + len(ids) - prefix] = ids[:prefix], ids[prefix:]
        where = np.flatnonzero(weights > 0)
        where = where[where > 0]
        if (spans[where] < 0).any():
            raise DataError(f"example {row.id!r}: a prompt token has a weight; render it again")
        role_of = np.asarray([names.index(role) for role in row.roles])
        kinds = np.asarray(row.losses, dtype=object)[spans[where]]
        if any(LOSSES[kind].teacher for kind in row.losses):
            taught = np.isin(where, [] if row.teacher is None else row.teacher.positions)
            kinds[[LOSSES[kind].teacher and not known for kind, known in zip(kinds, taught, strict=True)]] = "ce"
        for kind in set(kinds):
            at = where[kinds == kind]
            part = (compared if row.sign else plain).setdefault(kind, _Supervised())
            before = np.where(at <= prefix, at - 1, begin - prefix + at - 1)
            answer = np.full(len(at), answers.get(row.sign, -1))
            part.columns.append(np.stack([before, ids[at], weights[at], role_of[spans[at]], answer]).astype(np.float64))
            if LOSSES[kind].teacher and row.teacher is not None:
                of = np.searchsorted(row.teacher.positions, at)
                part.ids.append(row.teacher.ids[of])
                part.logprobs.append(row.teacher.logprobs[of])
        if row.sign:
            answers[row.sign] += 2
    targets, _ = _targets(plain, names)
    pairs = None
    if compared:
        of_pairs, answer_of = _targets(compared, names)
        pairs = Pairs(targets=of_pairs, answer_of=answer_of, count=answers[1] // 2)
    return Batch(
        input_ids=torch.from_numpy(input_ids).view(1 if packed else len(rows), -1),
        targets=targets,
        lengths=tuple(lengths) if packed else None,
        prefix=prefix,
        pairs=pairs,
        alone=tuple(lengths) if singly and len(rows) > 1 else None,
    )


def _targets(found: dict[str, _Supervised], names: Sequence[str]) -> tuple[Targets, torch.Tensor]:
    """Return the supervised positions, grouped by kind, and the number of the answer that each belongs to."""
    ordered = {kind: found[kind] for kind in LOSSES if kind in found}
    columns = [columns for part in ordered.values() for columns in part.columns]
    table = np.concatenate([np.zeros((5, 0)), *columns], axis=1)
    ends = list(accumulate(sum(columns.shape[1] for columns in part.columns) for part in ordered.values()))
    positions, labels, weights, role_ids, answer_of = (torch.from_numpy(column.copy()) for column in table)
    segments = tuple(zip(ordered, [0, *ends], ends, strict=False))
    teacher_ids, teacher_logprobs = _teacher_rows(ordered, segments)
    targets = Targets(
        positions=positions.long(),
        labels=labels.long(),
        weights=weights.float(),
        roles=role_ids.long(),
        role_names=tuple(names),
        segments=segments,
        teacher_ids=teacher_ids,
        teacher_logprobs=teacher_logprobs,
    )
    return targets, answer_of.long()


def _teacher_rows(
    parts: dict[str, _Supervised], segments: Sequence[tuple[str, int, int]]
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the teachers' tables over all targets, (n, k) with the largest k there is, None if there is no teacher."""
    k = max((ids.shape[1] for part in parts.values() for ids in part.ids), default=0)
    if not k:
        return None, None
    ids = np.zeros((segments[-1][2], k), dtype=np.int64)
    logprobs = np.full(ids.shape, -np.inf, dtype=np.float32)
    for kind, begin, _ in segments:
        at = begin
        for row_ids, row_logprobs in zip(parts[kind].ids, parts[kind].logprobs, strict=True):
            rows, own = slice(at, at + len(row_ids)), row_ids.shape[1]
            ids[rows] = row_ids[:, :1]  # absent entries repeat the first id
            ids[rows, :own], logprobs[rows, :own] = row_ids, row_logprobs
            at += len(row_ids)
    return torch.from_numpy(ids), torch.from_numpy(logprobs)
