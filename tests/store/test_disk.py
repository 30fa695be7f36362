"""Refusals of the operating system: which file could not be written, or opened, and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from lingraft.core.errors import StoreError, UsageError
from lingraft.store.artefacts import build_artefact
from lingraft.store.disk import explain_os_errors, failure, refuse_output
from lingraft.store.files import write_atomic


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR])
def test_a_file_that_is_read_meanwhile_is_not_said_to_be_written(tmp_path: Path, number: int) -> None:
    """What is refused is outside of what is built: an input."""
    given = tmp_path / "data" / "pairs.jsonl"

    def build(folder: Path) -> None:
        raise OSError(number, os.strerror(number), str(given))

    with pytest.raises(StoreError) as caught:
        build_artefact(tmp_path / "run", "data", 1, build)
    said = str(caught.value)
    assert said.startswith(f"{given} cannot be opened: {os.strerror(number)[0].lower()}{os.strerror(number)[1:]}; ")
    assert "writ" not in said
    assert "output folder" not in said
    with pytest.raises(StoreError, match=f"a file cannot be opened: .*os error {number}"), explain_os_errors(tmp_path):
        raise SafetensorError(f"I/O error: refused (os error {number})")


def test_a_real_folder_as_input_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(StoreError, match=f"^{tmp_path / 'data'} cannot be opened: is a directory"):
        build_artefact(tmp_path / "run", "x", 1, lambda folder: {"size": len((tmp_path / "data").read_text())})
    with pytest.raises(StoreError, match=f"^cannot write to {tmp_path / 'run'}.*folder where a file is needed"):
        build_artefact(tmp_path / "run", "x", 1, lambda folder: {"size": folder.write_text("x")})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG])
def test_what_only_a_write_can_meet_is_one_wherever_it_is(tmp_path: Path, number: int) -> None:
    cache = tmp_path / "cache" / "x"
    with pytest.raises(StoreError, match=f"^cannot write to {cache}: "), explain_os_errors(tmp_path / "run"):
        raise OSError(number, os.strerror(number), str(cache))


def test_the_place_of_a_refused_write_is_named(tmp_path: Path) -> None:
    for place in ("run", "run/deep/x", ".run.17.tmp", "."):
        with (
            pytest.raises(StoreError, match=r"^cannot write to .*: permission denied"),
            explain_os_errors(tmp_path / "run"),
        ):
            raise PermissionError(errno.EACCES, "no", str(tmp_path / place))


def test_of_a_copy_the_new_file_is_the_one_that_has_no_room(tmp_path: Path) -> None:
    given, made = str(tmp_path / "given" / "a"), str(tmp_path / "made" / "a")
    full = OSError(errno.ENOSPC, "No space left on device", given, None, made)  # as `shutil.copyfile` raises it
    assert str(failure(full, tmp_path / "made")).startswith(f"cannot write to {made}: the disk is full; ")


def test_files_that_cannot_be_written_are_refused_first(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    os.mkfifo(tmp_path / "pipe")
    for name, words in (
        ("none/x", f"there is no folder {tmp_path / 'none'}; make it"),
        ("in/x", "there is no folder"),
        (".", "is a folder"),
        ("in", "is the input itself"),
        ("link", "is the input itself"),
        ("pipe", "is a device or a pipe"),
        ("x" * 300, "name too long"),
    ):
        with pytest.raises(UsageError, match=f"--csv {tmp_path / name} (?i:.*{words})"):
            refuse_output(tmp_path / name, "--csv", [tmp_path / "in", tmp_path / "gone"])
    with pytest.raises(UsageError, match="--rejected /dev/null cannot be written: it is a device"):
        refuse_output(Path("/dev/null"), "--rejected")
    refuse_output(tmp_path / "pipe", "--out", replaced=False)
    refuse_output(Path("/dev/null"), "--out", replaced=False)
    refuse_output(tmp_path / "new", "--csv", [tmp_path / "in"])
    refuse_output(tmp_path / "in", "--csv", [tmp_path / "gone"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "link", "pipe"]
    write_atomic(tmp_path / "new", "x")
