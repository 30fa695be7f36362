"""A bench is seen row by row, with the run of the one at work; and what cannot be read of it is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import lingraft as lg
from benches import publish
from lingraft.store.holders import Holder
from lingraft.store.progress_file import FILE, PartNote, ProgressFile, StageNote


@pytest.fixture
def bench(shots: Path, tmp_path: Path) -> Path:
    """Of three rows: one is done, one in its training, one is to come."""
    folder = tmp_path / "bench"
    publish(folder / "rows" / "vanilla", {"vanilla": (11.0, 0.7)})
    shutil.copytree(shots / "train-radis", folder / "rows" / "radis")
    (folder / "bench.yaml").write_text("name: bench\n")
    rows = [("vanilla", "done"), ("radis", "to do"), ("sdft", "to do"), ("dear", "not run")]
    table = {"rows": [{"name": name, "status": status} for name, status in rows]}
    (folder / "bench.json").write_text(json.dumps(table))
    (folder / "report.html").write_text("")
    note = ProgressFile(
        holder=Holder.own(),
        began=1000.0,
        now=1100.0,
        parts=(
            PartNote(kind="row", of="vanilla", estimate=50.0, began=1000.0, seconds=100.0),
            PartNote(kind="row", of="radis", estimate=60.0, began=1100.0),
            PartNote(kind="row", of="sdft", estimate=70.0),
        ),
        stages=(
            StageNote(folder="rows/vanilla", part=0, seconds=100.0, done=True),
            StageNote(folder="rows/radis", part=0),
        ),
    )
    note.write(folder)
    return folder


def test_rows_and_the_run_at_work_are_seen(bench: Path) -> None:
    found = lg.watch(bench)
    assert isinstance(found, lg.WatchedBench)
    assert (found.status, found.over, found.notes) == ("running", False, ())
    assert [(row.title, row.state) for row in found.rows] == [
        ("vanilla", "done"),
        ("radis", "running"),
        ("sdft", "to come"),
    ]
    assert found.rows[0].detail.startswith("vanilla: ")
    assert found.rows[1].detail == "train radis"
    assert found.rows[2].left == pytest.approx(140.0)
    assert found.run is not None
    assert found.run.trainings[0].running
    text = str(found)
    assert text.index("sdft") < text.index("Training radis: step 3")


def test_several_rows_may_be_at_work(bench: Path) -> None:
    note = json.loads((bench / FILE).read_text())
    note["parts"][2]["began"] = 1090.0
    (bench / FILE).write_text(json.dumps(note))
    found = lg.watch(bench)
    assert isinstance(found, lg.WatchedBench)
    assert [row.state for row in found.rows] == ["done", "running", "running"]


def test_a_killed_bench_and_a_finished_one_end_the_watch(bench: Path) -> None:
    note = json.loads((bench / FILE).read_text())
    (bench / FILE).write_text(json.dumps({**note, "holder": {**note["holder"], "pid": 2**22 + 1}}))
    found = lg.watch(bench)
    assert (found.status, found.over) == ("stopped", True)
    (bench / FILE).unlink()
    table = json.loads((bench / "bench.json").read_text())
    for row in table["rows"]:
        row["status"] = "not run" if row["name"] == "dear" else "done"
    (bench / "bench.json").write_text(json.dumps(table))
    found = lg.watch(bench)
    assert isinstance(found, lg.WatchedBench)
    assert (found.status, found.over) == ("finished", True)
    assert found.results == (f"Report: {bench / 'report.html'}",)
    assert [row.state for row in found.rows] == ["done", "done", "done", "to come"]


def test_a_value_that_is_tried_is_the_run_at_work(bench: Path) -> None:
    shutil.copytree(bench / "rows" / "radis", bench / "choice" / "radis" / "0.001")
    shutil.rmtree(bench / "rows" / "radis")
    found = lg.watch(bench)
    assert isinstance(found, lg.WatchedBench)
    assert found.run is not None
    assert found.run.name == "tiny, trying 0.001"


@pytest.mark.parametrize("name", ["bench.json", FILE])
@pytest.mark.parametrize("data", [b"\x00\x00", b"{", b'{"rows": 3}', b'{"rows": [3]}'])
def test_damage_is_a_sentence(bench: Path, name: str, data: bytes) -> None:
    (bench / name).write_bytes(data)
    found = lg.watch(bench)
    assert f"{bench / name} is damaged; what it says is left out" in found.notes
    assert str(found)


def test_notes_of_strangers_name_no_folder_outside(bench: Path, tmp_path: Path) -> None:
    shutil.copytree(bench / "rows" / "radis", tmp_path / "secret")
    note = ProgressFile(holder=Holder.own(), began=1.0, now=2.0, parts=(PartNote(kind="row", of="a"),))
    for folder in ("../secret", str(tmp_path / "secret"), "rows/../../secret"):
        replace(note, stages=(StageNote(folder=folder, part=0),)).write(bench)
        found = lg.watch(bench)
        assert isinstance(found, lg.WatchedBench)
        assert found.run is None
