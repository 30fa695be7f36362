"""Finished work survives a power cut: each moment of the work, and each state of the disk that it allows."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lingraft.core.errors import StoreError
from lingraft.store.artefacts import SCRATCH, build_artefact, facts, is_built, listing, verify
from lingraft.store.durability import remove_tree, sync_folder
from lingraft.store.files import read_lines, write_atomic, write_lines, write_sealed
from lingraft.store.parts import PartStore
from lingraft.training.checkpoints import LossLog, TrainPoint, mark_complete, newest_complete
from power import STATES, Moment, recorded, restore
from processes import tree

STEPS = 6


def train(folder: Path, began: list[int], finished: Callable[[int], object] = lambda step: None) -> dict[str, Any]:
    """Write what training writes, as it writes it: checkpoints by libraries that sync nothing, a loss log, weights.

    Args:
        began: gets the step that it goes on from. finished: is told the step of each checkpoint that counts.
    """
    work = folder / SCRATCH
    newest = newest_complete(work / "checkpoints", "same", work / "losses.jsonl")
    done = int(newest.name.rpartition("-")[2]) if newest else 0
    began.append(done)
    state = torch.zeros(3) if newest is None else torch.load(newest / "state.pt")
    log = LossLog(work / "losses.jsonl", done)
    for step in range(done + 1, STEPS + 1):
        state += step
        log.append(TrainPoint(step=step, loss=float(state[0]), tokens=step))
        if step % 2 == 0:
            place = work / "checkpoints" / f"checkpoint-{step}"
            (place / "deep").mkdir(parents=True, exist_ok=True)
            torch.save(state, place / "state.pt")
            (place / "deep" / "scheduler.txt").write_text(str(step))
            log.sync()
            mark_complete(place, "same", log.path)
            finished(step)
    (folder / "graft").mkdir(exist_ok=True)
    save_file({"x": state}, folder / "graft" / "adapter_model.safetensors")
    (folder / "graft" / "adapter_config.json").write_text("{}")
    (folder / "example.txt").write_text("example")
    write_atomic(folder / "losses.jsonl", "\n".join(read_lines(log.path)))
    return {"steps": STEPS}


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Moment], list[int], dict[str, bytes]]:
    """The moments of a training, the step that had been finished at each of them, and what it ends with."""
    root = tmp_path_factory.mktemp("training") / "run"
    root.mkdir()
    since: dict[int, int] = {}
    with recorded(root) as moments:
        made = build_artefact(
            root, "train", 1, lambda folder: train(folder, [], lambda step: since.update({step: len(moments)}))
        )
    assert SCRATCH not in {path.name for path in made.iterdir()}
    done = [max((step for step, first in since.items() if at >= first), default=0) for at in range(len(moments))]
    return moments, done, tree(made)


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 3])
def test_training_goes_on_from_its_last_checkpoint_whenever_the_current_fails(
    training: tuple[list[Moment], list[int], dict[str, bytes]], tmp_path: Path, every: int
) -> None:
    moments, finished, expected = training
    assert sum(call.call.startswith("fsync") for call in moments) > 30
    whole = False
    for at, (moment, done) in enumerate(zip(moments, finished, strict=True)):
        if at % every and moment.call != "end":
            continue
        for state in STATES:
            root, began = tmp_path / f"{at}-{state}", list[int]()
            restore(moment, state, root)
            if moment.call == "end":
                assert is_built(next(root.glob("train-*")))
            made = build_artefact(root, "train", 1, lambda folder, began=began: train(folder, began))  # type: ignore[misc]
            assert tree(made).keys() == expected.keys(), (moment.call, state)
            differing = {name for name, data in tree(made).items() if data != expected[name]}
            assert not differing, (moment.call, state, differing)
            assert facts(made) == {"steps": STEPS}
            assert not began or began[0] >= done, (moment.call, state, began, done)
            whole = whole or not began
            assert not (whole and began and began[0] == 0), (moment.call, state)  # never back to the start
    assert whole


def test_parts_that_were_reported_are_there(tmp_path: Path) -> None:
    root = tmp_path / "run"
    root.mkdir()
    keys, reported = ["a" * 12, "b" * 12, "c" * 12], []
    with recorded(root) as moments:
        store = PartStore(root / "ask" / "parts")
        store.known(keys)
        for index, key in enumerate(keys):
            store.put(index, key, [json.dumps({"n": index})])
            reported.append((len(moments), index))
    for at, moment in enumerate(moments):
        for state in STATES:
            place = tmp_path / f"{at}-{state}"
            restore(moment, state, place)
            known = PartStore(place / "ask" / "parts").known(keys)
            assert known >= {index for since, index in reported if at >= since}, (moment.call, state)
            for index in known:
                (path,) = (place / "ask" / "parts").glob(f"part-{index:06d}-*")
                assert path.read_text() == json.dumps({"n": index}) + "\n"


def test_without_the_syncs_a_finished_artefact_would_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness sees what it is for: the order of writes of versions that synced the manifest alone."""
    monkeypatch.setattr("lingraft.store.artefacts.sync_tree", lambda folder, without="": None)
    root = tmp_path / "run"
    root.mkdir()
    with recorded(root) as moments:
        build_artefact(root, "train", 1, lambda folder: train(folder, []))
    restore(moments[-1], "named", tmp_path / "cut")
    assert not verify(next((tmp_path / "cut").glob("train-*")))


def test_a_folder_whose_file_system_cannot_sync_it_counts_as_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(number: int) -> Callable[[int], None]:
        def fsync(handle: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    for number in (errno.EINVAL, errno.ENOTSUP):
        monkeypatch.setattr(os, "fsync", failing(number))
        sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))  # the disk failed: that is never passed over
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)


def test_messages_name_the_file_and_not_the_temporary_one(tmp_path: Path) -> None:
    (tmp_path / "README.md").mkdir()
    (tmp_path / "README.md" / "x").write_text("x")
    for write in (lambda path: write_atomic(path, "x"), lambda path: write_lines(path, ["x"])):
        with pytest.raises(StoreError) as caught:
            write(tmp_path / "README.md")
        assert str(caught.value).startswith(f"cannot write to {tmp_path / 'README.md'}: there is a folder where")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_build_that_only_lacks_its_name_gets_it(tmp_path: Path) -> None:
    made = build_artefact(tmp_path, "data", 1, lambda folder: train(folder, []))
    before = listing(made)
    partial = made.rename(made.with_name(made.name + ".partial"))
    (partial / SCRATCH / "deep").mkdir(parents=True)
    (partial / SCRATCH / "deep" / "x").write_text("left")
    assert is_built(made)

    def never(folder: Path) -> dict[str, Any]:
        raise AssertionError("it is built")

    assert build_artefact(tmp_path, "data", 1, never) == made
    assert listing(made) == before
    assert [path.name for path in tmp_path.iterdir()] == [made.name]


def test_a_folder_that_its_owner_may_not_read_is_removed(tmp_path: Path) -> None:
    deep = tmp_path / "old" / "deep"
    deep.mkdir(parents=True)
    (deep / "x").write_text("x")
    deep.chmod(0)
    (tmp_path / "old").chmod(0)
    assert remove_tree(tmp_path / "old") == ""
    assert not (tmp_path / "old").exists()
    assert remove_tree(tmp_path / "none") == ""
    write_sealed(tmp_path / "file.json", {})
    assert remove_tree(tmp_path / "file.json") == "Not a directory"
