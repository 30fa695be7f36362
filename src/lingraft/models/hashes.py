"""The hash of a model on disk, and what of it is remembered.

What is in a file is known by reading it. Sizes and times are no proof: disks and copies damage files without touching
them. So a model is read through once in each process that uses it; a note in the cache, which holds as long as size,
times, inode and device of all files are the same, serves where nothing depends on the weights, and tells such damage.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from lingraft.core.environment import cache_folder
from lingraft.core.errors import ModelError, StoreError
from lingraft.core.hashing import file_hash
from lingraft.store.artefacts import MANIFEST
from lingraft.store.files import read_sealed, write_sealed

_WEIGHTS = ("*.safetensors", "config.json", "generation_config.json")
_WORDS = ("tokenizer*", "chat_template*", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json")
_READ: dict[Path, tuple[list[Any], dict[str, str]]] = {}
"""What this process has read: folder -> stamp and hashes of its files."""
_THREADS = 4


def model_files(folder: Path) -> list[Path]:
    """Return all files that decide the model's output, sorted by name."""
    return sorted({path for pattern in _WEIGHTS + _WORDS for path in folder.glob(pattern) if path.is_file()})


def file_hashes(folder: Path, *, remembered: bool = False) -> dict[str, str]:
    """Return the hash of each of a model's files by its name.

    Args:
        folder: of the model.
        remembered: whether the note of an earlier process will do.
    """
    paths, place = model_files(folder), folder.resolve()
    stamp = _stamp(paths)
    read = _READ.get(place)
    if read is not None and read[0] == stamp:
        return read[1]
    if remembered and (known := _noted(place, stamp)):
        return known
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:  # hashing gives the interpreter away
        found = dict(zip((path.name for path in paths), pool.map(file_hash, paths), strict=True))
    _READ[place] = stamp, found
    return found


def model_hash(folder: Path, *, remembered: bool = False) -> str:
    """Return one hash of names and contents of a model's files.

    Args:
        folder: of the model.
        remembered: whether the note of an earlier process will do.

    Raises:
        ModelError: a file has changed although nobody has written to it.
    """
    found = file_hashes(folder, remembered=remembered)
    place, stamp = folder.resolve(), _stamp(model_files(folder))
    known = _noted(place, stamp)
    odd = [name for name in found if known and known.get(name) != found[name]]
    if odd:
        raise ModelError(
            f"{folder / odd[0]} has changed since it was last read although nobody has written to it: the disk is "
            f"damaged, or a copy of it; copy the model anew"
        )
    digest = combined_hash(found)
    if not known:
        note = {"stamp": stamp, "files": found, "sha256": digest, "folder": str(place)}
        with suppress(OSError, StoreError):  # it only saves time: a read-only cache is no reason to stop
            write_sealed(_note(place), note)
    return digest


def combined_hash(files: Mapping[str, str]) -> str:
    """Return one hash of names and contents.

    Args:
        files: name -> hash of the file, in the order of the names.
    """
    digest = hashlib.sha256()
    for name, sha256 in files.items():
        digest.update(f"{name}\0{sha256}\0".encode())
    return digest.hexdigest()


def sealed_model(folder: Path, *, remembered: bool = False) -> bool:
    """Return whether a model that was made here is as its manifest says.

    Args:
        folder: of the model, with its manifest.
        remembered: whether the note of an earlier process will do.
    """
    manifest = read_sealed(folder / MANIFEST)
    try:
        if manifest is None:
            return False
        read = file_hashes(folder, remembered=remembered)
        wanted = {name: str(file["sha256"]) for name, file in manifest["files"].items()}
        return all(sha256 == (read.get(name) or file_hash(folder / name)) for name, sha256 in wanted.items())
    except (OSError, KeyError, StoreError):
        return False


def hashed_folders(sha256: str = "") -> list[Path]:
    """Return the folders whose model had this hash when it was last asked for; all folders where none is given."""
    notes = ((note, Path(note["folder"])) for note in _notes())
    return [folder for note, folder in notes if not sha256 or note["sha256"] == sha256]


def _notes() -> Iterator[dict[str, Any]]:
    for path in sorted((cache_folder() / "hashes").glob("*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):  # a damaged note, or one of an older version
            note = json.loads(path.read_text("utf-8"))
            yield {"sha256": str(note["sha256"]), "folder": str(note["folder"])}


def _stamp(paths: Sequence[Path]) -> list[Any]:
    found = [(path.name, path.stat()) for path in paths]
    return [[name, one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_dev] for name, one in found]


def _note(place: Path) -> Path:
    return cache_folder() / "hashes" / f"{hashlib.sha256(str(place).encode()).hexdigest()[:16]}.json"


def _noted(place: Path, stamp: list[Any]) -> dict[str, str]:
    """Return the hashes that were noted of files that look the same; none where they do not, or nothing is noted."""
    with suppress(OSError, ValueError, KeyError, TypeError):  # never hashed, or the note is damaged
        note = read_sealed(_note(place)) or {}
        if note["stamp"] == stamp:
            return {str(name): str(sha256) for name, sha256 in dict(note["files"]).items()}
    return {}
