"""A bench, read from its folder alone, and the run of the row that goes on."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from lingraft.core.errors import LingraftError
from lingraft.evaluation.published import RUN
from lingraft.recipe.bench import ROWS
from lingraft.recipe.bench_choice import CHOICE
from lingraft.reporting.bench_contents import BENCH, BENCH_FILE, DONE, NOT_RUN, REPORT
from lingraft.store.progress_file import FILE, ProgressFile
from lingraft.watching.files import Notes, read_object
from lingraft.watching.pieces import WatchedPart
from lingraft.watching.run_folder import halted, noted, refuse_unreadable, results_of, standing, watch_run
from lingraft.watching.states import WatchedBench, WatchedRun
from lingraft.watching.times import total_left, watched_parts


def holds_bench(folder: Path) -> bool:
    """Whether a folder is that of a bench."""
    return any((folder / name).exists() for name in (BENCH_FILE, BENCH))


def watch_bench(folder: Path) -> WatchedBench:
    """Return how far the bench in a folder has come.

    Raises:
        StoreError: the folder cannot be read.
    """
    refuse_unreadable(folder)
    notes = Notes()
    progress = noted(folder, notes)
    table = _table(folder, notes)
    finished = bool(table) and all(status in (DONE, NOT_RUN) for status in table.values())
    status, said = standing(folder, progress, finished=finished, what="bench")
    running = status in ("running", "unknown")
    run = _current(folder, progress, notes) if running or status in ("failed", "stopped") else None
    rows = _rows(folder, progress, table, run, running=running)
    now = time.time() if status == "running" else progress.now if progress else 0.0
    if progress is not None and progress.unknown:
        notes.add(f"No estimates: {progress.unknown}")
    return WatchedBench(
        folder=folder,
        name=folder.resolve().name,
        status=status,
        said=said,
        rows=tuple(rows),
        seconds=max(0.0, now - progress.began) if progress else None,
        left=total_left(rows) if running and rows else None,
        run=run,
        results=(f"Report: {folder / REPORT}",) if (folder / REPORT).exists() else (),
        notes=tuple(notes.sentences),
    )


def _table(folder: Path, notes: Notes) -> dict[str, str]:
    """Return the rows of the table with what has become of them; nothing where there is no table yet."""
    with notes.reading(folder / BENCH):
        return {str(row["name"]): str(row["status"]) for row in read_object(folder / BENCH)["rows"]}
    return {}


def _current(folder: Path, progress: ProgressFile | None, notes: Notes) -> WatchedRun | None:
    """Return the run of the row that goes on, or of one of the values that are tried for it."""
    if progress is None or not progress.stages:
        return None
    begun = [one.folder for one in progress.stages if not one.done] or [progress.stages[-1].folder]
    newest = begun[-1]
    parts = newest.split("/")
    if newest.startswith("/") or ".." in parts or "\0" in newest:
        return None  # a note of strangers may name any folder
    own = folder / newest
    tried = [path.parent for path in (folder / CHOICE / parts[-1]).glob(f"*/{FILE}")] if parts[0] == ROWS else []
    for one in (*([own] if (own / FILE).exists() else []), *sorted(tried), own):
        try:
            run = watch_run(one)
        except LingraftError as error:
            notes.add(str(error))
            continue
        return run if one == own else replace(run, name=f"{run.name}, trying {one.name}")
    return None


def _rows(
    folder: Path, progress: ProgressFile | None, table: dict[str, str], run: WatchedRun | None, *, running: bool
) -> list[WatchedPart]:
    if progress is None or not progress.parts:
        found = []
        for name, status in table.items():
            detail = _result(folder / ROWS / name) if status == DONE else status if status == NOT_RUN else ""
            found.append(WatchedPart(title=name, state="done" if status == DONE else "to come", detail=detail))
        return found
    now = time.time() if running else progress.now
    parts = watched_parts(progress.parts, (), None, 0, now)
    at_work = max((note.began or 0.0 for note in progress.parts if note.seconds is None), default=0.0)
    rows = []
    for note, part in zip(progress.parts, parts, strict=True):
        if part.state == "done":
            part = replace(part, detail=_result(folder / ROWS / note.of))
        elif part.state == "running":
            own = run if note.began == at_work else None  # of several, the run that is shown is that of the newest
            part = _with(part, own) if running else halted(part)
        rows.append(part)
    return rows


def _with(row: WatchedPart, run: WatchedRun | None) -> WatchedPart:
    """Return a row with what its own run knows of it."""
    if run is None:
        return row
    left = row.left if run.left is None else run.left if row.left is None else max(row.left, run.left)
    current = next((part.title for part in run.parts if part.state == "running"), "")
    return replace(row, left=left, detail=current)


def _result(folder: Path) -> str:
    """Return what came out of a finished row, in a line; "" where that cannot be read, which its own run says."""
    try:
        seen = (folder / RUN).stat()
    except OSError:
        return ""
    return _known_result(folder, seen.st_mtime_ns, seen.st_size)


@lru_cache(maxsize=512)
def _known_result(folder: Path, changed: int, size: int) -> str:
    return "; ".join(line for line in results_of(folder, Notes()) if not line.startswith("Report:"))
