"""Stages `synthesis-<system>` and the examples made from it."""

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
class Synthesised:
    """A system's training examples, and how they came about."""

    system: System
    method: Method
    examples: list[Example]
    filters: dict[str, int]
    prepared: dict[str, Any]
    stop: tuple[str, ...]
    artefact: Path | None


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
    """Let the base answer what the method asks, and make the training examples."""
    entry = METHODS.get(system.stage.method)
    method = entry(entry.Params.model_validate(system.stage.params))  # type: ignore[attr-defined]
    inputs = MethodInputs(data.train, data.replay, context.recipe.seed)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    requests = list(method.requests(inputs))
    artefact, answers = None, {}
    if requests:
        artefact = answer(context, f"synthesis-{system.name}", requests)
        answers = read_answers(artefact)
    tally = Tally()
    examples = list(method.examples(inputs, answers, tally))
    return Synthesised(
        system, method, examples, dict(tally.filters), dict(inputs.prepared), method.stop(inputs), artefact
    )
