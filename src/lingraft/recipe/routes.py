"""Checks of the systems of a recipe that route: what is wrong with them is told when the recipe is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError, suggestion
from lingraft.recipe.asking import chat_of
from lingraft.routing.base import DECIDERS, NO_ROUTE

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe
    from lingraft.recipe.stages import SystemPlan


def routable(recipe: Recipe, plan: SystemPlan) -> bool:
    """Say whether a system that is trained can be switched on for translations alone."""
    return not ((recipe.vocabulary and plan.vocabulary) or chat_of(plan.stages) == "tcot")


def check_routes(recipe: Recipe) -> None:
    """Refuse systems of `evaluate.route` that cannot be.

    Raises:
        UsageError: one routes to a system that there is not, that is no graft or cannot be routed to, or its decider
            has nothing to learn from.
    """
    plans = {plan.name: plan for plan in recipe.systems()}
    given = [graft.label for graft in recipe.grafts]
    general = [source for source in recipe.prompts or () if not source.task]
    kept: set[tuple[str, str]] = set()
    for i, one in enumerate(recipe.routed_systems()):
        where = f"evaluate.route.{i}"
        if one.of not in (*plans, *given):
            known = [*plans, *given]
            raise UsageError.at(
                f"{where}.of",
                f"{where}.of: no trained or given graft is called {one.of!r}{suggestion(one.of, known)}; there are "
                f"{', '.join(known)}",
            )
        plan, kind = plans.get(one.of), DECIDERS.get(one.by.kind)
        if plan is not None and not routable(recipe, plan):
            raise UsageError.at(f"{where}.of", f"{where}.of: {one.of!r} cannot be routed to: {NO_ROUTE}; drop it")
        if kind.learns and plan is not None and not (recipe.pairs.train and general):
            lacking = "`prompts: {path: ...}`" if recipe.pairs.train else "`pairs.train`"
            raise UsageError.at(
                f"{where}.by",
                f"{where}.by: the decider {kind.name!r} learns from the run's training pairs and general prompts; add "
                f"{lacking}, or route `by: form`",
            )
        if kind.learns and (one.of, kind.name) in kept:
            raise UsageError.at(
                where, f"{where}: a graft keeps one decider of a kind, and {one.of!r} has a {kind.name!r}; drop one"
            )
        kept.add((one.of, kind.name))
