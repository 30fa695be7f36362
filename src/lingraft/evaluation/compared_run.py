"""Finished runs as they are compared: their scorecards and per-item results, read through their seals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lingraft.core.errors import DataError, StoreError
from lingraft.evaluation.published import FinishedRun, open_run
from lingraft.evaluation.scorecard import GeneralScore, Scorecard, TranslationScore
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.statistics.items import Items, read_items, same_question
from lingraft.statistics.metric_facts import MetricFacts


@dataclass(frozen=True)
class ComparedRun:
    """A finished run. `label` tells it from the others."""

    label: str
    folder: Path
    scorecard: Scorecard
    items: Sequence[Items]

    def facts(self, question: Items) -> MetricFacts:
        """Return what the metric of a question says about itself, by the run's scorecard."""
        rows: list[TranslationScore | GeneralScore] = []
        if question.direction:
            rows += [row for row in self.scorecard.translation if row.test_set == question.where]
        else:
            rows += [row for row in self.scorecard.general if row.suite == question.where]
        row = next((row for row in rows if row.metric == question.metric), None)
        return row.facts if row else replace(gain_facts(question.metric, ()), better=question.better)

    def of(self, system: str, question: Items) -> Items | None:
        """Return what a system of this run reached on a question."""
        return next((one for one in self.items if one.system == system and same_question(one, question)), None)

    def need(self, system: str, question: Items) -> Items:
        """Return the same where it has to be there.

        Raises:
            DataError: it is not.
        """
        found = self.of(system, question)
        if found is None:
            name = question_name(question)
            raise DataError(f"{self.folder}: items.jsonl lacks {name} of {system!r}; run the recipe again")
        return found


def read_run(folder: Path, label: str) -> ComparedRun:
    """Read a finished run.

    Raises:
        StoreError: see `open_run`; or made by a version without per-item results.
    """
    found = open_run(folder)
    card = read_scorecard(found)
    base, items = read_items(found.file("items.jsonl"))
    if base != card.base.sha256:
        raise StoreError(f"{folder / 'items.jsonl'} belongs to another run than scorecard.json; run the recipe again")
    return ComparedRun(label, folder, card, items)


def read_scorecard(run: FinishedRun) -> Scorecard:
    """Return the scorecard of a finished run.

    Raises:
        StoreError: of another version.
    """
    path = run.file("scorecard.json")
    try:
        return Scorecard.read(path)
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} is of another version; run the recipe again to write it anew") from error


def read_runs(folders: Sequence[Path], names: Sequence[str] = ()) -> list[ComparedRun]:
    """Read runs, each under its name, made different where two are called the same.

    Args:
        folders: of the runs.
        names: of each; "", and by default, that of its folder.

    Raises:
        StoreError: see `read_run`.
        DataError: the same folder twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for folder, given in zip(resolved, names or [""] * len(resolved), strict=True):
        if resolved.count(folder) > 1:
            raise DataError(f"{given or folder} is given twice; name each run once")
    labels: list[str] = []
    for folder, given in zip(resolved, names or [""] * len(resolved), strict=True):
        label, number = given or folder.name, 2
        while label in labels:
            label, number = f"{given or folder.name}-{number}", number + 1
        labels.append(label)
    return [read_run(folder, label) for folder, label in zip(folders, labels, strict=True)]


def question_name(one: Items) -> str:
    """Return how a common score is called in tables."""
    return " ".join(part for part in (one.where, one.direction, one.metric) if part)
