"""A run, read from its folder alone: nothing is locked or written there, and nothing but files is asked."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lingraft.core.errors import LingraftError, StoreError
from lingraft.core.figures import duration, interval, number
from lingraft.evaluation.published import RUN
from lingraft.evaluation.scorecard import Scorecard
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.store.artefacts import LOCK
from lingraft.store.files import read_sealed
from lingraft.store.holders import lock_holder
from lingraft.store.progress_file import FILE, ProgressFile, read_progress
from lingraft.watching.files import Notes, opened
from lingraft.watching.pieces import Status, WatchedPart
from lingraft.watching.states import WatchedRun
from lingraft.watching.texts import filtered_rows, last_chain, last_written, shown_example
from lingraft.watching.times import detail_of, total_left, watched_parts
from lingraft.watching.trainings import trainings_of

SILENT_SECONDS = 60.0
"""Without a new note from another machine, from which its process may have ended."""


def watch_run(folder: Path) -> WatchedRun:
    """Return how far the run in a folder has come. Files that cannot be read, or are damaged, are said in its notes.

    Raises:
        StoreError: the folder cannot be read.
    """
    refuse_unreadable(folder)
    notes = Notes()
    progress = noted(folder, notes)
    record = _record(folder, notes)
    status, said = standing(folder, progress, finished=record is not None)
    stages = _stages(folder, progress, record)
    parts = _parts(progress, record, status, notes)
    running = status in ("running", "unknown")
    if progress is not None and progress.unknown:
        notes.add(f"No estimates: {progress.unknown}")
    return WatchedRun(
        folder=folder,
        name=_name(folder, notes),
        status=status,
        said=said,
        parts=tuple(parts),
        seconds=_seconds(progress, record, status),
        left=total_left(parts) if running and parts else None,
        trainings=tuple(trainings_of(folder, stages, progress if running else None, notes)),
        rationale=last_written(folder, stages, notes),
        chain=last_chain(folder, stages, notes),
        example=shown_example(progress),
        filtered=tuple(filtered_rows(folder, stages, notes)),
        notes=tuple(notes.sentences),
        results=tuple(results_of(folder, notes)) if status == "finished" else (),
    )


def refuse_unreadable(folder: Path) -> None:
    """Refuse a folder that cannot be looked into. One that is not there is none: its run has yet to begin.

    Raises:
        StoreError: it cannot.
    """
    try:
        next(folder.iterdir(), None)
        if folder.is_dir() and not os.access(folder, os.X_OK):  # its files cannot be opened, though they are listed
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise StoreError(f"{folder} is a file; give the folder of a run, or of a bench") from None
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be read: {error.strerror or error}; ask its owner for leave to read it"
        ) from error


def noted(folder: Path, notes: Notes) -> ProgressFile | None:
    """Return what the run notes of itself; None where there is nothing that can be read."""
    with notes.reading(folder / FILE):
        return read_progress(folder)
    return None


def standing(folder: Path, progress: ProgressFile | None, *, finished: bool, what: str = "run") -> tuple[Status, str]:
    """Return whether a process works in a folder, and a sentence about it.

    Args:
        folder: of the run, or of the bench.
        progress: its note.
        finished: whether results are there.
        what: the folder holds.
    """
    pid = lock_holder(folder)
    if progress is None:
        if pid is not None:
            return "running", f"Process {pid} works here, and has noted nothing yet"
        if finished:
            return "finished", f"The {what} is finished"
        if (folder / LOCK).exists():
            return "stopped", "No process is running, and the last one has noted nothing; the same command continues"
        return "not started", f"No {what} has begun here"
    since = moment(progress.now)
    if progress.ended:
        return "failed", f"The process ended at {since}: {progress.ended}"
    if pid is not None or progress.holder.works:
        return "running", f"Process {pid or progress.holder.pid} works since {moment(progress.began)}"
    if progress.holder.works is None:
        host, silent = progress.holder.host, time.time() - progress.now
        where = f"Process {progress.holder.pid} on {host} (another machine or container) noted this at {since}"
        if silent < SILENT_SECONDS:
            return "unknown", where
        return "unknown", f"{where}, and nothing for {duration(silent)}; it may have ended"
    return "stopped", f"No process is running since {since}: it was killed; the same command continues"


def moment(seconds: float) -> str:
    """Return a time as people say it, with the date where it is another day."""
    try:
        then = datetime.fromtimestamp(seconds)
    except (ValueError, OverflowError, OSError):
        return "an unknown time"
    return f"{then:%H:%M:%S}" if then.date() == datetime.now().date() else f"{then:%Y-%m-%d %H:%M:%S}"


def _record(folder: Path, notes: Notes) -> dict[str, Any] | None:
    record = read_sealed(folder / RUN) if (folder / RUN).is_file() else None
    if record is None and (folder / RUN).exists():
        notes.add(f"{folder / RUN} is damaged; what it says is left out")
    stages = (record or {}).get("stages")
    if record is not None and not (isinstance(stages, list) and all(isinstance(one, dict) for one in stages)):
        notes.add(f"{folder / RUN} is of another version; what it says is left out")
        return None
    return record


def _name(folder: Path, notes: Notes) -> str:
    """Return the name of the recipe, without reading all of it: it may be of another version."""
    path = folder / "recipe.yaml"
    with notes.reading(path), opened(path) as handle:
        for line in handle.read(1 << 16).decode("utf-8").splitlines():
            if line.startswith("name:"):
                return line.removeprefix("name:").strip().strip("'\"") or folder.name
    return folder.resolve().name


def _stages(folder: Path, progress: ProgressFile | None, record: dict[str, Any] | None) -> list[str]:
    """Return the names of the run's artefacts, in order; others may lie in its folder."""
    if progress is not None and progress.stages:
        return [one.folder for one in progress.stages if _plain(one.folder)]
    if record is not None:
        return [str(one.get("stage")) for one in record["stages"] if _plain(str(one.get("stage")))]
    found = [path for path in folder.glob("*-*") if path.is_dir()] if folder.exists() else []
    return sorted({path.name.removesuffix(".partial") for path in found})


def _plain(name: str) -> bool:
    """Whether a name is of a folder within another: a note of strangers may name any file."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _parts(
    progress: ProgressFile | None, record: dict[str, Any] | None, status: Status, notes: Notes
) -> Sequence[WatchedPart]:
    if progress is not None:
        now = time.time() if status == "running" else progress.now
        number_ = progress.part if status in ("running", "unknown") else 0
        if progress.parts:
            parts = watched_parts(progress.parts, progress.stages, progress.task, progress.part, now)
            return parts if number_ else [halted(part) for part in parts]
        return _stages_as_parts(progress, running=bool(number_) or status == "running")
    if record is None or status != "finished":
        return ()
    found = []
    for one in record["stages"]:
        seconds = one.get("seconds")
        title = str(one.get("stage", "")).rpartition("-")[0]
        known = float(seconds) if isinstance(seconds, int | float) else None
        found.append(WatchedPart(title=title, state="done", seconds=known, share=1.0))
    return found


def halted(part: WatchedPart) -> WatchedPart:
    """Return a part of a run in which no process works."""
    if part.state != "running":
        return part
    return WatchedPart(title=part.title, state="to come", seconds=part.seconds, left=part.left, detail="begun")


def _stages_as_parts(progress: ProgressFile, *, running: bool) -> list[WatchedPart]:
    """Return the artefacts of a run without a plan, such as one that tries a value for a row of a bench."""
    found = []
    for one in progress.stages:
        title = one.folder.rpartition("-")[0]
        if one.done:
            found.append(WatchedPart(title=title, state="done", seconds=one.seconds, share=1.0))
        else:
            detail = detail_of((), progress.task, 0) if running else "begun"
            found.append(WatchedPart(title=title, state="running" if running else "to come", detail=detail))
    return found


def _seconds(progress: ProgressFile | None, record: dict[str, Any] | None, status: Status) -> float | None:
    if progress is not None:
        return max(0.0, (time.time() if status == "running" else progress.now) - progress.began)
    if record is None:
        return None
    taken = [one["seconds"] for one in record["stages"] if isinstance(one.get("seconds"), int | float)]
    return float(sum(taken))


def results_of(folder: Path, notes: Notes) -> list[str]:
    """Return what came out: gain and what is kept of each system, and where the report is."""
    lines: list[str] = []
    with notes.reading(folder / "scorecard.json"), opened(folder / "scorecard.json"):
        try:
            scorecard = Scorecard.read(folder / "scorecard.json")
        except LingraftError as error:
            notes.add(str(error))
            return lines
        for row in scorecard.summary:
            if row.gain is None:
                continue
            facts = gain_facts(row.gain.metric, scorecard.translation)
            places = 1 if facts.decimals is None else facts.decimals
            gain = f"{number(row.gain.value, places, signed=True)} {facts.title} {interval(row.gain.ci95, places)}"
            kept = "" if row.retention_mean is None else f", {number(row.retention_mean, 0)} % kept"
            lines.append(f"{row.system}: {gain}{kept}")
    if (folder / "report.html").exists():
        lines.append(f"Report: {folder / 'report.html'}")
    return lines
