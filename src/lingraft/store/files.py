"""Files that are whole or not there: written beside, synced, renamed into place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from lingraft.core.hashing import content_hash
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder, sync_folder


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path; what is written and synced there has the right name when the block ends without error."""
    with explain_os_errors(path):
        make_folder(path.parent)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            yield temporary
            temporary.replace(path)
        except OSError as error:
            if error.filename == str(temporary):  # which means nothing to a user
                error.filename = str(path)
            raise
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, whole, whatever happens meanwhile.

    It is on the disk when this returns.
    """
    data = encoded(content) if isinstance(content, str) else content
    with replacing(path) as temporary, temporary.open("wb") as handle:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())


def encoded(text: str) -> bytes:
    """Return a text as it stands in files."""
    # Names of files may hold half surrogate pairs; inside JSON this writes them as JSON does.
    return text.encode("utf-8", "backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write a JSON object atomically with a hash of itself under `seal`, so that damage to it is noticed."""
    plain = json.loads(json.dumps(values))  # as it will be read: keys are text, tuples are lists
    write_json(path, {**plain, "seal": content_hash(plain)})


def read_sealed(path: Path) -> dict[str, Any] | None:
    """Return what `write_sealed` wrote, without the seal; None if the file is missing or not as it was written."""
    try:
        values = json.loads(path.read_text("utf-8"))
        seal = values.pop("seal")
        return values if seal == content_hash(values) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


@contextmanager
def line_writer(path: Path) -> Iterator[Callable[[str], None]]:
    """Give a function that adds a line to a file; the file is there, as a whole, when the block ends without error."""
    form: Any = {"encoding": "utf-8", "errors": "backslashreplace", "newline": "\n"}
    with replacing(path) as temporary, temporary.open("w", **form) as handle:
        yield lambda line: _write_line(handle, line)
        handle.flush()
        os.fsync(handle.fileno())


def _write_line(handle: TextIO, line: str) -> None:
    handle.write(line)
    handle.write("\n")


def write_lines(path: Path, lines: Iterable[str]) -> int:
    """Stream lines into a file atomically; returns how many."""
    count = 0
    with line_writer(path) as write:
        for line in lines:
            write(line)
            count += 1
    return count


def read_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a JSON Lines file without their ends."""
    with path.open(encoding="utf-8", newline="\n") as handle:
        for line in handle:
            yield line.rstrip("\n")
