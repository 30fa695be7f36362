"""Estimates are corrected by what parts have taken, and of what goes on by how much of it is done."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lingraft.store.progress_file import PartNote, StageNote, TaskNote
from lingraft.watching.pieces import WatchedPart
from lingraft.watching.times import corrections, total_left, watched_parts

PARTS = [
    PartNote(kind="data", estimate=10.0, seconds=30.0, began=0.0),
    PartNote(kind="train", of="a", estimate=100.0, seconds=200.0, began=30.0),
    PartNote(kind="train", of="b", estimate=50.0, began=230.0),
    PartNote(kind="answer", of="base", estimate=20.0),
    PartNote(kind="evaluate", estimate=5.0),
]


def test_parts_of_one_kind_are_off_alike_and_data_says_nothing_of_a_model() -> None:
    found = corrections([(PARTS[0], 30.0), (PARTS[1], 200.0)])
    assert found == {"data": 3.0, "train": 2.0, "": 2.0}
    assert corrections([(replace(PARTS[1], reused=True), 0.1)]) == {}
    assert corrections([(PARTS[1], 0.5)]) == {}  # too short to say anything


def test_what_is_to_come_is_reckoned_from_what_was_taken() -> None:
    parts = watched_parts(PARTS, [], None, 3, now=250.0)
    assert [part.state for part in parts] == ["done", "done", "running", "to come", "to come"]
    assert [part.seconds for part in parts] == [30.0, 200.0, 20.0, None, None]
    assert [part.left for part in parts] == [None, None, 80.0, 40.0, 10.0]
    assert total_left(parts) == 130.0


def test_a_task_that_is_well_begun_tells_its_own_end() -> None:
    task = TaskNote(title="train-b", done=25, total=100, detail="loss 2.0", seconds=30.0)
    stage = StageNote(folder="train-b-00000000", part=3)
    part = watched_parts(PARTS, [stage], task, 3, now=260.0)[2]
    assert (part.share, part.left, part.detail) == (0.25, 90.0, "train-b, 25/100, loss 2.0")
    early = watched_parts(PARTS, [stage], replace(task, done=1, seconds=20.0), 3, now=250.0)[2]
    assert early.left == 80.0


def test_a_slow_part_corrects_those_after_it() -> None:
    parts = [replace(PARTS[3], began=0.0), replace(PARTS[3], of="a")]
    task = TaskNote(title="decode-base", done=5, total=10, seconds=100.0)
    assert watched_parts(parts, [], task, 1, now=100.0)[1].left == pytest.approx(200.0)


def test_without_estimates_nothing_is_said() -> None:
    parts = watched_parts([PartNote(kind="data", began=1.0), PartNote(kind="evaluate")], [], None, 1, now=3.0)
    assert [part.left for part in parts] == [None, None]
    assert total_left(parts) is None
    assert total_left([WatchedPart(title="data", state="done")]) == 0.0


def test_a_clock_that_was_set_back_gives_no_negative_time() -> None:
    assert watched_parts([PartNote(kind="data", began=100.0, estimate=5.0)], [], None, 1, now=3.0)[0].seconds == 0.0
