"""A folder that is written under another name and gets its own when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lingraft.core.errors import UsageError
from lingraft.store.artefacts import LOCK, locked
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import make_folder, sync_folder, sync_tree, usual_modes

PARTIAL = ".partial"
"""Folder within one that grows, for what is being written."""


def refuse_existing(out: Path) -> None:
    """Refuse a folder to write that is there, and a link that leads nowhere, which no folder can take the place of.

    Raises:
        UsageError: it is one.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; give a new folder")
    if out.is_symlink():
        raise UsageError(f"{out} is a link to {out.readlink()}, which is not there; remove it or give a new folder")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a folder to write into, empty, which becomes `out` at the end of the block; where that fails nothing stays.

    Args:
        out: must not exist yet.

    Raises:
        UsageError: `out` exists, from before or made meanwhile.
        LockedError: another process is making it.
        StoreError: it cannot be written.
    """
    refuse_existing(out)
    partial = out.with_name(f".{out.name}.partial")
    with explain_os_errors(out), locked(partial):
        try:
            refuse_existing(out)
            _empty(partial)
            yield partial
            usual_modes(partial)
            sync_tree(partial)
            refuse_existing(out)
            partial.replace(out)
            (out / LOCK).unlink()
            sync_folder(out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _empty(folder: Path) -> None:
    """Remove what one that was killed has left."""
    for leftover in folder.iterdir():
        if leftover.name != LOCK:
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()


@contextmanager
def added_to(out: Path, files: Sequence[str]) -> Iterator[Path]:
    """Yield a folder to write into, empty, whose content is added to `out` at the end of the block; where that fails
    before, `out` is as it was.

    First the folders within its folders, each as a whole, where `out` has none of that name; then the files, each of
    which replaces an earlier one. Whoever is killed between has added some of them, and can add them again.

    Args:
        out: a folder that is there.
        files: their names, in the order in which they are replaced.

    Raises:
        LockedError: another process is writing there.
        StoreError: it cannot be written.
    """
    partial = out / PARTIAL
    with explain_os_errors(out), locked(out):
        try:
            make_folder(partial)
            _empty(partial)
            yield partial
            usual_modes(partial)
            sync_tree(partial)
            for folder in sorted(path for path in partial.iterdir() if path.is_dir()):
                make_folder(out / folder.name)
                for each in sorted(folder.iterdir()):
                    if not (out / folder.name / each.name).exists():
                        each.replace(out / folder.name / each.name)
                sync_folder(out / folder.name)
            for name in files:
                if (partial / name).exists():
                    (partial / name).replace(out / name)
                    sync_folder(out)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            (out / LOCK).unlink(missing_ok=True)
