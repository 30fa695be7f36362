"""What a run notes of itself: parts and artefacts as they go, what ended it, and nothing once it has ended well."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.core.errors import DataError, LingraftError
from lingraft.core.progress import Reporter
from lingraft.pipeline.noting import Noting, noted
from lingraft.store.progress_file import FILE, PartNote, ProgressFile, read_progress

PARTS = [PartNote(kind="data"), PartNote(kind="train", of="radis"), PartNote(kind="evaluate")]


def read(folder: Path) -> ProgressFile:
    note = read_progress(folder)
    assert note is not None
    return note


def test_parts_artefacts_and_tasks_are_noted(tmp_path: Path) -> None:
    reporter = Reporter(quiet=True)
    with noted(tmp_path, reporter) as noting:
        assert read(tmp_path).parts == ()
        noting.plan(PARTS)
        noting.begin(1)
        noting.stage("data-0", None, done=True)
        noting.reckon(lambda parts: [PartNote(kind=part.kind, of=part.of, estimate=60.0) for part in parts])
        noting.begin(2)
        noting.stage("train-radis-0", None, done=False)
        assert [one.folder for one in read(tmp_path).stages] == ["data-0", "train-radis-0"]  # at once
        noting.example("text", "radis")
        with reporter.task("train-radis", 10) as task, reporter.task("saving", 0):
            task.update(4, "fast")
            noting.write()
            inner = read(tmp_path).task
            assert inner is not None
            assert (inner.title, inner.done, inner.total, inner.detail) == ("train-radis", 4, 10, "saving")
        with reporter.working("train-radis"), reporter.working("loading"):
            noting.write()
            inner = read(tmp_path).task
            assert inner is not None
            assert (inner.title, inner.total) == ("loading", 0)
        with reporter.working("train-radis"), reporter.task("train-radis", 10) as task:
            task.update(4, "fast")
            noting.write()
        note = read(tmp_path)
        assert note.part == 2
        assert (note.example, note.example_of) == ("text", "radis")
        data, train, last = note.parts
        assert data.seconds is not None
        assert data.reused
        assert data.estimate == 60.0
        assert train.began
        assert train.seconds is None
        assert not train.reused
        assert last.began is None
        assert note.task is not None
        assert (note.task.title, note.task.done, note.task.total, note.task.detail) == ("train-radis", 4, 10, "fast")
        noting.stage("train-radis-0", 12.0, done=True)
        noting.begin(3)
        note = read(tmp_path)
        assert [(one.folder, one.part, one.seconds, one.done) for one in note.stages] == [
            ("data-0", 1, None, True),
            ("train-radis-0", 2, 12.0, True),
        ]
        assert not note.parts[1].reused
    assert not list(tmp_path.iterdir())


def test_why_there_are_no_estimates_is_noted(tmp_path: Path) -> None:
    def refuse(parts: object) -> list[PartNote]:
        raise DataError("the size of x is not known")

    with noted(tmp_path, Reporter(quiet=True)) as noting:
        noting.plan(PARTS)
        noting.reckon(refuse)
        noting.write()
        assert read(tmp_path).unknown == "the size of x is not known"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (LingraftError("the disk is full"), "the disk is full"),
        (KeyboardInterrupt(), "it was interrupted"),
        (ValueError("odd"), "ValueError: odd"),
    ],
)
def test_what_ended_a_run_stays(tmp_path: Path, error: BaseException, why: str) -> None:
    with pytest.raises(type(error)), noted(tmp_path, Reporter(quiet=True)):
        raise error
    assert read(tmp_path).ended == why


def test_a_note_that_cannot_be_written_is_said_once_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / f".{FILE}.tmp").mkdir()  # stands for a folder where nothing can be written
    noting = Noting(tmp_path, Reporter(quiet=True))
    noting.plan(PARTS)
    noting.begin(1)
    noting.begin(2)
    noting.end("boom")
    said = capsys.readouterr().err
    assert said.count("`lingraft watch` sees less of this run") == 1
    assert said.startswith("Warning: ")
