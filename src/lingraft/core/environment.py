"""What the process runs in: the platform, versions of packages, peak memory, the cache folder."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from lingraft.core.errors import LingraftError


def refuse_platform() -> None:
    """Refuse to begin where Lingraft cannot run.

    Raises:
        LingraftError: on Windows itself, which lacks modules of POSIX.
    """
    if sys.platform == "win32":
        raise LingraftError(
            "Lingraft runs on Linux and macOS, not on Windows itself; install it in the Windows Subsystem for Linux "
            "(`wsl --install`) and run it there"
        )


def cache_folder() -> Path:
    """Return the cache: `$LINGRAFT_CACHE`, else `lingraft` in the user's cache folder."""
    given = os.environ.get("LINGRAFT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "lingraft"


def versions() -> dict[str, str]:
    """Return the versions of everything that decides the numbers."""
    found = {"python": platform.python_version()}
    libraries = ("torch", "transformers", "peft", "accelerate", "sacrebleu", "py3langid", "sentencex", "numpy")
    for name in ("lingraft", *libraries):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    import resource  # not on Windows, where this module has to be read to say so

    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**2


def world_size() -> int:
    """Return the number of processes of this run, as `torchrun` and `accelerate launch` say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


BESIDE = "LINGRAFT_BESIDE"
"""The variable by which a bench tells its workers how many of them share the cache."""


def workers_beside() -> int:
    """Return how many processes of a bench, this one among them, work at once and share the cache."""
    return max(1, int(os.environ.get(BESIDE) or 1))
