"""What the operating system refuses to write or to open, in one sentence with place and remedy."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from lingraft.core.errors import LingraftError, StoreError, UsageError, first_line

_REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EROFS: "it is on a read-only file system; choose another output folder",
    errno.EACCES: "permission denied; choose an output folder you may write to",
    errno.EPERM: "permission denied; choose an output folder you may write to",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EEXIST: "there is a file where a folder is needed, or a link that leads nowhere; give another path",
    errno.EISDIR: "there is a folder where a file is needed",
    errno.EFBIG: "the file is larger than the file system or `ulimit -f` allows",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}
_ONLY_WRITES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_NO_ROOM = "No space left on device|database or disk is full|Not enough free space to write"  # sqlite, numpy
_SAID = [(errno.ENOSPC, _NO_ROOM), (errno.EDQUOT, "Disk quota exceeded"), (errno.EFBIG, "File too large")]


def refusal(error: BaseException, path: Path | None = None) -> str | None:
    """Return why the operating system refused to write, and what to do, whatever library passed it on; else None.

    Rust's and C++'s libraries have errors of their own, of which only the text tells; torch says nothing but that a
    write failed.

    Args:
        error: what was raised, by whatever library.
        path: below which was written, to see whether its disk is full where the error does not tell.
    """
    number = _number(error)
    if number is None and path is not None and isinstance(error, RuntimeError | SafetensorError):
        number = errno.ENOSPC if free_bytes(path) < 1_000_000 else None
    if number is None and re.search(r"inline_container.* unexpected pos|\d+ requested and \d+ written", str(error)):
        return "the write was cut short, most likely for want of space; free some space and run again"  # torch, numpy
    return _REFUSALS.get(number) if number is not None else None


def _number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = re.search(r"os error (\d+)|\[Errno (\d+)\]", str(error))
    said = (code for code, words in _SAID if re.search(words, str(error)))
    return int(found[1] or found[2]) if found else next(said, None)


def failure(error: BaseException, path: Path | None = None) -> str | None:
    """Return a sentence on a refusal of the operating system: which file cannot be written or opened, and what to do.

    Who writes below a path may read elsewhere meanwhile: a file that lies neither below nor above it was not written.

    Args:
        error: what was raised, by whatever library.
        path: below which was written, if anything was for sure.

    Returns:
        None for other errors.
    """
    reason = refusal(error, path)
    if reason is None:
        return None
    number = _number(error)
    names = [error.filename, error.filename2] if isinstance(error, OSError) else []
    if number in _ONLY_WRITES:
        names.reverse()  # of a copy, the second is the one that is written
    place = next((one for one in names if isinstance(one, str | bytes)), None)
    if number is not None and number not in _ONLY_WRITES:
        told = isinstance(error, OSError) and error.errno is not None
        if place is not None and not _beside(Path(os.fsdecode(place)), path):
            words = os.strerror(number)
            return f"{os.fsdecode(place)} cannot be opened: {words[0].lower()}{words[1:]}; check it and its permissions"
        if place is None and (path is None or not told) and (path is None or os.access(_existing(path), os.W_OK)):
            return f"a file cannot be opened: {first_line(error)}; check its permissions"
    if place is None and path is None:
        return f"a file cannot be written: {reason}"
    return f"cannot write to {os.fsdecode(place) if place is not None else path}: {reason}"


def _beside(place: Path, path: Path | None) -> bool:
    """Say whether a place is a path, lies below or above it, or is the temporary file for it."""
    if path is None:
        return False
    place, path = Path(os.path.abspath(place)), Path(os.path.abspath(path))
    temporary = place.parent == path.parent and place.name.startswith(f".{path.name}.")
    return temporary or place.is_relative_to(path) or path.is_relative_to(place)


def _existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that is there."""
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


@contextmanager
def explain_os_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals, while something is written below `path`, into one sentence.

    Raises:
        StoreError: the operating system refused; other errors pass as they are.
    """
    try:
        yield
    except LingraftError:
        raise
    except Exception as error:
        said = failure(error, path)
        if said is None:
            raise
        raise StoreError(said) from error


def free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that holds a path, or will hold it."""
    return shutil.disk_usage(_existing(path)).free


def refuse_output(path: Path, option: str, read: Iterable[Path] = (), *, replaced: bool = True) -> None:
    """Refuse a file that a command is to write and could not, or should not, before its work begins.

    Args:
        path: of the file.
        option: that names it ("--rejected").
        read: files that the command reads.
        replaced: whether it is written beside and moved there when it is whole, so that it can be no device.

    Raises:
        UsageError: it is read, or a folder; its folder is missing; or it may not be written.
    """
    named = f"{option} {path}"
    try:
        mode = path.stat().st_mode if path.exists() else None
        if mode is not None and any(other.exists() and other.samefile(path) for other in read):
            raise UsageError(f"{named} is the input itself, and would be overwritten; name another file")
        if mode is not None and stat.S_ISDIR(mode):
            raise UsageError(f"{named} cannot be written: it is a folder; name a file")
        if mode is not None and replaced and not stat.S_ISREG(mode):
            raise UsageError(f"{named} cannot be written: it is a device or a pipe; name a file")
        if not path.parent.is_dir():
            raise UsageError(f"{named} cannot be written: there is no folder {path.parent}; make it, or name another")
        if not os.access(path if mode is not None and not replaced else path.parent, os.W_OK):
            raise UsageError(f"{named} cannot be written: permission denied; name a file in a folder of yours")
    except OSError as error:
        raise UsageError(f"{named} cannot be written: {error.strerror}; name another file") from error
