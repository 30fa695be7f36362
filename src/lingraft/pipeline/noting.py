"""What a run notes of itself in its folder while it goes on: at once what it has to say, and how far it is every two
seconds, from a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lingraft.core.errors import LingraftError
from lingraft.core.progress import Reporter
from lingraft.store.disk import explain_os_errors
from lingraft.store.holders import Holder
from lingraft.store.progress_file import FILE, PartNote, ProgressFile, StageNote, TaskNote, remove_progress

BEAT_SECONDS = 2.0
"""Between two notes: each is a small file, written beside and renamed."""
LONGEST_EXAMPLE = 6000


class Noting:
    """The notes of one process on one folder; see `noted`.

    Args:
        folder: whose lock is held.
        reporter: whose tasks are noted.
    """

    def __init__(self, folder: Path, reporter: Reporter) -> None:
        self._folder, self._reporter = folder, reporter
        now = time.time()
        self._note = ProgressFile(holder=Holder.own(), began=now, now=now)
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._written, self._refused = threading.Lock(), False

    def plan(self, parts: Sequence[PartNote], unknown: str = "") -> None:
        """Note the parts; those that have begun or ended keep what was noted of them.

        Args:
            parts: all of the run, with estimates as far as there are.
            unknown: why there are none.
        """
        with self._lock:
            known = self._note.parts
            if known:
                parts = [replace(part, estimate=new.estimate) for part, new in zip(known, parts, strict=True)]
            self._note = replace(self._note, parts=tuple(parts), unknown=unknown)
        self.write()

    def reckon(self, estimates: Callable[[Sequence[PartNote]], Sequence[PartNote]]) -> None:
        """Note how long the parts take, where there is a plan.

        Args:
            estimates: returns the parts with it, or raises a LingraftError that says why that cannot be told.
        """
        if parts := self._note.parts:
            try:
                self.plan(estimates(parts))
            except LingraftError as error:
                self.plan(parts, unknown=str(error))

    def begin(self, part: int) -> None:
        """Note that a part begins, from 1, and that the one before it has ended."""
        with self._lock:
            parts = self._ended(self._note)
            if 0 < part <= len(parts):
                self._began = time.monotonic()
                parts[part - 1] = replace(parts[part - 1], began=time.time(), seconds=None)
            self._note = replace(self._note, parts=tuple(parts), part=part)
        self.write()

    def row_begins(self, part: PartNote, folder: str) -> None:
        """Note that a row of a bench begins, others perhaps beside it; one that fails is never noted as ended.

        Args:
            part: the row, which may not have been planned.
            folder: of its run, within that of the bench.
        """
        self._set_row(replace(part, began=time.time(), seconds=None), StageNote(folder=folder, part=0))

    def row_ends(self, part: PartNote, folder: str) -> None:
        """Note that a row has been run; arguments as of `row_begins`."""
        began = next((one.began for one in self._note.parts if one.of == part.of), None)
        seconds = None if began is None else round(max(0.0, time.time() - began), 2)
        self._set_row(replace(part, seconds=seconds), StageNote(folder=folder, part=0, seconds=seconds, done=True))

    def _set_row(self, row: PartNote, stage: StageNote) -> None:
        with self._lock:
            parts, stages = list(self._note.parts), [one for one in self._note.stages if one.folder != stage.folder]
            place = next((number for number, one in enumerate(parts) if one.of == row.of), None)
            if place is None:
                parts.append(row)
            else:
                known = parts[place]
                parts[place] = replace(known, began=row.began or known.began, seconds=row.seconds)
            self._note = replace(self._note, parts=tuple(parts), stages=(*stages, stage))
        self.write()

    def stage(self, folder: str, seconds: float | None, *, done: bool) -> None:
        """Note an artefact: that it is being built, or is there.

        Args:
            folder: its name.
            seconds: that it took.
            done: whether it is there.
        """
        with self._lock:
            others = tuple(one for one in self._note.stages if one.folder != folder)
            new = StageNote(folder=folder, part=self._note.part, seconds=seconds, done=done)
            self._note = replace(self._note, stages=(*others, new))
        self.write()

    def example(self, text: str, system: str) -> None:
        """Note a training example of a system."""
        with self._lock:
            self._note = replace(self._note, example=text[:LONGEST_EXAMPLE], example_of=system)
        self.write()

    def end(self, why: str) -> None:
        """Note what ended the process before the run was finished."""
        with self._lock:
            self._note = replace(self._note, ended=why)
        self.write()

    def write(self) -> None:
        """Write all that was noted; what cannot be written is said once, and the run goes on."""
        with self._written:
            if self._refused:
                return
            with self._lock:
                note = replace(self._note, now=time.time(), task=_task(self._reporter))
            try:
                with explain_os_errors(self._folder / FILE):
                    note.write(self._folder)
            except LingraftError as error:
                self._refused = True
                self._reporter.say(f"Warning: {error}; `lingraft watch` sees less of this run", always=True)

    def _ended(self, note: ProgressFile) -> list[PartNote]:
        parts = list(note.parts)
        if 0 < note.part <= len(parts) and parts[note.part - 1].seconds is None:
            number = note.part - 1
            reused = all(one.done and one.seconds is None for one in note.stages if one.part == note.part)
            seconds = round(time.monotonic() - self._began, 2)
            parts[number] = replace(parts[number], seconds=seconds, reused=reused)
        return parts


def _task(reporter: Reporter) -> TaskNote | None:
    """Return the innermost work of known length, with what goes on within it; where none is, the innermost."""
    tasks = reporter.under_way
    if not tasks:
        return None
    counted = next((task for task in reversed(tasks) if task.progress[1]), tasks[-1])
    done, total, detail = counted.progress
    within = "" if counted is tasks[-1] else tasks[-1].title
    seconds = round(counted.elapsed, 2)
    return TaskNote(title=counted.title, done=done, total=total, detail=within or detail, seconds=seconds)


@contextmanager
def noted(folder: Path, reporter: Reporter) -> Iterator[Noting]:
    """Note the progress of a block that works in a folder; nothing is left when it ends well.

    Args:
        folder: whose lock is held.
        reporter: whose tasks are noted.
    """
    noting, over = Noting(folder, reporter), threading.Event()
    noting.write()

    def beat() -> None:
        while not over.wait(BEAT_SECONDS):
            noting.write()

    thread = threading.Thread(target=beat, name="noting", daemon=True)
    thread.start()
    try:
        yield noting
    except BaseException as error:
        over.set()
        thread.join()
        noting.end(str(error) if isinstance(error, LingraftError) else _words(error))
        raise
    over.set()
    thread.join()
    try:
        with explain_os_errors(folder / FILE):
            remove_progress(folder)
    except LingraftError as error:  # all that counts is there
        reporter.say(f"Warning: {error}; `lingraft watch` takes this run for a killed one", always=True)


def _words(error: BaseException) -> str:
    if isinstance(error, Exception):
        return f"{type(error).__name__}: {error}"
    return "it was interrupted"
