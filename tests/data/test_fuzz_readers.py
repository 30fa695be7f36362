"""Hostile bytes in every format: rows, rejected rows or one sentence, in bounded memory, and never a hang."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import zlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hostile import ENTRY_POINTS, PAIR_FORMATS, PAIR_SEEDS, POISON, read_as_pairs
from lingraft.core.errors import DataError
from lingraft.data import files
from lingraft.data.files import Row
from lingraft.data.readers import PairSource, PromptSource, read_pairs, read_prompts
from lingraft.data.records import Rejected
from processes import HANGING

BOUNDED = settings(
    max_examples=25,
    deadline=timedelta(seconds=30),  # a hang, not a slow machine
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
READERS = [name for name in ENTRY_POINTS if name.startswith(("pairs", "prompts", "aligned"))]

CUTS = st.tuples(st.floats(0, 1), st.floats(0, 0.2), st.sampled_from(POISON) | st.binary(max_size=8))


def mutated(seed: bytes, cuts: list[tuple[float, float, bytes]]) -> bytes:
    """Replace pieces of the seed: each cut says where, how much, and by what."""
    for where, much, piece in cuts:
        start = int(where * len(seed))
        seed = seed[:start] + piece + seed[start + int(much * len(seed)) :]
    return seed


@pytest.mark.parametrize("name", READERS)
@BOUNDED
@given(cuts=st.lists(CUTS, max_size=4), noise=st.binary(max_size=40))
def test_mutated_and_arbitrary_bytes(tmp_path: Path, name: str, cuts: list[Any], noise: bytes) -> None:
    entry, seeds = ENTRY_POINTS[name]
    entry(mutated(seeds[0], cuts), tmp_path)
    if noise:
        entry(noise, tmp_path)


@pytest.mark.parametrize("format", PAIR_FORMATS)
@BOUNDED
@given(cuts=st.lists(CUTS, max_size=2))
def test_packed_files_are_read_like_their_content(tmp_path: Path, format: str, cuts: list[Any]) -> None:
    data = mutated(PAIR_SEEDS[format], cuts)
    assume(all(byte < 128 for byte in data[:4]) and not data.startswith((b"PK", b"PAR1", b"%PDF", b"BZh")))
    (tmp_path / "plain").mkdir(exist_ok=True)
    plain = read_as_pairs(format, "", data, tmp_path / "plain")
    packed = read_as_pairs(format, ".gz", gzip.compress(data, 1), tmp_path)
    assert [_outcome(row) for row in packed] == [_outcome(row) for row in plain]


def _outcome(row: Any) -> tuple[int, str]:
    return (row.line, row.reason) if isinstance(row, Rejected) else (row.line, row.record.source)


def pairs(path: Path, **options: Any) -> list[Any]:
    return list(read_pairs(PairSource(**{"path": str(path), "source": "de", "target": "en", **options})))


def test_half_surrogate_pairs_are_rejected_whichever_way_they_come(tmp_path: Path) -> None:
    rows = [r'{"source": "a", "target": "\ud800"}', r'{"source": "a", "references": ["b", "\udfff"]}']
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, r'{"source": "\ud83d\ude00", "target": "b"}']))
    found = pairs(tmp_path / "a.jsonl")
    assert [getattr(row, "reason", "good") for row in found] == ["control_characters"] * 2 + ["good"]


@pytest.mark.parametrize("first", ["\roal,n", "a" * 140_000 + ";b"])
def test_a_first_line_that_is_no_csv_is_rejected(tmp_path: Path, first: str) -> None:
    (tmp_path / "a.csv").write_text(first + "\nJa,Yes\n", newline="")
    assert pairs(tmp_path / "a.csv")[0].reason == "malformed"


def test_one_row_with_countless_fields_costs_no_memory(tmp_path: Path) -> None:
    wide = {f"k{i}": "x" for i in range(20_000)}
    first = {"translation": {"de": "Ja", "en": "Yes"}}
    lines = [first, {"translation": wide}, {**first, "source_lang": "d" * 900_000}, {"source": "a", "references": wide}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert [getattr(row, "reason", "good") for row in pairs(tmp_path / "a.jsonl")] == [
        "good",
        "malformed",
        "language_mismatch",
        "malformed",
    ]


MEASURED = """
import resource, sys
from lingraft.data.readers import PairSource, read_pairs
from lingraft.core.errors import LingraftError

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows, said = 0, "accepted"
try:
    for row in read_pairs(PairSource(path=sys.argv[1], source="de", target="en")):
        rows += 1
except LingraftError as error:
    said = str(error)
print(rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, said, sep="|")
"""


def measured(path: Path, seconds: float = HANGING) -> tuple[int, int, str]:
    """Read a file in a process of its own; returns rows, peak memory in MiB beyond the imports, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=True,
    )
    rows, memory, said = done.stdout.strip().split("|", 2)
    return int(rows), int(memory), said


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.tsv", "a.csv"])
def test_a_line_of_100_megabytes_is_refused_in_little_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as stream:
        stream.write(b'[{"source": "' if name == "a.json" else b'{"source": "')
        for _ in range(100):
            stream.write(b"x" * 1_000_000)
    rows, memory, said = measured(path)
    assert rows == 0
    assert "no end of it within" in said if name == "a.json" else "line 1 has more than 64 MB" in said
    assert memory < 40


def bomb(path: Path, start: bytes, block: bytes, gigabytes: int = 2) -> Path:
    """Write a gzip file of a few MB that holds `start` and then `block` again and again."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    with path.open("wb") as stream:
        stream.write(packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH))
        piece = packer.compress(block * (2**24 // len(block))) + packer.flush(zlib.Z_FULL_FLUSH)
        for _ in range(gigabytes * 64):  # after a full flush the same bytes mean the same again
            stream.write(piece)
    return path


@pytest.mark.parametrize(
    ("name", "start", "block"),
    [
        ("a.jsonl.gz", b'{"source": "', b"\0"),
        ("a.tsv.gz", b"", b"Ja, das ist gut.\tYes, this is good.\n"),
        ("a.json.gz", b'[{"source": "a", "target": "b"}', b', {"source": "a", "target": "b"}'),
        ("a.csv.gz", b'"', b"x"),
        ("a.tmx.gz", b"<tmx><body>", b"<x>" + b"y" * 200 + b"</x><tu/>"),
    ],
)
def test_gzip_bombs_are_refused_in_little_memory(tmp_path: Path, name: str, start: bytes, block: bytes) -> None:
    path = bomb(tmp_path / name, start, block)
    assert path.stat().st_size < 12_000_000
    _, memory, said = measured(path)
    assert "times its size" in said or "has more than" in said or "no end of it" in said or "more than 8 MB" in said
    assert memory < 200


def test_memory_does_not_grow_with_what_is_no_unit_of_a_tmx_file(tmp_path: Path) -> None:
    unit = '<tu><tuv xml:lang="de"><seg>a</seg></tuv><tuv xml:lang="en"><seg>b</seg></tuv></tu>' + "<x>y</x>" * 400
    path = tmp_path / "a.tmx"
    path.write_text(f"<tmx><body>{unit * 500}</body></tmx>")
    rows, memory, said = measured(path)
    assert (rows, said) == (500, "accepted")
    assert memory < 30


def test_xml_that_expands_or_is_nested_without_end_is_refused(tmp_path: Path) -> None:
    laughs = '<!DOCTYPE t [<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefghi", "bcdefghij", strict=True)
    )
    (tmp_path / "a.tmx").write_text(f"{laughs}]><tmx><body><tu>&j;</tu></body></tmx>")
    assert "entities" in measured(tmp_path / "a.tmx")[2]
    seg = "<hi>" * 900 + "Hallo" + "</hi>" * 900
    variants = f'<tuv xml:lang="de"><seg>{seg}</seg></tuv><tuv xml:lang="en"><seg>Hello</seg></tuv>'
    (tmp_path / "a.tmx").write_text(f"<tmx><body><tu>{variants}</tu></body></tmx>")
    assert measured(tmp_path / "a.tmx")[2] == "accepted"
    (tmp_path / "a.tmx").write_text("<a>" * 4_000_000)
    assert "more than 8 MB of XML without the end" in measured(tmp_path / "a.tmx")[2]
    (tmp_path / "a.tmx").write_text(f"<tmx><body><tu>{'<hi>' * 1_000_000}</tu></body></tmx>")
    _, memory, said = measured(tmp_path / "a.tmx")
    assert said == "accepted"  # that is, one unit is rejected
    assert memory < 100


def test_pipes_sockets_and_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PIPE_PATIENCE", 0.2)
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="a pipe into which nobody writes"):
        pairs(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="a pipe into which nobody writes"):
        list(read_prompts(PromptSource(path=str(tmp_path / "a.jsonl"))))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "b.jsonl"))
        with pytest.raises(DataError, match="a device or a socket"):
            pairs(tmp_path / "b.jsonl")
    for device in ("/dev/zero", "/dev/urandom", "/dev/null"):
        with pytest.raises(DataError, match="a device or a socket"):
            pairs(Path(device), format="jsonl")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.jsonl.gz", "a.tmx"])
def test_a_slow_pipe_is_read_to_its_end(tmp_path: Path, name: str) -> None:
    format = name.split(".")[1]
    data = PAIR_SEEDS[format] if not name.endswith("gz") else gzip.compress(PAIR_SEEDS[format])
    (tmp_path / f"plain.{format}").write_bytes(PAIR_SEEDS[format])
    os.mkfifo(tmp_path / name)

    def write() -> None:
        with (tmp_path / name).open("wb", buffering=0) as pipe:
            for start in range(0, len(data), 97):
                pipe.write(data[start : start + 97])

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    through = pairs(tmp_path / name)
    writer.join(HANGING)
    assert [_outcome(row) for row in through] == [_outcome(row) for row in pairs(tmp_path / f"plain.{format}")]


def test_files_that_vanish_or_shrink_while_they_are_read(tmp_path: Path) -> None:
    line = json.dumps({"source": "Das ist ein Satz.", "target": "This is a sentence."}) + "\n"
    for change in (Path.unlink, lambda path: os.truncate(path, 300_001)):
        path = tmp_path / "a.jsonl"
        path.write_text(line * 20_000)
        rows = read_pairs(PairSource(path=str(path), source="de", target="en"))
        first = next(rows)
        change(path)
        assert isinstance(first, Row)
        kinds = [isinstance(row, Row) for row in rows]
        assert all(kinds[:-1])  # at most the line at the cut is torn
    rows = read_pairs(PairSource(path=str(path), source="de", target="en"))
    path.unlink()
    with pytest.raises(DataError, match="no such file"):
        next(rows)
