"""What a run measures: its base, the grafts it trained, given ones, and copies at other scales (`scale-<system>`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import UsageError
from lingraft.core.strangers import read_object
from lingraft.evaluation.scoring import BASE
from lingraft.models.adapter_config import CONFIG
from lingraft.models.graft import read_info
from lingraft.models.graft_names import graft_folder, shown_name
from lingraft.pipeline.context import Context
from lingraft.pipeline.given_grafts import check_upon, content_of, fitting, given_folder
from lingraft.pipeline.measured_system import MeasuredSystem, own_system, words_of
from lingraft.pipeline.merging import merged_systems
from lingraft.pipeline.scales import at_scale
from lingraft.pipeline.stage_training import TrainedSystem
from lingraft.recipe.asking import wording_of_run
from lingraft.recipe.stages import GivenGraft
from lingraft.training.tuners import TUNERS
from lingraft.translation.wording import TranslationSystem


def measured_systems(context: Context, trained: Sequence[TrainedSystem]) -> list[MeasuredSystem]:
    """Return the base, then all grafts of the run: trained and given ones, the own one behind what it was after each
    earlier stage, then further seeds, then the own graft at other scales, then what is merged of all these.

    Args:
        context: of the run.
        trained: what the run has trained, in the recipe's order.

    Raises:
        ModelError: a given graft is none, or was made for another base; or one cannot be scaled or merged.
    """
    made = [_trained(context, item) for item in trained]
    primary = [*(one for one in made if one.group is None), *(_given(context, one) for one in context.recipe.grafts)]
    own = [one for one in primary if one.name in context.recipe.headliners]
    scaled = [at_scale(context, one, scale) for scale in context.recipe.evaluate.scales for one in own]
    steps = {item.name: _earlier(context, item) for item in trained if item.name in context.recipe.headliners}
    ordered = [graft for one in primary for graft in (*steps.get(one.name, ()), one)]
    grafts = [*ordered, *(one for one in made if one.group is not None), *scaled]
    grafts += merged_systems(context, grafts)
    # The base is asked in the words of the system that the run is about.
    wording = own_system(context, grafts).translating.instruction if grafts else wording_of_run(context.recipe)
    translating = TranslationSystem(wording)
    return [MeasuredSystem(name=BASE, renderer=context.renderer, translating=translating), *grafts]


def _trained(context: Context, trained: TrainedSystem) -> MeasuredSystem:
    system, info = trained.synthesised.system, read_info(trained.graft)
    renderer, markers = words_of(context, trained.graft)
    stages = [item.synthesised.stage for item in trained.lineage]
    taught = any(item.synthesised.translating for item in trained.lineage)
    return MeasuredSystem(
        name=system.name,
        renderer=renderer,
        # A graft that no stage has taught to translate is asked in the words of the run.
        translating=info.translating
        if taught
        else replace(info.translating, instruction=wording_of_run(context.recipe)),
        markers=markers,
        chat=info.chat,
        graft=trained.graft,
        graft_hash=trained.graft_hash,
        method=info.method,
        tuner=system.stage.tuner.kind,
        cites=tuple(dict.fromkeys(key for one in stages for key in TUNERS.create(one.tuner).cited)),
        shown=f"{trained.folder.name}/graft",
        group=system.group,
        seed=system.seed if system.group else None,
        trained=trained,
    )


def _earlier(context: Context, trained: TrainedSystem) -> list[MeasuredSystem]:
    """Return what a system was after each of its stages but the last, where the recipe wants that measured."""
    if not context.recipe.evaluate.stages:
        return []
    return [
        replace(_trained(context, item), name=f"{item.name}@{number}", group=item.name, stage=number, trained=None)
        for number, item in enumerate(trained.lineage[:-1], start=1)
    ]


def check_given(context: Context) -> None:
    """Check that the recipe's given grafts can be put on its base, before anything is trained.

    Raises:
        ModelError: one is no graft, or was made for another base.
        UsageError: one cannot be used in the recipe's precision.
    """
    for stage in context.recipe.stages[:1]:
        if stage.upon:
            check_upon(context, graft_folder(stage.upon))
    for choice in context.recipe.grafts:
        for path in choice.paths:
            folder = graft_folder(path)
            read_info(folder)
        folder = given_folder(context, choice)
        if context.recipe.precision == "nf4" and _config(folder).get("peft_type") == "SHIRA":
            raise UsageError(
                f"{choice.label} changes single numbers of the base, which has none in 4 bits; choose another "
                f"train.precision than nf4"
            )


def _given(context: Context, choice: GivenGraft) -> MeasuredSystem:
    folder = given_folder(context, choice)
    info, digest = fitting(context, folder), content_of(folder)
    renderer, markers = words_of(context, folder)
    return MeasuredSystem(
        name=choice.label,
        renderer=renderer,
        translating=info.translating,
        markers=markers,
        chat=info.chat,
        graft=folder,
        graft_hash=digest[:16],
        method=info.method,
        tuner=str(_config(folder).get("peft_type", "")).lower(),
        shown=shown_name(folder) if len(choice.paths) == 1 else f"{folder.parent.name}/graft",
    )


def _config(folder: Path) -> dict[str, Any]:
    return read_object(folder / CONFIG)
