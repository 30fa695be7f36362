"""Long jobs in parts: killed, damaged and continued to the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lingraft.core.hashing import content_hash, file_hash
from lingraft.store.parts import PartStore
from processes import HANGING, flip, heard, killed, start, tree

KEYS = [content_hash(i) for i in range(6)]


def part_lines(index: int) -> list[str]:
    return [json.dumps({"id": f"{index}-{i}", "text": "ü" * i}, ensure_ascii=False) for i in range(index + 1)]


def run_parts(folder: Path, keys: list[str] = KEYS) -> list[int]:
    """Complete the parts and return which were missing."""
    store = PartStore(folder)
    missing = sorted(set(range(len(keys))) - store.known(keys))
    for index in missing:
        store.put(index, keys[index], part_lines(index))
    return missing


def test_parts_are_asked_once_and_read_in_order(tmp_path: Path) -> None:
    assert run_parts(tmp_path) == [0, 1, 2, 3, 4, 5]
    assert run_parts(tmp_path) == []
    assert list(PartStore(tmp_path).lines()) == [line for i in range(6) for line in part_lines(i)]


def test_a_part_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    run_parts(tmp_path)
    whole = list(PartStore(tmp_path).lines())
    PartStore(tmp_path).put(2, KEYS[2], [f"{line} of another process" for line in part_lines(2)])
    assert run_parts(tmp_path) == []
    assert [line.removesuffix(" of another process") for line in PartStore(tmp_path).lines()] == whole


@pytest.mark.parametrize("index", [0, 3, 5])
def test_a_damaged_part_is_asked_again(tmp_path: Path, index: int) -> None:
    run_parts(tmp_path)
    whole = tree(tmp_path)
    flip(next(tmp_path.glob(f"part-{index:06d}-*")))
    assert run_parts(tmp_path) == [index]
    assert tree(tmp_path) == whole


def test_parts_of_other_questions_are_asked_again_and_leave_nothing(tmp_path: Path) -> None:
    run_parts(tmp_path)
    whole = tree(tmp_path)
    other = [*KEYS[:2], content_hash("other"), KEYS[3]]
    assert run_parts(tmp_path, other) == [2]
    assert list(PartStore(tmp_path).lines()) == [line for i in range(4) for line in part_lines(i)]
    # The same content under another's index or name is not taken for it.
    stray = next(tmp_path.glob("part-000001-*"))
    shutil.copy(stray, tmp_path / stray.name.replace("part-000001", "part-000004"))
    (tmp_path / "part-draft.jsonl").write_text("notes\n")
    assert run_parts(tmp_path) == [2, 4, 5]
    assert tree(tmp_path) == whole


PARTS = """
    import sys, time
    from pathlib import Path
    from lingraft.store.artefacts import content_hash
    from lingraft.store.parts import PartStore

    def work(index):
        for i in range(300):
            if (index, i) == (int(sys.argv[2]), int(sys.argv[3])):
                print("stuck", flush=True)
                time.sleep(3600)
            yield f"{index} {i} " + "x" * i

    store, keys = PartStore(Path(sys.argv[1])), [content_hash(i) for i in range(5)]
    known = store.known(keys)
    for index in range(5):
        if index not in known:
            store.put(index, keys[index], work(index))
"""


@pytest.mark.parametrize(("part", "line"), [(0, 0), (2, 150), (4, 299)])
def test_a_killed_job_continues_to_the_same_bytes(tmp_path: Path, part: int, line: int) -> None:
    process = start(PARTS, tmp_path / "killed", part, line)
    heard(process, "stuck")
    killed(process)
    assert len(list((tmp_path / "killed").glob("part-*"))) == part
    assert start(PARTS, tmp_path / "killed", -1, 0).wait(HANGING) == 0
    assert start(PARTS, tmp_path / "undisturbed", -1, 0).wait(HANGING) == 0
    assert tree(tmp_path / "killed") == tree(tmp_path / "undisturbed")
    assert len(tree(tmp_path / "killed")) == 5


def test_a_part_that_was_being_written_when_killed_leaves_no_rubbish(tmp_path: Path) -> None:
    run_parts(tmp_path)
    whole = tree(tmp_path)
    victim = next(tmp_path.glob("part-000003-*"))
    victim.rename(tmp_path / f".{victim.name}.12345.tmp")
    assert run_parts(tmp_path) == [3]
    assert tree(tmp_path) == whole
    assert {file_hash(path)[:12] for path in tmp_path.iterdir()} == {path.stem[-12:] for path in tmp_path.iterdir()}
