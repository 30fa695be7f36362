"""Artefacts on disk: real processes are killed, real bytes are damaged."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.errors import LockedError, StoreError
from lingraft.store import (
    MANIFEST,
    PartStore,
    artefact_path,
    build_artefact,
    content_hash,
    explained,
    facts,
    file_hash,
    locked,
    read_lines,
    stable_fraction,
    verify,
    write_atomic,
    write_json,
    write_lines,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Run a Python script that uses the package in a process of its own, and wait until it says so on stdout."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def heard(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line == word, process.communicate()[1] if not line else line


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


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
    assert 0 <= drawn[0]
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
        time.sleep(60)
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
        with pytest.raises(UnicodeEncodeError):
            write_atomic(path, "\ud800")
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
        PartStore(Path(sys.argv[1])).run(["a" * 64, "b" * 64], lambda index: ["x" * (100 + index * 100_000)])
    except StoreError as error:
        print(error)
"""


def test_what_was_finished_before_the_space_ran_out_is_kept(tmp_path: Path) -> None:
    said, noise = start(FULL_DISK, tmp_path).communicate(timeout=60)
    assert said.startswith("cannot write to "), noise
    assert "larger than" in said
    assert "\n" not in said.strip()
    asked: list[int] = []
    PartStore(tmp_path).run(["a" * 64, "b" * 64], lambda index: [*map(str, asked), asked.append(index) or "y"])  # type: ignore[func-returns-value]
    assert asked == [1]
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


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


DAMAGES = {
    "a bit flipped": lambda folder: flip(folder / "weights" / "a.bin"),
    "a nested manifest changed": lambda folder: flip(folder / "weights" / MANIFEST),
    "truncated": lambda folder: os.truncate(folder / "weights" / "a.bin", 100),
    "a file gone": lambda folder: (folder / "rows.jsonl").unlink(),
    "a file too many": lambda folder: (folder / "weights" / "b.bin").write_bytes(b"x"),
    "manifest gone": lambda folder: (folder / MANIFEST).unlink(),
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
                time.sleep(60)
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
    said, noise = start(BUILD, tmp_path / "killed", "never").communicate(timeout=60)
    assert said.splitlines()[:2] == ["wrote 2", "wrote 3"], noise
    start(BUILD, tmp_path / "undisturbed", "never").communicate(timeout=60)
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
        time.sleep(60)
"""


def test_a_folder_is_held_by_one_process_until_it_dies(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "demo"
    process = start(HOLD, folder)
    heard(process, "held")
    with pytest.raises(LockedError, match="another run is working in .*demo; wait"), locked(folder):
        pass
    with locked(tmp_path / "runs" / "other"):
        pass
    killed(process)
    deadline = time.monotonic() + 10
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


# Parts

KEYS = [content_hash(i) for i in range(6)]


def part_lines(index: int) -> list[str]:
    return [json.dumps({"id": f"{index}-{i}", "text": "ü" * i}, ensure_ascii=False) for i in range(index + 1)]


def run_parts(folder: Path, keys: list[str] = KEYS) -> tuple[list[int], list[tuple[int, bool]]]:
    """Return the parts that were asked for, and what was reported as done."""
    asked: list[int] = []
    reported: list[tuple[int, bool]] = []

    def work(index: int) -> list[str]:
        asked.append(index)
        return part_lines(index)

    PartStore(folder).run(keys, work, lambda index, known: reported.append((index, known)))
    return asked, reported


def test_parts_are_asked_once_and_read_in_order(tmp_path: Path) -> None:
    assert run_parts(tmp_path) == ([0, 1, 2, 3, 4, 5], [(i, False) for i in range(6)])
    assert run_parts(tmp_path) == ([], [(i, True) for i in range(6)])
    assert list(PartStore(tmp_path).lines()) == [line for i in range(6) for line in part_lines(i)]


@pytest.mark.parametrize("index", [0, 3, 5])
def test_a_damaged_part_is_asked_again(tmp_path: Path, index: int) -> None:
    run_parts(tmp_path)
    whole = tree(tmp_path)
    flip(next(tmp_path.glob(f"part-{index:06d}-*")))
    assert run_parts(tmp_path)[0] == [index]
    assert tree(tmp_path) == whole


def test_parts_of_other_questions_are_asked_again_and_leave_nothing(tmp_path: Path) -> None:
    run_parts(tmp_path)
    whole = tree(tmp_path)
    other = [*KEYS[:2], content_hash("other"), KEYS[3]]
    assert run_parts(tmp_path, other)[0] == [2]
    assert list(PartStore(tmp_path).lines()) == [line for i in range(4) for line in part_lines(i)]
    # The same content under another's index or name is not taken for it.
    stray = next(tmp_path.glob("part-000001-*"))
    shutil.copy(stray, tmp_path / stray.name.replace("part-000001", "part-000004"))
    (tmp_path / "part-draft.jsonl").write_text("notes\n")
    assert run_parts(tmp_path)[0] == [2, 4, 5]
    assert tree(tmp_path) == whole


PARTS = """
    import sys, time
    from pathlib import Path
    from lingraft.store import PartStore, content_hash

    def work(index):
        for i in range(300):
            if (index, i) == (int(sys.argv[2]), int(sys.argv[3])):
                print("stuck", flush=True)
                time.sleep(60)
            yield f"{index} {i} " + "x" * i

    PartStore(Path(sys.argv[1])).run([content_hash(i) for i in range(5)], work)
"""


@pytest.mark.parametrize(("part", "line"), [(0, 0), (2, 150), (4, 299)])
def test_a_killed_job_continues_to_the_same_bytes(tmp_path: Path, part: int, line: int) -> None:
    process = start(PARTS, tmp_path / "killed", part, line)
    heard(process, "stuck")
    killed(process)
    assert len(list((tmp_path / "killed").glob("part-*"))) == part
    assert start(PARTS, tmp_path / "killed", -1, 0).wait(60) == 0
    assert start(PARTS, tmp_path / "undisturbed", -1, 0).wait(60) == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "undisturbed")
    assert len(tree(tmp_path / "killed")) == 5


def test_a_part_that_was_being_written_when_killed_leaves_no_rubbish(tmp_path: Path) -> None:
    run_parts(tmp_path)
    whole = tree(tmp_path)
    victim = next(tmp_path.glob("part-000003-*"))
    victim.rename(tmp_path / f".{victim.name}.12345.tmp")
    assert run_parts(tmp_path)[0] == [3]
    assert tree(tmp_path) == whole
    assert {file_hash(path)[:12] for path in tmp_path.iterdir()} == {path.stem[-12:] for path in tmp_path.iterdir()}
