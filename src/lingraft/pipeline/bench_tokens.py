"""The second table of a bench: rows that were trained on more or fewer tokens, trained once more on as many.

What is counted are real tokens (no padding), supervised or not, as often as they are read in training: those of all
stages of a row, of the training with the first seed. What a tuner reads to select what learns is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lingraft.pipeline.result import Run
from lingraft.recipe.bench import TOKENS, BenchPlan, RowPlan
from lingraft.recipe.schema import Recipe

TOLERANCE = 0.1
"""Share of the reference's tokens by which a row may differ and is not trained again."""


@dataclass(frozen=True)
class Matched:
    """A row in the second table.

    Attributes:
        one: its run: another than the row's own where it is trained again.
        own: the row's own run.
    """

    one: RowPlan
    own: RowPlan

    @property
    def again(self) -> bool:
        """Whether it is trained again."""
        return self.one.folder != self.own.folder


def stage_tokens(one: RowPlan) -> list[int]:
    """Return the real tokens that each stage of a finished row read, with the first seed.

    Raises:
        StoreError: it is not finished, or damaged.
    """
    label = one.recipe.stages[-1].label
    rows = Run.read(one.folder).scorecard.cost
    return [row.tokens or 0 for row in rows if row.system == label and row.stage == "training"]


def matched_rows(plan: BenchPlan, rows: Sequence[RowPlan]) -> tuple[int, list[Matched]]:
    """Return the tokens of the reference, and all rows that train with what gives them as many.

    Args:
        plan: of the bench, with a reference.
        rows: that are finished, with the values chosen for them.

    Raises:
        StoreError: a row's run is damaged.
    """
    trained = [one for one in rows if one.recipe.stages]
    read = {one.row.name: stage_tokens(one) for one in trained}
    wanted = sum(read[str(plan.equal_tokens)])
    return wanted, [Matched(_matched(plan, one, read[one.row.name], wanted), one) for one in trained]


def _matched(plan: BenchPlan, one: RowPlan, read: Sequence[int], wanted: int) -> RowPlan:
    if differs(sum(read), wanted):
        return replace(one, recipe=with_tokens(one.recipe, read, wanted), folder=plan.folder / TOKENS / one.row.name)
    return one


def differs(tokens: float, wanted: float) -> bool:
    """Whether so many tokens are too far from those that are wanted."""
    return abs(tokens - wanted) > TOLERANCE * wanted


def with_tokens(recipe: Recipe, read: Sequence[float], wanted: float) -> Recipe:
    """Return a recipe whose stages together read so many tokens, in the shares that they had.

    Each stage gets a budget of tokens, which it meets to within one example, and epochs enough to spend it; the
    learning rate's schedule ends where the budget does.

    Args:
        recipe: of a row.
        read: real tokens that each of its stages has read.
        wanted: real tokens of all together.
    """
    factor, stages = wanted / sum(read), []
    for stage, tokens in zip(recipe.stages, read, strict=True):
        epochs = stage.train.epochs
        if factor > 1:  # one more, since some epochs may have been cut short
            epochs = float(math.ceil(epochs * factor) + 1)
        budget = {"max_tokens": max(1, round(tokens * factor)), "max_steps": None, "epochs": epochs}
        stages.append(stage.model_copy(update={"train": stage.train.model_copy(update=budget)}))
    return recipe.model_copy(update={"stages": stages})
