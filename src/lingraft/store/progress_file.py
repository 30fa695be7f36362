"""`progress.json`: what a run notes of itself while it goes on, for whoever watches it from outside.

Nothing is decided by it, no artefact depends on it, and a run that has ended well leaves none. It is renamed into place
and never synced: after a power cut it may be damaged, which its reader takes.
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from lingraft.core.record import Record, check_types
from lingraft.store.holders import Holder

FILE = "progress.json"
LARGEST = 1 << 22
"""Bytes of a file that is taken for one."""


@dataclass(frozen=True, kw_only=True)
class PartNote(Record):
    """One part of a run, or one row of a bench.

    Attributes:
        kind: data | examples | train | answer | decode | evaluate | row.
        of: the system, if it is of one; the row.
        estimate: seconds that it was reckoned to take before it began; None: not known.
        seconds: that it took in this process; None: it has not ended.
        began: when it did, in seconds since 1970; None: it has not.
        reused: whether everything in it had been made before.
    """

    kind: str
    of: str = ""
    estimate: float | None = None
    seconds: float | None = None
    began: float | None = None
    reused: bool = False

    @property
    def title(self) -> str:
        """In words."""
        said = {"train": "train", "answer": "ask", "decode": "ask"}.get(self.kind)
        if self.kind == "row":
            return self.of
        return f"{said} {self.of}" if said else self.kind


@dataclass(frozen=True, kw_only=True)
class StageNote(Record):
    """An artefact that the run has looked for: its folder, the part (from 1), and whether it is there by now.

    `seconds`: that it took to build; None where it is not built yet.
    """

    folder: str
    part: int
    seconds: float | None = None
    done: bool = False


@dataclass(frozen=True, kw_only=True)
class TaskNote(Record):
    """The piece of work that is under way: `done` of `total` (0: not known) after `seconds`."""

    title: str
    done: int = 0
    total: int = 0
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ProgressFile(Record):
    """The whole note.

    Attributes:
        holder: the process that works.
        began: when it did, in seconds since 1970.
        now: when this was written, likewise.
        part: number of the part that goes on, from 1; 0 before the first, and where there is no plan.
        parts: all of the run, in order.
        stages: artefacts so far, in order.
        task: innermost work of known length that is under way.
        example: a rendered training example, the supervised text between U+E000 and U+E001.
        example_of: the system that trains on it.
        unknown: why there are no estimates.
        ended: what ended the process before the run was finished; "" while it works, and where it was killed.
    """

    holder: Holder
    began: float
    now: float
    part: int = 0
    parts: tuple[PartNote, ...] = ()
    stages: tuple[StageNote, ...] = ()
    task: TaskNote | None = None
    example: str = ""
    example_of: str = ""
    unknown: str = ""
    ended: str = ""

    def write(self, folder: Path) -> None:
        """Put it into a folder: whoever reads sees the note before it or this one, whole.

        Raises:
            OSError: it cannot be written.
        """
        temporary = folder / f".{FILE}.tmp"  # one name: the lock is held, and a killed process leaves it to the next
        temporary.write_bytes(self.to_json().encode("utf-8", "backslashreplace"))
        os.replace(temporary, folder / FILE)


def remove_progress(folder: Path) -> None:
    """Take the note out of a folder.

    Raises:
        OSError: it cannot be removed.
    """
    for name in (FILE, f".{FILE}.tmp"):
        (folder / name).unlink(missing_ok=True)


def read_progress(folder: Path) -> ProgressFile | None:
    """Return the note in a folder; None where there is none.

    Raises:
        ValueError: it is damaged, or of another version.
        OSError: it cannot be read.
    """
    path = folder / FILE
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe of strangers, from which nothing ever comes
            raise ValueError("no plain file")
        with path.open("rb") as handle:
            data = handle.read(LARGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        note = ProgressFile.from_dict(json.loads(data))
        check_types(note)
    except (TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    numbers = [note.began, note.now, *(part.estimate for part in note.parts), *(part.seconds for part in note.parts)]
    numbers += [*(part.began for part in note.parts), *(stage.seconds for stage in note.stages)]
    numbers += [note.task.seconds] if note.task else []
    if not all(math.isfinite(number) for number in numbers if number is not None):
        raise ValueError("a time is no finite number")
    return note
