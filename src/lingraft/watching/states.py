"""What can be seen of a run or a bench from outside, at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lingraft.watching import terminal
from lingraft.watching.pieces import OVER, Filtered, Status, WatchedPart, WatchedText, WatchedTraining
from lingraft.watching.terminal import Block


@dataclass(frozen=True, kw_only=True)
class WatchedRun:
    """A run, seen from outside; as a text, what `lingraft watch` prints.

    Attributes:
        folder: of the run.
        name: of the recipe; that of the folder where it is not known.
        status: not started | running | unknown (on another machine) | finished | failed | stopped.
        said: one sentence about it.
        parts: in order.
        seconds: since the process began; of a finished run, of all that it used.
        left: about how many more it takes; None: not known.
        trainings: in order, the newest last.
        rationale: the last text that was written for training.
        chain: the last chain of thought of a translation into another language's conversation.
        example: a rendered training example.
        filtered: rows that are not used so far.
        notes: of what cannot be read, and why there are no estimates.
        results: lines on what came out.
    """

    folder: Path
    name: str
    status: Status
    said: str
    parts: tuple[WatchedPart, ...] = ()
    seconds: float | None = None
    left: float | None = None
    trainings: tuple[WatchedTraining, ...] = ()
    rationale: WatchedText | None = None
    chain: WatchedText | None = None
    example: WatchedText | None = None
    filtered: tuple[Filtered, ...] = ()
    notes: tuple[str, ...] = ()
    results: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.status in OVER

    def __str__(self) -> str:
        return terminal.text_of(self.blocks(terminal.WIDTH))

    def blocks(self, width: int) -> list[Block]:
        """Return it in lines for a terminal so many characters wide, what matters most first."""
        texts = [one for one in (self.rationale, self.chain) if one is not None]
        texts += [self.example] if self.example is not None and self.rationale is None else []
        found: list[Block] = [
            [
                terminal.title(self.name, self.folder),
                *terminal.standing(self.status, self.said, self.seconds, self.left),
            ],
            terminal.plain(self.results),
            terminal.parts(self.parts, width),
            terminal.training(self.trainings, width),
            terminal.way(self.trainings, width),
            *(terminal.written(text) for text in texts),
            terminal.filtered(self.filtered, width),
            terminal.plain(self.notes, "yellow"),
        ]
        return [block for block in found if block]


@dataclass(frozen=True, kw_only=True)
class WatchedBench:
    """A bench, seen from outside; as a text, what `lingraft watch` prints.

    Attributes:
        folder: of the bench.
        name: of the bench.
        status: as of a run.
        said: one sentence about it.
        rows: in order.
        seconds: since the process began; None: none works.
        left: about how many more all rows take; None: not known.
        run: the row's run that goes on, or was the last to.
        results: the table as far as it is.
        notes: of what cannot be read.
    """

    folder: Path
    name: str
    status: Status
    said: str
    rows: tuple[WatchedPart, ...] = ()
    seconds: float | None = None
    left: float | None = None
    run: WatchedRun | None = None
    results: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more is to be waited for."""
        return self.status in OVER

    def __str__(self) -> str:
        return terminal.text_of(self.blocks(terminal.WIDTH))

    def blocks(self, width: int) -> list[Block]:
        """Return it in lines for a terminal so many characters wide, what matters most first."""
        found: list[Block] = [
            [
                terminal.title(self.name, self.folder),
                *terminal.standing(self.status, self.said, self.seconds, self.left),
            ],
            terminal.parts(self.rows, width),
            terminal.plain(self.notes, "yellow"),
            terminal.plain(self.results),
            *(self.run.blocks(width) if self.run is not None else ()),
        ]
        return [block for block in found if block]
