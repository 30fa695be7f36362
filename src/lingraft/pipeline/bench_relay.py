"""A worker process of a bench on another machine: what a job of a Ray cluster starts there, and passes news of."""

from __future__ import annotations

import hashlib
import platform
import time
from pathlib import Path

from lingraft.core.errors import UsageError
from lingraft.pipeline.bench_processes import Processes

SHARED_SECONDS = 30.0
"""Within so many seconds a shared file system shows on one machine what another has written."""

Mark = tuple[int, str]
"""Time and content of a file that has just been written."""


def mark_of(file: Path) -> Mark | None:
    """Return by what a file is known to be the same on two machines; None where there is none."""
    try:
        return file.stat().st_mtime_ns, hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None


def opened(file: Path, mark: Mark, threads: int, together: int = 1, seconds: float = SHARED_SECONDS) -> Processes:
    """Return what runs one row at a time on this machine.

    Args:
        file: of the bench, in its folder.
        mark: of the file on the machine that wrote it.
        threads: with which rows compute.
        together: rows of the bench that are run at once.
        seconds: after which the folder is taken not to be shared.

    Raises:
        UsageError: this machine does not see the bench's folder.
    """
    end = time.monotonic() + seconds
    while mark_of(file) != mark:
        if time.monotonic() >= end:
            raise UsageError(
                f"the worker on {platform.node()} does not see {file.parent} as it is where the bench was started; put "
                f"it on a file system that all machines share, with --out"
            )
        time.sleep(0.5)
    return Processes(1, threads, together=together)
