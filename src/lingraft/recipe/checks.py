"""Checks of a recipe as a whole: parameters of registered things, and what only a system's chain of stages tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from lingraft.core.errors import UsageError, placed, suggestion
from lingraft.core.validation import HOLDS_ENGINE, holding, validated
from lingraft.engines.base import ENGINES
from lingraft.methods.base import METHODS, Available, ExpectedRound, Method, nobody_before
from lingraft.metrics.base import METRICS, metric_misfit, open_metric
from lingraft.models.adapter_config import MAX_RANK
from lingraft.recipe.asking import chat_of, check_asking, methods_of, share_wordings
from lingraft.recipe.choices import Choice, EngineChoice
from lingraft.recipe.decoders import filled_decoders
from lingraft.recipe.engine_checks import check_answering, check_asked, update_rank
from lingraft.recipe.gates import check_gate_systems
from lingraft.recipe.idle import refuse_idle
from lingraft.recipe.merge_checks import filled_merges
from lingraft.recipe.objectives import check_objectives
from lingraft.recipe.routes import check_routes
from lingraft.recipe.stages import Compared, Part, Stage, SystemPlan, with_params
from lingraft.recipe.tasks import with_judge, with_metrics, with_tasks
from lingraft.routing.base import DECIDERS
from lingraft.suites.base import SUITES
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.tuners import TUNERS

if TYPE_CHECKING:
    from lingraft.recipe.schema import Recipe

C = TypeVar("C", bound="Choice")
S = TypeVar("S", "Stage", "Compared")


def check_params(recipe: Recipe) -> Recipe:
    """Return a recipe with the defaults of all parameters of registered things in it.

    Raises:
        UsageError: a parameter is not right, or what is chosen does not go together.
    """
    stages, compared = [], []
    for i, stage in enumerate(recipe.stages):
        filled = _with_defaults(recipe, stage, f"stages.{i}")
        tuner = _filled(TUNERS, stage.tuner, f"stages.{i}.tuner")
        objective = _all_filled(OBJECTIVES, stage.objective, f"stages.{i}.objective")
        stages.append(filled.model_copy(update={"tuner": tuner, "objective": objective}))
    for i, other in enumerate(recipe.compare):
        if other.method:
            _with_defaults(recipe, other, f"compare.{i}")  # what is wrong in it is told at its place
            other = _with_defaults(recipe, share_wordings(stages, other), f"compare.{i}")
        if other.tuner:
            other = other.model_copy(update={"tuner": _filled(TUNERS, other.tuner, f"compare.{i}.tuner")})
        compared.append(_objectives_filled(other, f"compare.{i}"))
    changed = {"stages": stages, "compare": compared, "engine": _filled(ENGINES, recipe.engine, "engine")}
    recipe = recipe.model_copy(update=changed)
    refuse_idle(recipe)
    for i, system in enumerate(recipe.systems()):
        with placed(f"compare.{i}" if i < len(recipe.compare) else "stages"):
            _check_chain(recipe, system)
            check_asking(system)
            for stage in system.stages:
                check_objectives(stage, f"system {system.name!r}, stage {stage.label!r}")
    recipe = recipe.model_copy(update={"merge": filled_merges(recipe)})
    evaluate, changes = recipe.evaluate, dict[str, Any]()
    if evaluate.engine:
        changes["engine"] = _filled(ENGINES, evaluate.engine, "evaluate.engine")
    through = evaluate.translate_test
    if through and through.translator != "graft":
        translator = _filled(ENGINES, through.translator, "evaluate.translate_test.translator")
        changes["translate_test"] = through.model_copy(update={"translator": translator})
    check_answering(recipe, changes.get("engine"))
    deciders = [_filled(DECIDERS, one.by, f"evaluate.route.{i}.by") for i, one in enumerate(evaluate.route)]
    routed = [one.model_copy(update={"by": by}) for one, by in zip(evaluate.route, deciders, strict=True)]
    check_routes(recipe)
    changes["route"] = routed
    asked = evaluate.retention.suites
    suites = [_filled(SUITES, one, f"evaluate.retention.suites.{i}") for i, one in enumerate(asked)]
    for i, one in enumerate(suites):
        _check_consumed(recipe, one.kind, f"evaluate.retention.suites.{i}")
    changes["retention"] = evaluate.retention.model_copy(update={"suites": suites})
    evaluate = with_metrics(with_tasks(recipe), lambda one, where: _filled(METRICS, with_judge(one, where), where))
    recipe = recipe.model_copy(update={"evaluate": evaluate.model_copy(update=changes)})
    changes["decoders"] = filled_decoders(recipe)
    check_gate_systems(recipe)
    return recipe.model_copy(update={"evaluate": evaluate.model_copy(update=changes)})


def _check_consumed(recipe: Recipe, suite: str, where: str) -> None:
    """Refuse a suite that asks about what the recipe does not have.

    Raises:
        UsageError: it does.
    """
    entry: Any = SUITES.get(suite)
    wanted = (
        ("prompts", recipe.prompts is None, "general prompts; add `prompts: {path: ...}`"),
        ("texts", not recipe.texts, "texts; add `texts: {path: ..., lang: ...}`"),
    )
    for what, lacking, words in wanted:
        if what in entry.consumes and lacking:
            named = "suites" in recipe.evaluate.retention.model_fields_set
            remedy = "or drop the suite" if named else "or name suites: `evaluate: {retention: {suites: [refusal]}}`"
            which = f"the suite {suite!r}" + ("" if named else ", which is measured unless suites are named,")
            raise UsageError.at(where, f"{where}: {which} needs {words} {remedy}")


def _defaults(kind: Any, params: Mapping[str, Any], where: str, beside: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of a registered class with their defaults; `beside`: further keys that may stand there."""
    return dict(validated(kind.Params, params, where, beside).model_dump(mode="json"))


def _filled(registry: Any, choice: C, where: str) -> C:
    """Return a choice with the defaults of its parameters."""
    with placed(f"{where}.kind"):
        kind = registry.get(choice.kind)
    return choice.model_copy(update=_defaults(kind, choice.params, where, type(choice).model_fields))


def _all_filled(registry: Any, choices: Sequence[C], where: str) -> list[C]:
    """Return choices with the defaults of their parameters."""
    return [_filled(registry, one, f"{where}.{i}") for i, one in enumerate(choices)]


def _objectives_filled(other: Compared, where: str) -> Compared:
    """Return a compared system with the defaults of the objectives that it names."""
    changes: dict[str, Any] = {}
    if other.objective is not None:
        changes["objective"] = _all_filled(OBJECTIVES, other.objective, f"{where}.objective")
    changes["in_stages"] = {
        name: change
        if change.objective is None
        else change.model_copy(
            update={"objective": _all_filled(OBJECTIVES, change.objective, f"{where}.in_stages.{name}.objective")}
        )
        for name, change in other.in_stages.items()
    }
    return other.model_copy(update=changes)


def _with_defaults(recipe: Recipe, section: S, where: str) -> S:
    """Return a stage, or what a compared system has in its place, with the defaults of its methods' parameters.

    Raises:
        UsageError: a parameter is not right, or the recipe has none of what a method's examples are made of.
    """

    def filled(part: Part) -> Mapping[str, Any]:
        place = part.at(where)
        with placed(f"{place}.method"):
            method = METHODS.get(part.kind)
        params = _defaults(method, part.params, f"{place}.params", {})
        for name in holding(method.Params, HOLDS_ENGINE):
            if isinstance(held := params.get(name), Mapping):
                _filled(ENGINES, validated(EngineChoice, held, f"{place}.params.{name}"), f"{place}.params.{name}")
        if lacking := _lacking(recipe, METHODS.create(Part(part.kind, params))):
            raise UsageError.at(f"{place}.method", f"{place}: {lacking}")
        return params

    return with_params(section, filled)


def _lacking(recipe: Recipe, method: Method) -> str:
    """Return what the recipe lacks for a method's examples, and the remedy; "" if nothing."""
    if method.consumes == "texts" and not recipe.texts:
        return f"method {method.name!r} needs texts; add `texts: {{path: ..., lang: ...}}`"
    if method.needs_prompts and recipe.prompts is None:
        own = ", or let the base write them: `params: {prompts: self}`" if hasattr(method.params, "prompts") else ""
        return f"method {method.name!r} needs general prompts; add `prompts: {{path: ...}}`{own}"
    available = Available(
        directions=recipe.pairs.trained_directions, prompts=recipe.prompts is not None, texts=bool(recipe.texts)
    )
    lacking = method.lacks(available)
    return f"method {method.name!r}: {lacking}" if lacking else ""


def _check_tuners(recipe: Recipe, system: SystemPlan) -> None:
    """Check that tuners go with how they are to train.

    Raises:
        UsageError: one does not, or what it trains cannot be put together with what another stage trains.
    """
    for number, stage in enumerate(system.stages):
        tuner = TUNERS.create(stage.tuner)
        if stage.train.precision != recipe.precision:
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: train.precision is {stage.train.precision}, and all "
                f"systems are trained and measured on one base, in {recipe.precision}; drop it, or run it by itself"
            )
        if found := tuner.refusal(stage.train):
            setting, reason = found
            raise UsageError(f"system {system.name!r}, stage {stage.label!r}: train.{setting}: {reason}")
        if tuner.needs_prompts and recipe.prompts is None:
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: tuner {tuner.name!r} looks at general prompts, and "
                f"there are none; add `prompts: {{path: ...}}`"
            )
        if recipe.stages[0].upon and (recipe.precision == "nf4" or stage.train.sharding == "full"):
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: `upon` puts a graft into the base, which must "
                f"be whole and not in 4 bits; choose another train.precision and no train.sharding, or drop it"
            )
        if recipe.stages[0].upon and recipe.vocabulary and system.vocabulary:
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: what is trained `upon` a graft is to be added to "
                f"others, and grafts with a vocabulary are not added; drop `upon` or `vocabulary`"
            )
        joined = system.stages[: number + 1] if number and stage.fresh else ()
        if odd := next((one for one in joined if not TUNERS.create(one.tuner).adds_up), None):
            raise UsageError(
                f"system {system.name!r}: `fresh` and `merge` put what stages train together, and what the tuner of "
                f"{odd.label!r} trains is no sum (`dora`); leave `dora` out, or continue one adapter"
            )
        if (rank := update_rank(joined)) > MAX_RANK:
            raise UsageError(
                f"system {system.name!r}: `fresh` and `merge` add up the ranks of what stages train, and a graft holds "
                f"{MAX_RANK:,} at most (here {rank:,}); lower the ranks"
            )
        kinds = {TUNERS.create(one.tuner).sparse for one in joined}
        if len(kinds) > 1:
            raise UsageError(
                f"system {system.name!r}: `fresh` and `merge` put what stages train together, and sparse changes and "
                f"others cannot be in one adapter; take the tuner sparse in all stages or in none"
            )


def _check_chain(recipe: Recipe, system: SystemPlan) -> None:
    """Check what only the whole chain of a system's stages tells.

    Raises:
        UsageError: a method lacks markers, or a graft to translate with; or adapters cannot be continued or merged.
    """
    _check_tuners(recipe, system)
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
        if stage.train.development and not recipe.pairs.has_dev:
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: train.{stage.train.development[0]} is for a "
                f"development set; add `pairs.dev`, or `dev_share: 0.02` under `pairs`"
            )
        if stage.train.max_kl is not None and recipe.prompts is None:
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: train.max_kl is measured on general prompts; add "
                f"`prompts: {{path: ...}}`"
            )
        if recipe.pairs.has_dev and stage.train.sharding == "full":
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: the whole base translates a development set, and with "
                f"train.sharding full no process has it; drop `pairs.dev` or the sharding"
            )
        if stage.train.embedding_learning_rate is not None and not TUNERS.create(stage.tuner).learns_embeddings:
            raise UsageError(
                f"system {system.name!r}, stage {stage.label!r}: train.embedding_learning_rate is for embeddings that "
                f"learn, and the tuner leaves them as they are; set its `embeddings`, or drop the rate"
            )
        for method in methods_of(stage):
            if lacking := _lacking(recipe, method):  # of what `in_stages` has changed; all else is checked in its place
                raise UsageError(f"system {system.name!r}, stage {stage.label!r}: {lacking}")
            if method.needs_markers and not (system.vocabulary and recipe.native_languages):
                raise UsageError(
                    f"system {system.name!r}: method {method.name!r} needs markers; add `vocabulary: {{languages: "
                    f"[...]}}` with the languages to carry the model to"
                )
            for chosen in method.selects_by:
                try:
                    opened = open_metric(chosen)
                    if reason := metric_misfit(opened.metric.name, "translation"):
                        raise UsageError(reason)
                    if opened.metric.asks_judge:
                        raise UsageError("it asks a judge, and that is done at the end of a run; name another metric")
                except UsageError as error:
                    raise UsageError(
                        f"system {system.name!r}: method {method.name!r} cannot select by {_named(chosen)!r}: {error}"
                    ) from error
            grown = recipe.native_languages and system.vocabulary
            if method.asks_chain and before and grown and chat_of(system.stages[:number]) != "tcot":
                raise UsageError(
                    f"system {system.name!r}: method {method.name!r} asks the graft of the stage before through the "
                    f"chain, which no stage before teaches; put a stage with `tcot` before it, or set `teacher: base`"
                )
            for asked in method.expected_rounds():
                _check_round(recipe, system, method.name, asked, number)
    grown = recipe.vocabulary is not None and system.vocabulary
    if not grown and (odd := next((one for one in system.stages if TUNERS.create(one.tuner).needs_new_rows), None)):
        raise UsageError(
            f"system {system.name!r}, stage {odd.label!r}: the tuner trains the rows that a vocabulary adds "
            f"(`embeddings: new`), and there is none; give it another `tuner`, or add a section `vocabulary`"
        )
    if grown and not all(TUNERS.create(stage.tuner).trains_new_rows for stage in system.stages):
        raise UsageError(
            f"system {system.name!r}: the tuner does not train the new rows of the vocabulary, which would stay as "
            f"they began; set `embeddings: new` or `embeddings: all` in each `tuner`, or take the tuner full"
        )


def _named(metric: str | Mapping[str, Any]) -> str:
    return metric if isinstance(metric, str) else str(metric.get("name") or metric.get("kind"))


def _check_round(recipe: Recipe, plan: SystemPlan, method: str, asked: ExpectedRound, number: int) -> None:
    """Check that whoever a method asks can answer.

    Args:
        recipe: whose engine lets the base answer.
        plan: the system that is trained.
        method: its name.
        asked: a round of it.
        number: of the method's stage.

    Raises:
        UsageError: there is no such engine, or it cannot; or the graft of a stage before is asked, and there is none.
    """
    system = plan.name
    who, choice = "the engine", recipe.engine
    if asked.of == "before" and not number:
        raise UsageError(f"system {system!r}: {nobody_before(method, asked)}")
    if not isinstance(asked.of, str):
        who = f"{asked.key or 'engine'} of {method!r}"
        where = f"system {system!r}: {who}"
        choice = validated(EngineChoice, dict(asked.of), where)
        if choice.kind not in ENGINES:
            raise UsageError(f"{where}: unknown engine {choice.kind!r}{suggestion(choice.kind, ENGINES)}")
        validated(ENGINES.get(choice.kind).Params, choice.params, where)
    entry, params = ENGINES.read(choice)
    if asked.of == "before":
        check_asked(recipe, plan, number, method, choice)
    if asked.logprobs and (reason := entry.without_logprobs(params)):
        raise UsageError(
            f"system {system!r}: method {method!r} needs the distributions of tokens, and {who} ({choice.kind}) gives "
            f"none: {reason}, or set `{asked.instead}`"
        )
