"""Collation against the rows themselves, in both layouts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lingraft.core.errors import DataError
from lingraft.rendering.rows import Rendered, RenderedTeacher
from lingraft.training.collate import collate
from lingraft.training.terms import LOSSES
from random_rows import random_rows, with_teacher

both_layouts = pytest.mark.parametrize("packed", [False, True])


def places(rows: list[Rendered], packed: bool) -> dict[int, tuple[int, int]]:
    """Index into the flattened batch -> (row, token)."""
    width = max(len(row.input_ids) for row in rows)
    begins = np.cumsum([0, *(len(row.input_ids) for row in rows)])
    return {
        (int(begins[r]) if packed else r * width) + t: (r, t)
        for r, row in enumerate(rows)
        for t in range(len(row.input_ids))
    }


@both_layouts
def test_collate_lists_what_each_row_supervises(packed: bool) -> None:
    rows = random_rows(5, weight=0.5)
    targets, at = collate(rows, 0, packed=packed).targets, places(rows, packed)
    found = {
        (at[int(position)][0], at[int(position)][1] + 1): (int(label), float(weight), targets.role_names[role])
        for position, label, weight, role in zip(
            targets.positions, targets.labels, targets.weights, targets.roles, strict=True
        )
    }
    expected = {
        (r, t): (row.input_ids[t], row.weights[t], row.roles[row.span_of[t]])
        for r, row in enumerate(rows)
        for t in range(1, len(row.input_ids))
        if row.weights[t] > 0
    }
    assert found == expected


def test_padded_layout() -> None:
    rows = random_rows(5)
    inputs = collate(rows, 0).model_inputs()
    assert inputs.keys() == {"input_ids", "position_ids"}
    width = max(len(row.input_ids) for row in rows)
    for ids, positions, row in zip(inputs["input_ids"], inputs["position_ids"], rows, strict=True):
        assert ids.tolist() == [*row.input_ids, *[0] * (width - len(row.input_ids))]
        assert positions.tolist() == list(range(width))


def test_packed_layout() -> None:
    rows = random_rows(5)
    inputs = collate(rows, 0, packed=True).model_inputs()
    assert inputs["input_ids"].tolist() == [[token for row in rows for token in row.input_ids]]
    assert inputs["position_ids"].tolist() == [[t for row in rows for t in range(len(row.input_ids))]]
    lengths = [len(row.input_ids) for row in rows]
    for name in ("cu_seq_lens_q", "cu_seq_lens_k"):
        assert inputs[name].tolist() == [0, *np.cumsum(lengths)]
        assert inputs[name].dtype == torch.int32
    assert inputs["max_length_q"] == inputs["max_length_k"] == max(lengths)


@both_layouts
def test_first_token_of_a_row_is_never_a_target(packed: bool) -> None:
    row = Rendered("raw", (5, 6, 7), (1.0, 1.0, 1.0), (0, 0, 0), ("ce",), ("text",))
    targets = collate([row, row], 0, packed=packed).targets
    assert targets.positions.tolist() == [0, 1, 3, 4]
    assert targets.labels.tolist() == [6, 7, 6, 7]


@both_layouts
def test_teachers_go_with_their_tokens_and_the_rest_falls_back(packed: bool) -> None:
    rows = [with_teacher(row, k=2 + i % 2, seed=i) for i, row in enumerate(random_rows(6))]
    rows[2] = replace(rows[2], losses=("ce", "ce"), teacher=None)
    targets, at = collate(rows, 0, packed=packed).targets, places(rows, packed)
    assert [kind for kind, _, _ in targets.segments] == ["ce", "kl"]
    assert targets.teacher_ids is not None
    assert targets.teacher_logprobs is not None
    seen = set()
    for kind, begin, end in targets.segments:
        for i in range(begin, end):
            r, t = at[int(targets.positions[i])]
            teacher = rows[r].teacher
            taught = teacher is not None and rows[r].span_of[t + 1] == 1 and t + 1 in teacher.positions
            assert (kind == "kl") == taught
            if kind == "kl":
                assert teacher is not None
                row, k = int(np.flatnonzero(teacher.positions == t + 1)[0]), teacher.ids.shape[1]
                assert targets.teacher_ids[i, :k].tolist() == teacher.ids[row].tolist()
                assert targets.teacher_logprobs[i, :k].tolist() == teacher.logprobs[row].tolist()
                assert targets.teacher_logprobs[i, k:].isneginf().all()
                assert (targets.teacher_ids[i, k:] == targets.teacher_ids[i, 0]).all()
                seen.add((r, t + 1))
    expected = {(r, int(t)) for r, row in enumerate(rows) if row.teacher is not None for t in row.teacher.positions}
    assert seen == expected
    fallen = sum(
        row.losses[span] == "kl" and w > 0 for row in rows for span, w in zip(row.span_of, row.weights, strict=True)
    )
    assert fallen > len(seen)  # some tokens of the span have no distribution


def test_without_teachers_there_is_no_table() -> None:
    targets = collate(random_rows(3), 0).targets
    assert targets.teacher_ids is None
    assert targets.teacher_logprobs is None


def test_kinds_come_in_one_order_whatever_the_rows() -> None:
    one, two = random_rows(2)
    rows = [replace(one, losses=("unlikelihood", "kl_base")), replace(two, losses=("ce", "unlikelihood"))]
    kinds = [[kind for kind, _, _ in collate(order, 0).targets.segments] for order in (rows, rows[::-1])]
    assert kinds == [[kind for kind in LOSSES if kind in ("unlikelihood", "kl_base", "ce")]] * 2


def test_broken_rows_are_named() -> None:
    with pytest.raises(DataError, match=r"'bad'.*prompt token"):
        collate([Rendered("bad", (1, 2, 3), (0.0, 1.0, 1.0), (-1, -1, 0), ("ce",), ("text",))], 0)
    with pytest.raises(DataError, match=r"'bad'.*differ"):
        collate([Rendered("bad", (1, 2, 3), (0.0, 1.0), (-1, 0), ("ce",), ("text",))], 0)


def test_a_teacher_outside_of_its_span_is_not_used() -> None:
    row = random_rows(1)[0]
    first = row.span_of.index(0)
    teacher = RenderedTeacher(np.array([first]), np.array([[3, 4]]), np.log(np.array([[0.5, 0.2]], dtype=np.float32)))
    targets = collate([replace(row, losses=("ce", "kl"), teacher=teacher)], 0).targets
    assert [kind for kind, _, _ in targets.segments] == ["ce"]
