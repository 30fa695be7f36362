"""Compressed files and Parquet, against what the standard library, pyarrow and datasets write; and names that tell."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from lingraft.core.errors import DataError, UsageError
from lingraft.data.files import Row, stem
from lingraft.data.readers import read_pairs
from reading import SENTENCES, bad, pairs, prompts, sides, source, texts

LINES = "".join(json.dumps({"source": a, "target": b}, ensure_ascii=False) + "\n" for a, b in SENTENCES).encode()


def zstd(data: bytes) -> bytes:
    return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_files_hold_what_was_packed(tmp_path: Path, suffix: str) -> None:
    pack = PACKERS[suffix]
    halves = LINES[:100], LINES[100:]
    for name in (f"a.jsonl.{suffix}", f"A.JSONL.{suffix.upper()}", "a.jsonl"):  # the last is told by its first bytes
        for data in (pack(LINES), pack(halves[0]) + pack(halves[1])):  # several streams in one file are one text
            (tmp_path / name).write_bytes(data)
            assert sides(pairs(tmp_path / name)) == SENTENCES
    assert stem(f"x/a.JSONL.{suffix.upper()}") == "a"


@pytest.mark.parametrize("suffix", PACKERS)
def test_packed_files_that_are_cut_or_none_at_all(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl.{suffix}"
    noise = random.Random(1).randbytes(200_000).hex().encode() + b"\n"
    whole = PACKERS[suffix](LINES + noise)
    for data in (whole[: len(whole) // 2], whole[:20], LINES, b"x"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"a\.jsonl\.{suffix}: is not a whole") as caught:
            pairs(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "suffix", [pytest.param(s, marks=pytest.mark.long if s in ("bz2", "xz") else ()) for s in PACKERS]
)
def test_bombs_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.tsv.{suffix}"
    path.write_bytes(PACKERS[suffix](b"Ja, das ist gut.\tYes, this is good.\n" * 2_000_000))
    with pytest.raises(DataError, match="more than 200 times its size"):
        pairs(path)


def test_xz_may_not_ask_for_the_whole_memory(tmp_path: Path) -> None:
    data = bytearray(lzma.compress(LINES))
    end = 12 + 4 * data[12]  # of the block's header, in front of its checksum
    data[12 + 4] = 38  # the dictionary: 2 GiB (specification of the .xz format, 5.3.1)
    data[end : end + 4] = zlib.crc32(data[12:end]).to_bytes(4, "little")
    (tmp_path / "a.jsonl.xz").write_bytes(data)
    with pytest.raises(DataError, match=r"is not a whole xz file \(Memory usage limit"):
        pairs(tmp_path / "a.jsonl.xz")


def test_parquet_files(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"translation": {"de": a, "en": b}, "id": f"k{i}"} for i, (a, b) in enumerate(SENTENCES * 99)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=100)
    found = pairs(path)
    assert sides(found) == SENTENCES * 99
    assert [row.line for row in found] == list(range(1, 1 + len(rows)))
    parquet.write_table(pyarrow.table({"text": ["Eins.", None, "Drei."]}), path)
    assert [row.record.text for row in texts(path) if isinstance(row, Row)] == ["Eins.", "Drei."]
    assert bad(texts(path)) == [(2, "malformed")]
    assert len(prompts(path)) == 3
    broken = pyarrow.array([b"Gut", b"\xff\xfe"]).cast(pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"source": broken, "target": ["Good", "Bad"]}), path)
    found = pairs(path)
    assert (sides(found), bad(found)) == ([("Gut", "Good")], [(2, "not_utf8")])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 50 + b"PAR1", b"no parquet"])
def test_what_is_no_parquet_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: (is not a readable Parquet|the file is empty)") as caught:
        pairs(tmp_path / "a.parquet")
    assert "\n" not in str(caught.value)


def test_a_parquet_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    long = pyarrow.array(["x" * 100_000] * 2000)
    parquet.write_table(pyarrow.table({"source": long, "target": long}), path, compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match="times its size"):
        pairs(path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.xlsx", r"save it as CSV \(UTF-8\)"),
        ("a.ODS", r"save it as CSV \(UTF-8\)"),
        ("a.mo", "export TMX"),
        ("a.txlf", "export TMX"),
        ("a.docx", "extract its text"),
        ("a.html", "extract its text"),
        ("a.zip", "unpack it"),
        ("a.tgz", "unpack it"),
        ("a.dat", r"set `format:` to one of jsonl, json, tsv, csv, text, tmx, parquet, arrow, xliff, po, wmt"),
        ("a.de", "`target_path:`"),
        ("a.txt", "`target_path:`"),
    ],
)
def test_names_that_tell_no_format_that_is_read_say_what_to_do(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UsageError, match=rf"^{name}: .*{remedy}"):
        list(read_pairs(source(name), tmp_path))


@pytest.mark.parametrize(
    ("content", "remedy"),
    [(b"PK\x03\x04rest", "a ZIP archive or a spreadsheet"), (b"PAR1rest", "`format: parquet`"), (b"%PDF-1.7", "text")],
)
def test_first_bytes_that_are_of_another_format(tmp_path: Path, content: bytes, remedy: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=remedy):
        pairs(tmp_path / "a.csv")


def test_utf16_is_told_wherever_it_is(tmp_path: Path) -> None:
    data = "source\ttarget\nJa\tYes\n".encode("utf-16")
    for name, content in (("a.tsv", data), ("b.tsv.gz", gzip.compress(data)), ("c.jsonl.xz", lzma.compress(data))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="UTF-16; save it as UTF-8"):
            pairs(tmp_path / name)


def test_aligned_files_may_be_packed_and_of_any_name(tmp_path: Path) -> None:
    (tmp_path / "a.de").write_text("Ja.\nNein.\n")
    (tmp_path / "a.en.zst").write_bytes(zstd(b"Yes.\nNo.\n"))
    assert sides(list(read_pairs(source("a.de", target_path="a.en.zst"), tmp_path))) == [
        ("Ja.", "Yes."),
        ("Nein.", "No."),
    ]


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_that_was_read_leaves_nothing_in_memory(tmp_path: Path, whole: bool) -> None:
    data = zstd(b"Ja.\tYes.\n" * 1000)
    (tmp_path / "a.tsv.zst").write_bytes(data if whole else data[:-9])
    before = pyarrow.total_allocated_bytes()
    for _ in range(3):
        with nullcontext() if whole else pytest.raises(DataError, match="not a whole zstd file"):
            pairs(tmp_path / "a.tsv.zst")
    assert pyarrow.total_allocated_bytes() == before
