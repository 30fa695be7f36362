"""The boundary for files of strangers: grafts, vocabularies and models that somebody else wrote.

What is read goes through here: regular files only, of bounded size, JSON of bounded depth; and whatever a library
raises over such bytes becomes one sentence.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lingraft.core.errors import LingraftError, ModelError, first_line

MAX_DESCRIPTION = 16 * 1024**2
"""Bytes of a file that describes a graft, a vocabulary or a model; the largest known hold some hundred kilobytes."""
MAX_TOKENIZER = 256 * 1024**2
"""Bytes of any other file that a tokenizer or a model is read from, but its weights; the largest known hold 40 MB."""
MAX_DEPTH = 64
"""Levels of a description; the deepest known have nine."""
ANEW = "copy it anew from where it was made, or make it again"
"""What to do with a damaged graft or adapter, whoever made it: a training here, `lingraft adopt`, another program."""


@contextmanager
def from_strangers(what: str, remedy: str) -> Iterator[None]:
    """Turn whatever a library raises over a stranger's bytes into one sentence: `what (reason); remedy`.

    Only calls of libraries belong into the block: a fault of ours would be taken for one of the file.

    Raises:
        ModelError: in place of any exception that is none of ours.
    """
    try:
        yield
    except LingraftError:
        raise
    except BaseException as error:
        # Rust's libraries raise their panics past `Exception`; what ends the program goes on.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(f"{what} ({told(error)}); {remedy}") from error


def told(error: BaseException, most: int = 300) -> str:
    """Return an exception's first line, without characters that would steer a terminal."""
    return shown(first_line(error, most), most)


def shown(text: str, most: int = 100) -> str:
    """Return a stranger's text as it may stand in a sentence of ours: short, and printable."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(letter if letter.isprintable() else "�" for letter in cut)


def read_bytes(path: Path, most: int = MAX_DESCRIPTION) -> bytes:
    """Return what a regular file holds.

    Raises:
        ModelError: no regular file (a pipe would be waited for, a device read without end), or more than `most` bytes.
        OSError: as `open` does.
    """
    # Looked at after it was opened: what is looked at before may be another file by then.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as stream:
        state = os.fstat(handle)
        _check(path, state, most)
        data = stream.read(most + 1)
    if len(data) > most:
        raise ModelError(f"{path} has more than {most:,} bytes; it is not what its name says: remove it")
    return data


def _check(path: Path, state: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise ModelError(f"{path} is no regular file; put a file there")
    if most is not None and state.st_size > most:
        raise ModelError(f"{path} has more than {most:,} bytes; it is not what its name says: remove it")


def check_file(path: Path) -> None:
    """Check that a file that a library is to open is a regular one.

    Raises:
        ModelError: it is not there, a pipe, a device or a socket.
    """
    try:
        state = path.stat()
    except OSError as error:
        raise ModelError(f"the folder {path.parent} is damaged ({told(error)}); copy it anew") from error
    _check(path, state, None)


def read_object(path: Path, most: int = MAX_DESCRIPTION) -> dict[str, Any]:
    """Return the JSON object in a file, as it may be handed on: not deep, no number that Python could not write.

    Raises:
        ModelError: as `read_bytes`.
        ValueError: no such object.
        OSError: as `open` does.
    """
    try:
        values = json.loads(read_bytes(path, most).decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it holds no JSON object")
    _check_depth(values)
    return values


Model = TypeVar("Model", bound=BaseModel)


def parsed(kind: type[Model], values: Mapping[str, Any]) -> Model:
    """Return values as a model of pydantic's; the first problem is said in one line.

    Raises:
        ValueError: they are no such model.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise ValueError(f"{shown(place, 60)}: {shown(problem['msg'].removeprefix('Value error, '), 200)}") from error


def _check_depth(values: Any) -> None:
    level = [values]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for value in level
            for item in (value.values() if isinstance(value, dict) else value)
            if isinstance(item, dict | list)
        ]
        if not level:
            return
    raise ValueError("it is nested too deeply")


def copy_file(path: Path, target: Path) -> None:
    """Copy a regular file of a stranger's folder; a link only if it leads into that folder or to the hub's cache.

    Whoever sends a folder could else have any file of this machine copied into one that is then handed on.

    Raises:
        ModelError: no regular file, or a link that leads elsewhere.
        OSError: as `shutil.copyfile`.
    """
    check_file(path)
    folder, real = path.parent.resolve(), path.resolve()
    # The hub's cache has `snapshots/REVISION/name`, which leads to `blobs/HASH` beside `snapshots`.
    blobs = [above.parent / "blobs" for above in folder.parents if above.name == "snapshots"]
    if not any(real.is_relative_to(place) for place in (folder, *blobs)):
        raise ModelError(f"{path} is a link to a file elsewhere; put the file itself there")
    shutil.copyfile(real, target)


def copy_folder(source: Path, target: Path) -> None:
    """Copy the regular files of a stranger's folder, not those of folders within it.

    Raises:
        ModelError: as `copy_file`.
        OSError: as `shutil.copyfile`.
    """
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.is_symlink() or not path.is_dir():
            copy_file(path, target / path.name)


_READ_WHOLE = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py", ".vocab")


def check_files(folder: Path) -> None:
    """Check that every file in a folder that a library may open there by its name is a regular one of bounded size.

    Links are followed, as those of the hub's cache have to be.

    Raises:
        ModelError: a pipe, a device, a socket, or a description that is far too large.
    """
    for path in sorted([*folder.glob("*"), *folder.glob("additional_chat_templates/*")]):
        try:
            state = path.stat()
        except OSError:  # a link that leads nowhere
            continue
        if not stat.S_ISDIR(state.st_mode):
            _check(path, state, MAX_TOKENIZER if path.suffix in _READ_WHOLE else None)
