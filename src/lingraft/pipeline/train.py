"""Stage `train-<system>`: examples to a graft."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lingraft.conversation.chain import ChainIds
from lingraft.core.environment import versions
from lingraft.core.errors import DataError, LingraftError
from lingraft.models.adapter import changes_nothing, take_off
from lingraft.models.adapter_files import read_adapter
from lingraft.models.bases import graft_base_id, public_id, without_folders
from lingraft.models.concatenate import concatenate
from lingraft.models.devices import quiet
from lingraft.models.graft import Direction, GraftInfo, name_base, read_info, write_info
from lingraft.models.growth import extended
from lingraft.models.merge_in_memory import merged
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.development import development
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.render import SystemRows, render_system
from lingraft.pipeline.synthesise import Before, StageExamples, synthesise
from lingraft.recipe.asking import chat_of
from lingraft.recipe.objectives import objectives_of
from lingraft.recipe.stages import Stage
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.store.artefacts import SCRATCH, facts
from lingraft.store.files import read_lines, write_lines
from lingraft.training.development import DevPoint
from lingraft.training.objectives import described
from lingraft.training.step_callback import TrainProgress
from lingraft.training.trackers import Tracking
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TUNERS
from lingraft.translation.wording import DEFAULT, TranslationSystem

OWN = "own"
"""Folder of what a stage trained beside a merged graft; its graft is both together."""


@dataclass(frozen=True)
class Start:
    """What a stage begins from.

    Attributes:
        merged: graft that is merged into the base for its training.
        own: adapter that it continues; None: a new one.
    """

    merged: Path | None = None
    own: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedSystem:
    """A trained system: its artefact folder and the graft in it, and what it was trained on.

    `before`: what it was after the stage before its last one. `start`: what its last stage began from.
    """

    name: str
    folder: Path
    synthesised: StageExamples
    rendered: SystemRows
    before: TrainedSystem | None = None
    start: Start = Start()

    @property
    def lineage(self) -> list[TrainedSystem]:
        """The system after each of its stages."""
        return [*(self.before.lineage if self.before else []), self]

    @property
    def graft(self) -> Path:
        """Folder of the adapter and `lingraft.json`."""
        return self.folder / "graft"

    @property
    def own(self) -> Path:
        """Folder of the adapter that its last stage trained: the graft, of which it is a part where one was merged."""
        return self.folder / OWN if self.start.merged else self.graft

    @property
    def graft_hash(self) -> str:
        """What the graft depends on."""
        return self.folder.name

    @property
    def losses(self) -> list[dict[str, Any]]:
        """The loss log, one entry a step."""
        return [json.loads(line) for line in read_lines(self.folder / "losses.jsonl")]

    @property
    def measured(self) -> list[DevPoint]:
        """What was measured on the development set while it was trained."""
        path = self.folder / "dev.jsonl"
        return [DevPoint.from_json(line) for line in read_lines(path)] if path.exists() else []

    @property
    def kept_step(self) -> int | None:
        """The step whose weights it has; None without a development set."""
        return facts(self.folder).get("kept_step")

    @property
    def rendered_example(self) -> str:
        """Text of one rendered example, the supervised part between U+E000 and U+E001."""
        return (self.folder / "example.txt").read_text("utf-8")


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


@dataclass(frozen=True, kw_only=True)
class _StageTraining:
    """The training of one stage of one system.

    Attributes:
        context: of the run.
        data: of the run.
        synthesised: what the examples are made of.
        rendered: the rows that were made of them.
        before: the system after the stage before; None for the first one.
        start: what the training begins from.
    """

    context: Context
    data: Data
    synthesised: StageExamples
    rendered: SystemRows
    before: TrainedSystem | None
    start: Start

    @property
    def stage(self) -> Stage:
        """That is trained."""
        return self.synthesised.stage

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The extended vocabulary of the system, if it has one."""
        own = self.data.vocabulary_of(self.synthesised.system)
        return own.vocabulary if own else None

    @property
    def translating(self) -> TranslationSystem:
        """How the graft will be asked for translations."""
        asked = _asked(self.synthesised, self.before)
        return TranslationSystem(asked["instruction"], tuple(asked["stop"]))

    @property
    def opening(self) -> tuple[int, ...]:
        """The marker behind which a graft with a chain of thought answers in English."""
        own = self.data.vocabulary_of(self.synthesised.system)
        if own is None or _asked(self.synthesised, self.before)["chat"] != "tcot":
            return ()
        return (ChainIds.of(own.renderer, own.markers).response,)

    @property
    def renderer(self) -> Renderer:
        """Of the system's tokenizer."""
        return self.data.renderer_of(self.context, self.synthesised.system)


def _train_stage(
    context: Context, data: Data, synthesised: StageExamples, before: TrainedSystem | None
) -> TrainedSystem:
    training = _StageTraining(
        context=context,
        data=data,
        synthesised=synthesised,
        rendered=render_system(context, data, synthesised),
        before=before,
        start=_start(synthesised.stage, before),
    )
    stage, vocabulary, rendered = training.stage, training.vocabulary, training.rendered
    _refuse_nothing(synthesised, rendered)
    inputs = {
        "model": context.files.sha256,
        "rows": rendered.content,
        "asked": _asked(synthesised, before),
        "tuner": stage.tuner.model_dump(mode="json"),
        "train": stage.train.identity(),
        "seed": synthesised.system.seed,
        "device": context.device,
        **({"dev": [data.dev_hash, context.recipe.evaluate.translation.max_new_tokens]} if data.dev else {}),
        **({"before": synthesised.before.graft_hash} if synthesised.before else {}),
        **({"fresh": True} if before and stage.fresh else {}),
        **({"vocabulary": vocabulary.folder.name} if vocabulary else {}),
        **({"objective": said} if (said := described(objectives_of(stage))) else {}),
    }
    name = f"train-{synthesised.name}"
    folder = context.artefact(name, inputs, partial(_build, training), partial(_join, training))
    return TrainedSystem(
        name=synthesised.system.name,
        folder=folder,
        synthesised=synthesised,
        rendered=rendered,
        before=before,
        start=training.start,
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


def _start(stage: Stage, before: TrainedSystem | None) -> Start:
    if before is None:
        return Start()
    return Start(merged=before.graft) if stage.fresh else Start(before.start.merged, before.own)


@contextmanager
def _trained(training: _StageTraining, folder: Path) -> Iterator[TrainResult]:
    """Train, in every process of the run; the first alone shows progress. The base is as before afterwards."""
    context, stage, start = training.context, training.stage, training.start
    tuner = TUNERS.create(stage.tuner)
    base = context.for_training(stage.train.sharding)
    with (
        extended(base, training.vocabulary) as loaded,
        merged(loaded.model, start.merged) if start.merged else nullcontext(),
    ):
        measured = development(context, training.data, stage.train, loaded, training.translating, training.opening)
        with context.reporter.task(f"train-{training.synthesised.name}", 1) as task:

            def show(progress: TrainProgress) -> None:
                task.update(
                    progress.step,
                    f"loss {progress.loss:.3f}, {progress.tokens_per_second:,.0f} real and "
                    f"{progress.supervised_tokens_per_second:,.0f} supervised tokens/s",
                    progress.steps,
                )

            result = train(
                loaded.model,
                training.rendered.rows,
                stage.train,
                tuner,
                pad_id=loaded.renderer.pad_id,
                work_dir=folder / SCRATCH,
                seed=training.synthesised.system.seed,
                initial=start.own,
                new_ids=loaded.new_ids,
                objectives=objectives_of(stage),
                progress=show,
                development=measured,
                tracking=Tracking(
                    name=f"{context.recipe.name}/{training.synthesised.name}",
                    folder=context.root / "tensorboard" / folder.stem,
                ),
                say=context.reporter.say,
            )
        try:
            yield result
        finally:
            take_off(result.model)


def _join(training: _StageTraining, folder: Path) -> None:
    """Train with the first process, which keeps the result."""
    with _trained(training, folder):
        pass


def _build(training: _StageTraining, folder: Path) -> dict[str, Any]:
    graft, merged_in, rendered = folder / "graft", training.start.merged, training.rendered
    with _trained(training, folder) as result:
        _write_adapter(training, result, folder / OWN if merged_in else graft)
    if merged_in:
        concatenate(merged_in, folder / OWN, graft)
    _describe(training, graft)
    rows = rendered.rows
    write_lines(folder / "losses.jsonl", (json.dumps(point.to_dict()) for point in result.log))
    if result.dev:
        write_lines(folder / "dev.jsonl", (point.to_json() for point in result.dev))
    shown = max(rows[:50], key=lambda row: row.supervised)
    (folder / "example.txt").write_text(marked_text(training.renderer, shown), "utf-8")
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


def _write_adapter(training: _StageTraining, result: TrainResult, folder: Path) -> None:
    context = training.context
    config: Any = result.model.peft_config["default"]
    if not isinstance(config.target_modules, str):  # a set, which would be written in another order each time
        config.target_modules = sorted(config.target_modules or ())
    with quiet():
        TUNERS.create(training.stage.tuner).save(result.model, folder)
    name_base(folder, public_id(context.files, context.recipe.base_id))
    if changes_nothing(read_adapter(folder)[1]):
        raise LingraftError(
            f"{result.steps} steps of training have changed nothing, all updates of the adapter are zero; "
            f"raise learning_rate"
        )
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty form; the card comes with the report


def _asked(synthesised: StageExamples, before: TrainedSystem | None) -> dict[str, Any]:
    """Return how the graft is asked for translations and holds conversations: what this stage has not taught is as it
    was before it."""
    part, known = synthesised.translating, read_info(before.graft) if before else None
    asked = {
        "instruction": known.instruction if known else DEFAULT,
        "delimiter": known.delimiter if known else None,
        "stop": known.stop if known else [],
        "chat": chat_of(synthesised.system.stages[: synthesised.number + 1]),
    }
    if part:
        asked["instruction"] = part.method.params.instructions[0]
        asked |= {"delimiter": part.prepared.get("delimiter"), "stop": list(part.stop)}
    return asked


def _describe(training: _StageTraining, graft: Path) -> None:
    """Write what makes an adapter a graft beside it."""
    context, synthesised = training.context, training.synthesised
    if training.vocabulary:
        training.vocabulary.copy_to(graft)
    write_info(
        graft,
        GraftInfo(
            method=" > ".join(stage.methods for stage in synthesised.system.stages[: synthesised.number + 1]),
            **_asked(synthesised, training.before),
            directions=[Direction(source=source, target=target) for source, target in training.data.directions],
            base_id=graft_base_id(context.files, context.recipe.base_id),
            base_sha256=context.files.sha256,
            template=training.renderer.template.variables,
            params=without_folders(synthesised.main.method.params.model_dump(mode="json")),
            versions=versions(),
        ),
    )
