"""Checks of what a recipe merges: that it is there, and goes together as far as the recipe tells."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError, placed, suggestion
from lingraft.core.validation import validated
from lingraft.merging.base import MERGERS
from lingraft.recipe.merging import BASE, Merge, is_path

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe


def filled_merges(recipe: Recipe, given: Mapping[str, bool] | None = None) -> list[Merge]:
    """Return a recipe's merges with the defaults of their mergers' parameters.

    Args:
        recipe: with what is merged.
        given: of grafts by name or folder, whether they have an extended vocabulary, where that is known.

    Raises:
        UsageError: an unknown merger or parameter, a value that is not right, a part that is no system (yet), too few
            or too many of them, or such as do not go together.
    """
    if recipe.merge and recipe.precision == "nf4":
        raise UsageError.at(
            "merge", "merge: merged weights are whole, and the base is in 4 bits; choose another precision than nf4"
        )
    grown = {BASE: None, **{one.name: recipe.vocabulary is not None and one.vocabulary for one in recipe.systems()}}
    known: dict[str, bool | None] = {**grown, **{graft.label: None for graft in recipe.grafts}}
    known |= given or {}
    found = []
    for number, merge in enumerate(recipe.merge):
        where = f"merge.{number}"
        _check_parts(recipe, merge, known, where)
        with placed(f"{where}.kind"):
            merger = MERGERS.get(merge.kind)
        for plan in merge.plans():
            params = validated(merger.Params, plan.params, where, Merge.model_fields)
            with placed(f"{where}.of"):
                merger(params).check(len(plan.of), where)
            known[plan.name] = _vocabulary(merge, known, where, alone=merger.other_vocabularies)
        # What is swept has a value in each system, and would be there twice.
        defaults = params.model_dump(mode="json").items()
        found.append(merge.model_copy(update={key: value for key, value in defaults if key not in merge.sweep}))
    return found


def _check_parts(recipe: Recipe, merge: Merge, known: Collection[str], where: str) -> None:
    """Check that what is merged is there.

    Raises:
        UsageError: it is not.
    """
    for part in merge.of:
        if part in known or is_path(part):
            continue
        swept = next((other.plans() for other in recipe.merge if other.sweep and other.label == part), None)
        later = [plan.name for other in recipe.merge for plan in other.plans()]
        if swept:
            several = ", ".join(plan.name for plan in swept[:4])
            said = f"{part!r} is a sweep of several systems; name one of them, such as {several}"
        elif part in later:
            said = f"{part!r} is made by this entry or one behind it; put what is merged again before it"
        else:
            said = f"there is no system {part!r} to merge{suggestion(part, known)} (a folder is written ./{part})"
        raise UsageError.at(f"{where}.of", f"{where}.of: {said}")


def _vocabulary(merge: Merge, known: Mapping[str, bool | None], where: str, *, alone: bool) -> bool | None:
    """Return whether a merge has the recipe's extended vocabulary; None where only its files tell.

    Args:
        merge: whose parts are there.
        known: of each system, whether it has.
        where: place of the merge.
        alone: whether the merger takes a first model with another vocabulary, where it makes a model of its own.

    Raises:
        UsageError: some of what is merged has, and some has not.
    """
    said = {grown: part for part in reversed(merge.of) if (grown := known.get(part)) is not None}
    if len(said) > 1:
        apart = "; only `lingraft merge --checkpoint` takes another for the first model" if alone else ""
        raise UsageError.at(
            f"{where}.of",
            f"{where}.of: {said[True]!r} has the recipe's extended vocabulary and {said[False]!r} has not, so that "
            f"rows of their embeddings stand for other pieces; merge what has one vocabulary{apart}",
        )
    return next(iter(said), None)
