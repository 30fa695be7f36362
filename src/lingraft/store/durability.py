"""What reaches the disk, and in which order: data before the names that stand for it (see docs/durability.md).

A file whose name has been synced may still be empty after a power cut, and a name may be lost although its file was
synced: both are asked for here.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

_NOT_OFFERED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What file systems say that cannot sync a folder (some in user space): there is nothing more to be done."""


def sync_file(path: Path) -> None:
    """Have the content of a file on the disk when this returns."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk when this returns, where its file system can do that."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NOT_OFFERED:
            raise
    finally:
        os.close(handle)


def sync_tree(folder: Path, without: str = "") -> None:
    """Have all below a folder on the disk: first the files, then the folders from the inside out.

    Args:
        folder: with all of its folders and files; links are not followed.
        without: name in the folder itself that is left out.
    """
    places = []
    for place, folders, files in os.walk(folder):
        places.append(Path(place))
        if Path(place) == folder and without in folders:
            folders.remove(without)
        for path in (Path(place) / name for name in files):
            if path.is_file() and not path.is_symlink():
                sync_file(path)
    for path in reversed(places):  # a folder comes before those in it
        sync_folder(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those that it lies in, each of which is still there after a power cut."""
    missing = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        missing.append(path)
    folder.mkdir(parents=True, exist_ok=True)
    for path in reversed(missing):
        sync_folder(path.parent)


def remove_tree(folder: Path) -> str:
    """Remove a folder, also one of the user's own that may not be read; return why it is still there, "" if it is gone.

    What was removed may be back, as a whole or in part, after a power cut.
    """
    for _ in range(2):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return ""
        except OSError as error:
            reason = error.strerror or str(error)
            _open_up(folder)
        else:
            return ""
    return reason


def _open_up(folder: Path) -> None:
    with suppress(OSError):  # somebody else's: that it stays is said by the caller
        folder.chmod(0o700)
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                _open_up(path)


def usual_modes(folder: Path) -> None:
    """Give every file below a folder the mode that a new file has there by the user's umask.

    Some libraries write through private temporary files: safetensors leaves its files readable by their owner alone.
    """
    probe = folder / f".mode.{os.getpid()}.tmp"
    try:
        probe.touch()
        mode = stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink(missing_ok=True)
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != mode:
            path.chmod(mode)
