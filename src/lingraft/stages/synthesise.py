"""Stages `synthesis-<method>`: what the base answers, from which training examples are made."""

from __future__ import annotations

from abc import ABC
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft import translating
from lingraft.choices import EngineChoice
from lingraft.data.records import Example, Generation, Request
from lingraft.engines import Engine
from lingraft.errors import UsageError
from lingraft.methods import METHODS, Method, MethodInputs, distillation, translations
from lingraft.methods.base import Tally
from lingraft.progress import Task
from lingraft.recipe_asking import chat_of
from lingraft.recipe_stages import Stage, System
from lingraft.rows import RecordsById
from lingraft.stages.context import Context
from lingraft.stages.prepare import Data
from lingraft.stages.reuse import note_asked, taken_over
from lingraft.store import PartStore, artefact_contents, code_hashes, list_hash, write_lines
from lingraft.synthesis import generate
from lingraft.thinking import said

KNOWN = "known.jsonl"
"""Answers taken over, beside the parts."""


@dataclass(frozen=True)
class Through:
    """Something put around an engine, and what of it decides the answers."""

    wrap: Callable[[Engine], Engine]
    identity: Any


@dataclass(frozen=True)
class Component:
    """One method's part in a system.

    Attributes:
        share: of the real tokens of all examples; None: all examples are used.
        answers: to what was asked, by request id. artefacts: where they are.
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
            "code": _code(self.method),
            "params": self.method.params.model_dump(mode="json"),
            "share": self.share,
            "english_opening": self.inputs.english_opening,
            "prepared": self.prepared,
            "answers": [part for artefact in self.artefacts for part in artefact_contents(artefact, "parts/*")],
        }


def _code(method: Method) -> list[str]:
    """Return the hashes of the files that say what a method does: its own, those of its bases, and those beside the
    interface that several methods share."""
    classes = [kind for kind in type(method).__mro__ if kind not in (Method, ABC, object)]
    shared = [distillation, translations, translating] if len(classes) > 1 else []
    return code_hashes(*classes, *shared)


@dataclass(frozen=True)
class Before:
    """The graft that the stage before has trained, and what it depends on."""

    graft: Path
    graft_hash: str


@dataclass(frozen=True)
class Synthesised:
    """What the training examples of one stage of a system are made of.

    Attributes:
        number: of the stage, from 0. before: the adapter that it continues.
    """

    system: System
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


def answer(
    context: Context,
    stage: str,
    requests: Iterable[Request],
    graft: Path | None = None,
    graft_hash: str = "",
    choice: EngineChoice | None = None,
    *,
    reuse: bool = False,
    through: Through | None = None,
) -> Path:
    """Return the artefact with the answers of base or graft to the requests, generating what is missing.

    The requests are iterated several times and never held, unless `reuse` takes over what earlier artefacts of the run
    folder have answered. `choice` is the engine, the recipe's own if None; `through` is put around it.
    """
    identity = {"model": context.files.sha256, "graft": graft_hash, **context.engine_identity(choice)}
    identity |= context.renderer.identity
    if through:
        identity |= {"through": through.identity}
    digest, count = list_hash(request.to_dict() for request in requests)
    inputs = {"identity": identity, "requests": digest}

    def build(folder: Path) -> dict[str, Any]:
        parts, missing = folder / "parts", requests
        known: list[Generation] = []
        if reuse:
            known, missing = taken_over(context.root, identity, list(requests), read_answers)
            write_lines(parts / KNOWN, (generation.to_json() for generation in known))
            note_asked(folder, requests)
            if not missing:
                PartStore(parts).known([])
                return {"requests": count, "tokens": 0, "taken_over": count}
        engine = context.engine(choice)
        if through:
            engine = through.wrap(engine)
        with context.reporter.task(stage, count - len(known)) as task:
            generate(engine, missing, parts, identity=identity, graft=graft, progress=_shown(task, engine))
        tokens = thoughts = 0
        for generation in read_answers(folder).records():
            tokens += len(generation.token_ids)
            thoughts += said(generation.text).thought
        if thoughts:
            context.reporter.say(_thinking(stage, thoughts, count), always=True)
        usage = engine.usage()
        return {
            "requests": count,
            "tokens": tokens - sum(len(generation.token_ids) for generation in known),
            "engine": engine.name,
            **({"taken_over": len(known)} if known else {}),
            **({"thoughts": thoughts} if thoughts else {}),
            **({"usage": usage} if usage else {}),
        }

    return context.artefact(stage, inputs, build)


def _thinking(stage: str, thoughts: int, count: int) -> str:
    return (
        f"Warning: {stage}: {thoughts:,} of {count:,} answers hold thoughts, which count as no translation, "
        f"rationale or answer; switch thinking off by a variable of the chat template (`template:` of the recipe)"
    )


def _shown(task: Task, engine: Engine) -> Callable[[int, int], None]:
    """Return what tells the task of answers given; its rate counts those under way, too."""
    given = 0

    def progress(done: int, tokens: int) -> None:
        nonlocal given
        given = tokens
        task.update(done)

    task.describe(lambda: f"{(given + engine.under_way) / max(task.elapsed, 1e-9):,.0f} tokens/s")
    return progress


def read_answers(folder: Path) -> RecordsById[Generation]:
    """Return the generations of an artefact by request id; they are read when asked for."""
    parts = folder / "parts"
    return RecordsById([*sorted(parts.glob("part-*.jsonl")), *parts.glob(KNOWN)], Generation)


@dataclass(frozen=True)
class _Asked(Iterable[Request]):
    """What a method asks, made anew in each pass."""

    ask: Callable[[], Iterator[Request]]

    def __iter__(self) -> Iterator[Request]:
        return self.ask()


def synthesise(
    context: Context, data: Data, system: System, number: int = 0, before: Before | None = None
) -> Synthesised:
    """Let the base, and where methods translate the graft of the stage before, answer what the methods of a stage ask,
    so that the training examples can be made.

    Args:
        number: of the stage, from 0. before: what the stage before has trained.
    """
    stage = system.stages[number]
    wanted = [
        (stage.method, stage.params, None),
        *((other.method, other.params, other.share) for other in stage.beside),
    ]
    vocabulary = data.vocabulary_of(system)
    markers = vocabulary.markers if vocabulary else None
    inputs = MethodInputs(
        data.train,
        data.replay,
        context.recipe.seed,
        texts=data.texts,
        markers=markers,
        english_opening=chat_of(system.stages[: number + 1]) == "tcot",
    )
    return Synthesised(system, [_component(context, inputs, *each, before) for each in wanted], number, before)


def _component(
    context: Context,
    inputs: MethodInputs,
    name: str,
    params: dict[str, Any],
    share: float | None,
    before: Before | None,
) -> Component:
    entry = METHODS.get(name)
    method = entry(entry.Params.model_validate(params))
    inputs = replace(inputs, prepared=method.prepare(inputs))
    stage = f"synthesis-{method.asks_as or name}"
    artefacts: list[Path] = []
    answers: Mapping[str, Generation] = {}
    asked = _Asked(lambda: method.requests(inputs))
    if any(True for _ in asked):
        artefacts.append(answer(context, stage, asked))  # systems that ask the same share the answers
        answers = read_answers(artefacts[0])
    first = answers
    further = _Asked(lambda: method.follow_ups(inputs, first))
    if any(True for _ in further):
        artefacts.append(_translated(context, method, further, before))
        answers = ChainMap(read_answers(artefacts[-1]), answers)  # type: ignore[arg-type]  # none is written to
    return Component(method, share, inputs, method.stop(inputs), answers, tuple(artefacts))


def _translated(context: Context, method: Method, asked: Iterable[Request], before: Before | None) -> Path:
    """Let the method's translator answer, by default the graft of the stage before."""
    stage = f"translation-{method.follow_ups_as or method.name}"
    if method.translator is not None:
        return answer(context, stage, asked, choice=EngineChoice.model_validate(dict(method.translator)))
    if before is None:
        raise UsageError(
            f"method {method.name!r} lets the graft of the stage before translate, and there is none; put a stage "
            f"before it, or set its parameter `translator` or `translations`"
        )
    return answer(context, stage, asked, before.graft, before.graft_hash)
