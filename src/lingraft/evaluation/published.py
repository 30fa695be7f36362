"""What a finished run has published in its folder, and the seal on it: `run.json` holds the hash of each file.

Whoever reads numbers of a finished run reads them through `open_run`. A run that was collected (`lingraft collect`) has
its numbers alone: `run.json` then says so under `collected`, with the hashes that the whole run had.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.errors import StoreError
from lingraft.core.hashing import file_hash, file_hashes
from lingraft.store.artefacts import listing
from lingraft.store.files import read_sealed

RUN = "run.json"
VERDICTS = "verdicts.jsonl"
PUBLISHED = ("scorecard.json", "items.jsonl", "outputs.jsonl", "report.html", "rejected.jsonl")
"""Files under fixed names that every finished run has."""
MEASURED = ("scorecard.json", "items.jsonl", "outputs.jsonl", VERDICTS)
"""Those of them that are read again. They belong together; the others are for people, who may edit or remove them."""
NUMBERS = ("scorecard.json", "items.jsonl")
"""Those of them that hold no texts, which a collected run has."""
COLLECTED = "collected"
"""Key of `run.json` of a collected run."""


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a finished run whose measured files are those that it published."""

    folder: Path
    record: dict[str, Any]

    def file(self, name: str) -> Path:
        """Return the path of a measured file.

        Raises:
            StoreError: the run has published none.
        """
        if name not in self.record["published"]:
            if self.collected:
                raise StoreError(
                    f"{self.folder} was collected without its texts, {name} among them; take the run itself, where it "
                    f"was made"
                )
            raise StoreError(f"{self.folder} has no {name}; {again(self.folder)}")
        return self.folder / name

    @property
    def collected(self) -> bool:
        """Whether it has its numbers alone."""
        return COLLECTED in self.record

    @property
    def origin(self) -> dict[str, str]:
        """Hashes of its numbers as the run itself published them, by the names of the files."""
        published = self.record[COLLECTED]["published"] if self.collected else self.record["published"]
        return {name: str(published.get(name, "")) for name in NUMBERS}


def published_hashes(root: Path, *, trained: bool) -> dict[str, Any]:
    """Return the hashes of everything that stands under a fixed name in a run's folder.

    Args:
        root: folder of the run.
        trained: whether the run trains, and so has a graft and its card.

    Raises:
        OSError: a file is missing.
        StoreError: there is something else under its name.
    """
    verdicts = [VERDICTS] if (root / VERDICTS).exists() else []  # where a suite has a judge
    found: dict[str, Any] = dict(file_hashes(root, (*PUBLISHED, *verdicts)))
    if trained:
        found |= {"README.md": file_hash(root / "README.md"), "graft": listing(root / "graft")}
    return found


def open_run(folder: Path) -> FinishedRun:
    """Open a finished run, and check that what it measured is what it published.

    Raises:
        StoreError: no run, not finished, or a file was changed, damaged, or replaced by a run that was interrupted.
    """
    if not (folder / RUN).is_file():
        raise StoreError(f"{folder} holds no finished run: it lacks {RUN}; give the folder of a finished run")
    record = read_sealed(folder / RUN)
    if record is None or not isinstance(record.get("published"), dict) or not _whole(record):
        raise StoreError(f"{folder / RUN} is damaged or of another version; {again(folder)}")
    for name in MEASURED:
        if name in record["published"] and _hash(folder / name) != record["published"][name]:
            state = "is not the one that the run published" if (folder / name).exists() else "is missing"
            raise StoreError(
                f"{folder / name} {state}: changed or damaged, or the run is being published anew; {again(folder)}"
            )
    return FinishedRun(folder, record)


def _whole(record: Mapping[str, Any]) -> bool:
    """Whether what a collected run says of its origin can be read, and it has what it should."""
    if COLLECTED not in record:
        return True
    origin = record[COLLECTED]
    known = isinstance(origin, Mapping) and isinstance(origin.get("published"), Mapping)
    return known and sorted(record["published"]) == sorted(NUMBERS)


def is_collected(folder: Path) -> bool:
    """Whether a folder holds a collected run, also one that is damaged."""
    try:
        return COLLECTED in json.loads((folder / RUN).read_text("utf-8"))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def again(folder: Path) -> str:
    """Say, for the end of a sentence, how what a run publishes is made anew."""
    if is_collected(folder):
        return "collect it again: `lingraft collect`"
    return f"run its recipe again, which keeps finished work: `lingraft run {folder} --out {folder}`"


def _hash(path: Path) -> str | None:
    try:
        return file_hash(path)
    except (OSError, StoreError):
        return None
