"""Checks of a recipe as a whole: parameters of registered things, and what only a system's chain of stages tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from lingraft.core.errors import UsageError, placed
from lingraft.core.validation import validated
from lingraft.engines.base import ENGINES
from lingraft.methods.base import METHODS
from lingraft.metrics.base import METRICS
from lingraft.recipe.asking import check_asking, methods_of, share_wordings
from lingraft.recipe.choices import Choice, EngineChoice
from lingraft.recipe.stages import Compared, Stage, SystemPlan
from lingraft.suites.base import SUITES
from lingraft.training.tuners import TUNERS

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe

C = TypeVar("C", bound="Choice")


def check_params(recipe: Recipe) -> Recipe:
    """Check all parameters of registered things and write their defaults into the recipe."""

    def fill(
        registry: Any, kind: str, params: Mapping[str, Any], where: str, beside: Iterable[str] = ()
    ) -> dict[str, Any]:
        with placed(f"{where}.kind"):
            entry = registry.get(kind)
        return dict(validated(entry.Params, params, where, beside).model_dump(mode="json"))

    def filled(registry: Any, choice: C, where: str) -> C:
        filled = fill(registry, choice.kind, choice.params, where, type(choice).model_fields)
        return choice.model_copy(update=filled)

    def fill_methods(stage: Stage | Compared, where: str) -> None:
        for part, place in [(stage, where), *((other, f"{where}.beside.{k}") for k, other in enumerate(stage.beside))]:
            with placed(f"{place}.method"):
                consumes = METHODS.get(part.method).consumes
                if consumes == "prompts" and recipe.prompts is None:
                    raise UsageError(
                        f"{place}: method {part.method!r} needs general prompts; add `prompts: {{path: ...}}`"
                    )
                if consumes == "texts" and not recipe.texts:
                    raise UsageError(
                        f"{place}: method {part.method!r} needs texts; add `texts: {{path: ..., lang: ...}}`"
                    )
            part.params = fill(METHODS, part.method, part.params, f"{place}.params")

    for i, stage in enumerate(recipe.stages):
        fill_methods(stage, f"stages.{i}")
        stage.tuner = filled(TUNERS, stage.tuner, f"stages.{i}.tuner")
    for i, other in enumerate(recipe.compare):
        if other.method:
            with placed(f"compare.{i}"):
                share_wordings(recipe.stages, other)
            fill_methods(other, f"compare.{i}")
        if other.tuner:
            other.tuner = filled(TUNERS, other.tuner, f"compare.{i}.tuner")
    for i, system in enumerate(recipe.systems()):
        with placed(f"compare.{i}" if i < len(recipe.compare) else "stages"):
            _check_chain(recipe, system)
            check_asking(system)
    with placed("evaluate.scales"):
        _check_scales(recipe)
    recipe.engine = filled(ENGINES, recipe.engine, "engine")
    if recipe.evaluate.engine:
        recipe.evaluate.engine = filled(ENGINES, recipe.evaluate.engine, "evaluate.engine")
    through = recipe.evaluate.translate_test
    if through and through.translator != "graft":
        through.translator = filled(ENGINES, through.translator, "evaluate.translate_test.translator")
    choice = recipe.evaluate.engine or recipe.engine
    engine = ENGINES.get(choice.kind)
    if reason := engine.base_only(engine.Params.model_validate(choice.params)):
        raise UsageError.at(
            "evaluate.engine" if recipe.evaluate.engine else "engine",
            f"engine {choice.kind!r} cannot answer with what is trained: {reason}, or set "
            f"`evaluate.engine: transformers` to evaluate in this process",
        )
    retention, translation = recipe.evaluate.retention, recipe.evaluate.translation
    translation.metrics = [
        filled(METRICS, metric, f"evaluate.translation.metrics.{i}") for i, metric in enumerate(translation.metrics)
    ]
    retention.suites = [
        filled(SUITES, suite, f"evaluate.retention.suites.{i}") for i, suite in enumerate(retention.suites)
    ]
    return recipe


def _check_scales(recipe: Recipe) -> None:
    """Refuse other strengths of a graft that will hold more than updates.

    Raises:
        UsageError: it will.
    """
    for number, stage in enumerate(recipe.stages if recipe.evaluate.scales else ()):
        entry = TUNERS.get(stage.tuner.kind)
        if not entry(entry.Params.model_validate(stage.tuner.params)).scales:  # type: ignore[attr-defined]
            raise UsageError(
                f"evaluate.scales: the tuner of stages.{number} ({stage.tuner.kind}) trains whole layers or "
                f"embeddings, which have no other scales; drop `evaluate.scales`, or take the tuner lora with "
                f"`embeddings: none`"
            )


def _check_chain(recipe: Recipe, system: SystemPlan) -> None:
    """Check what only the whole chain of a system's stages tells.

    Raises:
        UsageError: a method lacks markers, or a graft to translate with; or adapters cannot be continued or merged.
    """
    for number, (before, stage) in enumerate(zip((None, *system.stages), system.stages, strict=False)):
        if before and not stage.fresh and stage.tuner != before.tuner:
            raise UsageError(
                f"system {system.name!r}: without the stages left out, {stage.label!r} continues the adapter of "
                f"{before.label!r}, which has another tuner; give its entry a `tuner`, or `merge: true`"
            )
        if before and stage.fresh and (recipe.precision == "nf4" or stage.train.sharding == "full"):
            raise UsageError(
                f"system {system.name!r}: `fresh` and `merge` put the stages before into the base's weights, which "
                f"must be whole and not in 4 bits; choose another train.precision and no train.sharding, or drop them"
            )
        for method in methods_of(stage):
            name, translator = method.name, method.translator
            if method.needs_markers and not (system.vocabulary and recipe.native_languages):
                raise UsageError(
                    f"system {system.name!r}: method {name!r} needs markers; add `vocabulary: {{languages: [...]}}` "
                    f"with the languages to carry the model to"
                )
            if translator is not None:
                where = f"system {system.name!r}: translator of {name!r}"
                choice = validated(EngineChoice, translator, where)
                filled = ENGINES.get(choice.kind)
                validated(filled.Params, choice.params, where)
            if number == 0 and method.asks_before:
                raise UsageError(
                    f"system {system.name!r}: method {name!r} lets the graft of the stage before translate, and there "
                    f"is none; put a stage before it, or set its parameter `translator` or `translations`"
                )
    grown = recipe.vocabulary is not None and system.vocabulary
    if grown and any(stage.tuner.params.get("embeddings") == "none" for stage in system.stages):
        raise UsageError(
            f"system {system.name!r}: the tuner does not train the new rows of the vocabulary, which would stay as "
            f"they began; set `embeddings: new` or `embeddings: all` in each `tuner`"
        )
