"""Grafts that a recipe takes from runs that are still to come, as rows of a bench do: checked by what trains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError
from lingraft.recipe.asking import chat_of
from lingraft.recipe.merge_checks import filled_merges
from lingraft.recipe.stages import SystemPlan
from lingraft.routing.base import DECIDERS, NO_ROUTE
from lingraft.training.tuners import TUNERS

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe


@dataclass(frozen=True)
class PendingGraft:
    """A graft that a run will have.

    Attributes:
        recipe: of the run, which trains something.
    """

    recipe: Recipe

    @property
    def system(self) -> SystemPlan:
        """The run's own system."""
        return next(one for one in self.recipe.systems() if one.name == self.recipe.headliners[0])

    @property
    def grown(self) -> bool:
        """Whether it has a vocabulary of its own."""
        return self.recipe.vocabulary is not None and self.system.vocabulary

    @property
    def sparse(self) -> bool:
        """Whether it holds changes of single numbers."""
        return any(TUNERS.create(stage.tuner).sparse for stage in self.system.stages)

    @property
    def adds_up(self) -> bool:
        """Whether it is a sum with the base."""
        return all(TUNERS.create(stage.tuner).adds_up for stage in self.system.stages)

    def stores(self, decider: str) -> bool:
        """Whether its run stores a decider with it."""
        return any(one.of == self.system.name and one.by.kind == decider for one in self.recipe.routed_systems())


Pending = Mapping[str, PendingGraft]
"""Folder of a graft -> what it will be."""
NOTHING: Pending = MappingProxyType({})


def check_pending(recipe: Recipe, pending: Pending) -> None:
    """Check what would be found out when the grafts are there, and that needs no more than how they are made.

    Args:
        recipe: that takes grafts.
        pending: those that are not there yet.

    Raises:
        UsageError: grafts cannot be added, merged, put into the base or routed to.
    """
    if not pending:
        return
    for stage in recipe.stages[:1]:
        if stage.upon and stage.upon in pending and pending[stage.upon].grown:
            raise UsageError(
                f"`upon`: the graft {stage.upon} will have a vocabulary of its own, with which the base would be "
                f"another model; continue its training as a further stage instead"
            )
    for graft in recipe.grafts:
        known = [pending[path] for path in graft.paths if path in pending]
        if len(graft.paths) == 1:
            continue
        odd = next((words for one in known if (words := _no_summand(one))), "")
        if not odd and len({one.sparse for one in known}) > 1:
            odd = "sparse changes and others cannot be in one adapter"
        if odd:
            raise UsageError(f"grafts: {graft.label!r} cannot be added up: {odd}")
    given = {one.label: pending[one.paths[-1]] for one in recipe.grafts if one.paths[-1] in pending}
    for routed in recipe.routed_systems():
        if (one := given.get(routed.of)) is None:
            continue
        if one.grown or chat_of(one.system.stages) == "tcot":
            raise UsageError(f"evaluate.route, {routed.name!r}: {routed.of!r} cannot be routed to: {NO_ROUTE}; drop it")
        if DECIDERS.get(routed.by.kind).learns and not one.stores(routed.by.kind):
            raise UsageError(
                f"evaluate.route, {routed.name!r}: {routed.of!r} will hold no decider {routed.by.kind!r}, which a run "
                f"stores that has `evaluate.route: [{{by: {routed.by.kind}}}]`; give it that, or route by 'form' or "
                f"'caller'"
            )
    filled_merges(recipe, {name: one.grown for name, one in (*pending.items(), *given.items())})


def _no_summand(one: PendingGraft) -> str:
    if one.grown:
        return "one will have a vocabulary of its own, and no other graft knows its rows"
    return "" if one.adds_up else "one will set the lengths of rows (DoRA), which is no sum to which others are added"
