"""What is seen of a run from its folder alone, whatever state it is in, and that nothing is locked or written there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import lingraft as lg
from lingraft.core.errors import StoreError, UsageError
from lingraft.store.artefacts import locked
from lingraft.store.holders import Holder
from lingraft.store.progress_file import FILE, ProgressFile, read_progress
from processes import HANGING


def changed(folder: Path, change: Callable[[ProgressFile], ProgressFile]) -> None:
    note = read_progress(folder)
    assert note is not None
    change(note).write(folder)


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
    }


def test_a_run_in_its_training_is_seen(training: Path) -> None:
    before = everything(training)
    run = lg.watch(training)
    assert isinstance(run, lg.WatchedRun)
    assert (run.name, run.status, run.over, run.notes) == ("tiny", "running", False, ())
    states = {part.title: part.state for part in run.parts}
    assert states == {
        **dict.fromkeys(("data", "examples"), "done"),
        "train radis": "running",
        **dict.fromkeys(("ask base", "ask radis", "evaluate"), "to come"),
    }
    part = run.parts[2]
    assert part.share is not None
    assert "3/" in part.detail
    assert part.left == pytest.approx(10 * (1 - part.share) / part.share)
    assert run.left is not None
    assert run.left > part.left
    (one,) = run.trainings
    assert (one.name, one.running, [point.step for point in one.points]) == ("radis", True, [1, 2, 3])
    assert one.steps is not None
    assert one.steps > 3
    assert {"translation", "rationale"} <= set(one.roles)
    assert one.points[-1].learning_rate > 0
    assert [point.step for point in one.dev] == [0, 1, 2, 3][: len(one.dev)]
    assert all(point.chrf is not None and point.kl is not None for point in one.dev)
    assert run.rationale is not None
    assert (run.rationale.title, run.rationale.of) == ("rationale", "synthesis-radis")
    assert run.example is not None
    assert run.example.of == "radis"
    assert everything(training) == before  # nothing is written, and no lock is left
    with locked(training):
        assert lg.watch(training).status == "running"


def test_a_finished_run_shows_what_came_out(shots: Path) -> None:
    before = everything(shots / "finished")
    run = lg.watch(lg.Run(shots / "finished"))
    assert isinstance(run, lg.WatchedRun)
    assert (run.status, run.over, run.notes) == ("finished", True, ())
    assert {part.state for part in run.parts} == {"done"}
    (one,) = run.trainings
    assert not one.running
    assert one.steps == one.points[-1].step
    assert one.kept is not None
    assert any(line.startswith("radis: ") for line in run.results)
    assert run.results[-1] == f"Report: {shots / 'finished' / 'report.html'}"
    assert everything(shots / "finished") == before


def test_a_killed_run_is_told_from_one_at_work(training: Path) -> None:
    changed(training, lambda note: replace(note, holder=replace(Holder.own(), pid=2**22 + 1)))
    run = lg.watch(training)
    assert isinstance(run, lg.WatchedRun)
    assert (run.status, run.over, run.left) == ("stopped", True, None)
    assert run.said.startswith("No process is running since ")
    assert run.said.endswith("it was killed; the same command continues")
    (begun,) = [part for part in run.parts if part.detail == "begun"]
    assert (begun.title, begun.state) == ("train radis", "to come")
    assert not any(one.running for one in run.trainings)


def test_what_ended_a_run_is_said(training: Path) -> None:
    changed(training, lambda note: replace(note, ended="the disk is full; free some space and run again"))
    run = lg.watch(training)
    assert (run.status, run.over) == ("failed", True)
    assert "the disk is full; free some space and run again" in run.said


def test_of_another_machine_only_its_notes_are_known(training: Path) -> None:
    elsewhere = Holder(pid=os.getpid(), host="node-7", machine="another")
    changed(training, lambda note: replace(note, holder=elsewhere, now=note.began + 5))
    run = lg.watch(training)
    assert (run.status, run.over) == ("unknown", False)
    assert "on node-7 (another machine or container) noted this at" in run.said
    changed(training, lambda note: replace(note, now=1000.0))
    assert "it may have ended" in lg.watch(training).said


def test_a_run_that_has_not_begun_is_waited_for(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing", tmp_path / "deep" / "missing"):
        run = lg.watch(folder)
        assert (run.status, run.over) == ("not started", False)
    assert not list(tmp_path.iterdir())


def test_an_older_run_without_notes_is_known_by_its_lock(training: Path) -> None:
    (training / FILE).unlink()
    assert lg.watch(training).status == "stopped"
    with locked(training):
        run = lg.watch(training)
    assert isinstance(run, lg.WatchedRun)
    assert run.status == "running"
    assert [one.name for one in run.trainings] == ["radis"]


def test_a_stage_that_gets_its_name_or_goes_meanwhile_is_no_damage(training: Path) -> None:
    (partial,) = training.glob("train-*.partial")
    partial.rename(partial.with_suffix(""))  # its log is still in `work`
    assert lg.watch(training).notes == ()
    for stage in training.glob("*-*"):
        shutil.rmtree(stage)
    assert lg.watch(training).notes == ()


def test_a_half_line_is_left_for_the_next_look(training: Path) -> None:
    (log,) = training.glob("train-*.partial/work/losses.jsonl")
    with log.open("a") as handle:
        handle.write('{"step": 4, "lo')
    run = lg.watch(training)
    assert isinstance(run, lg.WatchedRun)
    assert [point.step for point in run.trainings[0].points] == [1, 2, 3]
    assert run.notes == ()


@pytest.mark.parametrize("damage", ["no json\n", '{"step": "x", "loss": 1, "tokens": 2}\n', "[]\n", "\xff\n", "null\n"])
def test_damage_is_a_sentence_and_hides_nothing_else(training: Path, damage: str) -> None:
    (log,) = training.glob("train-*.partial/work/losses.jsonl")
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(lines[0] + damage.encode("latin-1") + b"".join(lines[1:]))
    run = lg.watch(training)
    assert isinstance(run, lg.WatchedRun)
    assert run.notes == (f"{log} is damaged; what it says is left out",)
    assert [point.step for point in run.trainings[0].points] == [1, 2, 3]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda whole: b"\x00" * 64,
    "cut": lambda whole: whole[: len(whole) // 2],
    "other": lambda whole: b'{"facts": 3}',
    "list": lambda whole: b"[1]\n",
}


@pytest.mark.parametrize("kind", ["zeros", *(pytest.param(kind, marks=pytest.mark.long) for kind in list(DAMAGE)[1:])])
def test_every_file_may_be_damaged_or_cut(training: Path, kind: str) -> None:
    run = lg.watch(training)
    for path in sorted(path for path in training.rglob("*") if path.is_file() and path.stat().st_size):
        if "checkpoint" not in str(path):  # of which nothing is read
            whole = path.read_bytes()
            path.write_bytes(DAMAGE[kind](whole))
            seen = lg.watch(training)
            assert str(seen)
            assert seen.status in ("running", "stopped", "not started")
            path.write_bytes(whole)
    assert str(lg.watch(training)).splitlines()[0] == str(run).splitlines()[0]


@pytest.mark.long
def test_every_file_and_folder_may_vanish(training: Path, tmp_path: Path) -> None:
    for path in sorted(path for path in training.rglob("*") if "checkpoint" not in str(path)):
        copy = Path(shutil.copytree(training, tmp_path / "copy"))
        gone = copy / path.relative_to(training)
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        seen = lg.watch(copy)
        assert not [note for note in seen.notes if "damaged" in note]
        shutil.rmtree(copy)


def test_pipes_are_no_files(training: Path) -> None:
    (training / "run.json").touch()
    for path in sorted(training.rglob("*")):
        if path.suffix in (".json", ".jsonl", ".yaml"):
            path.unlink()
            os.mkfifo(path)
    run = lg.watch(training)
    assert run.status == "stopped"
    for name in (FILE, "run.json", "recipe.yaml"):
        assert f"{training / name} is damaged; what it says is left out" in run.notes


def test_notes_of_strangers_name_no_file_outside(training: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "filters.json").write_text('{"secret reason": 4}')
    (tmp_path / "rows-secret-0").symlink_to(tmp_path / "secret")
    named = ("../rows-secret-0", str(tmp_path / "rows-secret-0"), "a/../../rows-secret-0", "\0")

    def outside(note: ProgressFile) -> ProgressFile:
        stage = note.stages[0]
        return replace(note, stages=(*note.stages, *(replace(stage, folder=name) for name in named)))

    changed(training, outside)
    assert "secret" not in str(lg.watch(training))


def test_characters_that_a_terminal_obeys_are_shown(training: Path) -> None:
    changed(training, lambda note: replace(note, ended="\x1b[2J\x1b]0;title\x07 \u202e x"))
    text = str(lg.watch(training))
    assert not set(text) & {"\x1b", "\x07", "\u202e"}


AS_NOBODY = """
import os
import lingraft as lg

lg.watch("run")  # everything is imported
os.setuid(65534)
print("; ".join(lg.watch("run").notes))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("closed", [True, False])
def test_a_run_of_another_user_is_read_as_far_as_that_is_allowed(shots: Path, tmp_path: Path, closed: bool) -> None:
    run = Path(shutil.copytree(shots / "train-radis", tmp_path / "run"))
    (log,) = run.glob("train-*.partial/work/losses.jsonl")
    (run if closed else log).chmod(0)
    tmp_path.chmod(0o755)
    found = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], cwd=tmp_path, capture_output=True, text=True, timeout=HANGING
    )
    said = found.stdout + found.stderr
    if closed:
        assert said.strip().endswith("run cannot be read: Permission denied; ask its owner for leave to read it")
    else:
        assert f"run/{log.relative_to(run)} cannot be read: Permission denied" in said


def test_a_file_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file; give the folder of a run, or of a bench"):
        lg.watch(tmp_path / "file")


def test_the_page_lies_outside_of_the_folder(training: Path) -> None:
    for page in (training / "page.html", training / "deep" / "page.html"):
        with pytest.raises(UsageError, match="would lie in the folder that is watched"):
            lg.watch(training, html=page)


def test_a_long_log_is_read_in_part(training: Path) -> None:
    (log,) = training.glob("train-*.partial/work/losses.jsonl")
    point = json.loads(log.read_text().splitlines()[0])
    lines = "".join(json.dumps({**point, "step": step, "tokens": step}) + "\n" for step in range(1, 8001))
    log.write_text(lines + '{"half')
    run = lg.watch(training)
    assert isinstance(run, lg.WatchedRun)
    steps = [point.step for point in run.trainings[0].points]
    assert len(steps) <= 502
    assert (steps[0], steps[-1]) == (1, 8000)
    assert steps == sorted(set(steps))
    assert run.notes == ()
