"""Checkpoints and the loss log on disk, such that a run killed at any moment continues as if nothing had happened.

The transformers Trainer writes a checkpoint file by file. One counts only when its marker is there, which is written
last, after everything else has reached the disk, and when every file and the losses up to its step have the hashes that
the marker names; the rest is removed at the next start.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from lingraft.core.errors import StoreError
from lingraft.core.record import Record
from lingraft.store.artefacts import listing
from lingraft.store.durability import sync_file, sync_folder, sync_tree
from lingraft.store.files import read_lines, read_sealed, write_lines, write_sealed

MARKER = "complete.json"


@dataclass(frozen=True, kw_only=True)
class TrainPoint(Record):
    """One optimiser step.

    Attributes:
        step: number of the step, from 1.
        loss: mean per unit of span weight.
        by_role: the same over the tokens of each role.
        objectives: what each objective says: the mean factor or term of the tokens it applies to, or the penalty.
        tokens: real tokens up to and with this step.
        seconds: training time up to and with this step; time lost to an interruption is not in it.
        learning_rate: of the step.
        gradient_norm: of all that learns, before it was clipped.
    """

    step: int
    loss: float
    tokens: int
    by_role: Mapping[str, float] = field(default_factory=dict)
    objectives: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    learning_rate: float = 0.0
    gradient_norm: float = 0.0


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _folders(root: Path) -> list[Path]:
    return sorted((path for path in root.glob("checkpoint-*") if path.name[11:].isdigit()), key=_step)


def _remove(folder: Path) -> None:
    (folder / MARKER).unlink(missing_ok=True)  # first, so that a half removed checkpoint does not count
    shutil.rmtree(folder)


def _log_hash(log: Path, steps: int) -> str:
    """Return the hash of the first lines of the loss log, one a step; of none if there is no log."""
    digest = hashlib.sha256()
    if log.exists():
        with log.open("rb") as handle:
            for line in islice(handle, steps):
                digest.update(line)
    return digest.hexdigest()


def mark_complete(folder: Path, fingerprint: str, log: Path, beside: Mapping[str, Any] | None = None) -> None:
    """Flush a checkpoint to the disk, mark it as complete, and remove the checkpoints before it.

    These go only when the mark is on the disk, and the way to it.

    Args:
        folder: of the checkpoint.
        fingerprint: of the run.
        log: the run's loss log, which holds the points up to the checkpoint's step.
        beside: state of the development set, see `DevLog.state`.
    """
    (folder / MARKER).unlink(missing_ok=True)
    sync_tree(folder)
    step = _step(folder)
    marker: dict[str, Any] = {
        "fingerprint": fingerprint,
        "step": step,
        "files": listing(folder),
        "losses": _log_hash(log, step),
    }
    if beside is not None:
        marker["development"] = beside
    write_sealed(folder / MARKER, marker)
    for place in (folder.parent, log.parent):
        sync_folder(place)
    for other in _folders(folder.parent):
        if _step(other) < step:
            _remove(other)


def newest_complete(
    root: Path, fingerprint: str, log: Path, beside: Callable[[int], Mapping[str, Any] | None] = lambda step: None
) -> Path | None:
    """Return the newest complete checkpoint, if any, after removing unfinished and damaged ones.

    Args:
        root: folder of the checkpoints.
        fingerprint: of rows, settings and seed of this run.
        log: file of the losses, which must be what it was when the checkpoint was written, up to its step.
        beside: gives the state of the development set up to a step, which must be what it was as well.

    Raises:
        StoreError: a complete checkpoint belongs to other rows or settings.
    """
    found = None
    for folder in _folders(root):
        marker = read_sealed(folder / MARKER)
        files = listing(folder)
        files.pop(MARKER, None)
        whole = marker is not None and marker["files"] == files and marker["losses"] == _log_hash(log, _step(folder))
        if marker is None or not whole or marker.get("development") != _plain(beside(_step(folder))):
            _remove(folder)
            continue
        if marker["fingerprint"] != fingerprint:
            raise StoreError(
                f"{folder} was made with other rows, settings or seed; remove {root.parent} or give another folder"
            )
        found = folder
    return found


def _plain(values: Mapping[str, Any] | None) -> Any:
    return json.loads(json.dumps(values))  # as a marker holds it


class LossLog:
    """An append-only JSON Lines file of `TrainPoint`, cut back to the step from which the run continues.

    Args:
        path: of the file.
        step: last step that counts; what an interrupted run logged after it is dropped.
        writes: False on all but the first device: points are kept in memory only.
    """

    def __init__(self, path: Path, step: int, *, writes: bool = True) -> None:
        lines = islice(read_lines(path), step) if step else ()
        self.points = [TrainPoint.from_json(line) for line in lines]
        self.path, self._writes = path, writes
        if writes:
            write_lines(path, (point.to_json() for point in self.points))

    def append(self, point: TrainPoint) -> None:
        """Add a point; it is in the file when this returns."""
        self.points.append(point)
        if not self._writes:
            return
        with self.path.open("a", encoding="utf-8", newline="\n") as handle:
            handle.write(point.to_json() + "\n")

    def sync(self) -> None:
        """Flush the file to the disk."""
        sync_file(self.path)
