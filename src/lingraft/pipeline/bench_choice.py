"""Choosing a value for a row of a bench: it is trained once with each, and measured on the development set alone.

Each training is a run of its own that ends when it is trained: no test item and no suite is asked. A killed one
continues, and what the row's own run trains with the chosen value is taken over from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.environment import versions
from lingraft.core.errors import LingraftError, TrainingError
from lingraft.core.figures import value_text
from lingraft.core.hashing import content_hash
from lingraft.core.progress import Reporter
from lingraft.models.devices import free_memory
from lingraft.pipeline.context import Context
from lingraft.pipeline.experiment import Experiment
from lingraft.pipeline.trainings import begun, train_systems
from lingraft.recipe.bench import RowPlan
from lingraft.recipe.bench_choice import Choose, Option
from lingraft.recipe.files import check_parts
from lingraft.store.artefacts import facts, package_hash
from lingraft.store.files import read_sealed, write_sealed

SPOILT = "spoilt.json"
"""Why a training in this folder cannot be finished with its settings."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What one value gave.

    Attributes:
        option: the value, and where it was trained.
        dev: what the development set said of the weights that were kept, by name; {} where training was spoilt.
        step: of these weights.
        why: what spoilt the training.
        seconds: of training.
        tokens: real tokens read in training.
    """

    option: Option
    dev: dict[str, float]
    step: int = 0
    why: str = ""
    seconds: float = 0.0
    tokens: int = 0


@dataclass(frozen=True)
class Choice:
    """What was chosen for a row.

    Attributes:
        choose: by what, from what.
        candidates: all that were tried.
        best: of them.
    """

    choose: Choose
    candidates: list[Candidate]
    best: Candidate

    @property
    def edge(self) -> str:
        """Which end of the values tried the best one is at, "highest" or "lowest", where they are numbers: beyond it
        there may be a better one. A value at which training was spoilt has been tried."""
        tried = [one.option.value for one in self.candidates]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in tried):
            return ""
        value = self.best.option.value
        return "highest" if value == max(tried) else "lowest" if value == min(tried) else ""

    @property
    def words(self) -> str:
        """What was chosen, in words."""
        text = f"{self.choose.key} {value_text(self.best.option.value)}"
        return f"{text}, best at the {self.edge} tried" if self.edge else text

    def to_dict(self, bench: Path) -> dict[str, Any]:
        """Return it ready for JSON; folders are relative to that of the bench."""
        return {
            "key": self.choose.key,
            "by": self.choose.by,
            "value": self.best.option.value,
            "edge": self.edge,
            "like": "",
            "candidates": [
                {
                    "value": one.option.value,
                    "run": str(one.option.folder.relative_to(bench)),
                    "dev": {"step": one.step, **one.dev} if one.dev else None,
                    "why": one.why,
                    "seconds": round(one.seconds, 2),
                    "tokens": one.tokens,
                }
                for one in self.candidates
            ],
        }


def refuse_others(one: RowPlan, replace: bool) -> None:
    """Refuse to run a row where a folder of it holds another experiment; nothing is written.

    A row for which a value is chosen may hold what any of them gives.

    Raises:
        UsageError: there is one.
    """
    if one.chooses:
        for option in one.options:
            Experiment(option.candidate).refuse_other(option.folder, replace)
    known_value(one, replace)


def variants(one: RowPlan) -> list[RowPlan]:
    """Return a row with each of the values that it may get."""
    return [one.having(option.value) for option in one.options] or [one]


def known_value(one: RowPlan, replace: bool) -> RowPlan:
    """Return a row with the value that its folder holds, or with the first of its values where it holds none.

    Raises:
        UsageError: it holds another experiment.
    """
    first: LingraftError | None = None
    for option in one.options:
        try:
            Experiment(option.recipe).refuse_other(one.folder, replace)
            return one.having(option.value)
        except LingraftError as error:
            first = first or error
    if first is not None:
        raise first
    Experiment(one.recipe).refuse_other(one.folder, replace)
    return one


def choose_value(
    choose: Choose, one: RowPlan, reporter: Reporter, *, replace: bool = False, earlier: Sequence[Path] = ()
) -> Choice:
    """Return what is best for a row, training what has not been trained.

    Args:
        choose: of the bench.
        one: the row, which chooses.
        reporter: is told what happens.
        replace: whether what other recipes left in the folders of the trainings may be replaced.
        earlier: folders of other runs, whose answers to the same questions are taken over.

    Raises:
        TrainingError: training was spoilt at every value.
        LingraftError: something else failed; what was finished is kept.
    """
    found: list[Candidate] = []
    for option in one.options:
        reporter.say(f"Trying {choose.key} {value_text(option.value)}", always=True)
        before = tuple(other.folder for other in one.options if other.folder != option.folder)
        found.append(_tried(choose, option, reporter, replace, (*earlier, *before), before))
        free_memory()
    choice = Choice(choose, found, best_of(choose, found))
    reporter.say(f"Chosen by {choose.by} of the development set: {choice.words}", always=True)
    return choice


def best_of(choose: Choose, found: Sequence[Candidate]) -> Candidate:
    """Return the candidate of the least loss, or of the highest chrF; the first of two alike.

    Args:
        choose: of the bench.
        found: all that were tried.

    Raises:
        TrainingError: training was spoilt at every value.
    """
    trained = [candidate for candidate in found if not candidate.why]
    if not trained:
        raise TrainingError(f"training was spoilt at each value of {choose.key}; the first: {found[0].why}")
    sign = -1 if choose.by == "loss" else 1
    return max(trained, key=lambda candidate: sign * candidate.dev[choose.by])


def _tried(
    choose: Choose,
    option: Option,
    reporter: Reporter,
    replace: bool,
    earlier: tuple[Path, ...],
    trained: tuple[Path, ...],
) -> Candidate:
    """Train with one value, as far as that has not been done, and return what the development set says of it."""
    check_parts(option.candidate)
    with begun(option.candidate, option.folder, reporter, replace=replace, earlier=earlier, trained=trained) as context:
        key = _identity(context, option)
        known = read_sealed(option.folder / SPOILT)
        if known and known["key"] == key:
            return Candidate(option=option, dev={}, why=str(known["why"]))
        try:
            (system,) = train_systems(context).systems
        except TrainingError as error:
            write_sealed(option.folder / SPOILT, {"key": key, "why": str(error)})
            reporter.say(f"{choose.key} {value_text(option.value)} is out: {error}", always=True)
            return Candidate(option=option, dev={}, why=str(error))
    point = next(point for point in system.measured if point.step == system.kept_step)
    if choose.by not in point.values:
        raise LingraftError(f"choose.by: {choose.by}, but the development set has no pair that can be translated")
    made = [facts(item.folder) for item in system.lineage]
    return Candidate(
        option=option,
        dev=point.values,
        step=point.step,
        seconds=sum(float(one["seconds"]) for one in made),
        tokens=sum(int(one["tokens"]) for one in made),
    )


def _identity(context: Context, option: Option) -> str:
    """Return a hash of all that decides how a training goes; an update tries again what was spoilt."""
    experiment = Experiment(option.candidate)
    return content_hash(
        [experiment.values, experiment.contents, context.files.sha256, context.device, versions(), package_hash()]
    )
