"""The training of one stage of one system: what it begins from, what its tuner selects, and the training itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from lingraft.conversation.chain import ChainIds
from lingraft.core.hashing import list_hash
from lingraft.models.adapter import take_off
from lingraft.models.graft import read_info
from lingraft.models.graft_names import graft_folder
from lingraft.models.graft_seal import adapter_hash
from lingraft.models.growth import extended
from lingraft.models.loading import LoadedModel
from lingraft.models.merge_in_memory import merged
from lingraft.models.vocabulary import Vocabulary
from lingraft.pipeline.context import Context
from lingraft.pipeline.development import development
from lingraft.pipeline.masks import Selecting, replayed
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.render import SystemRows
from lingraft.pipeline.synthesise import StageExamples
from lingraft.recipe.asking import chat_of
from lingraft.recipe.objectives import objectives_of
from lingraft.recipe.stages import Stage
from lingraft.rendering.renderer import Renderer
from lingraft.store.artefacts import SCRATCH, facts
from lingraft.store.files import read_lines
from lingraft.training.development import DevPoint
from lingraft.training.objectives import described
from lingraft.training.selection import FILE, read_masks
from lingraft.training.step_callback import TrainProgress
from lingraft.training.trackers import Tracking
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import ALL, TUNERS, TunerInputs
from lingraft.translation.wording import DEFAULT, TranslationSystem

OWN = "own"
"""Folder of what a stage trained beside a merged graft; its graft is both together."""


@dataclass(frozen=True)
class Start:
    """What a stage begins from.

    Attributes:
        merged: graft that is merged into the base for its training.
        own: adapter that it continues; None: a new one.
        upon: another graft that is merged into the base for the training of all stages, and no part of what comes out.
    """

    merged: Path | None = None
    own: Path | None = None
    upon: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedSystem:
    """A trained system: its artefact folder and the graft in it, and what it was trained on.

    `before`: what it was after the stage before its last one. `start`: what its last stage began from. `masks`: what
    its tuner has selected, if it selects.
    """

    name: str
    folder: Path
    synthesised: StageExamples
    rendered: SystemRows
    before: TrainedSystem | None = None
    start: Start = Start()
    masks: Path | None = None

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


@dataclass(frozen=True, kw_only=True)
class StageTraining:
    """The training of one stage of one system.

    Attributes:
        context: of the run.
        data: of the run.
        synthesised: what the examples are made of.
        rendered: the rows that were made of them.
        before: the system after the stage before; None for the first one.
        start: what the training begins from.
        masks: folder of what its tuner has selected; None where it selects nothing, or has yet to.
    """

    context: Context
    data: Data
    synthesised: StageExamples
    rendered: SystemRows
    before: TrainedSystem | None
    start: Start
    masks: Path | None = None

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
        asked = asked_as(self.synthesised, self.before)
        return TranslationSystem(asked["instruction"], tuple(asked["stop"]))

    @property
    def opening(self) -> tuple[int, ...]:
        """The marker behind which a graft with a chain of thought answers in English."""
        own = self.data.vocabulary_of(self.synthesised.system)
        if own is None or asked_as(self.synthesised, self.before)["chat"] != "tcot":
            return ()
        return (ChainIds.of(own.renderer, own.markers).response,)

    @property
    def dev(self) -> dict[str, Any]:
        """What a training depends on that is measured on a development set."""
        data, limit = self.data, self.context.recipe.evaluate.translation.max_new_tokens
        return {"dev": [data.dev_hash, limit]} if data.dev else {}

    @property
    def renderer(self) -> Renderer:
        """Of the system's tokenizer."""
        return self.data.renderer_of(self.context, self.synthesised.system)


def asked_as(synthesised: StageExamples, before: TrainedSystem | None) -> dict[str, Any]:
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


def begins(context: Context, synthesised: StageExamples, before: TrainedSystem | None) -> Start:
    """Return what a stage begins from."""
    named = context.recipe.stages[0].upon
    upon = graft_folder(named) if named else None
    if before is None:
        return Start(upon=upon)
    if synthesised.stage.fresh:
        return Start(merged=before.graft, upon=upon)
    return Start(before.start.merged, before.own, upon)


def masks_of(training: StageTraining) -> Path | None:
    """Return the folder of what the stage's tuner selects, selecting if needed; a continued adapter keeps its own.

    Raises:
        UsageError, LingraftError: as `Tuner.select`, or it selects nothing.
    """
    context, stage, before, start = training.context, training.stage, training.before, training.start
    tuner, system = TUNERS.create(stage.tuner), training.synthesised.system
    if not tuner.selects:
        return None
    if before and not stage.fresh:
        return before.masks
    prompts = replayed(training.data.replay, context.renderer) if tuner.needs_prompts else []
    inputs = {
        "model": context.files.sha256,
        "tuner": stage.tuner.model_dump(mode="json"),
        "seed": system.seed,
        "device": context.device,
        "replay": list_hash(list(row.input_ids) for row in prompts)[0],
        **(_first_pass(training) if tuner.passes == 2 else {}),
        **({"merged": before.graft_hash} if before else {}),
        **({"upon": adapter_hash(start.upon)} if start.upon else {}),
        **({"vocabulary": training.vocabulary.folder.name} if training.vocabulary else {}),
    }
    return Selecting(
        context=context,
        name=training.synthesised.name,
        inputs=inputs,
        tuner=tuner,
        given=TunerInputs(seed=system.seed, rows=training.rendered.rows, replay=prompts),
        base=partial(_base, training),
        first=lambda loaded, folder: _fit(training, loaded, folder, "masks"),
    ).folder()


def _first_pass(training: StageTraining) -> dict[str, Any]:
    """Return what a first training depends on beside the base."""
    return {
        "rows": training.rendered.content,
        "train": settings_of(training.stage),
        **training.dev,
        **({"objective": said} if (said := described(objectives_of(training.stage))) else {}),
    }


def settings_of(stage: Stage) -> dict[str, Any]:
    """Return the settings that decide what a training gives."""
    return stage.train.identity()


@contextmanager
def _base(training: StageTraining) -> Iterator[LoadedModel]:
    """Yield the base as the stage trains it: grown to its vocabulary, with what is merged into it."""
    start = training.start
    base = training.context.for_training(training.stage.train.sharding)
    with (
        extended(base, training.vocabulary) as loaded,
        merged(loaded.model, start.upon) if start.upon else nullcontext(),
        merged(loaded.model, start.merged) if start.merged else nullcontext(),
    ):
        yield loaded


@contextmanager
def trained(training: StageTraining, folder: Path) -> Iterator[TrainResult]:
    """Train, in every process of the run; the first alone shows progress. The base is as before afterwards."""
    masks = read_masks(training.masks / FILE, training.context.files.sha256) if training.masks else ALL
    with _base(training) as loaded:
        result = _fit(training, loaded, folder, "train", masks)
        try:
            yield result
        finally:
            take_off(result.model)


def _fit(
    training: StageTraining, loaded: LoadedModel, folder: Path, task: str, selected: Mapping[str, Tensor] = ALL
) -> TrainResult:
    """Train on a base as `_base` yields it, showing progress; the adapter is on it when this returns."""
    context, stage, name = training.context, training.stage, training.synthesised.name
    curve = name if task == "train" else f"{task}-{name}"
    measured = development(context, training.data, stage.train, loaded, training.translating, training.opening)
    with context.reporter.task(f"{task}-{name}", 1) as shown:

        def show(progress: TrainProgress) -> None:
            shown.update(
                progress.step,
                f"loss {progress.loss:.3f}, {progress.tokens_per_second:,.0f} real and "
                f"{progress.supervised_tokens_per_second:,.0f} supervised tokens/s",
                progress.steps,
            )

        return train(
            loaded.model,
            training.rendered.rows,
            stage.train,
            TUNERS.create(stage.tuner),
            pad_id=loaded.renderer.pad_id,
            work_dir=folder / SCRATCH,
            seed=training.synthesised.system.seed,
            initial=training.start.own,
            new_ids=loaded.new_ids,
            objectives=objectives_of(stage),
            selected=selected,
            progress=show,
            development=measured,
            tracking=Tracking(
                name=f"{context.recipe.name}/{curve}",
                folder=context.root / "tensorboard" / folder.stem,
            ),
            say=context.reporter.say,
        )
