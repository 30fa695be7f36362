"""What objectives ask of rows and model, checked before training."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.errors import UsageError
from lingraft.models.output_head import OutputHead
from lingraft.training.objectives import Objective, TokenFactor, TokenObjective, in_force
from lingraft.training.objectives.base_pairs import PairObjective
from lingraft.training.survey import Survey
from lingraft.training.terms import LOSSES


def check_rows(survey: Survey, objectives: Sequence[Objective]) -> list[str]:
    """Check what objectives ask of the rows; return, in words, which of them have nothing to apply to.

    Raises:
        UsageError: a token factor applies to tokens that are trained on recorded distributions; or there are preference
            pairs and no objective that compares them.
    """
    idle = []
    if survey.paired and not any(isinstance(one, PairObjective) for one in in_force(objectives)):
        raise UsageError(
            "among the rows are preference pairs, and no objective compares them, so that rejected answers would be "
            "taught like chosen ones; name one in the stage's `objective`, such as cpo or dpo"
        )
    for one in in_force(objectives):
        if isinstance(one, PairObjective) and not survey.paired:
            idle.append(f"Objective {one.name!r} does nothing: there are no preference pairs among the rows")
        if not isinstance(one, TokenObjective):
            continue
        reached = [(loss, role) for loss, role in survey.kinds if one.applies(role)]
        taught = next(((loss, role) for loss, role in reached if LOSSES[loss].teacher), None)
        if taught and isinstance(one, TokenFactor):
            raise UsageError(
                f"objective {one.name!r} is a factor on cross-entropy, and tokens of role {taught[1]!r} are trained by "
                f"{taught[0]!r} on recorded distributions; take hard targets, or leave that role out of its `on`"
            )
        if not reached:
            idle.append(
                f"Objective {one.name!r} does nothing: no token is of {' or '.join(one.params.on)} (its `on`), all are "
                f"of {', '.join(survey.roles)}"
            )
    return idle


def check_head(survey: Survey, objectives: Sequence[Objective], head: OutputHead) -> None:
    """Refuse what needs the base's logits where the output head no longer gives them.

    Raises:
        UsageError: it does.
    """
    asking = ["loss 'kl_base'"] if survey.need_base else []
    asking += [f"objective {one.name!r}" for one in in_force(objectives) if one.base]
    if asking and any(parameter.requires_grad for parameter in head.module.parameters()):
        raise UsageError(f"{asking[0]} needs an output head that does not learn; adapt other layers only")
