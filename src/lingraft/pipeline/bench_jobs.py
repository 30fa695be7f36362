"""Rows of a bench as jobs: what each waits for, whose answers it takes over, and how it is run, in whatever process.

Both follow from the bench alone, not from which row ended first: a row makes the same in one process and in several.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lingraft.core import __version__
from lingraft.core.errors import EngineError, ModelError
from lingraft.core.hashing import content_hash
from lingraft.core.progress import Reporter
from lingraft.methods.base import METHODS
from lingraft.pipeline.bench_choice import Choice, choose_value
from lingraft.recipe.bench import BenchPlan, RowPlan
from lingraft.recipe.bench_choice import Choose
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import wait_unlocked

LOCK_SECONDS = 60.0
"""Within so many seconds a worker of a bench that was killed has ended, and has left its row's folder."""


@dataclass(frozen=True, kw_only=True)
class RowJob:
    """A row that is to be run; it can be pickled.

    Attributes:
        name: of the row.
        one: the row, with its value where another has chosen it.
        earlier: folders of other runs, whose answers to the same questions are taken over.
        replace: whether what other recipes published in its folders may be replaced.
        choose: what it chooses first; None: nothing.
        base: hash of the base that the rows before were run on; "" where it need not be looked at.
        version: of the package.
    """

    name: str
    one: RowPlan
    earlier: tuple[Path, ...] = ()
    replace: bool = False
    choose: Choose | None = None
    base: str = ""
    version: str = field(default=__version__)

    def run(self, reporter: Reporter) -> Choice | None:
        """Run the row, as far as that has not been done, and return what was chosen for it.

        Raises:
            LingraftError: it failed; what was finished is kept.
        """
        from lingraft.models.devices import free_memory  # heavy: whoever hands jobs out does not compute
        from lingraft.pipeline.run import run

        self._check()
        for folder in (*(option.folder for option in self.one.options if self.choose), self.one.folder):
            wait_unlocked(folder, LOCK_SECONDS)
        one, earlier, trained, choice = self.one, self.earlier, tuple[Path, ...](), None
        if self.choose is not None:
            choice = choose_value(self.choose, one, reporter, replace=self.replace, earlier=earlier)
            earlier = (*earlier, *(option.folder for option in one.options))
            trained = (choice.best.option.folder,)
            one = one.having(choice.best.option.value)
        run(one.recipe, one.folder, reporter, replace=self.replace, trust=True, earlier=earlier, trained=trained)
        free_memory()
        return choice

    def _check(self) -> None:
        """Refuse to compute with another version, or on another base, than the rows before: on another machine."""
        here = f"the worker on {platform.node()}"
        if self.version != __version__:
            raise EngineError(
                f"{here} has lingraft {__version__}, and the bench {self.version}; install one version on all machines"
            )
        if not self.base:
            return
        from lingraft.models.files import find_model

        found = find_model(self.one.recipe.model, self.one.recipe.revision)
        if found.sha256 != self.base:
            raise ModelError(
                f"{here} found another model in {found.folder} (hash {found.sha256[:12]}, not {self.base[:12]}); put "
                f"the base on a file system that all machines share"
            )


def needed(one: RowPlan) -> list[str]:
    """Return the rows that must be finished before a row: whose graft or value it takes."""
    return list(dict.fromkeys([*one.takes, *([one.row.like] if one.row.like else [])]))


def awaited(plan: BenchPlan, one: RowPlan, failed: Collection[str] = ()) -> list[str]:
    """Return the rows that a row waits for, in their order: those it needs, and of those before it the first that asks
    the base anything, and the first that asks something that it asks as well. What they answered is then taken over.

    Args:
        plan: the bench.
        one: a row that is run.
        failed: names of rows that are not waited for, since they failed; others ask in their place.
    """
    names = {other.row.name: number for number, other in enumerate(plan.to_run)}
    before = [other for other in plan.to_run[: names[one.row.name]] if other.row.name not in failed]
    waits = set(needed(one))
    if before:
        waits.add(before[0].row.name)
    for asked in _asked(one.recipe):
        if first := next((other for other in before if asked in _asked(other.recipe)), None):
            waits.add(first.row.name)
    return sorted(waits, key=names.__getitem__)


def earlier_rows(plan: BenchPlan, one: RowPlan, failed: Collection[str] = ()) -> list[RowPlan]:
    """Return the rows whose answers a row takes over, in their order: those it waits for, and those they wait for."""
    rows, found = {other.row.name: other for other in plan.to_run}, set[str]()

    def follow(names: Sequence[str]) -> None:
        for name in names:
            if name not in found:
                found.add(name)
                follow(awaited(plan, rows[name], failed))

    follow(awaited(plan, one, failed))
    return [other for name, other in rows.items() if name in found]


def _asked(recipe: Recipe) -> set[str]:
    """Return what a run asks beside what all rows of a bench ask, in hashes: methods that have something written, by
    the name under which it is kept, and these with their parameters; decoders; models that are given or merged."""
    return set(map(content_hash, _questions(recipe)))


def _questions(recipe: Recipe) -> Iterator[list[object]]:
    for part in (part for system in recipe.systems() for stage in system.stages for part in stage.parts):
        method = METHODS.create(part)
        for number, each in enumerate(method.expected_rounds()):
            written = each.name or [part.kind, number]
            yield ["method", written]
            yield ["method", written, dict(part.params)]  # an earlier row of other parameters may ask other questions
    for decoder in recipe.evaluate.decoders:
        yield ["decoder", decoder.kind]
    for graft in recipe.grafts:
        yield ["graft", *graft.paths]
    for merge in recipe.merge:
        yield ["merge", merge.model_dump(mode="json", exclude={"name"})]
