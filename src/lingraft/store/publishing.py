"""A folder that is written under another name and gets its own when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lingraft.core.errors import UsageError
from lingraft.store.artefacts import LOCK, locked
from lingraft.store.disk import explain_os_errors
from lingraft.store.durability import sync_folder, sync_tree, usual_modes


def refuse_existing(out: Path) -> None:
    """Refuse a folder to write that is there.

    Raises:
        UsageError: it is.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; give a new folder")


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
            for leftover in partial.iterdir():  # of one that was killed
                if leftover.name != LOCK:
                    shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()
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
