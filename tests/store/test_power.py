"""The harness itself: what it says may be left after a power cut, against cases that can be told by hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lingraft.store.durability import make_folder, sync_folder, sync_tree
from lingraft.store.files import write_atomic, write_lines
from power import KEPT, LOST, NAMED, REMOVED, STATES, Moment, recorded, restore
from processes import tree


def left(moment: Moment, state: str, place: Path) -> dict[str, bytes]:
    restore(moment, state, place)
    return tree(place)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "old").write_bytes(b"known")
    return tmp_path / "root"


def test_what_is_not_synced_may_be_lost_or_have_a_name_without_its_content(root: Path, tmp_path: Path) -> None:
    with recorded(root) as moments:
        (root / "x.tmp").write_bytes(b"12345678")
        os.replace(root / "x.tmp", root / "x")
    end = moments[-1]
    assert left(end, LOST, tmp_path / "a") == {"old": b"known"}
    assert left(end, NAMED, tmp_path / "b") == {"old": b"known", "x": b"1234"}
    assert left(end, KEPT, tmp_path / "c") == {"old": b"known", "x": bytes(8)}
    assert left(end, REMOVED, tmp_path / "d") == {"old": b"known"}


def test_a_synced_file_may_still_lose_its_name(root: Path, tmp_path: Path) -> None:
    with recorded(root) as moments, (root / "x").open("wb") as handle:
        handle.write(b"12345678")
        handle.flush()
        os.fsync(handle.fileno())
    assert left(moments[-1], LOST, tmp_path / "a") == {"old": b"known"}
    assert left(moments[-1], NAMED, tmp_path / "b") == {"old": b"known", "x": b"12345678"}


def test_a_removal_may_come_true_or_not(root: Path, tmp_path: Path) -> None:
    with recorded(root) as moments:
        (root / "old").unlink()
    kept = {state: left(moments[-1], state, tmp_path / state) for state in STATES}
    assert kept == {LOST: {"old": b"known"}, NAMED: {}, KEPT: {"old": b"known"}, REMOVED: {}}


def test_a_file_that_is_replaced_is_the_old_or_the_new_one(root: Path, tmp_path: Path) -> None:
    with recorded(root) as moments:
        write_atomic(root / "old", "newer")
    found = [
        left(moment, state, tmp_path / f"{at}-{state}").get("old")
        for at, moment in enumerate(moments)
        for state in STATES
    ]
    assert set(found) == {b"known", b"newer"}
    assert set(found[-4:]) == {b"newer"}


def test_what_is_written_in_new_folders_is_there_when_the_call_returns(root: Path, tmp_path: Path) -> None:
    with recorded(root) as moments:
        write_lines(root / "deep" / "er" / "lines.txt", ["a", "b"])
    for state in STATES:
        assert left(moments[-1], state, tmp_path / state)["deep/er/lines.txt"] == b"a\nb\n"


def test_a_tree_is_synced_with_what_others_wrote_but_for_what_is_left_out(root: Path, tmp_path: Path) -> None:
    with recorded(root) as moments:
        make_folder(root / "a" / "b")
        for name in ("a/x", "a/b/y", "a/work"):
            (root / name).write_bytes(b"12")
        (root / "a" / "left").mkdir()
        (root / "a" / "left" / "z").write_bytes(b"12")
        sync_tree(root / "a", "left")
        sync_folder(root)
    expected = {"old": b"known", "a/x": b"12", "a/b/y": b"12", "a/work": b"12"}
    assert left(moments[-1], LOST, tmp_path / "lost") == expected
    assert left(moments[-1], NAMED, tmp_path / "named") == expected | {"a/left/z": b"1"}


def test_an_inode_that_is_used_again_is_another_file(root: Path, tmp_path: Path) -> None:
    with recorded(root) as moments:
        for at in range(5):
            write_atomic(root / "x", f"synced {at}")
            (root / "x").unlink()
            (root / "y").write_bytes(b"12")
            (root / "y").unlink()
            (root / "z").write_bytes(b"12345678")
            os.replace(root / "z", root / "y")
    assert left(moments[-1], NAMED, tmp_path / "a") == {"old": b"known", "y": b"1234"}
