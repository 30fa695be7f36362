"""Stages `synthesis-<method>`: what the base answers, from which training examples are made."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.data.records import Example, Generation, Request
from lingraft.methods import METHODS, Method, MethodInputs
from lingraft.methods.base import Tally
from lingraft.recipe import EngineChoice, System
from lingraft.rows import RecordsById
from lingraft.stages.context import Context
from lingraft.stages.prepare import Data
from lingraft.stages.reuse import note_asked, taken_over
from lingraft.store import PartStore, artefact_contents, file_hash, list_hash, write_lines
from lingraft.synthesis import generate

KNOWN = "known.jsonl"
"""Answers taken over, beside the parts."""


@dataclass(frozen=True)
class Component:
    """One method's part in a system.

    Attributes:
        share: of the real tokens of all examples; None: all examples are used.
        answers: what the base answered, by request id. artefact: where they are, if anything was asked.
    """

    method: Method
    share: float | None
    inputs: MethodInputs
    stop: tuple[str, ...]
    answers: Mapping[str, Generation]
    artefact: Path | None

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
            "code": file_hash(Path(inspect.getfile(type(self.method)))),
            "params": self.method.params.model_dump(mode="json"),
            "share": self.share,
            "prepared": self.prepared,
            "answers": artefact_contents(self.artefact, "parts/*") if self.artefact else [],
        }


@dataclass(frozen=True)
class Synthesised:
    """What a system's training examples are made of. The first component decides how translations are asked
    for and where they end."""

    system: System
    components: list[Component]

    @property
    def main(self) -> Component:
        """The first method's part."""
        return self.components[0]


def answer(
    context: Context,
    stage: str,
    requests: Iterable[Request],
    graft: Path | None = None,
    graft_hash: str = "",
    choice: EngineChoice | None = None,
    *,
    reuse: bool = False,
) -> Path:
    """Return the artefact with the answers of base or graft to the requests, generating what is missing.

    The requests are iterated several times and never held, unless `reuse` takes over what earlier artefacts of the run
    folder have answered. `choice` is the engine, the recipe's own if None.
    """
    identity = {"model": context.files.sha256, "graft": graft_hash, **context.engine_identity(choice)}
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
        with context.reporter.task(stage, count - len(known)) as task:
            shown = _shown(task.update, lambda: task.elapsed)
            generate(engine, missing, parts, identity=identity, graft=graft, progress=shown)
        tokens = sum(len(generation.token_ids) for generation in read_answers(folder).records())
        usage = engine.usage()
        return {
            "requests": count,
            "tokens": tokens - sum(len(generation.token_ids) for generation in known),
            "engine": engine.name,
            **({"taken_over": len(known)} if known else {}),
            **({"usage": usage} if usage else {}),
        }

    return context.artefact(stage, inputs, build)


def _shown(update: Callable[[int, str], None], elapsed: Callable[[], float]) -> Callable[[int, int], None]:
    def progress(done: int, tokens: int) -> None:
        update(done, f"{tokens / max(elapsed(), 1e-9):,.0f} tokens/s")

    return progress


def read_answers(folder: Path) -> RecordsById[Generation]:
    """Return the generations of an artefact by request id; they are read when asked for."""
    parts = folder / "parts"
    return RecordsById([*sorted(parts.glob("part-*.jsonl")), *parts.glob(KNOWN)], Generation)


@dataclass(frozen=True)
class _Asked(Iterable[Request]):
    """What a method asks, made anew in each pass."""

    method: Method
    inputs: MethodInputs

    def __iter__(self) -> Iterator[Request]:
        return self.method.requests(self.inputs)


def synthesise(context: Context, data: Data, system: System) -> Synthesised:
    """Let the base answer what the methods ask, so that the training examples can be made."""
    stage = system.stage
    wanted = [
        (stage.method, stage.params, None),
        *((other.method, other.params, other.share) for other in stage.beside),
    ]
    return Synthesised(system, [_component(context, data, *each) for each in wanted])


def _component(context: Context, data: Data, name: str, params: dict[str, Any], share: float | None) -> Component:
    entry = METHODS.get(name)
    method = entry(entry.Params.model_validate(params))
    inputs = MethodInputs(data.train, data.replay, context.recipe.seed)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    artefact: Path | None = None
    answers: Mapping[str, Generation] = {}
    asked = _Asked(method, inputs)
    if any(True for _ in asked):
        artefact = answer(context, f"synthesis-{name}", asked)  # systems that ask the same share the answers
        answers = read_answers(artefact)
    return Component(method, share, inputs, method.stop(inputs), answers, artefact)
