"""How what a recipe trains is asked: for translations in the words of the method that teaches them, in conversations
through the translation chain of thought where that was taught. One place, so that compared systems do not differ in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from lingraft.core.errors import UsageError
from lingraft.methods.base import METHODS, Method
from lingraft.recipe.stages import Compared, Part, Stage, SystemPlan, with_params
from lingraft.translation.wording import DEFAULT

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe

Chat = Literal["direct", "tcot"]


def methods_of(stage: Stage) -> Iterator[Method]:
    """Yield the methods of a stage with their parameters, the first one first."""
    for part in stage.parts:
        yield METHODS.create(part)


def wording_of(stages: Sequence[Stage]) -> str | None:
    """Return the words in which a system is asked for translations after its stages, None where none teaches them."""
    words = wordings_of(stages)
    return words[0] if words else None


def wordings_of(stages: Sequence[Stage]) -> list[str] | None:
    """Return the words in which a system is taught to be asked for translations, by the last stage that teaches them;
    None where none does."""
    for stage in reversed(stages):
        for method in methods_of(stage):
            if method.teaches_translation():
                return list(method.params.instructions)
    return None


def wording_of_run(recipe: Recipe) -> str:
    """Return the words in which the base is asked, and what was not taught any: those of the recipe's own system, else
    of the first compared one that has some."""
    systems = [system for system in recipe.systems() if not system.group]
    own_first = [*systems[-1:], *systems[:-1]]
    return next((words for system in own_first if (words := wording_of(system.stages))), DEFAULT)


def chat_of(stages: Sequence[Stage]) -> Chat:
    """Return how conversations are held after some stages: as the last stage that says so has taught."""
    for stage in reversed(stages):
        said = {method.chat for method in methods_of(stage)} - {None}
        if said:
            return "tcot" if "tcot" in said else "direct"
    return "direct"


def share_wordings(stages: Sequence[Stage], other: Compared) -> Compared:
    """Return a compared system whose methods have the wordings of translation requests of the recipe's own system,
    unless they name others.

    Systems that are trained, and hence asked, in other words differ in more than what they are compared for.
    """
    own = wordings_of(stages)

    def shared(part: Part) -> Mapping[str, Any]:
        teaches = own is not None and METHODS.create(part).teaches_translation()
        return {"instructions": own, **part.params} if teaches else part.params

    return with_params(other, shared)


def check_asking(system: SystemPlan) -> None:
    """Check that the methods of a stage that teach to translate agree on how a translation is asked for and where it
    ends: the graft is asked in one way.

    Raises:
        UsageError: they do not.
    """
    for stage in system.stages:
        teachers = [method for method in methods_of(stage) if method.teaches_translation()]
        for first, second in pairwise(teachers):
            one, other = first.params.instructions[0], second.params.instructions[0]
            if one != other:
                raise UsageError(
                    f"system {system.name!r}: its methods {first.name!r} and {second.name!r} teach to translate when "
                    f"asked in different words ({one!r} and {other!r}); give both the same first of `instructions`"
                )
        ends = [(method.name, method.delimiter) for method in teachers if method.delimiter]
        for (name, one), (other_name, other) in pairwise(ends):
            if one != other:
                raise UsageError(
                    f"system {system.name!r}: its methods {name!r} and {other_name!r} end a translation differently "
                    f"({one!r} and {other!r}); give both the same `delimiter`"
                )
