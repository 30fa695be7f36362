"""Files that another process is writing, renaming or removing meanwhile: read as far as they are whole."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from lingraft.core.record import Record, check_types
from lingraft.store.artefacts import partial_path

R = TypeVar("R", bound=Record)

WHOLE = 1 << 20
"""Bytes of a log that is read as a whole; of a longer one, lines spread evenly."""
SPREAD = 500
TAIL = 1 << 22
"""Bytes from the end of a file within which its last line is looked for."""
LARGEST = 1 << 26
"""Bytes of JSON that are read at all."""


@dataclass
class Notes:
    """What cannot be read, a sentence each. What is not there is none: it may have just been renamed."""

    sentences: list[str] = field(default_factory=list)

    @contextmanager
    def reading(self, path: Path) -> Iterator[None]:
        """Note in place of raising that a file cannot be read, or is damaged."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self.add(f"{path} cannot be read: {error.strerror or error}")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            self.add(f"{path} is damaged; what it says is left out")

    def add(self, sentence: str) -> None:
        """Add a sentence, once."""
        if sentence not in self.sentences:
            self.sentences.append(sentence)


def opened(path: Path) -> BinaryIO:
    """Open a file to read it; strangers may have put a pipe in its place, from which nothing ever comes.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no plain file.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("no plain file")
    return path.open("rb")


def places(root: Path, stage: str, name: str, partial: str | None = None) -> list[Path]:
    """Return where a file of an artefact may be: in the finished one, and in the one that is being built, which may
    get its name meanwhile.

    Args:
        root: folder of the run.
        stage: name of the artefact's folder.
        name: of the file in the finished one.
        partial: in the other one, where it differs.
    """
    final = root / stage
    return [final / name, partial_path(final) / (partial or name), final / name]


def read_object(path: Path) -> dict[str, Any]:
    """Return an object of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds none.
    """
    with opened(path) as handle:
        value = json.loads(handle.read(LARGEST))
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value


def lines_of(path: Path) -> list[bytes]:
    """Return the lines of a file that grows, without one that has no end yet; of a long file lines spread evenly, the
    last among them.

    Raises:
        OSError: it cannot be read.
    """
    with opened(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        if size <= WHOLE:
            return handle.read(size).split(b"\n")[:-1]
        found, end = list[bytes](), 0
        for number in range(SPREAD):
            place = size * number // SPREAD
            if place < end:
                continue
            handle.seek(place)
            if place:
                handle.readline()  # the rest of one
            if (line := handle.readline()).endswith(b"\n"):
                found.append(line[:-1])
            end = handle.tell()
    last = last_line(path)
    return found if last is None or (found and found[-1] == last) else [*found, last]


def last_line(path: Path) -> bytes | None:
    """Return the last line of a file that has an end; None: there is none.

    Raises:
        OSError: it cannot be read.
    """
    with opened(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        handle.seek(max(0, size - TAIL))
        lines = handle.read(TAIL).split(b"\n")
    whole = lines[:-1] if size <= TAIL else lines[1:-1]
    return whole[-1] if whole else None


def records(path: Path, kind: type[R], notes: Notes) -> list[R]:
    """Return the records of a log that grows; damaged lines are left out, and said.

    Raises:
        OSError: it cannot be read.
    """
    found = list[R]()
    for line in lines_of(path):
        with notes.reading(path):
            record = kind.from_json(line.decode("utf-8"))
            check_types(record)
            found.append(record)
    return found


def newest(folder: Path, pattern: str) -> Path | None:
    """Return the file in a folder that was written last; None: there is none.

    Raises:
        OSError: the folder cannot be read.
    """
    found = None
    for path in folder.glob(pattern):
        try:
            key = (path.stat().st_mtime_ns, path.name)
        except FileNotFoundError:
            continue
        if found is None or key > found[0]:
            found = (key, path)
    return found[1] if found else None
