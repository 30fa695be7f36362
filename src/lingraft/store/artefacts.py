"""Artefacts on disk: content hashes, atomic writes, manifests and locks.

An artefact is a folder `<stage>-<hash8>/` that exists only when it is whole: it grows under the name
`<stage>-<hash8>.partial/`, its `manifest.json` (sizes and hashes of all files) is written last, when all of them are
on the disk, then the folder is renamed. The hash covers everything the stage depends on, so that an artefact is never
stale. Whether work is done is told by hashes alone, never by times: clocks jump.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from types import CodeType
from typing import Any

from filelock import FileLock, Timeout

from lingraft.core.errors import LockedError, StoreError
from lingraft.core.hashing import content_hash, file_hash
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder, sync_folder, sync_tree, usual_modes
from lingraft.store.files import read_sealed, write_sealed

MANIFEST = "manifest.json"
RECORD = "experiment.json"
"""Of a run's folder: the recipe, and the hashes of base and data (see `lingraft.pipeline.experiment`)."""
LOCK = ".lock"
SCRATCH = "work"
"""Folder in an artefact that is being built, for what the build continues from; it is no part of the artefact."""


def code_hashes(*things: Any) -> list[str]:
    """Return the hashes of the source files of modules or classes, each file once; of a class without one, as of a
    notebook, that of its code.

    They stand in the identity of what is kept beside the hashes of what it was made from: an update that changes how
    it is made makes it anew.
    """
    files = {thing: _source_file(thing) for thing in things}
    own = [content_hash(_definition(thing)) for thing, path in files.items() if path is None]
    return [*(file_hash(path) for path in dict.fromkeys(files.values()) if path is not None), *own]


def _source_file(thing: Any) -> Path | None:
    try:
        path = Path(inspect.getfile(thing))
    except (TypeError, OSError):  # defined in a notebook or a prompt
        return None
    return path if path.is_file() else None


def _definition(thing: Any) -> list[Any]:
    """Return what a class is made of: code and plain values, by name."""
    parts: list[Any] = []
    for name, value in sorted(vars(thing).items()):
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        code = getattr(function, "__code__", None)
        if code is not None:
            parts.append([name, _code(code)])
        elif isinstance(value, type):
            parts.append([name, _definition(value)])
        elif not name.startswith("__"):  # those say where it stands
            parts.append([name, _plain(value)])
    return parts


def _code(code: CodeType) -> list[Any]:
    constants = [_code(one) if isinstance(one, CodeType) else _plain(one) for one in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names), list(code.co_varnames)]


def _plain(value: Any) -> str:
    """Return a value in words that are the same in every process; of what is no plain value, what it is."""
    if isinstance(value, frozenset | set):
        return repr(sorted(map(repr, value)))
    return repr(value) if isinstance(value, str | bytes | int | float | tuple | None) else type(value).__qualname__


def package_hash(folder: Path = Path(__file__).parent.parent) -> str:
    """Return one hash of the source files of a package: what its figures and pages depend on beside their inputs."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".j2", ".css", ".js", ".bib"))
    return content_hash([(path.relative_to(folder).as_posix(), file_hash(path)) for path in files])


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
        return manifest is not None and bool(manifest["files"] == _contents(folder))
    except (OSError, KeyError, StoreError):
        return False


def _contents(folder: Path) -> dict[str, dict[str, Any]]:
    return {name: file for name, file in listing(folder).items() if not name.startswith(f"{SCRATCH}/")}


def artefact_path(root: Path, stage: str, inputs: Any) -> Path:
    """Return where the artefact of a stage with these inputs lives.

    Args:
        root: folder of all artefacts.
        stage: name of the stage.
        inputs: JSON-ready description of everything the result depends on; the name ends in 8 digits of its hash.
    """
    return root / f"{stage}-{content_hash(inputs)[:8]}"


def partial_path(final: Path) -> Path:
    """Return where an artefact is built."""
    return final.with_name(final.name + ".partial")


def is_built(final: Path) -> bool:
    """Return whether an artefact needs no building; it may still lack its name, which whoever builds gives it."""
    return verify(final) or verify(partial_path(final)) or verify(final)  # again: it may just have got its name


def build_artefact(root: Path, stage: str, inputs: Any, build: Callable[[Path], dict[str, Any] | None]) -> Path:
    """Return the folder of a stage's artefact, building it if it is not there or is damaged.

    Args:
        root: folder of all artefacts.
        stage: name of the stage, with which that of the folder begins.
        inputs: JSON-ready description of everything the result depends on.
        build: see `build_folder`.
    """
    return build_folder(artefact_path(root, stage, inputs), {"stage": stage, "inputs": inputs}, build)


def build_folder(final: Path, about: Mapping[str, Any], build: Callable[[Path], dict[str, Any] | None]) -> Path:
    """Return a folder with a manifest, building it if it is not there or is damaged. Only one process may do so.

    All of it is on the disk before its manifest is, and that before it has its name; only then is gone what an
    interrupted build continues from.

    Args:
        final: the folder; while it is built, `.partial` is added to its name.
        about: JSON-ready fields for the manifest.
        build: writes into the folder it is given, which may hold what an interrupted build left; returns facts for the
            manifest. Below `SCRATCH` it keeps what it alone needs.
    """
    if verify(final):
        return final
    partial = partial_path(final)
    with explain_os_errors(partial):
        make_folder(partial)
        sync_folder(final.parent)
        if not verify(partial):
            (partial / MANIFEST).unlink(missing_ok=True)
            for leftover in partial.rglob(".*.tmp"):  # of a write that was killed
                leftover.unlink()
            facts = build(partial)
            usual_modes(partial)
            sync_tree(partial, SCRATCH)
            write_sealed(partial / MANIFEST, {**about, "facts": facts or {}, "files": _contents(partial)})
        shutil.rmtree(partial / SCRATCH, ignore_errors=True)
        sync_folder(partial)
        if final.exists():
            shutil.rmtree(final)  # it is damaged
        partial.replace(final)
        sync_folder(final.parent)
    return final


def copy_artefact(source: Path, folder: Path) -> dict[str, Any]:
    """Copy a whole artefact's files into the folder that another is built in, and return its facts.

    What an interrupted build has left there is removed.
    """
    shutil.rmtree(folder)
    shutil.copytree(source, folder, ignore=lambda place, _: {MANIFEST} if Path(place) == source else set())
    return facts(source)


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
    with explain_os_errors(folder):
        make_folder(folder)
        sync_folder(folder.parent)  # a killed process may have made it
        lock = FileLock(folder / LOCK)
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


def wait_unlocked(folder: Path, seconds: float) -> None:
    """Wait until no process holds a folder, at most for some seconds: one that is about to end may hold it still.

    Args:
        folder: that `locked` holds, if any process works in it.
        seconds: after which whoever holds it is left to be refused.
    """
    if (folder / LOCK).exists():
        with suppress(Timeout), FileLock(folder / LOCK).acquire(timeout=seconds):
            pass
