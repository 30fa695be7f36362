"""Whether the engine of a recipe can answer with what the recipe trains and merges: told before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lingraft.core.errors import UsageError
from lingraft.engines.base import ENGINES
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.stages import Stage
from lingraft.training.tuners import TUNERS

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe


def beyond_updates(stages: Iterable[Stage]) -> str:
    """Return what makes the graft of some stages more than low-rank updates, as `Tuner.beyond_updates`."""
    return next((odd for stage in stages if (odd := TUNERS.create(stage.tuner).beyond_updates)), "")


def check_answering(recipe: Recipe, chosen: EngineChoice | None) -> None:
    """Check that the engine that evaluates can answer with what is trained and merged.

    Args:
        recipe: with complete tuners.
        chosen: its `evaluate.engine`, complete; None: its engine evaluates.

    Raises:
        UsageError: it answers with the base alone, or loads no such graft.
    """
    where = "evaluate.engine" if chosen else "engine"
    engine, params = ENGINES.read(chosen or recipe.engine)
    if reason := engine.base_only(params):
        raise UsageError.at(
            where,
            f"engine {engine.name!r} cannot answer with what is trained: {reason}, or set "
            f"`evaluate.engine: transformers` to evaluate in this process",
        )
    odd = "of whole layers (`merge`)" if recipe.merge else ""
    odd = odd or next((found for one in recipe.systems() if (found := beyond_updates(one.stages))), "")
    # Merged models are several, for which one name will not do; a vocabulary changes the prompts, too.
    named = not recipe.merge and recipe.vocabulary is None
    if odd and not engine.loads(params, named):
        another = ", take another tuner" if not recipe.merge else ""
        export = ", or serve an export and name it (`grafts: {'*': NAME}`)" if named else ""
        raise UsageError.at(
            where,
            f"engine {engine.name!r} cannot answer with what is {'merged' if recipe.merge else 'trained'}: a server "
            f"loads no graft {odd}; set `evaluate.engine: transformers` or vllm{another}{export}",
        )
