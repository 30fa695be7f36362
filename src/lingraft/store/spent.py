"""What work on an artefact has cost in all attempts, where a killed one's results are kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lingraft.store.artefacts import SCRATCH
from lingraft.store.durability import make_folder
from lingraft.store.files import read_sealed, write_sealed

FILE = "spent.json"


class Spent:
    """Seconds and usage of all attempts to build an artefact, up to what each of them has kept.

    Args:
        folder: in which the artefact is built.
        clock: gives the time in seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path, self._clock = folder / SCRATCH / FILE, clock
        known = read_sealed(self._path) or {}
        self._earlier, self._usage = float(known.get("seconds", 0.0)), dict(known.get("usage", {}))
        self._began = clock()

    @property
    def seconds(self) -> float:
        """Of all attempts, this one included."""
        return self._earlier + self._clock() - self._began

    @property
    def usage(self) -> dict[str, Any]:
        """What engines have used in all attempts."""
        return self._usage

    def add(self, usage: Mapping[str, Any]) -> None:
        """Count what an engine has used since it was last asked."""
        add_usage(self._usage, usage)

    def keep(self) -> None:
        """Note what was spent so far: a part of the results has been kept."""
        make_folder(self._path.parent)
        write_sealed(self._path, {"seconds": self.seconds, "usage": self._usage})


def add_usage(total: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add one usage to another, counts and sections of counts alike."""
    for key, value in more.items():
        if isinstance(value, Mapping):
            add_usage(total.setdefault(key, {}), value)
        else:
            total[key] = total[key] + value if isinstance(value, int | float) and key in total else value
