"""What a recipe runs and sends beyond Lingraft's own work: listed, and allowed once by the person who starts it.

A recipe may come from anybody. One that names a program, a checkpoint that is a pickle, a server or a cluster acts with
the rights and the secrets of the user. The parts of a recipe declare what they do (`acts` of engines, metrics and
suites); it is listed here, from the whole recipe, and nothing starts before it was allowed. SECURITY.md says what this
promises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.environment import cache_folder
from lingraft.core.errors import UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.printable import printable
from lingraft.decoders.base import DECODERS
from lingraft.engines.base import ENGINES
from lingraft.metrics.base import METRICS, open_metric
from lingraft.recipe.asking import methods_of
from lingraft.recipe.load import load_recipe
from lingraft.recipe.schema import Recipe
from lingraft.recipe.tasks import reported_metrics
from lingraft.store.files import read_sealed, write_sealed
from lingraft.suites.base import SUITES

NAMED = 3
"""Most acts that the sentence of a refusal names."""


@dataclass(frozen=True)
class Act:
    """Something that a recipe runs or sends. `what`: in words, by which it is allowed. `where`: keys of the recipe."""

    what: str
    where: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what} ({', '.join(self.where)})"


def acts(recipe: Recipe) -> list[Act]:
    """Return what a recipe runs and sends, in its order; the same act in several places once.

    Raises:
        UsageError: an engine's settings cannot hold, such as a key that would go over an open line.
    """
    found: dict[str, list[str]] = {}
    for where, what in _declared(recipe):
        places = found.setdefault(what, [])
        if where not in places:
            places.append(where)
    return [Act(what, tuple(places)) for what, places in found.items()]


def _declared(recipe: Recipe) -> Iterator[tuple[str, str]]:
    yield from _of_engines(recipe.model_dump(mode="json"), "")
    for system in recipe.systems():
        for stage in system.stages:
            for what in stage.train.acts():
                yield f"train.report_to of {system.name}", what
    for place, _, metric in reported_metrics(recipe):
        measure, params = METRICS.read(metric)
        for what in measure.acts(params):
            yield place, what
    for system in recipe.systems():
        for method in (method for stage in system.stages for method in methods_of(stage)):
            for choice in method.selects_by:
                chosen = open_metric(choice).metric
                for what in chosen.acts(chosen.params):
                    yield f"metric by which {method.name} selects", what
    for number, decoder in enumerate(recipe.evaluate.decoders):
        entry, own = DECODERS.read(decoder)
        for what in entry.acts(own):
            yield f"evaluate.decoders.{number}", what
        for choice in DECODERS.create(decoder).selects_by:
            chosen = open_metric(choice).metric
            for what in chosen.acts(chosen.params):
                yield f"metric by which decoder {decoder.label} chooses", what
    for number, suite in enumerate(recipe.evaluate.retention.suites):
        asked, params = SUITES.read(suite)
        for what in asked.acts(params):
            yield f"evaluate.retention.suites.{number}", what


def _of_engines(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield the acts of every engine within plain values, wherever a recipe, a method or a suite may name one."""
    if isinstance(value, Mapping):
        kind = value.get("kind")
        if isinstance(kind, str) and kind in ENGINES:
            entry = ENGINES.get(kind)
            own = {key: item for key, item in value.items() if key in entry.Params.model_fields}
            for what in entry.acts(entry.Params.model_validate(own)):
                yield place, what
    if isinstance(value, Mapping | list):
        for key, item in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _of_engines(item, f"{place}.{key}" if place else str(key))


def open_acts(recipe: Recipe) -> list[Act]:
    """Return the acts of a recipe that need consent and have none yet.

    What a shipped recipe does by itself needs none, as long as the recipe is named and not a copy of it. Consent is for
    a whole list: one act more, and all of it is asked for again.
    """
    found = acts(recipe)
    own = {act.what for act in acts(load_recipe(recipe.shipped))} if recipe.shipped else set()
    if all(act.what in own for act in found) or _allowed(found):
        return []
    return found


def require_consent(recipe: Recipe, trust: bool = False, ask: Callable[[Sequence[Act]], bool] | None = None) -> None:
    """Let a recipe begin only if what it runs and sends is allowed.

    Args:
        recipe: that is to begin.
        trust: whether it is allowed for this time.
        ask: asks the user, whose yes is kept; None: there is nobody to ask.

    Raises:
        UsageError: it is not.
    """
    wanted = [] if trust else open_acts(recipe)
    if not wanted:
        return
    if ask is None:
        shown = [printable(act, 160) for act in wanted[:NAMED]]
        more = f", and {len(wanted) - NAMED} more (see --dry-run)" if len(wanted) > NAMED else ""
        raise UsageError(
            f"the recipe {recipe.name!r} {'; '.join(shown)}{more}; if you trust it with that, give --trust (from "
            f"Python: trust=True)"
        )
    if not ask(wanted):
        raise UsageError("nothing was started: what the recipe runs and sends was not allowed")
    write_sealed(_record(wanted), {"allowed": _whole(wanted)})


def _whole(wanted: Sequence[Act]) -> list[str]:
    return sorted({act.what for act in wanted})


def _record(wanted: Sequence[Act]) -> Path:
    return cache_folder() / "consent" / f"{content_hash(_whole(wanted))}.json"


def _allowed(wanted: Sequence[Act]) -> bool:
    """Say whether this user has allowed exactly this; a cache may be shared, and others cannot consent for them."""
    path = _record(wanted)
    record = read_sealed(path)
    if record is None or record.get("allowed") != _whole(wanted):
        return False
    return not hasattr(os, "getuid") or path.stat().st_uid == os.getuid()
