"""Stages `synthesis-<name>` and `translation-<name>`: the answers from which training examples are made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.core.errors import DataError
from lingraft.data.records import Example, Generation
from lingraft.methods.base import METHODS, Method, MethodInputs, Tally
from lingraft.metrics.base import open_metric
from lingraft.pipeline.context import Context
from lingraft.pipeline.lengths import too_long
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.rounds import Answered, Before, all_answered, answered_rounds
from lingraft.pipeline.scores import Scoring, metric_identity
from lingraft.pipeline.similarity import tell_similarity
from lingraft.recipe.asking import chat_of
from lingraft.recipe.stages import Part, Stage, SystemPlan
from lingraft.rendering.renderer import Renderer
from lingraft.store.artefacts import artefact_contents, code_hashes


@dataclass(frozen=True, kw_only=True)
class Component:
    """One method's part in a system.

    Attributes:
        share: of the real tokens of all examples; None: all examples are used.
        answers: to what was asked, by request id.
        artefacts: where they are.
    """

    method: Method
    share: float | None
    inputs: MethodInputs
    stop: tuple[str, ...]
    answers: Mapping[str, Generation]
    artefacts: tuple[Path, ...] = ()

    @property
    def prepared(self) -> dict[str, Any]:
        """What the method decided for these data."""
        return dict(self.inputs.prepared)

    def examples(self, tally: Tally) -> Iterator[Example]:
        """Make the examples, one after the other; `tally` counts what was kept and dropped."""
        return self.method.examples(self.inputs, self.answers, tally)

    def identity(self) -> dict[str, Any]:
        """Return all that decides the examples, beside pairs, prompts and seed."""
        return {
            "method": self.method.name,
            "version": _version(self.method),
            "params": self.method.params.model_dump(mode="json"),
            "share": self.share,
            "english_opening": self.inputs.english_opening,
            "prepared": self.prepared,
            **({"selected_by": chosen} if (chosen := self._selected_by()) else {}),
            "answers": [part for artefact in self.artefacts for part in artefact_contents(artefact, "parts/*")],
        }

    def _selected_by(self) -> list[dict[str, Any]]:
        return [metric_identity(open_metric(choice)) for choice in self.method.selects_by]


def _version(method: Method) -> list[Any]:
    """Return what says how a method works: its version, and of a plugin, which may be in the making, its code, too."""
    ours = ("lingraft", "abc", "builtins")
    own = [kind for kind in type(method).__mro__ if kind.__module__.partition(".")[0] not in ours]
    return [method.version, *code_hashes(*own)]


@dataclass(frozen=True)
class StageExamples:
    """What the training examples of one stage of a system are made of.

    Attributes:
        number: of the stage, from 0.
        before: the adapter that it continues.
    """

    system: SystemPlan
    components: list[Component]
    number: int = 0
    before: Before | None = None

    @property
    def stage(self) -> Stage:
        """The stage."""
        return self.system.stages[self.number]

    @property
    def last(self) -> bool:
        """Whether no stage follows."""
        return self.number == len(self.system.stages) - 1

    @property
    def name(self) -> str:
        """Of the stage's artefacts. Systems that begin alike share their first stages, which have no system's name."""
        if not self.last:
            return self.stage.label + (f"#{self.system.seed}" if self.system.group else "")
        return self.system.name

    @property
    def shared_name(self) -> str:
        """The same for artefacts that do not depend on the seed of the training."""
        return (self.system.group or self.system.name) if self.last else self.stage.label

    @property
    def main(self) -> Component:
        """The first method's part."""
        return self.components[0]

    @property
    def translating(self) -> Component | None:
        """The part that teaches to translate, and decides how translations are asked for and where they end; of
        several, which agree, the first with an end of its own. None where nothing in the stage teaches it."""
        teachers = [part for part in self.components if part.method.teaches_translation()]
        return next((part for part in teachers if part.stop), next(iter(teachers), None))


def synthesise(
    context: Context, data: Data, system: SystemPlan, number: int = 0, before: Before | None = None
) -> StageExamples:
    """Have what the methods of a stage ask answered, round after round, so that the training examples can be made.

    Args:
        context: of the run.
        data: pairs, prompts and documents that the methods use.
        system: whose stage it is.
        number: of the stage, from 0.
        before: what the stage before has trained; None for the first.
    """
    inputs, renderer = _inputs(context, data, system, number), data.renderer_of(context, system)
    parts = [_component(context, inputs, part, before, renderer) for part in system.stages[number].parts]
    return StageExamples(system, parts, number, before)


def ask_ahead(context: Context, data: Data) -> None:
    """Have all that the methods of all stages of all systems ask answered before anything is trained, up to the first
    round of each that needs what the stage before trains.

    Raises:
        DataError: the answers are too few to train on, or what is made of them is too long.
    """
    seen: set[str] = set()
    for system in context.recipe.systems():
        renderer = data.renderer_of(context, system)
        for number, stage in enumerate(system.stages):
            inputs = _inputs(context, data, system, number)
            for part in stage.parts:
                key = json.dumps([part.kind, part.params, system.vocabulary, inputs.english_opening], sort_keys=True)
                if key not in seen:
                    seen.add(key)
                    if reason := _unfit(context, *_opened(part, inputs), renderer):
                        where = f"system {system.name!r}, stage {stage.label!r}, method {part.kind!r}"
                        raise DataError(f"{where}: {reason}")


def _unfit(context: Context, method: Method, inputs: MethodInputs, renderer: Renderer) -> str:
    """Have a method's leading rounds answered, and return why that is too little, or too long; "" if it is not."""
    answered = Answered({}, ())
    for answered in answered_rounds(context, method, inputs, renderer, ahead=True):
        if reason := method.shortfall(inputs, answered.answers):
            return reason
    if not answered.artefacts and (reason := method.shortfall(inputs, {})):  # it asks nobody, and has answers given
        return reason
    if reason := too_long(renderer, context.longest, method.known_examples(inputs, answered.answers)):
        return reason
    tell_similarity(context, method, inputs, answered.answers)
    return ""


def _inputs(context: Context, data: Data, system: SystemPlan, number: int) -> MethodInputs:
    vocabulary = data.vocabulary_of(system)
    return MethodInputs(
        data.train,
        data.replay,
        context.recipe.seed,
        texts=data.texts,
        markers=vocabulary.markers if vocabulary else None,
        english_opening=chat_of(system.stages[: number + 1]) == "tcot",
        user_turn=context.renderer.user_turn,
        numbers=context.renderer.numbers(10),
        held_out=data.held_out,
        score=Scoring(context, data.languages),
    )


def _component(
    context: Context,
    inputs: MethodInputs,
    part: Part,
    before: Before | None,
    renderer: Renderer,
) -> Component:
    method, inputs = _opened(part, inputs)
    answered = all_answered(context, method, inputs, renderer, before)
    return Component(
        method=method,
        share=part.share,
        inputs=inputs,
        stop=method.stop(inputs),
        answers=answered.answers,
        artefacts=answered.artefacts,
    )


def _opened(part: Part, inputs: MethodInputs) -> tuple[Method, MethodInputs]:
    """Return a method and its inputs, prepared."""
    method = METHODS.create(part)
    return method, replace(inputs, prepared=method.prepare(inputs))
