"""Stages `decode-<system>` and `divergence-<system>`: what each system answers, and how far it is from the base."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.data.records import Pair, Request
from lingraft.decoding.direct import Source, Translation, extract
from lingraft.decoding.direct import requests as translation_requests
from lingraft.evaluation.divergence import kl_from_base
from lingraft.evaluation.suite import KL, SUITES, Answers, Suite, SuiteInputs
from lingraft.graft import grafted
from lingraft.instructions import DEFAULT
from lingraft.stages.context import Context
from lingraft.stages.prepare import Data
from lingraft.stages.synthesise import answer, read_answers
from lingraft.stages.train import Trained
from lingraft.store import write_json


@dataclass(frozen=True)
class Decoded:
    """All answers of one system. `translations`: test-set key -> pair id -> translation."""

    name: str
    artefact: Path
    translations: dict[str, dict[str, Translation]]
    answers: Answers
    divergence: Path | None = None


def open_suites(context: Context, data: Data) -> tuple[list[tuple[str, Suite]], SuiteInputs]:
    """Return the recipe's suites with their names, and what they see."""
    suites = []
    for choice in context.recipe.evaluate.retention.suites:
        entry = SUITES.get(choice.kind)
        suites.append((choice.kind, entry(entry.Params.model_validate(choice.params))))  # type: ignore[attr-defined]
    return suites, SuiteInputs(data.retention, data.languages, context.recipe.seed)


def _sources(pairs: Sequence[Pair], key: str) -> list[Source]:
    return [Source(f"{key}/{pair.id}", pair.source, pair.source_lang, pair.target_lang) for pair in pairs]


def decode(
    context: Context, data: Data, suites: Sequence[tuple[str, Suite]], seen: SuiteInputs, trained: Trained | None
) -> Decoded:
    """Let one system (None: the base) translate all test sets and answer all suites."""
    name = trained.name if trained else "base"
    instruction = trained.synthesised.main.method.params.instructions[0] if trained else _base_instruction(context)
    stop = trained.synthesised.main.stop if trained else ()
    limit = context.recipe.evaluate.translation.max_new_tokens
    wanted: list[Request] = []
    sources = {test.key: _sources(test.pairs, test.key) for test in data.tests}
    for listed in sources.values():
        wanted.extend(translation_requests(listed, instruction, stop, limit, context.recipe.seed))
    sampled: list[Request] = []
    for _, suite in suites:
        wanted.extend(suite.requests(seen))
        sampled.extend(suite.base_only_requests(seen))
    if trained is None:
        wanted.extend(sampled)
    graft, graft_hash = (trained.graft, trained.graft_hash) if trained else (None, "")
    artefact = answer(context, f"decode-{name}", wanted, graft, graft_hash)
    generations = read_answers(artefact)
    translations = {
        test.key: {
            pair.id: extract(source, generations[source.id])
            for pair, source in zip(test.pairs, sources[test.key], strict=True)
        }
        for test in data.tests
    }
    zero = (
        {request.id: KL(0.0, len(generations[request.id].token_ids)) for request in sampled} if trained is None else {}
    )
    return Decoded(name, artefact, translations, Answers(generations, zero))


def _base_instruction(context: Context) -> str:
    """The base is asked with the wording of the recipe's own system."""
    return str(context.recipe.stages[0].params.get("instructions", [DEFAULT])[0])


def diverge(
    context: Context,
    suites: Sequence[tuple[str, Suite]],
    seen: SuiteInputs,
    base: Decoded,
    trained: Trained,
    decoded: Decoded,
) -> Decoded:
    """Measure the system's KL from the base on the base's sampled answers, where a suite asks for it."""
    sampled = [request for _, suite in suites for request in suite.base_only_requests(seen)]
    if not sampled:
        return decoded

    def build(folder: Path) -> dict[str, Any]:
        with (
            grafted(context.loaded, trained.graft) as loaded,
            context.reporter.task(f"divergence-{trained.name}", len(sampled)) as task,
        ):
            values = kl_from_base(loaded, sampled, base.answers.generations, progress=lambda done, _: task.update(done))
        write_json(folder / "kl.json", {id_: [kl.nats, kl.tokens] for id_, kl in sorted(values.items())})
        return {"tokens": sum(kl.tokens for kl in values.values())}

    inputs = {"base": base.artefact.name, "graft": trained.graft_hash, "device": context.device}
    folder = context.artefact(f"divergence-{trained.name}", inputs, build)
    values = json.loads((folder / "kl.json").read_text("utf-8"))
    kl = {id_: KL(nats, tokens) for id_, (nats, tokens) in values.items()}
    # An answer of no tokens has no divergence.
    kl |= {request.id: KL(0.0, 0) for request in sampled if request.id not in kl}
    return Decoded(
        decoded.name, decoded.artefact, decoded.translations, Answers(decoded.answers.generations, kl), folder
    )
