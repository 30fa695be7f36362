"""What a run or a bench is made of, seen from outside: parts, trainings, texts, rows that are left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lingraft.training.checkpoints import TrainPoint
from lingraft.training.development import DevPoint

Status = Literal["not started", "running", "unknown", "finished", "failed", "stopped"]
OVER = ("finished", "failed", "stopped")
"""Where nothing more is to be waited for."""


@dataclass(frozen=True, kw_only=True)
class WatchedPart:
    """One part of a run, or one row of a bench.

    Attributes:
        title: in words, such as "train radis".
        state: done | running | to come.
        seconds: that it took, or has taken so far; None: it has not begun, or that is not known.
        left: about how many more it takes; None: not known.
        detail: what goes on in it.
        share: of it that is done, from 0 to 1; None: not known.
    """

    title: str
    state: Literal["done", "running", "to come"]
    seconds: float | None = None
    left: float | None = None
    detail: str = ""
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class WatchedTraining:
    """One training, as far as it has come.

    Attributes:
        name: of the system, or of the stage that systems share.
        points: of the loss log, evenly spread where there are very many; the newest is among them.
        dev: what was measured on the development set.
        steps: of the whole training; None: not known.
        running: whether it goes on.
        kept: the step whose weights were kept; None: the last, or it goes on.
    """

    name: str
    points: tuple[TrainPoint, ...] = ()
    dev: tuple[DevPoint, ...] = ()
    steps: int | None = None
    running: bool = False
    kept: int | None = None

    @property
    def roles(self) -> list[str]:
        """What is told apart in the loss, in order of appearance."""
        return list(dict.fromkeys(role for point in self.points for role in point.by_role))


@dataclass(frozen=True, kw_only=True)
class WatchedText:
    """Something that a model wrote, or is trained on.

    Attributes:
        title: what it is.
        of: the artefact, or the system.
        id: of the request; "" for none.
        pieces: label and text each; a label may be empty.
    """

    title: str
    of: str
    id: str
    pieces: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Filtered:
    """Rows of one place that are not used, for one reason."""

    place: str
    reason: str
    rows: int
