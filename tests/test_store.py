"""Artefacts on disk: real processes are killed, real bytes are damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from lingraft import cli, errors, store
from lingraft.errors import LockedError, StoreError
from lingraft.store import (
    MANIFEST,
    PartStore,
    artefact_path,
    build_artefact,
    code_hashes,
    content_hash,
    explained,
    facts,
    file_hash,
    locked,
    package_hash,
    read_lines,
    read_sealed,
    stable_fraction,
    usual_modes,
    verify,
    write_atomic,
    write_json,
    write_lines,
    write_sealed,
)
from processes import HANGING, flip, heard, killed, start, tree

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


# Hashes


def test_content_hash_is_that_of_canonical_json() -> None:
    canonical = b'{"a":[1,null,true],"b":{"c":"\xc3\xa4","d":0.5}}'
    value = {"b": {"d": 0.5, "c": "ä"}, "a": [1, None, True]}
    assert content_hash(value) == hashlib.sha256(canonical).hexdigest()


@given(st.dictionaries(st.text(), JSON, max_size=5), st.randoms(use_true_random=False))
def test_content_hash_ignores_the_order_of_keys_only(value: dict[str, object], random: object) -> None:
    keys = list(value)
    random.shuffle(keys)  # type: ignore[attr-defined]
    assert content_hash({key: value[key] for key in keys}) == content_hash(value)
    assert content_hash({**value, "\0more": 1}) != content_hash(value)


def test_content_hash_sees_the_order_of_lists_and_the_type_of_values() -> None:
    values = [[1, 2], [2, 1], [1, "2"], {"1": 2}, "12", [12], [], {}, None, False]
    assert len({content_hash(value) for value in values}) == len(values)


def test_stable_fraction_is_uniform_and_depends_on_every_part() -> None:
    drawn = sorted(stable_fraction("rationale", 1, f"id-{i}") for i in range(4000))
    assert drawn[0] >= 0
    assert drawn[-1] < 1
    # Kolmogorov-Smirnov distance; 1.95 / sqrt(n) is the bound at p = 0.001.
    assert max(abs(value - (i + 0.5) / 4000) for i, value in enumerate(drawn)) < 1.95 / 4000**0.5
    assert len({stable_fraction(*parts) for parts in (("a", 1), ("a", 2), ("b", 1), ("a1",), ("a", "1", ""))}) == 5


# Atomic writes

KILLED_IN_WRITE = """
    import os, sys, time
    from pathlib import Path
    from lingraft.store import write_atomic

    synced = os.fsync
    def stuck(handle):
        synced(handle)
        print("written", flush=True)
        time.sleep(3600)
    os.fsync = stuck
    write_atomic(Path(sys.argv[1]), "new " * 100_000)
"""


def test_a_write_that_is_killed_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "scorecard.json"
    write_atomic(path, "old")
    process = start(KILLED_IN_WRITE, path)
    heard(process, "written")  # all bytes are on the disk, under another name
    killed(process)
    assert path.read_text() == "old"
    write_atomic(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("write", ["atomic", "lines"])
def test_a_write_that_fails_leaves_the_old_content_and_no_rubbish(tmp_path: Path, write: str) -> None:
    path = tmp_path / "rows.jsonl"
    write_atomic(path, "old\n")

    def lines() -> Iterator[str]:
        yield "new"
        raise ValueError("the source broke")

    if write == "lines":
        with pytest.raises(ValueError, match="the source broke"):
            write_lines(path, lines())
    else:
        write_atomic(path, "half a pair: \ud800\n")  # as JSON writes it
        assert path.read_bytes() == b"half a pair: \\ud800\n"
        with pytest.raises(TypeError):
            write_atomic(path, 3)  # type: ignore[arg-type]
        write_atomic(path, "old\n")
    assert tree(tmp_path) == {"rows.jsonl": b"old\n"}


def test_lines_keep_every_character_but_the_line_feed(tmp_path: Path) -> None:
    rows = [json.dumps(text, ensure_ascii=False) for text in ("a\u2028b", "c\rd", "", "ü\x85e", "\x1c")]
    assert write_lines(tmp_path / "deep" / "rows.jsonl", rows) == len(rows)
    assert list(read_lines(tmp_path / "deep" / "rows.jsonl")) == rows
    assert (tmp_path / "deep" / "rows.jsonl").read_bytes() == "".join(f"{row}\n" for row in rows).encode()


def test_json_reads_back(tmp_path: Path) -> None:
    value = {"ä": [1, 2.5, None], "b": {"c": "\n"}}
    write_json(tmp_path / "run.json", value)
    assert json.loads((tmp_path / "run.json").read_text("utf-8")) == value


# Refusals of the operating system

FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from lingraft.errors import StoreError
    from lingraft.store import PartStore

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
    with pytest.raises(FileNotFoundError), explained(tmp_path):
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
    with pytest.raises(StoreError, match=f"cannot write to {tmp_path}: the disk is full"), explained(tmp_path):
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
from lingraft.errors import StoreError
from lingraft.store import explained
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
        with explained(folder):
            write()
    except StoreError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == 5, done
    assert [("`ulimit -f` allows" in line, "the write was cut short" in line) for line in said] == [
        *[(True, False)] * 2,
        *[(False, True)] * 2,  # these two do not say why
        (True, False),
    ]


@pytest.mark.parametrize("error", [SafetensorError("IoError"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_write_of_weights_that_fails_on_a_full_disk_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with pytest.raises(type(error)), explained(tmp_path / "new"):
        raise error
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(StoreError, match="the disk is full"), explained(tmp_path / "new"):
        raise error


def test_paths_that_cannot_be_folders_are_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="a part of the path is a file, not a folder"):
        write_atomic(tmp_path / "file" / "sub" / "x.json", "x")
    with pytest.raises(StoreError, match="file where a folder is needed"), locked(tmp_path / "file"):
        pass
    with pytest.raises(StoreError, match="folder where a file is needed"):
        write_atomic(tmp_path, "x")
    with pytest.raises(StoreError, match="name is too long"):
        write_atomic(tmp_path / ("x" * 250), "x")
    blocked = artefact_path(tmp_path, "data", 1)
    blocked.write_text("")
    with pytest.raises(StoreError, match="not a folder"):
        build_artefact(tmp_path, "data", 1, lambda folder: None)


# Artefacts


def build(folder: Path) -> dict[str, int]:
    write_atomic(folder / "rows.jsonl", "one\ntwo\n")
    write_atomic(folder / "weights" / "a.bin", bytes(range(256)) * 20)
    write_atomic(folder / "weights" / MANIFEST, "of something else")
    return {"rows": 2}


def test_an_artefact_is_built_once_for_the_same_inputs(tmp_path: Path) -> None:
    calls: list[Path] = []

    def counted(folder: Path) -> dict[str, int]:
        calls.append(folder)
        assert not (folder / MANIFEST).exists()
        assert folder.name.endswith(".partial")
        return build(folder)

    first = build_artefact(tmp_path, "data", {"a": 1, "b": [2]}, counted)
    assert build_artefact(tmp_path, "data", {"b": [2], "a": 1}, counted) == first
    assert len(calls) == 1
    assert first == artefact_path(tmp_path, "data", {"a": 1, "b": [2]})
    assert first.name == f"data-{content_hash({'a': 1, 'b': [2]})[:8]}"
    assert facts(first) == {"rows": 2}
    assert verify(first)
    manifest = json.loads((first / MANIFEST).read_text())
    assert manifest["inputs"] == {"a": 1, "b": [2]}
    for name, entry in manifest["files"].items():
        data = (first / name).read_bytes()
        assert entry == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert sorted(manifest["files"]) == ["rows.jsonl", "weights/a.bin", f"weights/{MANIFEST}"]
    assert build_artefact(tmp_path, "data", {"a": 2}, counted) != first


def test_a_sealed_record_is_read_back_or_not_at_all(tmp_path: Path) -> None:
    values = {"b": [1, 2.5, None, "ü\udc80"], "a": {"10": 1, "2": True}}
    write_sealed(tmp_path / "x.json", values)
    assert read_sealed(tmp_path / "x.json") == values
    whole = (tmp_path / "x.json").read_bytes()
    for position in range(len(whole)):
        for bit in (0, 5):  # 5: the case of a letter
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            (tmp_path / "x.json").write_bytes(damaged)
            assert read_sealed(tmp_path / "x.json") in (None, values)  # values: white space, or D for d in an escape
        (tmp_path / "x.json").write_bytes(whole[:position])
        assert read_sealed(tmp_path / "x.json") in (None, values)
    assert read_sealed(tmp_path / "none.json") is None


DAMAGES = {
    "a bit flipped": lambda folder: flip(folder / "weights" / "a.bin"),
    "a nested manifest changed": lambda folder: flip(folder / "weights" / MANIFEST),
    "truncated": lambda folder: os.truncate(folder / "weights" / "a.bin", 100),
    "a file gone": lambda folder: (folder / "rows.jsonl").unlink(),
    "a file too many": lambda folder: (folder / "weights" / "b.bin").write_bytes(b"x"),
    "manifest gone": lambda folder: (folder / MANIFEST).unlink(),
    "a fact in the manifest changed": lambda folder: (folder / MANIFEST).write_text(
        (folder / MANIFEST).read_text().replace('"rows": 2', '"rows": 3')
    ),
    "manifest truncated": lambda folder: os.truncate(folder / MANIFEST, 50),
    "manifest of another kind": lambda folder: (folder / MANIFEST).write_text("[]"),
    "manifest is null": lambda folder: (folder / MANIFEST).write_text("null"),
    "a file instead": lambda folder: (shutil.rmtree(folder / "weights"), (folder / "weights").write_text("")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artefact_is_built_anew(tmp_path: Path, damage: str) -> None:
    folder = build_artefact(tmp_path, "data", 1, build)
    whole = tree(folder)
    DAMAGES[damage](folder)
    assert not verify(folder)
    assert build_artefact(tmp_path, "data", 1, build) == folder
    assert tree(folder) == whole


BUILD = """
    import sys, time
    from pathlib import Path
    from lingraft.store import build_artefact, write_atomic

    def build(folder):
        for i in range(4):
            if (folder / f"{i}.txt").exists():
                continue
            if sys.argv[2] == str(i):
                (folder / f".{i}.txt.1.tmp").write_text("half of it")
                print("stuck", flush=True)
                time.sleep(3600)
            write_atomic(folder / f"{i}.txt", str(i) * 1000)
            print("wrote", i, flush=True)
        return {"files": 4}

    print(build_artefact(Path(sys.argv[1]), "data", 1, build))
"""


def test_a_killed_build_leaves_no_artefact_and_is_continued(tmp_path: Path) -> None:
    process = start(BUILD, tmp_path / "killed", 2)
    for word in ("wrote 0", "wrote 1", "stuck"):
        heard(process, word)
    killed(process)
    assert [path.name.rpartition(".")[2] for path in (tmp_path / "killed").iterdir()] == ["partial"]
    said, noise = start(BUILD, tmp_path / "killed", "never").communicate(timeout=HANGING)
    assert said.splitlines()[:2] == ["wrote 2", "wrote 3"], noise
    start(BUILD, tmp_path / "undisturbed", "never").communicate(timeout=HANGING)
    assert tree(tmp_path / "killed") == tree(tmp_path / "undisturbed")


def test_a_build_that_fails_leaves_no_artefact(tmp_path: Path) -> None:
    def broken(folder: Path) -> None:
        build(folder)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        build_artefact(tmp_path, "data", 1, broken)
    assert not artefact_path(tmp_path, "data", 1).exists()
    assert verify(build_artefact(tmp_path, "data", 1, build))


# Locks

HOLD = """
    import sys, time
    from pathlib import Path
    from lingraft.store import locked

    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(3600)
"""


def test_a_folder_is_held_by_one_process_until_it_dies(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    process = start(HOLD, folder)
    heard(process, "held")
    with pytest.raises(LockedError, match=r"another run is working in .*demo; wait"), locked(folder):
        pass
    with locked(tmp_path / "runs" / "other"):
        pass
    killed(process)
    deadline = time.monotonic() + HANGING
    while True:  # the system releases a dead process's lock on its own time
        try:
            with locked(folder):
                break
        except LockedError:
            assert time.monotonic() < deadline
    with locked(folder):  # and it is free again after the block
        pass


def test_a_lock_is_released_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), locked(tmp_path):
        raise ValueError("no")
    with locked(tmp_path):
        pass


def test_files_of_libraries_get_the_modes_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("model.safetensors", "deep/adapter.safetensors"):
        save_file({"x": torch.zeros(2)}, tmp_path / name)
        (tmp_path / name).chmod(0o600)
    before = os.umask(0o027)
    try:
        usual_modes(tmp_path)
        made = build_artefact(tmp_path, "s", 1, lambda path: save_file({"x": torch.zeros(2)}, path / "x.safetensors"))
    finally:
        os.umask(before)
    paths = [tmp_path / "model.safetensors", tmp_path / "deep" / "adapter.safetensors", made / "x.safetensors"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o640}
    assert {path.name for path in tmp_path.iterdir()} == {"deep", made.name, "model.safetensors"}


def test_code_that_changes_changes_what_depends_on_it(tmp_path: Path) -> None:
    files = [file_hash(Path(module.__file__)) for module in (store, errors)]
    assert code_hashes(store, store.content_hash, StoreError) == files  # each file once
    (tmp_path / "inner").mkdir()
    for name in ("a.py", "inner/b.py", "inner/page.html.j2"):
        (tmp_path / name).write_text("x = 1")
    first = package_hash(tmp_path)
    (tmp_path / "inner" / "__pycache__").mkdir()
    (tmp_path / "inner" / "__pycache__" / "b.pyc").write_text("compiled")
    assert package_hash(tmp_path) == first
    for name in ("inner/b.py", "inner/page.html.j2"):
        (tmp_path / name).write_text("x = 2")
        assert package_hash(tmp_path) != first
        (tmp_path / name).write_text("x = 1")
    (tmp_path / "a.py").rename(tmp_path / "c.py")
    assert package_hash(tmp_path) != first
