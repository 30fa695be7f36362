"""Folders of a real run of a tiny model, copied while it goes on: as another process would find them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.progress import Reporter, Task
from lingraft.pipeline.run import run
from lingraft.recipe.load import parse_recipe
from lingraft.store.progress_file import TaskNote, read_progress
from models_support import save_tiny_model
from tiny_runs import values


class _Watched(Task):
    """Copies the run's folder when a task has come to a count."""

    copy: Any = None

    def update(self, done: int, detail: str = "", total: int | None = None) -> None:
        super().update(done, detail, total)
        if self.copy:
            self.copy(self)


class Photographer(Reporter):
    """Copies the run's folder when tasks have come to a count: task -> count."""

    def __init__(self, folder: Path, shots: Path, moments: dict[str, int]) -> None:
        super().__init__(quiet=True)
        self.folder, self.shots, self.moments = folder, shots, moments

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        with super().task(title, total):
            task = _Watched(self, title, total)
            task.copy = self.take
            yield task

    def take(self, task: Task) -> None:
        done, total, detail = task.progress
        if self.moments.get(task.title) != done:
            return
        del self.moments[task.title]
        shot = self.shots / task.title
        shutil.copytree(self.folder, shot)
        note = read_progress(shot)
        assert note is not None
        # What the thread that notes would write next: it does so every two seconds.
        now = TaskNote(title=task.title, done=done, total=total, detail=detail, seconds=10.0)
        replace(note, task=now, now=note.now + 10).write(shot)


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders: of the run in its training, and when it was finished."""
    place = tmp_path_factory.mktemp("watched")
    save_tiny_model(place / "model", seed=3)
    recipe = values(place / "model", compare=[])
    recipe["pairs"]["dev_share"] = 0.2
    recipe["prompts"]["limit"] = 60  # enough that some measure the divergence
    recipe["stages"][0]["train"] |= {"dev_every_steps": 1, "dev_sample": 4, "tokens_per_step": 256}
    recipe["evaluate"]["retention"]["suites"] = [{"kind": "refusal", "max_prompts": 2, "max_new_tokens": 4}]
    moments = {"train-radis": 3}
    run(parse_recipe(recipe, "", Path("/")), place / "finished", Photographer(place / "finished", place, moments))
    assert not moments
    return place


@pytest.fixture
def training(shots: Path, tmp_path: Path) -> Path:
    """The run's folder in the middle of its training, to be changed at will; the process that works is this one."""
    return Path(shutil.copytree(shots / "train-radis", tmp_path / "run"))
