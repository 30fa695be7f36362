"""What the operating system and libraries refuse while they write, in one sentence with place and remedy."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from pathlib import Path

import pyarrow
import pytest
from safetensors import SafetensorError

from lingraft.cli import main as cli
from lingraft.core.errors import StoreError
from lingraft.store.artefacts import artefact_path, build_artefact, locked
from lingraft.store.disk import explain_os_errors
from lingraft.store.files import write_atomic
from lingraft.store.parts import PartStore
from nursery import ran
from processes import HANGING, start, tree

FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from lingraft.core.errors import StoreError
    from lingraft.store.parts import PartStore

    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        PartStore(Path(sys.argv[1])).known(["a" * 64, "b" * 64])
        for index, key in enumerate(("a" * 64, "b" * 64)):
            PartStore(Path(sys.argv[1])).put(index, key, ["x" * (100 + index * 100_000)])
    except StoreError as error:
        print(error)
"""


def test_what_was_finished_before_the_space_ran_out_is_kept(tmp_path: Path) -> None:
    said, noise = start(FULL_DISK, tmp_path).communicate(timeout=HANGING)
    assert said.startswith("cannot write to "), noise
    assert "larger than" in said
    assert "\n" not in said.strip()
    assert PartStore(tmp_path).known(["a" * 64, "b" * 64]) == {0}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
    ],
)
def test_refusals_are_explained_with_place_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, word: str
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    write_atomic(tmp_path / "kept.json", "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError) as caught:
            write_atomic(tmp_path / "kept.json", "new")
    message = str(caught.value)
    assert message.startswith(f"cannot write to {tmp_path / 'kept.json'}: ")
    assert word in message
    assert ";" in message
    assert "\n" not in message
    assert tree(tmp_path) == {"kept.json": b"old"}


def test_other_failures_are_not_taken_for_a_problem_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explain_os_errors(tmp_path):
        (tmp_path / "missing").read_text()


@pytest.mark.parametrize(
    "error",
    [  # as the libraries say it on a full disk
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("write(): fd 3 failed with No space left on device"),
        sqlite3.OperationalError("database or disk is full"),
        OSError("Not enough free space to write 24000000 bytes after offset 128"),
        pyarrow.ArrowException("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ],
)
def test_a_full_disk_is_one_whatever_library_says_so(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(StoreError, match=f"cannot write to {tmp_path}: the disk is full"), explain_os_errors(tmp_path):
        raise error

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith("lingraft: a file cannot be written: the disk is full; free some space")


def test_libraries_that_write_beyond_a_limit_are_explained(tmp_path: Path) -> None:
    """Real refusals: what may be written is less than what is to be."""
    program = f"""
import resource, sqlite3, sys
from pathlib import Path
import numpy, pyarrow, pyarrow.parquet, torch
from safetensors.torch import save_file
from lingraft.core.errors import StoreError
from lingraft.store.disk import explain_os_errors
folder = Path({str(tmp_path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for write in (
    lambda: save_file({{"x": torch.zeros(100_000)}}, folder / "x.safetensors"),
    lambda: torch.save(torch.zeros(100_000), folder / "x.pt", _use_new_zipfile_serialization=False),
    lambda: torch.save(torch.zeros(100_000), folder / "y.pt"),
    lambda: numpy.save(folder / "x.npy", numpy.zeros(100_000)),
    lambda: pyarrow.parquet.write_table(pyarrow.table({{"x": numpy.random.rand(100_000)}}), folder / "x.parquet"),
):
    try:
        with explain_os_errors(folder):
            write()
    except StoreError as error:
        print(error)
"""
    done = ran(program)
    said = done.stdout.splitlines()
    assert (len(said), done.returncode) == (5, 0), done
    assert [("`ulimit -f` allows" in line, "the write was cut short" in line) for line in said] == [
        *[(True, False)] * 2,
        *[(False, True)] * 2,  # these two do not say why
        (True, False),
    ]


@pytest.mark.parametrize("error", [SafetensorError("IoError"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_write_of_weights_that_fails_on_a_full_disk_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(type(error)), explain_os_errors(tmp_path / "new"):
        raise error
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match="the disk is full"), explain_os_errors(tmp_path / "new"):
        raise error


def test_paths_that_cannot_be_folders_are_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a part of the path is a file, not a folder"):
        write_atomic(tmp_path / "file" / "sub" / "x.json", "x")
    with pytest.raises(StoreError, match="file where a folder is needed"), locked(tmp_path / "file"):
        pass
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(StoreError, match="or a link that leads nowhere; give another path"), locked(tmp_path / "link"):
        pass
    with pytest.raises(StoreError, match="folder where a file is needed"):
        write_atomic(tmp_path, "x")
    with pytest.raises(StoreError, match="name is too long"):
        write_atomic(tmp_path / ("x" * 250), "x")
    blocked = artefact_path(tmp_path, "data", 1)
    blocked.write_text("")
    with pytest.raises(StoreError, match="not a folder"):
        build_artefact(tmp_path, "data", 1, lambda folder: None)
