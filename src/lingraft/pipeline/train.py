"""Stage `train-<system>`: examples to a graft."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.core.environment import versions
from lingraft.core.errors import DataError, TrainingError
from lingraft.models.adapter import changes_nothing
from lingraft.models.adapter_files import read_adapter
from lingraft.models.bases import graft_base_id, public_id, without_folders
from lingraft.models.concatenate import concatenate
from lingraft.models.devices import quiet
from lingraft.models.graft import Direction, GraftInfo, name_base, write_info
from lingraft.models.graft_seal import adapter_hash
from lingraft.pipeline.context import Context
from lingraft.pipeline.given_grafts import check_upon
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.render import SystemRows, render_system
from lingraft.pipeline.stage_training import (
    OWN,
    StageTraining,
    TrainedSystem,
    asked_as,
    begins,
    masks_of,
    settings_of,
    trained,
)
from lingraft.pipeline.synthesise import Before, StageExamples, synthesise
from lingraft.recipe.objectives import objectives_of
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.store.artefacts import facts
from lingraft.store.files import write_lines
from lingraft.training.objectives import described
from lingraft.training.train import TrainResult
from lingraft.training.tuners import TUNERS


def marked_text(renderer: Renderer, rendered: Rendered) -> str:
    """Return a rendered example as text with its supervised parts between U+E000 and U+E001."""
    pieces = renderer.pieces(rendered)
    return "".join(f"\ue000{text}\ue001" if weight > 0 else text for text, _, weight in pieces).replace(
        "\ue001\ue000", ""
    )


def train_system(context: Context, data: Data, first: StageExamples) -> TrainedSystem:
    """Return the trained system, training (or continuing to train) it if needed, stage after stage.

    Args:
        context: of the run.
        data: what the systems are trained on.
        first: what its first stage trains on; further stages are synthesised when the graft before them is there.
    """
    trained = _train_stage(context, data, first, None)
    for number in range(1, len(first.system.stages)):
        before = Before(trained.graft, trained.graft_hash)
        trained = _train_stage(context, data, synthesise(context, data, first.system, number, before), trained)
    return trained


def _train_stage(
    context: Context, data: Data, synthesised: StageExamples, before: TrainedSystem | None
) -> TrainedSystem:
    context.next_part()
    training = StageTraining(
        context=context,
        data=data,
        synthesised=synthesised,
        rendered=render_system(context, data, synthesised),
        before=before,
        start=begins(context, synthesised, before),
    )
    stage, vocabulary, rendered = training.stage, training.vocabulary, training.rendered
    _refuse_nothing(synthesised, rendered)
    if training.start.upon:
        check_upon(context, training.start.upon)
    training = replace(training, masks=masks_of(training))
    inputs = {
        "model": context.files.sha256,
        "rows": rendered.content,
        "asked": asked_as(synthesised, before),
        "tuner": stage.tuner.model_dump(mode="json"),
        "train": settings_of(stage),
        "seed": synthesised.system.seed,
        "device": context.device,
        **training.dev,
        **({"before": synthesised.before.graft_hash} if synthesised.before else {}),
        **({"fresh": True} if before and stage.fresh else {}),
        **({"vocabulary": vocabulary.folder.name} if vocabulary else {}),
        **({"objective": said} if (said := described(objectives_of(stage))) else {}),
        **({"masks": training.masks.name} if training.masks else {}),
        **({"upon": adapter_hash(training.start.upon)} if training.start.upon else {}),
    }
    name = f"train-{synthesised.name}"
    folder = context.artefact(name, inputs, partial(_build, training), partial(_join, training), training=True)
    return TrainedSystem(
        name=synthesised.system.name,
        folder=folder,
        synthesised=synthesised,
        rendered=rendered,
        before=before,
        start=training.start,
        masks=training.masks,
    )


def _refuse_nothing(synthesised: StageExamples, rendered: SystemRows) -> None:
    """Refuse to train on nothing, and say what became of the examples.

    Raises:
        DataError: there is no row.
    """
    if len(rendered.rows):
        return
    counts = ", ".join(f"{count:,} {reason}" for reason, count in rendered.filters.items() if count)
    raise DataError(
        f"system {synthesised.system.name!r}, stage {synthesised.stage.label!r}: there is no example to train on"
        f"{f' (dropped: {counts})' if counts else ''}; change the `params` of its methods, or give more data"
    )


def _join(training: StageTraining, folder: Path) -> None:
    """Train with the first process, which keeps the result."""
    with trained(training, folder):
        pass


def _build(training: StageTraining, folder: Path) -> dict[str, Any]:
    graft, merged_in, rendered = folder / "graft", training.start.merged, training.rendered
    shown = max(rendered.rows[:50], key=lambda row: row.supervised)
    example = marked_text(training.renderer, shown)
    if training.context.noting:
        training.context.noting.example(example, training.synthesised.name)
    with trained(training, folder) as result:
        _write_adapter(training, result, folder / OWN if merged_in else graft)
    if merged_in:
        concatenate(merged_in, folder / OWN, graft)
    _describe(training, graft)
    write_lines(folder / "losses.jsonl", (json.dumps(point.to_dict()) for point in result.log))
    if result.dev:
        write_lines(folder / "dev.jsonl", (point.to_json() for point in result.dev))
    (folder / "example.txt").write_text(example, "utf-8")
    return {
        "seconds": round(result.seconds, 2),
        "steps": result.steps,
        **({"kept_step": result.kept} if result.dev else {}),
        "tokens": result.tokens,
        "supervised_tokens": result.supervised_tokens,
        "padded_tokens": result.padded_tokens,
        "packed": result.packed,
        **{key: n for key, n in facts(rendered.folder).items() if key == "refused" or key.endswith("_tokens")},
    }


def _write_adapter(training: StageTraining, result: TrainResult, folder: Path) -> None:
    context = training.context
    config: Any = result.model.peft_config["default"]
    if not isinstance(config.target_modules, str):  # a set, which would be written in another order each time
        config.target_modules = sorted(config.target_modules or ())
    with quiet():
        TUNERS.create(training.stage.tuner).save(result.model, folder)
    name_base(folder, public_id(context.files, context.recipe.base_id))
    if changes_nothing(*read_adapter(folder)):
        raise TrainingError(
            f"{result.steps} steps of training have changed nothing, all updates of the adapter are zero; "
            f"raise learning_rate"
        )


def _describe(training: StageTraining, graft: Path) -> None:
    """Write what makes an adapter a graft beside it."""
    context, synthesised = training.context, training.synthesised
    if training.vocabulary:
        training.vocabulary.copy_to(graft)
    write_info(
        graft,
        GraftInfo(
            method=" > ".join(stage.methods for stage in synthesised.system.stages[: synthesised.number + 1]),
            **asked_as(synthesised, training.before),
            directions=[Direction(source=source, target=target) for source, target in training.data.directions],
            base_id=graft_base_id(context.files, context.recipe.base_id),
            base_sha256=context.files.sha256,
            upon_sha256=adapter_hash(training.start.upon) if training.start.upon else None,
            template=training.renderer.template.variables,
            params=without_folders(synthesised.main.method.params.model_dump(mode="json")),
            versions=versions(),
        ),
    )
