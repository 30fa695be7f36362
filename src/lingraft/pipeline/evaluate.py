"""Stage `evaluate`: from answers to the scorecard."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lingraft.core.environment import versions
from lingraft.core.hashing import content_hash, list_hash
from lingraft.core.progress import Task
from lingraft.evaluation.changed import changed_over_seeds
from lingraft.evaluation.correction import corrected
from lingraft.evaluation.retention import suite_items, suite_rows
from lingraft.evaluation.routing import ROUTING, routing_errors
from lingraft.evaluation.scorecard import Contamination, Cost, ModelIdentity, Scorecard
from lingraft.evaluation.scoring import Resampling, translation_rows
from lingraft.evaluation.summary import averages, headline_task, seed_spread, summarise
from lingraft.evaluation.translation import measure_items
from lingraft.metrics.judged import JudgedMetric
from lingraft.models.bases import graft_base_id
from lingraft.pipeline.answers import work_of
from lingraft.pipeline.context import Context, in_folders
from lingraft.pipeline.decode import SystemAnswers
from lingraft.pipeline.judged_metrics import Verdicts
from lingraft.pipeline.measured_system import MeasuredSystem
from lingraft.pipeline.metrics import open_metrics
from lingraft.pipeline.prepare import Data
from lingraft.pipeline.route import routing_systems
from lingraft.pipeline.suites import OpenSuite
from lingraft.statistics.items import Items
from lingraft.store.artefacts import facts
from lingraft.suites.base import ItemScores


def base_name(context: Context) -> str:
    """Return what reports call the base: its alias or hub id, else the name of its folder."""
    return graft_base_id(context.files, context.recipe.base_id) or context.files.folder.name


def translation_items(
    context: Context, data: Data, decoded: Sequence[SystemAnswers], how: Resampling, verdicts: Verdicts
) -> list[Items]:
    """Measure all systems on all test sets."""
    items = []
    with ExitStack() as stack:
        metrics = open_metrics(context.recipe)
        task = stack.enter_context(context.reporter.task("scoring", 0))
        for one in (one for listed in metrics.values() for one in listed):
            stack.callback(one.metric.close)
            one.metric.progress = _progress(task, one.name)
            if isinstance(one.metric, JudgedMetric):
                one.metric.verdicts = verdicts[one.name]
        for test in data.tests:
            hypotheses = {
                system.name: {id_: item.text for id_, item in system.translations[test.key].items()}
                for system in decoded
                if test.key in system.translations
            }
            items += measure_items(
                hypotheses,
                test.pairs,
                test.name,
                metrics[test.task],
                how,
                languages=data.languages,
                task=test.task,
            )
    return items


def _progress(task: Task, label: str) -> Callable[[int, int], None]:
    return lambda done, total: task.update(done, label, total)


def suite_values(suites: Sequence[OpenSuite], decoded: Sequence[SystemAnswers]) -> list[Items]:
    """Measure all systems on all suites."""
    items: list[Items] = []
    for opened in suites:
        content = _asked(opened)
        scored: dict[str, list[ItemScores]] = {}
        for system in (one for one in decoded if not one.system.elsewhere):
            # A decoder is for translations: the answers are those of its weights.
            scores = scored.get(system.system.weights)
            if scores is None:
                own = next(suite for suite in system.suites if suite.name == opened.name)
                scores = scored[system.name] = own.score(decoded[0].answers, system.answers)
            items += [suite_items(system.name, opened.name, each, content) for each in scores]
    return items


def routing_values(decoded: Sequence[SystemAnswers]) -> list[Items]:
    """Measure on which requests the systems that route take the wrong one of their two models."""
    items = []
    for system in (one for one in routing_systems(decoded) if one.routing.requests):
        how = system.routing
        content = list_hash(one.to_dict() for one in how.requests)[0]
        errors = routing_errors(how.requests, how.routes, how.signature)
        items += [suite_items(system.name, ROUTING, each, content) for each in errors]
    return items


def _asked(opened: OpenSuite) -> str:
    """Return a hash of what a suite asks, whatever the sampling's seed."""
    requests = [[request.id, [message.to_dict() for message in request.messages]] for request in opened.requests()]
    return content_hash([requests, list_hash(one.to_dict() for one in opened.continuations())])


def costs(decoded: Sequence[SystemAnswers]) -> list[Cost]:
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
    for system in (one.system.trained for one in decoded if one.system.trained):
        for item in system.lineage:
            if item.synthesised.system.group is None:  # further seeds share the answers
                artefacts = [folder for part in item.synthesised.components for folder in part.artefacts]
                rows += [row(system.name, folder.name.rpartition("-")[0], facts(folder)) for folder in artefacts]
            if item.masks:
                rows.append(row(system.name, "selection", facts(item.masks)))
            rows.append(row(system.name, "training", facts(item.folder)))
    for other in decoded:
        if other.system.merged and other.system.graft and not other.system.weights:
            rows.append(row(other.name, "merging", facts(other.system.graft.parent)))
        for folder in other.artefacts:
            rows.append(row(other.name, _stage(folder, other.name), facts(folder)))
    return rows


def _stage(folder: Path, system: str) -> str:
    """Return what the table of costs calls a stage; of decoders it names the steps."""
    kind, step = folder.name.partition("-")[0], ""
    if "/" in system:
        step = folder.name.rpartition("-")[0].removeprefix(f"decode-{in_folders(system)}-")
    if kind != "decode":
        return {"scores": "choosing", "vectors": "choosing"}.get(kind, kind)
    return f"decoding, {step}" if step else "decoding"


def translation_costs(decoded: Sequence[SystemAnswers], keys: Collection[str]) -> dict[str, tuple[float, float, float]]:
    """Return for each system what a translation takes in the mean: calls, tokens that are written, seconds.

    Of a stage that answers suites, too, translations have the share of its time that they have of its tokens. Answers
    that were taken over took the time that they took when they were given.

    Args:
        decoded: what all systems have answered.
        keys: of the test sets that count.
    """
    found = {}
    for one in decoded:
        every = [(key, item) for key, listed in one.translations.items() for item in listed.values()]
        texts = [item for key, item in every if key in keys]
        if one.system.elsewhere or not texts:  # of translations made elsewhere nothing is known
            continue
        written_all = sum(item.tokens for _, item in every)
        tokens, seconds = sum(item.tokens for item in texts), 0.0
        for folder in one.artefacts if one.system.weights else one.artefacts[:1]:
            if folder.name.startswith("decode-"):
                took, written = work_of(folder)
                seconds += took * tokens / max(1, written_all if one.system.weights else written)
            elif folder.name.startswith(("scores-", "vectors-")):
                seconds += float(facts(folder)["seconds"]) * len(texts) / len(every)
        found[one.name] = (sum(item.calls for item in texts) / len(texts), tokens / len(texts), seconds / len(texts))
    return found


def make_scorecard(
    context: Context,
    data: Data,
    suites: Sequence[OpenSuite],
    decoded: Sequence[SystemAnswers],
    contaminated: Sequence[Contamination] = (),
    verdicts: Verdicts = MappingProxyType({}),
) -> tuple[Scorecard, list[Items]]:
    """Return the run's scorecard and the per-item statistics behind it.

    Args:
        context: of the run.
        data: whose test sets were translated.
        suites: of the run.
        decoded: what all systems have answered, the base first.
        contaminated: what test sets and suites share with what was trained on.
        verdicts: of the judges of metrics.
    """
    recipe = context.recipe
    how = Resampling(recipe.evaluate.bootstrap, recipe.seed, recipe.evaluate.test)
    of_tests, of_suites = translation_items(context, data, decoded, how, verdicts), suite_values(suites, decoded)
    of_suites += routing_values(decoded)
    items = [*of_tests, *of_suites]
    shared = {one.name: one.system.weights for one in decoded if one.system.weights}
    translation, general = corrected(translation_rows(of_tests, how), suite_rows(of_suites, how), items, shared)
    task = headline_task(test.task for test in data.tests)
    keys = {test.key for test in data.tests if test.task == task}
    failures, took = {}, translation_costs(decoded, keys)
    for system in decoded:
        texts = [item for key, listed in system.translations.items() if key in keys for item in listed.values()]
        if not texts:
            continue
        failures[system.name] = 100.0 * sum(bool(item.failure) for item in texts) / len(texts)
    summary = summarise(
        [system.name for system in decoded],
        translation,
        general,
        items=of_suites,
        how=how,
        extraction_failure_percent=failures,
        calls_per_translation={name: calls for name, (calls, _, _) in took.items()},
        output_tokens_per_translation={name: tokens for name, (_, tokens, _) in took.items()},
        seconds_per_translation={name: round(seconds, 4) for name, (_, _, seconds) in took.items()},
    )
    systems = [one.system.described() for one in decoded]
    scorecard = Scorecard(
        schema="lingraft.scorecard/1",
        run=recipe.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        base=ModelIdentity(id=base_name(context), sha256=context.files.sha256),
        seed=recipe.seed,
        versions=versions(),
        systems=systems,
        translation=translation,
        general=general,
        summary=summary,
        cost=costs(decoded),
        seeds=seed_spread(systems, recipe.seed, translation, general, summary),
        changed_over_seeds=changed_over_seeds(systems, of_suites, how),
        averages=averages(translation),
        contamination=list(contaminated),
        unchecked=[one.name for one in decoded if _unchecked(one.system)],
    )
    return scorecard, items


def _unchecked(one: MeasuredSystem) -> bool:
    """Whether a training was not searched; what varies a system, or decodes by it, is not named again."""
    return one.elsewhere or (one.foreign and not one.weights) or (one.given and one.group is None)
