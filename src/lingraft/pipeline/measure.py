"""Stages after decoding: `divergence-<system>`, `likelihood-<system>` and `judge-<suite>-<system>`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from lingraft.conversation.chain import ChainIds
from lingraft.conversation.chain_engine import is_carried
from lingraft.core.hashing import list_hash
from lingraft.data.records import KL, Likelihood, Request
from lingraft.engines.divergence import DIVERGENCE, kl_from_base
from lingraft.engines.likelihood import LIKELIHOOD, log_likelihoods
from lingraft.models.graft import grafted
from lingraft.pipeline.context import Context
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.earlier_answers import TakenOver, note_asked
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.store.artefacts import SCRATCH
from lingraft.store.files import write_json, write_lines
from lingraft.store.record_files import RecordsById
from lingraft.store.spent import Spent

LIKELIHOODS = "likelihoods.jsonl"


def measure(context: Context, base: SystemAnswers, decoded: SystemAnswers) -> SystemAnswers:
    """Measure on one system what needs the model's distributions: divergence from the base and log-likelihoods.

    Args:
        context: of the run.
        base: what the base has answered.
        decoded: what the system has answered.

    Raises:
        ModelError: the graft does not fit the base.
    """
    return _likelihoods(context, decoded if decoded.system.graft is None else _diverge(context, base, decoded))


def _diverge(context: Context, base: SystemAnswers, decoded: SystemAnswers) -> SystemAnswers:
    """Measure the system's KL from the base on the base's sampled answers, where a suite asks for it.

    A question that the system answers through the chain in another language has none: its answer does not begin as the
    base's does.
    """
    sampled = [request for suite in decoded.suites for request in suite.sampled()]
    if not sampled:
        return decoded
    system, opening = decoded.system, _opening(decoded.system)
    measured = [request for request in sampled if _begins_alike(system, request)]

    def build(folder: Path) -> dict[str, Any]:
        with (
            grafted(context.loaded, system.graft) as loaded,
            context.reporter.task(f"divergence-{system.name}", len(measured)) as task,
        ):
            values = kl_from_base(
                loaded,
                measured,
                base.answers.generations,
                renderer=context.renderer,
                base_tokens=int(context.config.vocab_size),
                opening=opening,
                progress=lambda done, _: task.update(done),
            )
        write_json(folder / "kl.json", {id_: [kl.nats, kl.tokens] for id_, kl in sorted(values.items())})
        return {"tokens": sum(kl.tokens for kl in values.values())}

    inputs = {
        "base": base.artefacts[0].name,
        "graft": system.graft_hash,
        "device": context.device,
        "opening": list(opening),
        "code": DIVERGENCE,
        "requests": list_hash(request.to_dict() for request in measured)[0],
    }
    folder = context.artefact(f"divergence-{system.name}", inputs, build)
    values = json.loads((folder / "kl.json").read_text("utf-8"))
    kl = {id_: KL(nats, tokens) for id_, (nats, tokens) in values.items()}
    # An answer of no tokens has no divergence, either.
    kl |= {request.id: KL(0.0, 0) for request in sampled if request.id not in kl}
    return replace(decoded, answers=replace(decoded.answers, kl=kl), artefacts=(*decoded.artefacts, folder))


def _opening(system: MeasuredSystem) -> tuple[int, ...]:
    """Return the marker behind which a graft with a chain of thought answers in English."""
    if system.chat != "tcot" or system.markers is None:
        return ()
    return (ChainIds.of(system.renderer, system.markers).response,)


def _begins_alike(system: MeasuredSystem, request: Request) -> bool:
    """Whether the graft's answer begins as the base's does, an opening aside."""
    return system.chat != "tcot" or system.markers is None or not is_carried(request, system.markers)


def _likelihoods(context: Context, decoded: SystemAnswers) -> SystemAnswers:
    """Measure the log-likelihood of all suites' continuations that no earlier artefact of the run has."""
    wanted = [one for suite in decoded.suites for one in suite.continuations()]
    if not wanted:
        return decoded
    identity = {
        "model": context.files.sha256,
        "precision": context.precision,
        "graft": decoded.system.graft_hash,
        "device": context.device,
        "measured": LIKELIHOOD,
    }

    def build(folder: Path) -> dict[str, Any]:
        earlier = TakenOver(context.answered, identity, wanted, _measured)
        known, missing = list(earlier.answers()), list(earlier.missing())
        measured, spent = [], Spent(folder)
        if missing:
            with (
                grafted(context.loaded, decoded.system.graft) as loaded,
                context.reporter.task(f"likelihood-{decoded.name}", len(missing)) as task,
            ):
                measured = log_likelihoods(
                    loaded,
                    missing,
                    progress=lambda done: task.update(done),
                    folder=folder / SCRATCH / "parts",
                    identity=identity,
                    kept=spent.keep,
                )
        write_lines(folder / LIKELIHOODS, (one.to_json() for one in (*known, *measured)))
        note_asked(folder, wanted)
        tokens = sum(len(one.context) + len(one.continuation) for one in missing)
        return {"seconds": round(spent.seconds, 2), "tokens": tokens, "taken_over": len(known)}

    inputs = {"identity": identity, "continuations": list_hash(one.to_dict() for one in wanted)[0]}
    folder = context.artefact(f"likelihood-{decoded.name}", inputs, build)
    answers = replace(decoded.answers, likelihoods=_measured(folder))
    return replace(decoded, answers=answers, artefacts=(*decoded.artefacts, folder))


def _measured(folder: Path) -> RecordsById[Likelihood]:
    return RecordsById([folder / LIKELIHOODS], Likelihood)
