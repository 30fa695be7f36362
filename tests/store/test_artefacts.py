"""Artefacts on disk: real processes are killed, real bytes are damaged."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lingraft.core.errors import LockedError
from lingraft.core.hashing import content_hash
from lingraft.store.artefacts import MANIFEST, artefact_path, build_artefact, facts, locked, verify
from lingraft.store.durability import usual_modes
from lingraft.store.files import read_lines, read_sealed, write_atomic, write_json, write_lines, write_sealed
from processes import HANGING, flip, heard, killed, start, tree

# Writes

KILLED_IN_WRITE = """
    import os, sys, time
    from pathlib import Path
    from lingraft.store.files import write_atomic

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
    from lingraft.store.artefacts import build_artefact
    from lingraft.store.files import write_atomic

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
    from lingraft.store.artefacts import locked

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
