"""Folders that are whole or not there: killed, failed and doubled attempts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lingraft.core.errors import LockedError, UsageError
from lingraft.store.publishing import added_to, new_folder, refuse_existing


def write(out: Path, more: Callable[[Path], object] = lambda partial: None) -> None:
    with new_folder(out) as partial:
        (partial / "file").write_text("text", "utf-8")
        more(partial)


def test_a_whole_folder_gets_its_name(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_text("text", "utf-8")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["inner"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        write(tmp_path / "out", lambda partial: int("midway"))
    assert not list(tmp_path.iterdir())


def test_what_a_killed_attempt_left_is_not_part_of_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".out.partial"
    (left / "merged").mkdir(parents=True)
    (left / "merged" / "weights").write_text("half", "utf-8")
    (tmp_path / "elsewhere").mkdir()
    (left / "link").symlink_to(tmp_path / "elsewhere")
    with new_folder(tmp_path / "out") as partial:
        assert [path.name for path in partial.iterdir()] == [".lock"]
    assert (tmp_path / "elsewhere").is_dir()
    assert not list((tmp_path / "out").iterdir())


def test_nothing_that_is_there_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="out exists already; give a new folder"):
        write(tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        write(tmp_path / "second", lambda partial: (tmp_path / "second").mkdir())
    assert not list((tmp_path / "second").iterdir())
    with pytest.raises(LockedError):
        write(tmp_path / "third", lambda partial: write(tmp_path / "third"))
    assert not (tmp_path / "third").exists()


def test_a_link_that_leads_nowhere_is_refused_before_the_work(tmp_path: Path) -> None:
    link = tmp_path / "out"
    link.symlink_to(tmp_path / "gone" / "far")
    for refuses in (refuse_existing, write):
        with pytest.raises(
            UsageError, match=r"out is a link to .*far, which is not there; remove it or give a new fol"
        ):
            refuses(link)
    assert link.is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_grows_by_whole_folders_and_keeps_those_it_has(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "rows" / "old").mkdir(parents=True)
    (out / "rows" / "old" / "file").write_text("old", "utf-8")
    (out / "mine").write_text("mine", "utf-8")
    (out / ".partial" / "rows" / "half").mkdir(parents=True)  # of one that was killed
    with added_to(out, ["table"]) as partial:
        for name in ("old", "new"):
            (partial / "rows" / name).mkdir(parents=True)
            (partial / "rows" / name / "file").write_text("new", "utf-8")
        (partial / "table").write_text("both", "utf-8")
        assert not (out / "table").exists()
        with pytest.raises(LockedError), added_to(out, []):
            pass
    files = {path.relative_to(out).as_posix(): path.read_text("utf-8") for path in out.rglob("*") if path.is_file()}
    assert files == {"rows/old/file": "old", "rows/new/file": "new", "mine": "mine", "table": "both"}
    with pytest.raises(ValueError, match="invalid literal"), added_to(out, ["table"]) as partial:
        (partial / "table").write_text(str(int("midway")), "utf-8")
    assert (out / "table").read_text("utf-8") == "both"
    assert not (out / ".partial").exists()
