"""Finished runs are read as they were published, or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lingraft.api import check_gates, compare
from lingraft.core.errors import LingraftError, StoreError
from lingraft.evaluation.compared_run import read_runs
from lingraft.evaluation.published import MEASURED, open_run, published_hashes
from lingraft.store.files import read_sealed, write_sealed
from processes import flip


def publish(folder: Path, text: str = "", verdicts: bool = True) -> Path:
    """Write the files of a finished run and seal them."""
    folder.mkdir(exist_ok=True)
    for name in ("scorecard.json", "items.jsonl", "outputs.jsonl", "report.html", "rejected.jsonl"):
        (folder / name).write_text(f"{name} {text} of a run")
    if verdicts:
        (folder / "verdicts.jsonl").write_text(f"verdicts {text}")
    write_sealed(folder / "run.json", {"published": published_hashes(folder, trained=False)})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return publish(tmp_path / "run")


def test_a_run_as_it_was_published_is_opened(folder: Path) -> None:
    found = open_run(folder)
    assert [found.file(name) for name in MEASURED] == [folder / name for name in MEASURED]
    shutil.copytree(folder, folder.parent / "copy")  # elsewhere as well
    assert open_run(folder.parent / "copy").file("items.jsonl").is_file()


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize(
    ("change", "state"),
    [
        (flip, "is not the one that the run published"),
        (lambda path: path.write_bytes(path.read_bytes() + b" "), "is not the one that the run published"),
        (lambda path: path.unlink(), "is missing"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is not the one that the run published"),
        (lambda path: (path.unlink(), path.mkdir()), "is not the one that the run published"),
    ],
    ids=["flipped bit", "longer", "gone", "pipe", "folder"],
)
def test_a_changed_file_is_named_with_the_remedy(
    folder: Path, name: str, change: Callable[[Path], object], state: str
) -> None:
    change(folder / name)
    with pytest.raises(StoreError) as caught:
        open_run(folder)
    assert str(caught.value).startswith(f"{folder / name} {state}: ")
    assert f"`lingraft run {folder} --out {folder}`" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_for_people_may_be_edited_and_removed(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    (folder / "rejected.jsonl").unlink()
    flip(folder / "report.html")
    open_run(folder)


def test_files_of_two_publications_do_not_go_together(folder: Path) -> None:
    other = publish(folder.parent / "new", "other")
    shutil.copyfile(other / "scorecard.json", folder / "scorecard.json")  # where a run that publishes anew was killed
    with pytest.raises(StoreError, match=r"scorecard\.json is not the one .*or the run is being published anew"):
        open_run(folder)


def test_a_run_without_a_whole_record_is_not_finished(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"holds no finished run: it lacks run\.json"):
        open_run(folder.parent)
    record = read_sealed(folder / "run.json")
    assert record is not None
    write_sealed(folder / "run.json", {**record, "published": "x"})
    with pytest.raises(StoreError, match=r"run\.json is damaged or of another version"):
        open_run(folder)
    record["published"].pop("items.jsonl")
    write_sealed(folder / "run.json", record)
    with pytest.raises(StoreError, match=r"has no items\.jsonl; run its recipe again"):
        open_run(folder).file("items.jsonl")
    (folder / "run.json").write_text(json.dumps({"published": {}}))  # the seal is gone
    with pytest.raises(StoreError, match=r"run\.json is damaged or of another version"):
        open_run(folder)


READERS: dict[str, Callable[[Path], object]] = {
    "gate": lambda folder: check_gates(folder, ["gain>=-100"]),
    "compare": lambda folder: compare([folder], resamples=100).to_json(),
    "page": lambda folder: compare([folder], resamples=100).to_html(folder / "page.html"),
    "programs": lambda folder: read_runs([folder]),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_takes_a_changed_run(folder: Path, reader: str) -> None:
    flip(folder / "scorecard.json")
    with pytest.raises(LingraftError, match=r"scorecard\.json is not the one that the run published"):
        READERS[reader](folder)
    assert not (folder / "page.html").exists()


def test_a_pipe_under_a_published_name_does_not_hang(folder: Path) -> None:
    (folder / "report.html").unlink()
    os.mkfifo(folder / "report.html")
    with pytest.raises(StoreError, match=r"report\.html is a pipe, a folder or a device where a file is needed"):
        published_hashes(folder, trained=False)
