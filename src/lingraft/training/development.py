"""The development set in training: what it measured so far, whether training goes on, and which weights are kept.

What is measured is written, and the best weights are saved, before the checkpoint of the same step is complete; the
checkpoint's marker names both. A run killed at any moment so continues with what belongs to its checkpoint.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import LingraftError, TrainingError
from lingraft.core.hashing import content_hash
from lingraft.core.record import Record
from lingraft.rendering.rows import Rendered
from lingraft.store.artefacts import listing
from lingraft.store.durability import sync_folder, sync_tree
from lingraft.store.files import read_lines, write_lines
from lingraft.training.settings import TrainSettings

if TYPE_CHECKING:
    from peft import PeftModel

TIMES = 10
"""Measurements of a training whose settings do not say how many steps are between them."""
LOG, BEST = "dev.jsonl", "best"


@dataclass(frozen=True, kw_only=True)
class Development:
    """What a training is measured on while it goes on.

    Attributes:
        rows: references, whose loss is taken; none is trained on.
        measure: gives further values of the model, such as "chrf" and "kl"; called with dropout off and the random
            states kept.
        identity: of everything that `measure` depends on.
    """

    rows: Sequence[Rendered]
    measure: Callable[[PeftModel], Mapping[str, float]]
    identity: str


@dataclass(frozen=True, kw_only=True)
class DevPoint(Record):
    """What was measured after a step.

    Attributes:
        step: number of the step; 0 before the first.
        tokens: real tokens trained on up to then.
        loss: of the references, in nats per unit of span weight.
        chrf: of greedy translations of a sample; None where none was made.
        kl: divergence from the base, in nats per token of the base's answers to general prompts; None without any.
    """

    step: int
    tokens: int
    loss: float
    chrf: float | None = None
    kl: float | None = None

    @property
    def values(self) -> dict[str, float]:
        """What was measured, by name."""
        named = {"loss": self.loss, "chrf": self.chrf, "kl": self.kl}
        return {name: value for name, value in named.items() if value is not None}


def best_of(points: Sequence[DevPoint], settings: TrainSettings) -> DevPoint | None:
    """Return the best point within the budget of divergence, the earlier of two alike; None where there is none.

    What training begins with has learnt nothing, and is none.
    """
    found = None
    for point in points:
        within = settings.max_kl is None or (point.kl is not None and point.kl <= settings.max_kl)
        if point.step and within and (found is None or _merit(point, settings) > _merit(found, settings)):
            found = point
    return found


def _merit(point: DevPoint, settings: TrainSettings) -> float:
    if settings.best_by == "loss":
        return -point.loss
    if point.chrf is None:
        raise LingraftError("train.best_by: chrf, but no translation was made; the development set has no usable pair")
    return point.chrf


def is_over(points: Sequence[DevPoint], settings: TrainSettings) -> bool:
    """Whether `patience` measurements in a row have brought nothing better."""
    taught = [point for point in points if point.step]
    if settings.patience is None or not taught:
        return False
    best = best_of(taught, settings)
    since = taught if best is None else [point for point in taught if point.step > best.step]
    return len(since) >= settings.patience


class DevLog:
    """What was measured so far, and the best weights, in the work folder of a training.

    Args:
        folder: the work folder.
        settings: how to train.
        steps: of the whole training.
        measured: whether there is a development set.
        writes: False on all but the first device.
    """

    def __init__(
        self, folder: Path, settings: TrainSettings, steps: int, *, measured: bool, writes: bool = True
    ) -> None:
        self._path, self._best, self._settings, self._writes = folder / LOG, folder / BEST, settings, writes
        self._every = settings.dev_every_steps or math.ceil(steps / TIMES)
        self._steps, self.measured = steps, measured
        self.points: list[DevPoint] = []

    def due(self, step: int) -> bool:
        """Whether the development set is measured after a step; 0: before the first."""
        known = bool(self.points) and self.points[-1].step >= step
        return self.measured and not known and (step % self._every == 0 or step == self._steps)

    @property
    def over(self) -> bool:
        """Whether training stops for want of anything better."""
        return is_over(self.points, self._settings)

    @property
    def kept(self) -> DevPoint | None:
        """The point whose weights are kept in place of the last ones; None: the last ones.

        Raises:
            LingraftError: none is within the budget of divergence.
        """
        if self._settings.keep == "last" or not self.measured:
            return None
        best = best_of(self.points, self._settings)
        if best is None:
            least = min((point.kl for point in self.points if point.step and point.kl is not None), default=0.0)
            raise TrainingError(
                f"no measurement of the development set stayed within train.max_kl {self._settings.max_kl:g} (least: "
                f"{least:.3g} nats per token); raise it, lower train.learning_rate or train.dev_every_steps"
            )
        return best

    def folder_of(self, point: DevPoint) -> Path:
        """Return where the weights of a point are, if they are kept."""
        return self._best / f"step-{point.step}"

    def add(self, point: DevPoint, save: Callable[[Path], None]) -> None:
        """Add a point; it is on the disk when this returns, with its weights if they are the best so far.

        Args:
            point: just measured.
            save: writes the weights into a folder.
        """
        self.points.append(point)
        if not self._writes:
            return
        if self._settings.keep == "best" and best_of(self.points, self._settings) is point:
            folder = self.folder_of(point)
            shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
            save(folder)
            sync_tree(folder)
            sync_folder(self._best)
        write_lines(self._path, (one.to_json() for one in self.points))

    def state(self, step: int) -> dict[str, Any] | None:
        """Return what a checkpoint of a step has to be found with, as it is on the disk; None where nothing is."""
        lines = self._read(step)
        best = best_of(lines, self._settings) if self._settings.keep == "best" else None
        if not lines:
            return None
        kept = None if best is None else [best.step, listing(self.folder_of(best))]
        return {"points": content_hash([one.to_dict() for one in lines]), "best": kept}

    def prune(self) -> None:
        """Remove weights that are the best no more, once a checkpoint names the better ones."""
        best = best_of(self.points, self._settings)
        for folder in self._best.glob("step-*"):
            if best is None or folder != self.folder_of(best):
                shutil.rmtree(folder)

    def go_back(self, step: int | None) -> None:
        """Begin with what was measured up to the step of a checkpoint; None: with nothing."""
        self.points = [] if step is None else self._read(step)
        if self._writes and (self._path.exists() or self.points):
            write_lines(self._path, (one.to_json() for one in self.points))
            self.prune()

    def _read(self, step: int) -> list[DevPoint]:
        if not self.measured or not self._path.exists():
            return []
        try:
            points = [DevPoint.from_json(line) for line in read_lines(self._path)]
        except (ValueError, TypeError):  # damaged: no checkpoint goes with it
            return []
        return [point for point in points if point.step <= step]
