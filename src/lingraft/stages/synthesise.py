"""Stages `synthesis-<method>`: what the base answers, from which training examples are made."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from lingraft.chat import Renderer
from lingraft.choices import EngineChoice
from lingraft.data.records import Example, Generation, Message, Request
from lingraft.engines import Engine
from lingraft.errors import DataError, UsageError
from lingraft.methods import METHODS, Method, MethodInputs
from lingraft.methods.base import Tally
from lingraft.progress import Task
from lingraft.recipe_asking import chat_of
from lingraft.recipe_stages import Stage, System
from lingraft.rows import RecordsById
from lingraft.stages.context import Context
from lingraft.stages.lengths import Window, engine_tokens, too_long
from lingraft.stages.prepare import Data
from lingraft.stages.reuse import TakenOver, note_asked
from lingraft.store import artefact_contents, code_hashes, content_hash, line_writer, list_hash
from lingraft.store_parts import PartStore
from lingraft.synthesis import generate
from lingraft.thinking import said, thinks

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
            "version": _version(self.method),
            "params": self.method.params.model_dump(mode="json"),
            "share": self.share,
            "english_opening": self.inputs.english_opening,
            "prepared": self.prepared,
            "answers": [part for artefact in self.artefacts for part in artefact_contents(artefact, "parts/*")],
        }


def _version(method: Method) -> list[Any]:
    """Return what says how a method works: its version, and of a plugin, which may be in the making, its code, too."""
    ours = ("lingraft", "abc", "builtins")
    own = [kind for kind in type(method).__mro__ if kind.__module__.partition(".")[0] not in ours]
    return [method.version, *code_hashes(*own)]


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


def asks(renderer: Renderer) -> str:
    """Return a hash of how a question, an answer that is continued and a plain text are put to a model: an update that
    renders them otherwise does not take over what was answered before, and any other one does."""
    question, begun = (Message("user", "What is <b>2 + 2</b>?\n\nล่ะ"),), "It's 4,\n\n- or"
    shown = [renderer.prompt_ids(question), renderer.prompt_ids(question, begun), renderer.prompt_ids((), begun)]
    return content_hash([list(prompt.ids) for prompt in shown])[:16]


def answer(
    context: Context,
    stage: str,
    requests: Iterable[Request],
    graft: Path | None = None,
    graft_hash: str = "",
    choice: EngineChoice | None = None,
    *,
    through: Through | None = None,
    renderer: Renderer | None = None,
) -> Path:
    """Return the artefact with the answers of base or graft to the requests, generating what is missing.

    What earlier artefacts of the run folder have answered is taken over. The requests are iterated several times and
    never held.

    Args:
        choice: the engine; the recipe's own if None. through: is put around it.
        renderer: of the model that answers. With it, an answer may have as many tokens as the context leaves, if these
            are fewer than asked for; a request that leaves none gets an empty answer, cut ("length"). Without it, the
            engine refuses such requests.
    """
    identity = {"model": context.files.sha256, "graft": graft_hash, **context.engine_identity(choice)}
    identity |= {**context.renderer.identity, "asks": asks(context.renderer)}
    if through:
        identity |= {"through": through.identity}
    if renderer is not None:
        window, given = Window(renderer, engine_tokens(choice or context.recipe.engine, context.longest)), requests
        requests = _Asked(lambda: map(window.fitted, given))
    digest, count = list_hash(request.to_dict() for request in requests)
    inputs = {"identity": identity, "requests": digest}

    def build(folder: Path) -> dict[str, Any]:
        parts, earlier = folder / "parts", TakenOver(context.root, identity, requests, read_answers)
        answerable = _Asked(lambda: (one for one in earlier.missing() if one.sampling.max_new_tokens))
        known = tokens_known = 0
        with line_writer(parts / KNOWN) as write:
            for generation in earlier.answers():
                write(generation.to_json())
                known, tokens_known = known + 1, tokens_known + len(generation.token_ids)
            for request in earlier.missing() if renderer is not None else ():
                if not request.sampling.max_new_tokens:
                    write(Generation(request.id, "", (), "length").to_json())
                    known += 1
        note_asked(folder, requests)
        if known == count:
            PartStore(parts).known([])
            return {"requests": count, "tokens": 0, "taken_over": count}
        engine = context.engine(choice)
        if through:
            engine = through.wrap(engine)
        missing = requests if not known else answerable
        with context.reporter.task(stage, count - known) as task:
            generate(engine, missing, parts, identity=identity, graft=graft, progress=_shown(task, engine))
        tokens, tagged, given_answers = 0, set[str](), read_answers(folder)
        for generation in given_answers.records():
            tokens += len(generation.token_ids)
            if thinks(generation.text):  # of itself: what is quoted from the request is seen to below
                tagged.add(generation.id)
        asked = (request for request in requests if request.id in tagged) if tagged else ()
        thoughts = sum(said(given_answers[request.id].text, request.given).thought for request in asked)
        if thoughts:
            context.reporter.say(_thinking(stage, thoughts, count), always=True)
        usage = engine.usage()
        return {
            "requests": count,
            "tokens": tokens - tokens_known,
            "engine": engine.name,
            **({"taken_over": known} if known else {}),
            **({"thoughts": thoughts} if thoughts else {}),
            **({"usage": usage} if usage else {}),
        }

    return context.artefact(stage, inputs, build)


def _thinking(stage: str, thoughts: int, count: int) -> str:
    return (
        f"Warning: {stage}: {thoughts:,} of {count:,} answers hold thoughts, which count as no translation, "
        f"rationale or answer; switch thinking off by a variable of the chat template (`template:` of the recipe), "
        f"or as a server has it (`engine.extra_body`)"
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
    inputs, renderer = _inputs(context, data, system, number), data.renderer_of(context, system)
    wanted = _wanted(system.stages[number])
    parts = [_component(context, inputs, *each, before, renderer) for each in wanted]
    return Synthesised(system, parts, number, before)


def ask_ahead(context: Context, data: Data) -> None:
    """Let the base answer what the methods of all stages of all systems ask it, before anything is trained.

    Raises:
        DataError: the answers are too few to train on, or what is made of them is too long.
    """
    seen: set[str] = set()
    for system in context.recipe.systems():
        for number, stage in enumerate(system.stages):
            inputs = _inputs(context, data, system, number)
            for name, params, _ in _wanted(stage):
                key = json.dumps([name, params, system.vocabulary, inputs.english_opening], sort_keys=True)
                if key not in seen:
                    seen.add(key)
                    asked = _asked_base(context, inputs, name, params)
                    reason = asked.method.shortfall(asked.inputs, asked.answers)
                    known = asked.method.known_examples(asked.inputs, asked.answers)
                    if reason := reason or too_long(data.renderer_of(context, system), context.longest, known):
                        raise DataError(f"system {system.name!r}, stage {stage.label!r}, method {name!r}: {reason}")


def _wanted(stage: Stage) -> list[tuple[str, dict[str, Any], float | None]]:
    """Return the methods of a stage with their parameters and shares."""
    others = [(other.method, other.params, other.share) for other in stage.beside]
    return [(stage.method, stage.params, None), *others]


def _inputs(context: Context, data: Data, system: System, number: int) -> MethodInputs:
    vocabulary = data.vocabulary_of(system)
    return MethodInputs(
        data.train,
        data.replay,
        context.recipe.seed,
        texts=data.texts,
        markers=vocabulary.markers if vocabulary else None,
        english_opening=chat_of(system.stages[: number + 1]) == "tcot",
    )


class _AskedBase(NamedTuple):
    """A method with its inputs prepared, and what the base answers it."""

    method: Method
    inputs: MethodInputs
    answers: Mapping[str, Generation]
    artefacts: list[Path]


def _asked_base(context: Context, inputs: MethodInputs, name: str, params: dict[str, Any]) -> _AskedBase:
    """Let the base answer what a method asks it; methods that ask the same share the answers."""
    entry = METHODS.get(name)
    method = entry(entry.Params.model_validate(params))
    inputs = replace(inputs, prepared=method.prepare(inputs))
    asked = _Asked(lambda: method.requests(inputs))
    if not any(True for _ in asked):
        return _AskedBase(method, inputs, {}, [])
    folder = answer(context, f"synthesis-{method.asks_as or name}", asked, renderer=context.renderer)
    return _AskedBase(method, inputs, read_answers(folder), [folder])


def _component(
    context: Context,
    inputs: MethodInputs,
    name: str,
    params: dict[str, Any],
    share: float | None,
    before: Before | None,
    renderer: Renderer,
) -> Component:
    method, inputs, first, artefacts = _asked_base(context, inputs, name, params)
    answers = first
    further = _Asked(lambda: method.follow_ups(inputs, first))
    if any(True for _ in further):
        artefacts.append(_translated(context, method, further, before, renderer))
        answers = ChainMap(read_answers(artefacts[-1]), first)  # type: ignore[arg-type]  # none is written to
    return Component(method, share, inputs, method.stop(inputs), answers, tuple(artefacts))


def _translated(
    context: Context, method: Method, asked: Iterable[Request], before: Before | None, renderer: Renderer
) -> Path:
    """Let the method's translator answer, by default the graft of the stage before.

    Args:
        renderer: of the system's tokenizer.
    """
    stage = f"translation-{method.follow_ups_as or method.name}"
    if method.translator is not None:
        choice = EngineChoice.model_validate(dict(method.translator))
        return answer(context, stage, asked, choice=choice, renderer=context.renderer)
    if before is None:
        raise UsageError(
            f"method {method.name!r} lets the graft of the stage before translate, and there is none; put a stage "
            f"before it, or set its parameter `translator` or `translations`"
        )
    return answer(context, stage, asked, before.graft, before.graft_hash, renderer=renderer)
