"""What fits the model's context: found where the rows are read, not where they are answered, hours later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lingraft.chat import Renderer
from lingraft.data import reasons
from lingraft.data.records import Message
from lingraft.engines import ENGINES
from lingraft.errors import DataError, UsageError
from lingraft.evaluation.suite import SUITES
from lingraft.methods import METHODS
from lingraft.recipe import Recipe


@dataclass(frozen=True)
class Room:
    """Says which general prompts leave room for their answers.

    Attributes:
        renderer: of the base's tokenizer.
        context: tokens that prompt and answer may have together; None: no limit is known.
        answer: most tokens that an answer to a general prompt may have.
    """

    renderer: Renderer
    context: int | None
    answer: int

    def fault(self, messages: Sequence[Message]) -> tuple[str, str] | None:
        """Return the reason against a prompt and its details; None if it can be asked."""
        try:
            tokens = len(self.renderer.prompt_ids(messages).ids)
        except (UsageError, DataError) as error:
            return reasons.NOT_RENDERED, str(error)
        if self.context is not None and tokens + self.answer > self.context:
            detail = f"{tokens} tokens leave no room for {self.answer} more in the model's context of {self.context}"
            return reasons.TOO_LONG, detail
        return None


def context_tokens(recipe: Recipe, longest: int | None) -> int | None:
    """Return how many tokens a prompt and its answer may have together, with each of a recipe's engines.

    Args:
        longest: sequence of the base, in tokens; None: not known.
    """
    limits = [longest]
    for choice in (recipe.engine, recipe.evaluate.engine):
        if choice is not None:
            kind = ENGINES.get(choice.kind)
            limits.append(kind.longest(kind.Params.model_validate(choice.params)))
    return min((limit for limit in limits if limit is not None), default=None)


def answer_tokens(recipe: Recipe) -> int:
    """Return the most tokens that a method or suite of a recipe lets a model answer a general prompt with."""
    most = 0
    for system in recipe.systems():
        for stage in system.stages:
            parts = [(stage.method, stage.params), *((other.method, other.params) for other in stage.beside)]
            for name, params in parts:
                method = METHODS.get(name)
                most = max(most, method(method.Params.model_validate(params)).answer_tokens)
    for choice in recipe.evaluate.retention.suites:
        suite = SUITES.get(choice.kind)
        most = max(most, suite(suite.Params.model_validate(choice.params)).answer_tokens)  # type: ignore[attr-defined]
    return most
