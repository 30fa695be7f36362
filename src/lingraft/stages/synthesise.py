"""Stages `synthesis-<method>` and the examples made from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lingraft.data.records import Example, Generation, Request
from lingraft.methods import METHODS, Method, MethodInputs
from lingraft.methods.base import Tally
from lingraft.recipe import System
from lingraft.stages.context import Context
from lingraft.stages.prepare import Data
from lingraft.store import content_hash, read_lines
from lingraft.synthesis import generate


@dataclass(frozen=True)
class Component:
    """One method's part in a system.

    Attributes:
        share: of the real tokens of all examples; None: all examples are used.
        examples: made from what the base answered. filters: answers kept and dropped, by reason.
        artefact: the answers, if anything was asked.
    """

    method: Method
    share: float | None
    prepared: dict[str, Any]
    stop: tuple[str, ...]
    examples: list[Example]
    filters: dict[str, int]
    artefact: Path | None


@dataclass(frozen=True)
class Synthesised:
    """A system's training examples, and how they came about. The first component decides how translations are asked
    for and where they end."""

    system: System
    components: list[Component]

    @property
    def main(self) -> Component:
        """The first method's part."""
        return self.components[0]

    @property
    def filters(self) -> dict[str, int]:
        """What was kept and dropped, by reason; of methods beside the first one with the method's name."""
        own = dict(self.main.filters)
        beside = {f"{part.method.name}: {key}": n for part in self.components[1:] for key, n in part.filters.items()}
        return own | beside


def answer(
    context: Context, stage: str, requests: Sequence[Request], graft: Path | None = None, graft_hash: str = ""
) -> Path:
    """Return the artefact with the answers of base or graft to the requests, generating what is missing."""
    identity = {"model": context.files.sha256, "graft": graft_hash, **context.engine_identity()}
    inputs = {"identity": identity, "requests": content_hash([request.to_dict() for request in requests])}

    def build(folder: Path) -> dict[str, Any]:
        engine = context.engine()
        parts = folder / "parts"
        with context.reporter.task(stage, len(requests)) as task:
            shown = _shown(task.update, lambda: task.elapsed)
            generate(engine, requests, parts, identity=identity, graft=graft, progress=shown)
        tokens = sum(len(generation.token_ids) for generation in read_answers(folder).values())
        usage = engine.usage()
        return {
            "requests": len(requests),
            "tokens": tokens,
            "engine": engine.name,
            **({"usage": usage} if usage else {}),
        }

    return context.artefact(stage, inputs, build)


def _shown(update: Callable[[int, str], None], elapsed: Callable[[], float]) -> Callable[[int, int], None]:
    def progress(done: int, tokens: int) -> None:
        update(done, f"{tokens / max(elapsed(), 1e-9):,.0f} tokens/s")

    return progress


def read_answers(folder: Path) -> dict[str, Generation]:
    """Return the generations of an artefact by request id."""
    paths = sorted((folder / "parts").glob("part-*.jsonl"))
    generations = (Generation.from_json(line) for path in paths for line in read_lines(path))
    return {generation.id: generation for generation in generations}


def synthesise(context: Context, data: Data, system: System) -> Synthesised:
    """Let the base answer what the methods ask, and make the training examples."""
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
    requests = list(method.requests(inputs))
    artefact, answers = None, {}
    if requests:
        artefact = answer(context, f"synthesis-{name}", requests)  # systems that ask the same share the answers
        answers = read_answers(artefact)
    tally = Tally()
    examples = list(method.examples(inputs, answers, tally))
    return Component(method, share, dict(inputs.prepared), method.stop(inputs), examples, dict(tally.filters), artefact)
