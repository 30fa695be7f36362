"""Checkpoints and the loss log on disk, such that a run killed at any moment continues as if nothing had happened.

The transformers Trainer writes a checkpoint file by file. One counts only when its marker is there, which is written
last, after everything else has reached the disk; the rest is removed at the next start.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.data.records import Record
from lingraft.errors import StoreError
from lingraft.store import read_lines, write_json, write_lines

MARKER = "complete.json"


@dataclass(frozen=True)
class TrainPoint(Record):
    """One optimiser step.

    Attributes:
        step: number of the step, from 1.
        loss: mean per unit of span weight. by_role: the same over the tokens of each role.
        tokens: real tokens up to and with this step.
        seconds: training time up to and with this step; time lost to an interruption is not in it.
    """

    step: int
    loss: float
    tokens: int
    by_role: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def _step(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _folders(root: Path) -> list[Path]:
    return sorted((path for path in root.glob("checkpoint-*") if path.name[11:].isdigit()), key=_step)


def _remove(folder: Path) -> None:
    (folder / MARKER).unlink(missing_ok=True)  # first, so that a half removed checkpoint does not count
    shutil.rmtree(folder)


def mark_complete(folder: Path, fingerprint: str) -> None:
    """Flush a checkpoint's files to the disk, mark it as complete, and remove the checkpoints before it."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())
    write_json(folder / MARKER, {"fingerprint": fingerprint, "step": _step(folder)})
    for other in _folders(folder.parent):
        if _step(other) < _step(folder):
            _remove(other)


def newest_complete(root: Path, fingerprint: str) -> Path | None:
    """Return the newest complete checkpoint, if any, after removing what an interrupted run left unfinished.

    Raises:
        StoreError: a complete checkpoint belongs to other rows or settings.
    """
    found = None
    for folder in _folders(root):
        if not (folder / MARKER).exists():
            _remove(folder)
            continue
        if json.loads((folder / MARKER).read_text("utf-8"))["fingerprint"] != fingerprint:
            raise StoreError(
                f"{folder} was made with other rows, settings or seed; remove {root.parent} or give another folder"
            )
        found = folder
    return found


class LossLog:
    """An append-only JSON Lines file of `TrainPoint`, cut back to the step from which the run continues.

    Args:
        path: of the file.
        step: last step that counts; what an interrupted run logged after it is dropped.
        writes: False on all but the first device: points are kept in memory only.

    Raises:
        StoreError: points up to `step` are missing.
    """

    def __init__(self, path: Path, step: int, *, writes: bool = True) -> None:
        self.points: list[TrainPoint] = []
        lines = read_lines(path) if path.exists() else iter(())
        for line, expected in zip(lines, range(1, step + 1), strict=False):
            point = TrainPoint.from_json(line)
            if point.step != expected:
                break
            self.points.append(point)
        if len(self.points) != step:
            raise StoreError(
                f"{path} lacks step {len(self.points) + 1} of the {step} in the checkpoint; "
                f"remove {path.parent} to train from the start"
            )
        self._path, self._writes = path, writes
        if writes:
            write_lines(path, (point.to_json() for point in self.points))

    def append(self, point: TrainPoint) -> None:
        """Add a point; it is in the file when this returns."""
        self.points.append(point)
        if not self._writes:
            return
        with self._path.open("a", encoding="utf-8", newline="\n") as handle:
            handle.write(point.to_json() + "\n")

    def sync(self) -> None:
        """Flush the file to the disk."""
        with self._path.open("rb+") as handle:
            os.fsync(handle.fileno())
