"""Whether the engines of a recipe can answer with what it trains, is given and merges: told before anything starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lingraft.core.errors import UsageError
from lingraft.core.strangers import read_object
from lingraft.engines.base import ENGINES
from lingraft.engines.served_grafts import AskedGraft, beyond_rank, configs_beyond_updates
from lingraft.models.adapter_config import CONFIG
from lingraft.recipe.asking import methods_of
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.pending import NOTHING, Pending
from lingraft.recipe.stages import GivenGraft, Stage, SystemPlan
from lingraft.training.tuners import TUNERS

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe


def beyond_updates(stages: Sequence[Stage], width: int | None = None) -> str:
    """Return what makes the graft of some stages more than a low-rank update that servers load.

    Args:
        stages: of one system, from the first.
        width: hidden size of the base; None: not known.

    Returns:
        As `Tuner.beyond_updates`, or that the rank is too high.
    """
    odd = next((odd for stage in stages if (odd := TUNERS.create(stage.tuner).beyond_updates)), "")
    return odd or beyond_rank(update_rank(stages, width))


def update_rank(stages: Sequence[Stage], width: int | None = None) -> int:
    """Return the rank of the graft of some stages: those of what `fresh` puts together are added.

    Args:
        stages: of one system, from the first.
        width: hidden size of the base; None: not known.
    """
    begun = [stage for number, stage in enumerate(stages) if stage.fresh or not number]
    return sum(TUNERS.create(stage.tuner).update_rank(width) for stage in begun)


def answering(recipe: Recipe) -> tuple[str, EngineChoice]:
    """Return the key and the engine with which base and grafts are measured."""
    own = recipe.evaluate.engine
    return ("evaluate.engine", own) if own else ("engine", recipe.engine)


def check_answering(recipe: Recipe, chosen: EngineChoice | None, width: int | None = None) -> None:
    """Check that the engine that evaluates can answer with what is trained and merged.

    Args:
        recipe: with complete tuners.
        chosen: its `evaluate.engine`, complete; None: its engine evaluates.
        width: hidden size of the base, once the base is at hand; None: not known.

    Raises:
        UsageError: it answers with the base alone, loads no such graft, or has too few names for them.
    """
    where = "evaluate.engine" if chosen else "engine"
    engine, params = ENGINES.read(chosen or recipe.engine)
    if not (recipe.stages or recipe.grafts or recipe.merge):
        return  # the base alone is asked
    if reason := engine.base_only(params):
        raise UsageError.at(
            where,
            f"engine {engine.name!r} cannot answer with what is trained: {reason}, or set "
            f"`evaluate.engine: transformers` to evaluate in this process",
        )
    odd = "of whole layers (`merge`)" if recipe.merge else ""
    odd = odd or next((found for one in recipe.systems() if (found := beyond_updates(one.stages, width))), "")
    # Merged models are several, for which one name will not do; a vocabulary changes the prompts, too.
    named = not recipe.merge and recipe.vocabulary is None
    if odd and not engine.loads(params, named):
        another = "" if recipe.merge else ", lower the rank" if "of rank" in odd else ", take another tuner"
        export = ", or serve an export and name it (`grafts: {'*': NAME}`)" if named else ""
        raise UsageError.at(
            where,
            f"engine {engine.name!r} cannot answer with what is {'merged' if recipe.merge else 'trained'}: a server "
            f"loads no graft {odd}; set `evaluate.engine: transformers` or vllm{another}{export}",
        )
    both = chosen is None or chosen == recipe.engine  # one engine, with one set of names
    before = list(_asked_before(recipe))
    _refuse_unserved(where, chosen or recipe.engine, [*_made(recipe), *(before if both else ())])
    if not both:
        _refuse_unserved("engine", recipe.engine, before)


def check_asked(
    recipe: Recipe, system: SystemPlan, number: int, method: str, choice: EngineChoice, width: int | None = None
) -> None:
    """Check that an engine can answer with the graft of the stage before.

    Args:
        recipe: of the system.
        system: that is trained.
        number: of the stage, from 0, whose method asks.
        method: that asks.
        choice: the engine.
        width: hidden size of the base; None: not known.

    Raises:
        UsageError: it answers with the base alone, or loads no such graft.
    """
    entry, params = ENGINES.read(choice)
    odd, reason = beyond_updates(system.stages[:number], width), entry.base_only(params)
    if odd and not reason and not entry.loads(params, recipe.vocabulary is None):
        reason = f"a server loads no graft {odd}; give that stage another tuner, or a lower rank"
    if reason:
        raise UsageError(
            f"system {system.name!r}: method {method!r} asks the graft of the stage before, and engine "
            f"{choice.kind!r} cannot answer with it: {reason}, or set `engine: transformers`"
        )


def check_served(recipe: Recipe, width: int | None) -> None:
    """Check again what only the base tells: ranks that go by its width.

    Args:
        recipe: complete.
        width: hidden size of the base; None: not known.

    Raises:
        UsageError: as `check_answering` and `check_asked`.
    """
    check_answering(recipe, recipe.evaluate.engine, width)
    for system in recipe.systems():
        for number, stage in enumerate(system.stages):
            for method in methods_of(stage):
                if any(one.of == "before" for one in method.expected_rounds()):
                    check_asked(recipe, system, number, method.name, recipe.engine, width)


def check_given(recipe: Recipe, pending: Pending = NOTHING) -> None:
    """Check that the engine that evaluates can answer with the given grafts, beside what the recipe makes.

    Args:
        recipe: complete.
        pending: grafts that are not there yet.

    Raises:
        UsageError: it loads no such graft, or has too few names.
        ModelError: the configuration of one cannot be read.
    """
    where, choice = answering(recipe)
    both = choice == recipe.engine
    given = [_given(one, pending) for one in recipe.grafts]
    _refuse_unserved(where, choice, [*given, *_made(recipe), *(_asked_before(recipe) if both else ())])


def _refuse_unserved(where: str, choice: EngineChoice, asked: Sequence[AskedGraft]) -> None:
    engine, params = ENGINES.read(choice)
    if reason := engine.unserved(params, asked):
        raise UsageError.at(where, f"engine {choice.kind!r} cannot answer with all grafts that are asked: {reason}")


def _made(recipe: Recipe) -> Iterator[AskedGraft]:
    """Yield the grafts that a recipe makes and measures: of its systems, of earlier stages, at other scales."""
    yield from (AskedGraft(one.name) for one in recipe.systems())
    for name in recipe.headliners if recipe.stages or recipe.grafts else ():
        yield from (AskedGraft(f"{name}*{scale:g}") for scale in recipe.evaluate.scales)
    if recipe.evaluate.stages:
        own = recipe.headliners[-1] if recipe.stages else ""
        yield from (AskedGraft(f"{own}@{number}") for number in range(1, len(recipe.stages)))


def _asked_before(recipe: Recipe) -> Iterator[AskedGraft]:
    """Yield what methods ask before the training ends: grafts of stages that are not a system's last; each once."""
    seen: list[tuple[tuple[Stage, ...], int, bool]] = []
    for system in recipe.systems():
        for number, stage in enumerate(system.stages):
            key = (system.stages[:number], system.seed, system.vocabulary)
            if key not in seen and any(one.of == "before" for m in methods_of(stage) for one in m.expected_rounds()):
                seen.append(key)
                yield AskedGraft(_before(system, number))


def _before(system: SystemPlan, number: int) -> str:
    return f"{system.name} after {system.stages[number - 1].label!r}"


def _given(one: GivenGraft, pending: Pending) -> AskedGraft:
    """Return a given graft as its files are, or as it will be; so, too, the sum of several, which the run makes."""
    from lingraft.models.graft_names import graft_folder
    from lingraft.models.vocabulary import Vocabulary

    odd, grown, configs = "", False, list[dict[str, Any]]()
    folders = [Path(path) if path in pending else graft_folder(path) for path in one.paths]
    for path, folder in zip(one.paths, folders, strict=True):
        if path in pending:
            stages = pending[path].system.stages
            odd, grown = odd or beyond_updates(stages), grown or pending[path].grown
            configs.append({"peft_type": "LORA", "r": update_rank(stages)})
        else:
            grown = grown or Vocabulary.in_folder(folder) is not None
            configs.append(read_object(folder / CONFIG))
    return AskedGraft(
        one.label, folders[0] if len(folders) == 1 else None, odd or configs_beyond_updates(configs), grown
    )
