"""What of a run's folder must be equal, however it was disturbed: every file, without seconds, memory and dates."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lingraft.store.artefacts import verify

VOLATILE = {
    "seconds": "how long it took",
    "taken_seconds": "the same, of answers that were taken over",
    "seconds_per_translation": "the same, of a segment",
    "peak_memory_mb": "depends on what the process had done before",
    "created": "date of the evaluation",
    "seal": "hash of a record that holds one of these",
    "files": "hashes of the files, some of which hold one of these; the files themselves are compared",
    "published": "the same",
}
"""Keys of JSON files that are not compared, and why. Beside them: the date in README.md and report.html, and the
numbers of the report's cost table, which are the scorecard's seconds and memory, as is the time of all stages; and the
page of a bench, which is drawn from `bench.json` and the runs, and holds their seconds."""

_DATE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00")
_TOOK = re.compile(rb"[^<>\n]* in all stages")
_COST = re.compile(rb'<section id="cost">.*?</section>', re.DOTALL)


def essence(folder: Path) -> dict[str, str]:
    """Return the hash of every file of a run or a bench, without what `VOLATILE` names."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() or path.name == ".lock":
            continue
        if path.name in ("README.md", "report.html") and (path.parent / "bench.json").exists():
            continue
        data = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            lines = data.splitlines() if path.suffix == ".jsonl" else [data]
            data = json.dumps([_lasting(json.loads(line)) for line in lines], sort_keys=True).encode()
        elif path.name in ("README.md", "report.html"):
            data = _COST.sub(b"", _TOOK.sub(b"", _DATE.sub(b"", data)))
        found[path.relative_to(folder).as_posix()] = hashlib.sha256(data).hexdigest()
    return found


def _lasting(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lasting(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_lasting(inner) for inner in value] if isinstance(value, list) else value


def differences(folder: Path, reference: Mapping[str, str]) -> list[str]:
    """Return the files in which a finished run differs from the reference, and its artefacts that are not whole."""
    found = essence(folder)
    odd = [name for name in sorted(found.keys() | reference.keys()) if found.get(name) != reference.get(name)]
    return odd + [path.parent.name for path in folder.rglob("manifest.json") if not verify(path.parent)]
