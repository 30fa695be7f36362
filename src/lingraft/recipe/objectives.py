"""What the loss of a stage is made of: what its methods ask for, and what the recipe adds."""

from __future__ import annotations

from lingraft.core.errors import UsageError
from lingraft.core.validation import validated
from lingraft.recipe.asking import methods_of
from lingraft.recipe.choices import ObjectiveChoice
from lingraft.recipe.stages import Stage
from lingraft.training.objectives import OBJECTIVES, Objective, Regulariser, TokenFactor, in_force
from lingraft.training.objectives.base_pairs import PairObjective
from lingraft.training.tuners import TUNERS


def objectives_of(stage: Stage) -> list[Objective]:
    """Return the objectives of a stage that have a weight: those its methods ask for, then the recipe's, of which one
    of the same kind replaces theirs.

    Raises:
        UsageError: an objective that there is not, a parameter that is not right, or two methods that ask for one kind
            with different parameters.
    """
    found: dict[str, Objective] = {}
    for method in methods_of(stage):
        for entry in method.objective():
            choice = validated(ObjectiveChoice, entry, f"objective of method {method.name!r}")
            made = OBJECTIVES.create(choice)
            other = found.setdefault(choice.kind, made)
            if other.params != made.params and all(own.kind != choice.kind for own in stage.objective):
                raise UsageError(
                    f"stage {stage.label!r}: its methods ask for the objective {choice.kind!r} with different "
                    f"parameters; say which in the stage's `objective`"
                )
    return in_force((found | {choice.kind: OBJECTIVES.create(choice) for choice in stage.objective}).values())


def check_objectives(stage: Stage, where: str) -> None:
    """Check that the objectives of a stage go with its methods and its tuner.

    Args:
        stage: with the defaults of its parameters.
        where: its place, for messages.

    Raises:
        UsageError: they do not, or see `objectives_of`.
    """
    tuner, methods, objectives = TUNERS.create(stage.tuner), list(methods_of(stage)), objectives_of(stage)
    paired = [method.name for method in methods if method.paired]
    if paired and not any(isinstance(one, PairObjective) for one in objectives):
        raise UsageError(
            f"{where}: the method {paired[0]!r} makes preference pairs, and no objective compares them; add one "
            f"such as cpo or dpo to the stage's `objective`"
        )
    for one in objectives:
        if isinstance(one, TokenFactor):
            for method in methods:
                if method.params.soft and "replay" in one.params.on:
                    raise UsageError(
                        f"{where}: the objective {one.name!r} is a factor on cross-entropy and cannot apply to what "
                        f"{method.name!r} learns from recorded distributions; set `on: translation` for it, or "
                        f"`targets: hard` for the method"
                    )
        if isinstance(one, PairObjective) and not paired:
            raise UsageError(
                f"{where}: the objective {one.name!r} compares a chosen with a rejected answer, and "
                f"{_listed(stage)} makes no preference pairs; use the method preferences, or drop the objective (of a "
                f"compared system: `objective: []`)"
            )
        if isinstance(one, Regulariser) and one.replay and not any(made.replays for made in methods):
            raise UsageError(
                f"{where}: the objective {one.name!r} looks at the base's own answers to general prompts, and "
                f"{_listed(stage)} has none; put the method recovery beside it, or drop the objective"
            )
        if one.base and tuner.head_learns:
            raise UsageError(
                f"{where}: the objective {one.name!r} needs the base's own logits, and with the tuner "
                f"{stage.tuner.kind!r} as it is set the output head learns; take the tuner lora with `embeddings: "
                f"none` and targets without the head, or drop the objective"
            )


def _listed(stage: Stage) -> str:
    return " beside ".join(repr(part.kind) for part in stage.parts)
