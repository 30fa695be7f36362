"""Checks of the files that methods and suites of a recipe name: before anything starts, not hours later."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lingraft.core.errors import DataError, UsageError
from lingraft.core.packages import install_command, is_installed
from lingraft.data.corpora import refuse_unfetchable
from lingraft.data.files import refuse_missing
from lingraft.data.labelled_requests import read_labelled
from lingraft.data.translations import read_translations
from lingraft.decoders.base import DECODERS
from lingraft.engines.base import ENGINES
from lingraft.methods.base import METHODS
from lingraft.metrics.base import Metric, open_metric
from lingraft.recipe.asking import methods_of
from lingraft.recipe.decoders import decoded_systems
from lingraft.recipe.engine_checks import check_given
from lingraft.recipe.pending import NOTHING, Pending, check_pending
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tasks import reported_metrics
from lingraft.suites.base import SUITES
from lingraft.training.optimizers import missing_package
from lingraft.training.tuners import TUNERS


def check_files(recipe: Recipe) -> None:
    """Refuse what would fail when its stage begins: files of translations, questions, references that cannot be used.

    Training pairs, prompts and texts are read first in any run: see `check_sources`.

    Raises:
        DataError: a file is missing, cannot be read, or holds nothing of use; the sentence begins with who needs it.
        UsageError: a method has no language to carry to, or one without a marker.
    """
    checked: set[str] = set()
    for system in recipe.systems():
        languages = recipe.native_languages if system.vocabulary else []
        for stage in system.stages:
            for part in stage.parts:
                key = json.dumps([part.kind, part.params, languages], sort_keys=True)
                if key in checked:
                    continue
                checked.add(key)
                try:
                    METHODS.create(part).check(languages)
                except DataError as error:
                    raise DataError(f"system {system.name!r}, method {part.kind!r}: {error}") from error
    for given in recipe.evaluate.given:
        try:
            read_translations(given.path)
        except DataError as error:
            raise DataError(f"evaluate.given, {given.name!r}: {error}") from error
    for choice in recipe.evaluate.decoders:
        try:
            DECODERS.create(choice).check()
        except DataError as error:
            raise DataError(f"evaluate.decoders, {choice.label!r}: {error}") from error
    for routed in recipe.routed_systems():
        try:
            list(read_labelled(routed.requests))
        except DataError as error:
            raise DataError(f"evaluate.route, {routed.name!r}: {error}") from error
    for suite in recipe.evaluate.retention.suites:
        try:
            SUITES.create(suite).check()
        except DataError as error:
            begun = str(error).startswith(f"suite {suite.kind!r}")
            raise DataError(str(error) if begun else f"suite {suite.label!r}: {error}") from error


def check_sources(recipe: Recipe) -> None:
    """Refuse pairs, prompts and texts that are not there, before a folder is made for the run.

    Raises:
        DataError: a file is missing.
        UsageError: a corpus is not fetched, and what fetches it is not there.
    """
    pairs = [*recipe.pairs.train, *recipe.pairs.test, *recipe.pairs.dev]
    for one in pairs:
        refuse_unfetchable(one.path, one.source, one.target)
    sources = [*pairs, *(recipe.prompts or ()), *recipe.texts]
    named = [one.path for one in sources if one.format != "hub"]
    for path in [*named, *(one.target_path for one in pairs if one.target_path is not None)]:
        refuse_missing(path)


def missing_parts(recipe: Recipe) -> list[str]:
    """Return what the recipe needs and this machine lacks: engines, and packages it is trained with."""
    reasons = []
    for where, kind in dict.fromkeys(_engines(recipe)):
        if reason := ENGINES.get(kind).missing():
            reasons.append(f"{where}: engine {kind!r}: {reason}")
        elif recipe.precision == "nf4" and ENGINES.get(kind).unlike_4_bits(own=where in ("engine", "evaluate.engine")):
            reasons.append(
                f"{where}: engine {kind!r} answers with whole weights, not in 4 bits; with precision nf4 take the "
                f"engine transformers"
            )
    if recipe.precision == "nf4" and not is_installed("bitsandbytes"):
        reasons.append(f"precision nf4 needs the package bitsandbytes; run `{install_command('bitsandbytes')}`")
    names = dict.fromkeys(stage.train.optimizer for system in recipe.systems() for stage in system.stages)
    trackers = {one: None for system in recipe.systems() for stage in system.stages for one in stage.train.report_to}
    reasons += filter(None, map(missing_package, names))
    return reasons + [
        f"train.report_to: {one} is not installed; run `{install_command(one)}`, or drop it"
        for one in trackers
        if not is_installed(one)
    ]


def check_grafts(recipe: Recipe, pending: Pending = NOTHING) -> None:
    """Refuse folders that are no grafts, or among what is merged no models, either; and grafts that the engine which
    evaluates cannot answer with.

    Args:
        recipe: complete.
        pending: grafts that are not there yet.

    Raises:
        ModelError: there is one among the recipe's.
        UsageError: as `check_given` and `check_pending`.
    """
    from lingraft.merging.plan import given
    from lingraft.models.graft import read_info
    from lingraft.models.graft_names import graft_folder

    upon = [stage.upon for stage in recipe.stages if stage.upon]
    for part in dict.fromkeys(part for merge in recipe.merge for part in merge.paths if part not in pending):
        if isinstance(model := given(part), Path):
            read_info(model)
    for path in [*upon, *(path for graft in recipe.grafts for path in graft.paths)]:
        if path not in pending:
            read_info(graft_folder(path))
    check_pending(recipe, pending)
    check_given(recipe, pending)


def check_parts(recipe: Recipe, pending: Pending = NOTHING) -> None:
    """Refuse to begin what lacks a part that is needed hours later.

    Args:
        recipe: complete.
        pending: grafts that are not there yet.

    Raises:
        UsageError: as `missing_parts` and `check_grafts`.
        ModelError: as `check_grafts`.
    """
    check_grafts(recipe, pending)
    if reasons := missing_parts(recipe):
        raise UsageError("; ".join(reasons))


def _engines(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the engines that a recipe names, each with the key that names it."""
    methods = [method for system in recipe.systems() for stage in system.stages for method in methods_of(stage)]
    trains = any(method.consumes not in ("texts", "files") for method in methods)
    if trains or recipe.evaluate.engine is None:
        yield "engine", recipe.engine.kind
    if recipe.evaluate.engine:
        yield "evaluate.engine", recipe.evaluate.engine.kind
    through = recipe.evaluate.translate_test
    if through and not isinstance(through.translator, str):
        yield "translator of evaluate.translate_test", through.translator.kind
    for method in methods:
        for asked in method.expected_rounds():
            if not isinstance(asked.of, str):
                yield f"{asked.key or 'engine'} of method {method.name!r}", str(asked.of["kind"])
    for choice in recipe.evaluate.decoders:
        for step in DECODERS.create(choice).expected_steps():
            if not isinstance(step.of, str):
                yield f"{step.key or 'engine'} of decoder {choice.label!r}", str(step.of["kind"])
    for suite in recipe.evaluate.retention.suites:
        judge = suite.params.get("judge")
        if isinstance(judge, Mapping) and isinstance(judge.get("kind"), str):
            yield f"judge of suite {suite.label!r}", judge["kind"]
    for place, _, metric in reported_metrics(recipe):
        judge = metric.params.get("judge")
        if isinstance(judge, Mapping) and isinstance(judge.get("kind"), str):
            yield f"judge of {place}", judge["kind"]


def selected_words(system: str, metrics: Sequence[str]) -> str:
    """Say that a system is reported by metrics that have chosen what it was trained on."""
    return (
        f"the training texts of {system!r} are selected by {', '.join(metrics)}, by which it is reported, too: its "
        f"scores there are too high; report another metric beside it"
    )


def chosen_words(system: str, metrics: Sequence[str]) -> str:
    """Say that a system is reported by metrics by which its decoder has chosen its translations."""
    return (
        f"the translations of {system!r} are chosen by {', '.join(metrics)}, by which it is reported, too: its scores "
        f"there are too high; report another metric beside it"
    )


def reported_choices(recipe: Recipe) -> dict[str, list[str]]:
    """Return, by system that decodes, the reported translation metrics by which its decoder chooses translations."""
    found = {}
    for system in decoded_systems(recipe):
        if names := _reported(recipe, [open_metric(choice).metric for choice in system.decoder.selects_by]):
            found[system.name] = names
    return found


def _reported(recipe: Recipe, chosen: Sequence[Metric]) -> list[str]:
    """Return the names of the reported metrics that are among those chosen by."""
    measured = (one for _, _, one in reported_metrics(recipe))
    reported = [open_metric({"kind": one.kind, "name": one.name, **one.params}) for one in measured]
    same = [(other.name, other.measures()) for other in chosen]
    return [one.name for one in reported if (one.metric.name, one.metric.measures()) in same]


def reported_selections(recipe: Recipe) -> dict[str, list[str]]:
    """Return, by system, the reported translation metrics by which one of its methods selects what it trains on: by
    these it is better than it is."""
    found: dict[str, list[str]] = {}
    for system in recipe.systems():
        methods = [method for stage in system.stages for method in methods_of(stage)]
        chosen = [open_metric(choice).metric for method in methods for choice in method.selects_by]
        if names := _reported(recipe, chosen):
            found[system.name] = names
    return found


def doubts(recipe: Recipe) -> list[str]:
    """Return settings that are possible and hardly meant: learning rates far from those that anybody uses, metrics by
    which a system is both selected and reported."""
    found = [selected_words(name, metrics) for name, metrics in reported_selections(recipe).items()]
    found += [chosen_words(name, metrics) for name, metrics in reported_choices(recipe).items()]
    for system in recipe.systems():
        for stage in system.stages:
            low, high = TUNERS.get(stage.tuner.kind).usual_rates
            rate = stage.train.learning_rate
            if not low <= rate <= high:
                found.append(
                    f"system {system.name!r}, stage {stage.label!r}: learning_rate {rate:g} is far from what tuner "
                    f"{stage.tuner.kind!r} is used with ({low:g} to {high:g}); it will "
                    f"{'most likely destroy the model' if rate > high else 'change next to nothing'}"
                )
    return list(dict.fromkeys(found))
