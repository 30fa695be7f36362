"""The first half of a run, in its folder: the data, what is trained on, and the trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lingraft.core.progress import Reporter
from lingraft.pipeline.contamination import ContaminationCheck
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.dry_run_device import check_room, width_of
from lingraft.pipeline.experiment import Experiment
from lingraft.pipeline.given import given_systems
from lingraft.pipeline.merging import check_merges
from lingraft.pipeline.noting import noted
from lingraft.pipeline.parts import reckoned
from lingraft.pipeline.prepare import Data, prepare
from lingraft.pipeline.questions import check_lengths
from lingraft.pipeline.render import render_system
from lingraft.pipeline.route import check_routed
from lingraft.pipeline.stage_training import TrainedSystem
from lingraft.pipeline.suites import OpenSuite, open_suites
from lingraft.pipeline.synthesise import StageExamples, ask_ahead, synthesise
from lingraft.pipeline.systems import check_given
from lingraft.pipeline.train import train_system
from lingraft.pipeline.trial import try_stages
from lingraft.pipeline.vocabulary import add_languages
from lingraft.recipe.engine_checks import check_served
from lingraft.recipe.files import doubts
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import locked


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """What a run has when everything is trained and nothing is asked yet.

    Attributes:
        data: of the run.
        suites: opened.
        given: systems of which only translations are given.
        check: what the test sets share with what was trained on.
        systems: that were trained.
    """

    data: Data
    suites: list[OpenSuite]
    given: list[SystemAnswers]
    check: ContaminationCheck
    systems: list[TrainedSystem]


@contextmanager
def begun(
    recipe: Recipe,
    root: Path,
    reporter: Reporter,
    *,
    replace: bool = False,
    earlier: tuple[Path, ...] = (),
    trained: tuple[Path, ...] = (),
) -> Iterator[Context]:
    """Hold a run's folder, refuse another experiment there, note this one, and yield the run's context.

    Args:
        recipe: whole and valid.
        root: the folder, which need not exist.
        reporter: is told what happens.
        replace: whether what another recipe published in the folder may be replaced.
        earlier: folders of other runs, whose answers to the same questions are taken over.
        trained: folders of other runs, whose trainings are taken over where they are the same.

    Raises:
        UsageError: the folder holds another experiment.
        LingraftError: what is known to fail later.
    """
    experiment = Experiment(recipe)
    with locked(root), Context(recipe, root, reporter, earlier=earlier, trained=trained) as context:
        experiment.refuse_other(root, replace, context.files.sha256)  # nobody else works here from now on
        for doubt in doubts(recipe):
            reporter.say(f"Warning: {doubt}", always=True)
        check_served(recipe, width_of(recipe))
        check_given(context)
        check_merges(context)
        check_routed(context)
        check_room(recipe, root)
        experiment.begin(root, context.files.sha256)
        with noted(root, reporter) as context.noting:
            yield context


def train_systems(context: Context) -> Trainings:
    """Train all systems of a run that has begun, as far as that has not been done. No test item is asked."""
    recipe, reporter = context.recipe, context.reporter
    context.next_part()
    data = add_languages(context, prepare(context))
    reporter.say(
        f"Data: {len(data.train):,} training pairs, {sum(len(t.pairs) for t in data.tests):,} test segments, "
        f"{len(data.retention):,} held-out prompts, {len(data.rejected):,} rows rejected"
    )
    if context.noting:
        context.noting.reckon(lambda parts: reckoned(context, data, parts))
    given = given_systems(context, data)
    suites = open_suites(context, data)
    check_lengths(context, data, suites)
    check = ContaminationCheck(context, data, suites)
    data = dataclasses.replace(data, held_out=check.holds)
    if recipe.stages:
        context.next_part()
    try_stages(context, data)
    ask_ahead(context, data)
    made = synthesised(context, data)
    # Of the first stages before hours of training; what the others train on is known when those before them are.
    check.look_in((item, render_system(context, data, item)) for item in made)
    trained = [train_system(context, data, item) for item in made]
    check.look_in((stage.synthesised, stage.rendered) for item in trained for stage in item.lineage)
    return Trainings(data=data, suites=suites, given=given, check=check, systems=trained)


def synthesised(context: Context, data: Data) -> list[StageExamples]:
    """Return what each system trains on; further seeds of a system train on the same."""
    made: dict[str, StageExamples] = {}
    for system in context.recipe.systems():
        if system.group:
            made[system.name] = dataclasses.replace(made[system.group], system=system)
        else:
            made[system.name] = synthesise(context, data, system)
    return list(made.values())
