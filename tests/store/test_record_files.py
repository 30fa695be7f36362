"""Lazily read records against lists of them."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.core.errors import StoreError
from lingraft.core.hashing import text_hash
from lingraft.data.records import Generation, Pair
from lingraft.store.files import write_lines
from lingraft.store.record_files import RecordFile, RecordsById, ids_of, line_offsets

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def made(count: int) -> list[Pair]:
    return [Pair(f'p"{n}\n', f"Satz {n} " + "ü\u2028" * (n % 7), f"one {n}", "de", "en") for n in range(count)]


def written(path: Path, pairs: list[Pair]) -> RecordFile[Pair]:
    write_lines(path, (pair.to_json() for pair in pairs))
    return RecordFile(path, Pair)


@settings(deadline=None, max_examples=50)
@given(texts=st.lists(TEXT, max_size=12), part=st.slices(14))
def test_a_file_is_the_sequence_of_its_records(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], part: slice
) -> None:
    pairs = [Pair(f"{n}{text}", text, text[::-1], "de", "en") for n, text in enumerate(texts)]
    rows = written(tmp_path_factory.mktemp("rows") / "a.jsonl", pairs)
    assert len(rows) == len(pairs)
    assert list(rows) == pairs
    assert [rows[n] for n in range(-len(pairs), len(pairs))] == pairs * 2
    assert list(rows[part]) == pairs[part]
    assert list(rows[part][::-1][1:]) == pairs[part][::-1][1:]
    assert list(ids_of(rows[part])) == [pair.id for pair in pairs[part]]
    assert rows == pairs
    assert rows != [*pairs, Pair("x", "", "", "de", "en")]
    for wrong in (len(pairs), -len(pairs) - 1):
        with pytest.raises(IndexError):
            rows[wrong]


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"ab\n\nc")
    assert line_offsets(path).tolist() == [0, 3, 4, 5]
    path.write_bytes(b"x" * (1 << 20) + b"\ny\n")  # the line's end is the first byte of the second chunk read
    assert line_offsets(path).tolist() == [0, 2**20 + 1, 2**20 + 3]


def _third(rows: RecordFile[Pair]) -> Pair:
    return rows[2]


def test_another_process_can_read_it(tmp_path: Path) -> None:
    rows = written(tmp_path / "a.jsonl", made(5))
    assert rows[1] == made(5)[1]  # the file is open: the copy needs its own handle
    assert list(pickle.loads(pickle.dumps(rows[1:]))) == made(5)[1:]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_third, (rows,)) == made(5)[2]


def test_a_file_that_was_cut_off_is_told(tmp_path: Path) -> None:
    rows = written(tmp_path / "a.jsonl", made(5))
    with (tmp_path / "a.jsonl").open("rb+") as handle:
        handle.truncate(150)
    with pytest.raises(StoreError, match="cut off"):
        rows[4]


def test_rows_take_at_most_24_bytes_of_memory(tmp_path: Path) -> None:
    pairs = made(20_000)
    write_lines(tmp_path / "a.jsonl", (pair.to_json() for pair in pairs))
    del pairs
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    rows = RecordFile(tmp_path / "a.jsonl", Pair)
    assert sum(1 for _ in rows) == 20_000
    held = tracemalloc.get_traced_memory()[0] - before
    by_id = RecordsById([tmp_path / "a.jsonl"], Pair)
    both = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 10 * 20_000
    assert both - held < 26 * 20_000
    assert by_id[rows[777].id] == rows[777]


def test_records_of_several_files_by_their_id(tmp_path: Path) -> None:
    generations = [
        Generation(f"g{n}", f"text {n}", (n, n + 1), "stop") for n in np.random.default_rng(1).permutation(50).tolist()
    ]
    parts = []
    for number, begin in enumerate(range(0, 50, 20)):
        parts.append(tmp_path / f"part-{number}.jsonl")
        write_lines(parts[-1], (generation.to_json() for generation in generations[begin : begin + 20]))
    found = RecordsById(parts, Generation)
    plain = {generation.id: generation for generation in generations}
    assert len(found) == 50
    assert dict(found) == plain
    assert list(found) == list(plain)
    assert list(found.records()) == generations
    assert found.get("g50") is None
    assert "g7" in found
    assert pickle.loads(pickle.dumps(found))["g7"] == plain["g7"]
    assert len(RecordsById([], Generation)) == 0


def test_equal_hashes_are_told_apart_by_the_id(tmp_path: Path) -> None:
    found = RecordsById([written(tmp_path / "a.jsonl", made(3)).path], Pair)
    first, second = (made(3)[n].id for n in (0, 1))
    # No two texts with one BLAKE2b hash are known: give all rows the hash of the second's id.
    found._hashes[:] = text_hash(second)
    assert found[second] == made(3)[1]
    assert first not in found


def test_the_id_is_found_wherever_it_is(tmp_path: Path) -> None:
    lines = [json.dumps({"source": "a", "target": "b", "source_lang": "de", "target_lang": "en", "id": "last"})]
    write_lines(tmp_path / "a.jsonl", lines)
    assert list(RecordsById([tmp_path / "a.jsonl"], Pair)) == ["last"]
