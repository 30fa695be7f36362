"""What the process runs in: versions of packages, peak memory, the cache folder."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache: `$LINGRAFT_CACHE`, else `lingraft` in the user's cache folder."""
    given = os.environ.get("LINGRAFT_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given) if given else Path(base) / "lingraft"


def versions() -> dict[str, str]:
    """Return the versions of everything that decides the numbers."""
    found = {"python": platform.python_version()}
    for name in ("lingraft", "torch", "transformers", "peft", "accelerate", "sacrebleu", "py3langid", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024  # kilobytes on Linux, bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1024**2
