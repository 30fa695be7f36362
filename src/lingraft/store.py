"""Artefacts on disk: content hashes, atomic writes, manifests, locks and resumable parts.

An artefact is a folder `<stage>-<hash8>/` that exists only when it is whole: it grows under the name
`<stage>-<hash8>.partial/`, its `manifest.json` (sizes and hashes of all files) is written last, then the
folder is renamed. The hash covers everything the stage depends on, so that an artefact is never stale. Whether work is
done is told by hashes alone, never by times: clocks jump.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from lingraft.disk import explained
from lingraft.errors import LockedError

MANIFEST = "manifest.json"


def content_hash(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON-ready value; key order does not matter."""
    return hashlib.sha256(_canonical(value)).hexdigest()


def _canonical(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


def list_hash(values: Iterable[Any]) -> tuple[str, int]:
    """Return the `content_hash` of the list of the values, which is never held, and their number."""
    digest, count = hashlib.sha256(b"["), 0
    for value in values:
        digest.update((b"," if count else b"") + _canonical(value))
        count += 1
    digest.update(b"]")
    return digest.hexdigest(), count


def stable_fraction(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone: for splits and shares that survive reordering."""
    return int(content_hash([str(part) for part in parts])[:13], 16) / 16**13


def file_hash(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def code_hashes(*things: Any) -> list[str]:
    """Return the hashes of the source files of modules or classes, each file once.

    They stand in the identity of what is kept beside the hashes of what it was made from: an update that changes how
    it is made makes it anew.
    """
    return [file_hash(Path(name)) for name in dict.fromkeys(map(inspect.getfile, things))]


def package_hash(folder: Path = Path(__file__).parent) -> str:
    """Return one hash of the source files of a package: what its figures and pages depend on beside their inputs."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".j2", ".css", ".js", ".bib"))
    return content_hash([(path.relative_to(folder).as_posix(), file_hash(path)) for path in files])


def usual_modes(folder: Path) -> None:
    """Give every file below a folder the mode that a new file has there by the user's umask.

    Some libraries write through private temporary files: safetensors leaves its files readable by their owner alone.
    """
    with explained(folder):
        probe = folder / f".mode.{os.getpid()}.tmp"
        try:
            probe.touch()
            mode = stat.S_IMODE(probe.stat().st_mode)
        finally:
            probe.unlink(missing_ok=True)
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != mode:
                path.chmod(mode)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, whole, whatever happens meanwhile."""
    data = _encoded(content) if isinstance(content, str) else content
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(path.parent)


def _encoded(text: str) -> bytes:
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
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as handle:
                yield lambda line: _write_line(handle, line)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


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


def listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and hash of every file below a folder, by relative path; its own manifest is left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in files
    }


def verify(folder: Path) -> bool:
    """Return whether an artefact is whole: its manifest is sound and every file has the size and hash it names."""
    manifest = read_sealed(folder / MANIFEST)
    try:
        return manifest is not None and bool(manifest["files"] == listing(folder))
    except (OSError, KeyError):
        return False


def artefact_path(root: Path, stage: str, inputs: Any) -> Path:
    """Return where the artefact of a stage with these inputs lives."""
    return root / f"{stage}-{content_hash(inputs)[:8]}"


def build_artefact(root: Path, stage: str, inputs: Any, build: Callable[[Path], dict[str, Any] | None]) -> Path:
    """Return the folder of a stage's artefact, building it if it is not there or is damaged.

    Args:
        inputs: JSON-ready description of everything the result depends on.
        build: writes into the folder it is given, which may hold what an interrupted build left; returns facts for the
            manifest.
    """
    final = artefact_path(root, stage, inputs)
    if verify(final):
        return final
    partial = final.with_name(final.name + ".partial")
    with explained(partial):
        if final.exists():
            shutil.rmtree(final)  # a damaged artefact is rebuilt
        partial.mkdir(parents=True, exist_ok=True)
        (partial / MANIFEST).unlink(missing_ok=True)
        for leftover in partial.rglob(".*.tmp"):  # of a write that was killed
            leftover.unlink()
        facts = build(partial)
        usual_modes(partial)
        manifest = {"stage": stage, "inputs": inputs, "facts": facts or {}, "files": listing(partial)}
        write_sealed(partial / MANIFEST, manifest)
        partial.replace(final)
        _sync_folder(root)
    return final


def facts(folder: Path) -> dict[str, Any]:
    """Return the facts a finished artefact's builder left in its manifest."""
    return dict(json.loads((folder / MANIFEST).read_text("utf-8"))["facts"])


def artefact_contents(folder: Path, pattern: str = "*") -> list[str]:
    """Return the SHA-256 of the artefact's files whose names (relative, with `/`) match, in the order of their names.

    What depends on an artefact's content alone stays valid when the artefact is made anew with the same content.
    """
    files = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
    return [str(files[name]["sha256"]) for name in sorted(files) if fnmatch(name, pattern)]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process.

    Raises:
        LockedError: another process works in it. The lock goes with its holder, also when that is killed.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LockedError(
                f"another run is working in {folder}; wait for it to end or choose another folder with --out"
            ) from error
    try:
        yield
    finally:
        lock.release()


def _part_name(index: int, key: str, digest: str) -> str:
    return f"part-{index:06d}-{key[:12]}-{digest[:12]}.jsonl"


class PartStore:
    """Results of a long job in parts, each atomic and checked by its hash, so that a killed job continues.

    A part's file name carries the hash of what was asked (`key`) and of what it holds; damaged and foreign parts are
    removed and asked again, so that afterwards the folder holds the parts asked for and no others.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def known(self, keys: Sequence[str]) -> set[int]:
        """Return the indices of the whole parts; everything else in the folder is removed.

        Args:
            keys: per part, the hash of what is asked in it.
        """
        known: set[int] = set()
        with explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in [*self.folder.glob("part-*.jsonl"), *self.folder.glob(".part-*.tmp")]:
                index = (
                    int(path.name[5:11]) if re.fullmatch(r"part-\d{6}-\w{12}-\w{12}\.jsonl", path.name) else len(keys)
                )
                whole = index < len(keys) and path.name == _part_name(index, keys[index], file_hash(path))
                if whole:
                    known.add(index)
                else:
                    path.unlink()
        return known

    def put(self, index: int, key: str, lines: Iterable[str]) -> None:
        """Write a part: it is there as a whole or not at all."""
        data = _encoded("".join(line + "\n" for line in lines))
        write_atomic(self.folder / _part_name(index, key, hashlib.sha256(data).hexdigest()), data)

    def lines(self) -> Iterator[str]:
        """Yield the lines of all parts in order."""
        for path in sorted(self.folder.glob("part-*.jsonl")):
            yield from read_lines(path)
