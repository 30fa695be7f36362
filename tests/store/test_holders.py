"""Who works in a folder is told from outside: the lock is looked at, never taken, and a number alone is no process."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lingraft.store.artefacts import locked
from lingraft.store.holders import Holder, lock_holder

PROC = Path("/proc/locks").exists()


@pytest.mark.skipif(not PROC, reason="locks are listed on Linux alone")
def test_the_holder_of_a_lock_is_seen_and_the_lock_stays_free(tmp_path: Path) -> None:
    assert lock_holder(tmp_path) is None
    with locked(tmp_path):
        assert lock_holder(tmp_path) == os.getpid()
    assert lock_holder(tmp_path) is None
    with locked(tmp_path):  # looking has not taken it
        pass


def test_a_process_works_until_it_has_ended() -> None:
    assert Holder.own().works is True
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(read, 1)
        os._exit(0)
    born = Holder.own().born and int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    child = replace(Holder.own(), pid=pid, born=born)
    assert child.works is True
    os.write(write, b"x")
    os.waitpid(pid, 0)
    assert child.works is False


@pytest.mark.skipif(not PROC, reason="when a process began is told on Linux alone")
def test_another_process_with_its_number_is_not_it() -> None:
    assert replace(Holder.own(), born=1).works is False


def test_of_another_machine_nothing_is_known() -> None:
    assert replace(Holder.own(), machine="elsewhere").works is None


def test_without_a_lock_nobody_holds_it(tmp_path: Path) -> None:
    assert lock_holder(tmp_path / "missing") is None
    (tmp_path / "file").write_text("")
    assert lock_holder(tmp_path / "file") is None
