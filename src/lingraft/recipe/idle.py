"""Keys of a recipe that would do nothing beside what else it says, and that no section can tell by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError
from lingraft.models.aliases import ALIASES

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe


def refuse_idle(recipe: Recipe) -> None:
    """Refuse keys that would be ignored.

    Raises:
        UsageError: there is one.
    """
    found: dict[str, str] = {}
    if recipe.revision and recipe.model in ALIASES:
        found["revision"] = f"is of a model of the hub, and {recipe.model!r} is none"
    own = recipe.stages[0].train.precision if recipe.stages else ""
    if own and recipe.evaluate.precision not in ("auto", own):
        found["evaluate.precision"] = (
            f"base and grafts are measured as they are trained: stages.0.train.precision, {own}"
        )
    if recipe.evaluate.stages and len(recipe.stages) < 2:
        found["evaluate.stages"] = "measures what a system was before its last stage, and there are no two stages"
    if recipe.vocabulary is None:
        found |= {
            f"compare.{i}.vocabulary": "the recipe has no vocabulary to leave out"
            for i, one in enumerate(recipe.compare)
            if not one.vocabulary
        }
    for key, why in found.items():
        raise UsageError.at(key, f"{key}: {why}; drop it")
