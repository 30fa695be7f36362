"""The trainings of a run: loss logs, and what the development set says, while they grow and when they are whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lingraft.store.artefacts import MANIFEST, SCRATCH
from lingraft.store.progress_file import ProgressFile
from lingraft.training.checkpoints import TrainPoint
from lingraft.training.development import DevPoint
from lingraft.watching.files import Notes, places, read_object, records
from lingraft.watching.pieces import WatchedTraining

_LOSSES, _DEV = "losses.jsonl", "dev.jsonl"
_KINDS = {"train-": "", "masks-": ", first pass"}
"""Beginnings of names of artefacts in which something is trained, and what is said of it."""


def trainings_of(
    root: Path, stages: Sequence[str], progress: ProgressFile | None, notes: Notes
) -> list[WatchedTraining]:
    """Return the trainings that have begun, in order.

    Args:
        root: folder of the run.
        stages: names of its artefacts, in order.
        progress: what the process that works notes; None: none does.
        notes: gets what cannot be read.
    """
    found = []
    for stage in stages:
        kind = next((kind for kind in _KINDS if stage.startswith(kind)), None)
        if kind is None:
            continue
        points = _log(root, stage, _LOSSES, TrainPoint, notes)
        if not points:
            continue
        done = (root / stage).is_dir()
        found.append(
            WatchedTraining(
                name=stage.rpartition("-")[0].removeprefix(kind) + _KINDS[kind],
                points=tuple(points),
                dev=tuple(_log(root, stage, _DEV, DevPoint, notes)),
                steps=points[-1].step if done else _steps(progress, stage),
                running=not done and progress is not None,
                kept=_kept(root / stage, notes) if done else None,
            )
        )
    return found


def _log(root: Path, stage: str, name: str, kind: type, notes: Notes) -> list:
    for path in places(root, stage, name, f"{SCRATCH}/{name}"):
        with notes.reading(path):
            return records(path, kind, notes)
    return []


def _steps(progress: ProgressFile | None, stage: str) -> int | None:
    task = progress.task if progress else None
    return task.total if task and task.total > 1 and task.title == stage.rpartition("-")[0] else None


def _kept(folder: Path, notes: Notes) -> int | None:
    with notes.reading(folder / MANIFEST):
        kept = read_object(folder / MANIFEST)["facts"].get("kept_step")
        return kept if isinstance(kept, int) else None
    return None
