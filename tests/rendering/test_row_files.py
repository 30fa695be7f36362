"""Rows written and read back against the rows themselves."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.core.errors import DataError, StoreError
from lingraft.core.hashing import file_hash
from lingraft.rendering.row_files import Kind, RenderedRows, write_rendered
from lingraft.rendering.rows import Rendered, RenderedTeacher

ROLES = st.sampled_from(["translation", "separator", "rationale", "reply"])
KINDS = st.sampled_from(["ce", "kl", "unlikelihood"])


@st.composite
def rendered(draw: st.DrawFn) -> Rendered:
    spans = draw(st.lists(st.tuples(KINDS, ROLES), min_size=1, max_size=3))
    weights = st.floats(0, 1e9) | st.sampled_from([0.0, 1.0, 0.1, 1e-300])
    tokens = draw(
        st.lists(
            st.tuples(st.integers(0, 2**31 - 1), weights, st.integers(-1, len(spans) - 1)), min_size=1, max_size=12
        )
    )
    ids, weight, span_of = zip(*tokens, strict=True)
    group, sign = draw(st.sampled_from([("", 0)] * 3 + [("g", 1), ("g", -1), ("h\N{SNOWMAN}", 0), ("", 1)]))
    made = draw(st.text(max_size=5)), ids, weight, span_of, *zip(*spans, strict=True), draw(teachers())
    return Rendered(*made, group, sign)


@st.composite
def teachers(draw: st.DrawFn) -> RenderedTeacher | None:
    m, k = draw(st.tuples(st.integers(0, 3), st.integers(1, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    logprobs = np.where(rng.random((m, k)) < 0.2, -np.inf, rng.standard_normal((m, k))).astype(np.float32)
    return draw(st.sampled_from([None, RenderedTeacher(np.arange(m), rng.integers(0, 2**31, (m, k)), logprobs)]))


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(rendered(), max_size=6), part=st.slices(7))
def test_rows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Rendered], part: slice
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    seen: list[int] = []
    assert write_rendered(folder, iter(rows), seen.append) == len(rows)
    assert seen == list(range(1, len(rows) + 1))
    opened = RenderedRows(folder)
    assert len(opened) == len(rows)
    assert list(opened) == rows
    assert [opened[n] for n in range(-len(rows), len(rows))] == rows * 2
    for view, plain in ((opened, rows), (opened[part], rows[part]), (opened[part][1:], rows[part][1:])):
        assert list(view) == plain
        assert list(view.ids()) == [row.id for row in plain]
        assert view.lengths.tolist() == [len(row.input_ids) for row in plain]
        assert view.supervised.tolist() == [sum(weight > 0 for weight in row.weights[1:]) for row in plain]
        if any(row.group or row.sign for row in rows):
            assert view.signs is not None
            assert view.units is not None
            assert view.signs.tolist() == [row.sign for row in plain]
            units = [0, *accumulate(not b.group or a.group != b.group for a, b in pairwise(rows))]
            assert view.units.tolist() in (units, units[part], units[part][1:])
        else:
            assert view.units is view.signs is None
    assert set(opened.kinds) == {
        Kind(row.losses, row.roles, row.teacher is not None, bool(row.group), row.sign) for row in rows
    }
    ids = {token for row in rows for token in row.input_ids}
    ids |= {int(token) for row in rows if row.teacher is not None for token in row.teacher.ids.ravel()}
    assert opened.highest_id == max(ids, default=-1)
    assert opened.sha256 == file_hash(folder / "rows.bin")
    with pytest.raises(IndexError):
        opened[len(rows)]


def many(count: int) -> Iterator[Rendered]:
    rng = np.random.default_rng(1)
    for number in range(count):
        ids = tuple(rng.integers(0, 49_000, 40).tolist())
        yield Rendered(f"row:{number}", ids, (0.0,) * 20 + (1.0,) * 20, (-1,) * 20 + (0,) * 20, ("ce",), ("reply",))


def _second(rows: RenderedRows) -> Rendered:
    return rows[1]


def test_another_process_reads_the_same_file(tmp_path: Path) -> None:
    write_rendered(tmp_path, many(4))
    rows = RenderedRows(tmp_path)
    wanted = list(rows)  # opens the file: the other process needs its own handle
    assert list(pickle.loads(pickle.dumps(rows[2:]))) == wanted[2:]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_second, (rows,)) == wanted[1]


def test_rows_without_groups_are_kept_as_before_there_were_any(tmp_path: Path) -> None:
    write_rendered(tmp_path, (replace(row, group="g", sign=1) for row in many(2)))
    write_rendered(tmp_path, many(4))  # in place of what was there
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("lengths.npy", "offsets.npy", "rows.bin", "rows.json", "supervised.npy")
    ]
    facts = json.loads((tmp_path / "rows.json").read_text())
    assert facts["version"] == 1
    assert facts["kinds"] == [{"losses": ["ce"], "roles": ["reply"], "taught": False}]
    assert (tmp_path / "rows.bin").stat().st_size == 4 * (24 + 4 * 40 + 2 * 16 + len("row:0"))


def test_memory_is_a_few_bytes_a_row(tmp_path: Path) -> None:
    write_rendered(tmp_path, many(10))  # what is allocated once
    tracemalloc.start()
    write_rendered(tmp_path, many(5_000))
    write_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    rows = RenderedRows(tmp_path)
    assert sum(len(row.input_ids) for row in rows) == 200_000
    read_peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    # 5,000 rows are 1 MB of ids alone; the output buffer is 1 MiB.
    assert write_peak < (1 << 20) + 50 * 5_000 + 100_000
    assert read_peak < 100_000


def test_an_interrupted_writing_is_no_set_of_rows_and_can_be_done_again(tmp_path: Path) -> None:
    def fails() -> Iterator[Rendered]:
        yield from many(3)
        raise KeyboardInterrupt

    write_rendered(tmp_path, many(2))
    with pytest.raises(KeyboardInterrupt):
        write_rendered(tmp_path, fails())
    with pytest.raises(StoreError, match="render again"):
        RenderedRows(tmp_path)
    write_rendered(tmp_path, many(5))
    assert list(RenderedRows(tmp_path)) == list(many(5))


def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    write_rendered(tmp_path, many(5))
    rows = RenderedRows(tmp_path)
    with (tmp_path / "rows.bin").open("rb+") as handle:
        handle.truncate(300)
    assert rows[0].id == "row:0"
    with pytest.raises(StoreError, match="cut off"):
        rows[4]


def test_a_teacher_whose_arrays_differ_is_refused(tmp_path: Path) -> None:
    teacher = RenderedTeacher(np.arange(2), np.zeros((3, 4), np.int64), np.zeros((3, 4), np.float32))
    with pytest.raises(DataError, match="'bad'"):
        write_rendered(tmp_path, [Rendered("bad", (1, 2), (0.0, 1.0), (-1, 0), ("kl",), ("reply",), teacher)])
