"""What goes into a repository on the hub: graft, card, scorecard and report of a finished run, nothing of the data.

No path of this machine is among it. What people wrote and models answered is left out, unless it is asked for.
"""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.errors import StoreError
from lingraft.core.hashing import file_hash
from lingraft.core.machine_paths import paths_in
from lingraft.evaluation.collected_run import asked_texts, collect_run
from lingraft.evaluation.published import VERDICTS, FinishedRun, again
from lingraft.reporting.report import without_texts
from lingraft.store.artefacts import listing

CARD = "README.md"
SCORECARD, REPORT = "scorecard.json", "report.html"
NUMBERS_FOLDER = "results"
"""The run without its texts: what `lingraft compare` reads of it on another machine."""
TEXTS = ("outputs.jsonl", "items.jsonl", VERDICTS)
"""What was translated and answered, item by item."""


@dataclass(frozen=True)
class PushedFile:
    """A file of the repository: its name there, and its content or where that is.

    Attributes:
        name: path in the repository.
        content: bytes, or the file that holds them.
    """

    name: str
    content: bytes | Path

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def checked_graft(run: FinishedRun) -> Path:
    """Return the folder of a run's graft, whose files are those that it published; the card may have been edited.

    Raises:
        StoreError: it has none, or one that was changed or damaged.
    """
    published = run.record["published"].get("graft")
    if not isinstance(published, Mapping):
        raise StoreError(f"{run.folder} has no graft to push: nothing was trained there")
    folder = run.folder / "graft"
    found = listing(folder) if folder.is_dir() else {}
    names = sorted({*published, *found} - {CARD})
    if odd := next((name for name in names if published.get(name) != found.get(name)), ""):
        state = "is missing" if odd not in found else "is not the one that the run published"
        raise StoreError(f"{folder / odd} {state}; {again(run.folder)}")
    if not (folder / CARD).is_file():
        raise StoreError(f"{folder / CARD} is missing; copy it from {run.folder / CARD}")
    return folder


def graft_files(folder: Path) -> list[PushedFile]:
    """Return the files of a graft but its card, for the root of the repository, where PEFT looks for them."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in files)
    return [PushedFile(name, folder / name) for name in names if name != CARD]


def results(run: FinishedRun, recipe: Mapping[str, Any], *, with_outputs: bool) -> Iterator[PushedFile]:
    """Yield scorecard and report, and with them what was written where that is asked for.

    Args:
        run: that was checked.
        recipe: plain values of its recipe, which name folders of this machine.
        with_outputs: whether texts of data and answers go along.

    Raises:
        StoreError: a file is missing, or is not the one that the run published.
    """
    paths = list(_paths(recipe, run.folder))
    scorecard = json.loads((run.folder / SCORECARD).read_text("utf-8"))
    text = json.dumps(_without(scorecard, paths), indent=2, ensure_ascii=False) + "\n"
    yield PushedFile(SCORECARD, text.encode("utf-8"))
    place = run.folder / REPORT
    if not place.is_file() or file_hash(place) != run.record["published"][REPORT]:
        raise StoreError(f"{place} is not the one that the run published; {again(run.folder)}")
    page = place.read_text("utf-8")
    shown = page if with_outputs else without_texts(page)
    if shown is not None:
        for path in paths:
            shown = shown.replace(html.escape(path), html.escape(Path(path).name))
        yield PushedFile(REPORT, shown.encode("utf-8"))
    if with_outputs:
        yield from (PushedFile(name, run.file(name)) for name in TEXTS if name in run.record["published"])


@contextmanager
def numbers(run: FinishedRun, recipe: Mapping[str, Any]) -> Iterator[list[PushedFile]]:
    """Yield the files of the collected run: its scorecard and the results of each item, without texts.

    Args:
        run: that was checked.
        recipe: plain values of its recipe, which name folders of this machine.

    Raises:
        StoreError: a file of the run is missing, or of another version.
    """
    with tempfile.TemporaryDirectory(prefix="lingraft-push-") as place:
        folder = Path(place) / NUMBERS_FOLDER
        texts = set() if run.collected else set(asked_texts(run))
        collect_run(run.folder, folder, {}, known={*paths_in(recipe), str(run.folder.resolve())}, texts=texts)
        found = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jsonl"))
        yield [PushedFile(f"{NUMBERS_FOLDER}/{path.name}", path) for path in found]


def refuse_paths(files: Iterable[PushedFile], recipe: Mapping[str, Any], run: Path) -> None:
    """Refuse to hand on a description in which a path of this machine stands.

    Raises:
        StoreError: one does.
    """
    paths = [path.encode() for path in _paths(recipe, run)]
    for file in files:
        if file.name in TEXTS or not file.name.endswith((".json", ".jsonl", ".md", ".html")):
            continue
        data = file.content if isinstance(file.content, bytes) else file.content.read_bytes()
        if found := next((path for path in paths if path in data), b""):
            raise StoreError(f"{file.name} names {found.decode()}, a path of this machine; take it out, and push again")


def _paths(recipe: Mapping[str, Any], run: Path) -> Iterator[str]:
    """Yield the paths that a run knows, the longest first: one may begin with another."""
    named = {*filter(os.path.isabs, _texts(recipe)), str(run.resolve()), str(Path.home())}
    yield from sorted((path for path in named if len(Path(path).parts) > 2), key=len, reverse=True)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _without(value: Any, paths: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(item, paths) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, paths) for item in value]
    if isinstance(value, str):
        for path in paths:
            value = value.replace(path, Path(path).name)
    return value
