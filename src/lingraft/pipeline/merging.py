"""Stage `merge-<system>`: systems that are made of the weights of others, without training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import ModelError
from lingraft.merging.base import MERGERS
from lingraft.merging.plan import BASE, Given, check_model, given, planned
from lingraft.merging.sources import Layout
from lingraft.merging.stream import write
from lingraft.models.files import ModelFiles
from lingraft.models.graft import read_info
from lingraft.models.graft_seal import adapter_hash
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.given_grafts import fitting, given_folder
from lingraft.pipeline.measured_system import MeasuredSystem, words_of
from lingraft.recipe.merging import MergePlan, is_path
from lingraft.recipe.stages import folder_name
from lingraft.store.artefacts import SCRATCH


def check_merges(context: Context) -> None:
    """Check that what the recipe merges goes together, as far as that is known before anything is trained.

    Raises:
        ModelError: a folder holds neither a graft nor a model, one that was made for another base, or vocabularies
            differ: what a run merges is a graft, and has the one that all parts have.
    """
    recipe, layout = context.recipe, None
    grown: dict[str, str | None] = {BASE: None}
    own = recipe.vocabulary is not None
    grown |= {one.name: "" if own and one.vocabulary else None for one in recipe.systems()}
    grown |= {one.label: _vocabulary(given_folder(context, one)) for one in recipe.grafts} if recipe.merge else {}
    for plan in recipe.merges():
        for part in filter(is_path, plan.of):
            model = given(part)
            if isinstance(model, Path):
                fitting(context, model)
                grown[part] = _vocabulary(model)
            else:
                assert isinstance(model, ModelFiles), "a path is none of the base's names"
                layout = layout or Layout(context.files.folder)
                free = MERGERS.get(plan.kind).other_vocabularies and part == plan.of[0]
                if check_model(context.files, layout, model, Layout(model.folder), free=free):
                    raise ModelError(
                        f"merge {plan.name!r}: {part} has another vocabulary than the base, so that what is merged is "
                        f"a model of its own, and a run merges to grafts; make it before, with `lingraft merge "
                        f"--checkpoint`, and give it as the recipe's model"
                    )
                grown[part] = None
        compared = [part for part in plan.of if part != BASE]
        for part in compared[1:]:
            one, other = grown[compared[0]], grown[part]
            if (one is None) != (other is None) or (one and other and one != other):
                raise ModelError(
                    f"merge {plan.name!r}: {compared[0]} and {part} have different vocabularies, so that rows of their "
                    f"embeddings stand for other pieces; merge what has one vocabulary"
                )
        grown[plan.name] = grown[plan.of[0] if plan.of[0] != BASE or len(plan.of) == 1 else plan.of[1]]


def _vocabulary(folder: Path) -> str | None:
    """Return the hash of a graft's own vocabulary, None where it has the base's."""
    own = Vocabulary.in_folder(folder)
    return own.info.sha256 if own else None


def merged_systems(context: Context, systems: Sequence[MeasuredSystem]) -> list[MeasuredSystem]:
    """Return what the recipe merges, in its order, merging if needed.

    Args:
        context: of the run.
        systems: all others of the run but the base.

    Raises:
        ModelError: what is merged is damaged, of another base or vocabulary, or gives no finite numbers.
    """
    known = {one.name: one for one in systems}
    for plan in context.recipe.merges():
        known[plan.name] = _merged(context, plan, known)
    return [known[plan.name] for plan in context.recipe.merges()]


def _merged(context: Context, plan: MergePlan, known: Mapping[str, MeasuredSystem]) -> MeasuredSystem:
    merger = MERGERS.create(plan)
    models = [_model(part, known) for part in plan.of]

    def build(folder: Path) -> dict[str, Any]:
        graft, title = folder / "graft", f"merge-{plan.name}"
        with context.reporter.task(title, 1) as task:
            written = write(
                planned(merger, context.files, models),
                graft,
                progress=lambda done, total: task.update(done, total=total),
            )
        shutil.rmtree(graft / SCRATCH, ignore_errors=True)
        return asdict(written)

    inputs = {
        "merger": [merger.name, merger.version, merger.params.model_dump(mode="json")],
        "model": context.files.sha256,
        "of": [_content(model, known.get(part)) for part, model in zip(plan.of, models, strict=True)],
    }
    folder = context.artefact(f"merge-{plan.name}", inputs, build)
    graft = folder / "graft"
    info, (renderer, markers) = read_info(graft), words_of(context, graft)
    parts = [one for part in plan.of if (one := known.get(part))]
    return MeasuredSystem(
        name=plan.name,
        renderer=renderer,
        # As the first of its parts, which no stage may have taught: then in the words of the run.
        translating=replace(info.translating, instruction=parts[0].translating.instruction)
        if parts
        else info.translating,
        markers=markers,
        chat=info.chat,
        graft=graft,
        graft_hash=folder.name,
        method=plan.kind,
        shown=f"{folder.name}/graft",
        group=plan.group,
        merged=tuple(folder_name(part) if is_path(part) else part for part in plan.of),
        swept=plan.swept,
        foreign=any(is_path(part) for part in plan.of) or any(one.given for one in parts),
    )


def _model(part: str, known: Mapping[str, MeasuredSystem]) -> Given:
    if part not in known:
        return given(part)
    graft = known[part].graft
    assert graft is not None, "a part of a merge is the base or a graft"
    return graft


def _content(model: Given, system: MeasuredSystem | None) -> str | None:
    """Return what a part of a merge depends on."""
    if isinstance(model, ModelFiles):
        return model.sha256
    return BASE if model == BASE else system.graft_hash if system else adapter_hash(Path(model))
