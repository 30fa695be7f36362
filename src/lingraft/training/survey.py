"""One pass over the rows before training: each is checked, and what planning needs is counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from lingraft.core.errors import DataError, ModelError, UsageError, suggestion
from lingraft.rendering.row_files import RenderedRows
from lingraft.rendering.rows import Rendered
from lingraft.training.terms import LOSSES

COMPARED = "ce"
"""Loss of the spans of preference pairs: their log-probability is what is compared."""

SIGNS = {1: "chosen", -1: "rejected", 0: "no preference"}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What the rows are.

    Attributes:
        lengths: (rows,) tokens of each row.
        supervised: (rows,) tokens with a weight of each row.
        roles: all that occur, in alphabetical order.
        kinds: pairs of loss and role that occur in a span, in alphabetical order; those of preference pairs apart,
            which objectives of pairs have to themselves.
        digest: SHA-256 of all rows.
        units: (rows,) a number that rows of a group share and no other row has, ascending; None: there are no groups.
        paired: whether there are preference pairs.
    """

    lengths: np.ndarray
    supervised: np.ndarray
    roles: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    digest: str
    units: np.ndarray | None = None
    paired: bool = False

    @property
    def losses(self) -> tuple[str, ...]:
        """Kinds that occur, in alphabetical order."""
        return tuple(sorted({loss for loss, _ in self.kinds}))

    @property
    def need_base(self) -> bool:
        """Whether a loss compares with the base."""
        return any(LOSSES[kind].base for kind in self.losses)


def survey_rows(model: PreTrainedModel, rows: Sequence[Rendered]) -> Survey:
    """Check and count the rows that `model` shall be trained on.

    Raises:
        DataError: no rows, a row without supervised token, a loss without the teacher it needs, or a chosen or rejected
            row without its partner.
        UsageError: an unknown loss kind.
        ModelError: the model lacks a token of the rows.
    """
    if not rows:
        raise DataError("there is no example to train on; check the filters and the size of the training data")
    embeddings: Any = model.get_input_embeddings()
    known = int(embeddings.weight.shape[0])
    if isinstance(rows, RenderedRows) and _sound(rows, known):
        return Survey(
            lengths=rows.lengths,
            supervised=rows.supervised,
            roles=tuple(sorted({role for kind in rows.kinds for role in kind.roles})),
            kinds=tuple(
                sorted(
                    {one for kind in rows.kinds if not kind.sign for one in zip(kind.losses, kind.roles, strict=True)}
                )
            ),
            digest=rows.sha256,
            units=rows.units,
            paired=rows.signs is not None and bool(rows.signs.any()),
        )
    lengths, supervised = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    roles: set[str] = set()
    kinds: set[tuple[str, str]] = set()
    digest = hashlib.sha256()
    units, signs = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
    group = ""
    for number, row in enumerate(rows):
        lengths[number] = len(row.input_ids)
        supervised[number] = np.count_nonzero(np.asarray(row.weights[1:]) > 0)
        _check(row, int(supervised[number]), known)
        roles.update(row.roles)
        kinds.update(() if row.sign else zip(row.losses, row.roles, strict=True))
        units[number] = number and units[number - 1] + (not row.group or row.group != group)
        signs[number], group = row.sign, row.group
        values: list[object] = [row.id, row.input_ids, row.weights, row.span_of, row.losses, row.roles]
        values += [row.group, row.sign] if row.group or row.sign else []
        digest.update(json.dumps(values, ensure_ascii=False).encode("utf-8", "surrogatepass"))
        if row.teacher is not None:
            for array in (row.teacher.positions, row.teacher.ids, row.teacher.logprobs):
                digest.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    grouped = bool(signs.any()) or units[-1] < len(rows) - 1
    if len(odd := _unpaired(units, signs)):
        raise _without_partner([rows[int(number)] for number in odd])
    return Survey(
        lengths=lengths,
        supervised=supervised,
        roles=tuple(sorted(roles)),
        kinds=tuple(sorted(kinds)),
        digest=digest.hexdigest(),
        units=units if grouped else None,
        paired=bool(signs.any()),
    )


def _sound(rows: RenderedRows, known: int) -> bool:
    """Whether all is well by what was counted when the rows were written; if not, the row at fault has to be found."""
    return (
        rows.whole
        and rows.highest_id < known
        and int(rows.supervised.min()) > 0
        and all(loss in LOSSES for kind in rows.kinds for loss in kind.losses)
        and all(kind.taught or not any(LOSSES[loss].teacher for loss in kind.losses) for kind in rows.kinds)
        and not any(kind.sign and set(kind.losses) - {COMPARED} for kind in rows.kinds)
        and (rows.units is None or rows.signs is None or not len(_unpaired(rows.units, rows.signs)))
    )


def _unpaired(units: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """Return the numbers of the rows of the first group that is neither without signs nor one chosen and one rejected
    row."""
    chosen, rejected = (np.bincount(units, signs == sign) for sign in (1, -1))
    odd = np.bincount(units, ~np.isin(signs, (-1, 0, 1))) + (chosen != rejected) + (chosen > 1)
    return np.flatnonzero(units == np.argmax(odd > 0)) if odd.any() else np.zeros(0, np.int64)


def _without_partner(rows: Sequence[Rendered]) -> DataError:
    of = f"group {rows[0].group!r}" if rows[0].group else "no group"
    listed = ", ".join(f"{row.id!r} ({SIGNS.get(row.sign, f'sign {row.sign}')})" for row in rows[:4])
    return DataError(
        f"{of} is no preference pair: {listed}; a pair is one chosen and one rejected row of the same group, one after "
        f"the other: give both, or leave out what has no partner"
    )


def _check(row: Rendered, supervised: int, known: int) -> None:
    if not supervised:
        raise DataError(f"example {row.id!r} has no supervised token that can be predicted; leave it out")
    for kind in row.losses:
        if row.sign and kind != COMPARED:
            raise DataError(
                f"example {row.id!r} is compared with another by its log-probability, and has a span with the loss "
                f"{kind!r}; give it {COMPARED!r}, or no sign"
            )
        if kind not in LOSSES:
            raise UsageError(f"example {row.id!r}: unknown loss {kind!r}{suggestion(kind, LOSSES)}")
        if LOSSES[kind].teacher and row.teacher is None:
            raise DataError(
                f"example {row.id!r}: loss {kind!r} needs the recorded log-probabilities of a teacher and has none; "
                f"synthesise with `top_logprobs` or use loss 'ce'"
            )
    highest = max(row.input_ids)
    if row.teacher is not None:
        teacher = row.teacher
        if teacher.ids.shape != teacher.logprobs.shape or len(teacher.ids) != len(teacher.positions):
            raise DataError(f"example {row.id!r}: the arrays of its teacher differ in length; render it again")
        if teacher.positions.min(initial=1) < 1 or teacher.positions.max(initial=1) >= len(row.input_ids):
            raise DataError(f"example {row.id!r}: its teacher has positions outside of the row; render it again")
        highest = max(highest, int(teacher.ids.max(initial=0)))
    if highest >= known:
        raise ModelError(
            f"example {row.id!r} holds token {highest}, but the model knows only {known} tokens; "
            f"use the tokenizer that belongs to the model"
        )
