"""What models write while a run goes on, and which rows are left out: read from its artefacts as they grow."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lingraft.core.record import check_types
from lingraft.data.records import Generation
from lingraft.store.artefacts import MANIFEST
from lingraft.store.progress_file import ProgressFile
from lingraft.watching.files import Notes, last_line, newest, opened, places, read_object
from lingraft.watching.pieces import Filtered, WatchedText

MARKED = ("\ue000", "\ue001")
"""Around supervised text in a rendered example."""
_WRITTEN = ("synthesis-", "translation-")
_KEPT = ("kept", "left_out")
_SEGMENTS = {
    "english_query": "asked, in English",
    "english_reply": "answer, in English",
    "native_reply": "answer",
}


def last_written(root: Path, stages: Sequence[str], notes: Notes) -> WatchedText | None:
    """Return the last text that was written for training.

    Args:
        root: folder of the run.
        stages: names of artefacts, in order.
        notes: gets what cannot be read.
    """
    for stage in reversed([one for one in stages if one.startswith(_WRITTEN)]):
        if (found := _newest(root, stage, notes)) is not None:
            kind, _, name = stage.rpartition("-")[0].partition("-")
            title = "rationale" if name.startswith("radis") else "translation" if kind == "translation" else "answer"
            return WatchedText(title=title, of=f"{kind}-{name}", id=found.id, pieces=(("", found.text),))
    return None


def last_chain(root: Path, stages: Sequence[str], notes: Notes) -> WatchedText | None:
    """Return the last answer that went through the translation chain of thought, part by part; arguments likewise."""
    for stage in reversed([one for one in stages if one.startswith("decode-")]):
        found = _newest(root, stage, notes)
        if found is not None and found.segments:
            pieces = [(_SEGMENTS.get(one.role, one.role.replace("_", " ")), one.text) for one in found.segments]
            return WatchedText(title="chain", of=stage.rpartition("-")[0], id=found.id, pieces=tuple(pieces))
    return None


def _newest(root: Path, stage: str, notes: Notes) -> Generation | None:
    for folder in places(root, stage, "parts"):
        with notes.reading(folder):
            path = newest(folder, "part-*.jsonl")
            if path is not None and (line := last_line(path)) is not None:
                found = Generation.from_json(line.decode("utf-8"))
                check_types(Generation(found.id, found.text, (), found.finish_reason, None, found.segments))
                return found
    return None


def shown_example(progress: ProgressFile | None) -> WatchedText | None:
    """Return the training example that a run has noted."""
    if progress is None or not progress.example:
        return None
    return WatchedText(title="example", of=progress.example_of, id="", pieces=(("", progress.example),))


def filtered_rows(root: Path, stages: Sequence[str], notes: Notes) -> list[Filtered]:
    """Return how many rows are left out so far, by place and reason; arguments as of `last_written`."""
    found: list[Filtered] = []
    for stage in dict.fromkeys(stages):
        name = stage.rpartition("-")[0]
        if name.startswith("rows-"):
            found += _of_rows(root / stage, name.removeprefix("rows-"), notes)
        elif name in ("data", "texts"):
            found += _of_data(root, stage, notes)
    return found


def _of_data(root: Path, stage: str, notes: Notes) -> list[Filtered]:
    path = root / stage / "counts.json"
    with notes.reading(path):
        counts = read_object(path)["counts"]
        return [
            Filtered(str(file), str(reason), int(rows))
            for file, reasons in counts.items()
            for reason, rows in reasons.items()
        ]
    so_far = Counter[str]()
    for growing in sorted((root / f"{stage}.partial").glob(".rejected.jsonl.*.tmp")):  # while rows are read
        with notes.reading(growing), opened(growing) as handle:
            for line in handle:
                if line.endswith(b"\n"):
                    so_far[str(json.loads(line)["reason"])] += 1
    return [Filtered("data", reason, rows) for reason, rows in so_far.items()]


def _of_rows(folder: Path, system: str, notes: Notes) -> list[Filtered]:
    path = folder / "filters.json"
    with notes.reading(path):
        counts = {str(reason): int(rows) for reason, rows in read_object(path).items()}
        dropped = {why: rows for why, rows in counts.items() if rows and not why.rpartition(": ")[2].startswith(_KEPT)}
        dropped |= {"cannot be rendered": refused} if (refused := _refused(folder)) else {}
        return [Filtered(f"examples of {system}", reason, rows) for reason, rows in dropped.items()]
    return []


def _refused(folder: Path) -> int:
    return int(read_object(folder / MANIFEST)["facts"].get("refused") or 0)
