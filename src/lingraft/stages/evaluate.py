"""Stage `evaluate`: from answers to the scorecard."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lingraft.decoding.direct import one_line
from lingraft.evaluation.retention import general_scores, summarise
from lingraft.evaluation.scorecard import Cost, GeneralScore, ModelIdentity, Scorecard, System, TranslationScore
from lingraft.evaluation.translation import score_all
from lingraft.stages.context import Context, versions
from lingraft.stages.decode import Decoded
from lingraft.stages.prepare import Data
from lingraft.stages.suites import OpenSuite
from lingraft.stages.train import Trained
from lingraft.store import facts


def translation_scores(context: Context, data: Data, decoded: Sequence[Decoded]) -> list[TranslationScore]:
    """Score all systems on all test sets; a line break inside a translation counts as a space."""
    settings, rows = context.recipe.evaluate, []
    for test in data.tests:
        hypotheses = {
            system.name: {id_: one_line(item.text) for id_, item in system.translations[test.key].items()}
            for system in decoded
        }
        rows += score_all(
            hypotheses,
            test.pairs,
            test.name,
            settings.translation.metrics,
            languages=data.languages,
            seed=context.recipe.seed,
            n_bootstrap=settings.bootstrap,
        )
    return rows


def suite_scores(context: Context, suites: Sequence[OpenSuite], decoded: Sequence[Decoded]) -> list[GeneralScore]:
    """Score all systems on all suites."""
    rows: list[GeneralScore] = []
    for opened in suites:
        base = decoded[0].answers.of(opened.name)
        reference = opened.suite.score(opened.inputs, base, base)
        for system in decoded:
            own = reference
            if system is not decoded[0]:
                own = opened.suite.score(opened.inputs, base, system.answers.of(opened.name))
            rows += general_scores(
                system.name,
                opened.name,
                own,
                reference,
                seed=context.recipe.seed,
                n_bootstrap=context.recipe.evaluate.bootstrap,
            )
    return rows


def costs(decoded: Sequence[Decoded], trained: Sequence[Trained]) -> list[Cost]:
    """Return what each stage of each system cost, from the artefacts' manifests."""

    def row(system: str, stage: str, values: dict[str, Any]) -> Cost:
        return Cost(
            system=system,
            stage=stage,
            seconds=float(values["seconds"]),
            tokens=values.get("tokens"),
            supervised_tokens=values.get("supervised_tokens"),
            peak_memory_mb=values.get("peak_memory_mb"),
            device=str(values["device"]),
        )

    rows = []
    for system in trained:
        rows += [row(system.name, "synthesis", facts(p.artefact)) for p in system.synthesised.components if p.artefact]
        rows.append(row(system.name, "training", facts(system.folder)))
    for other in decoded:
        for folder in other.artefacts:
            kind = folder.name.partition("-")[0]
            rows.append(row(other.name, {"decode": "decoding"}.get(kind, kind), facts(folder)))
    return rows


def make_scorecard(
    context: Context,
    data: Data,
    suites: Sequence[OpenSuite],
    decoded: Sequence[Decoded],
    trained: Sequence[Trained],
) -> Scorecard:
    """Return the run's scorecard."""
    translation = translation_scores(context, data, decoded)
    general = suite_scores(context, suites, decoded)
    failures, lengths = {}, {}
    for system in decoded:
        items = [item for listed in system.translations.values() for item in listed.values()]
        failures[system.name] = 100.0 * sum(bool(item.failure) for item in items) / len(items)
        lengths[system.name] = sum(item.tokens for item in items) / len(items)
    names = [system.name for system in decoded]
    metrics = context.recipe.evaluate.translation.metrics
    headline = "chrf++" if "chrf++" in metrics else metrics[0]
    summary = summarise(
        names,
        translation,
        general,
        metric=headline,
        extraction_failure_percent=failures,
        output_tokens_per_translation=lengths,
    )
    systems = [System(name="base")]
    for item in trained:
        stage = item.synthesised.system.stage
        systems.append(
            System(name=item.name, method=stage.label, tuner=stage.tuner.kind, graft=f"{item.folder.name}/graft")
        )
    return Scorecard(
        schema="lingraft.scorecard/1",
        run=context.recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=ModelIdentity(id=context.recipe.model, sha256=context.files.sha256),
        seed=context.recipe.seed,
        versions=versions(),
        systems=systems,
        translation=translation,
        general=general,
        summary=summary,
        cost=costs(decoded, trained),
    )
