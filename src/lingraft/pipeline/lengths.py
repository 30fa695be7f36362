"""What fits the model's context: found where the rows are read, not where they are answered, hours later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lingraft.core.errors import DataError, ExampleError, UsageError
from lingraft.data import reasons
from lingraft.data.records import Example, Message, Prompt, Request
from lingraft.engines.base import ENGINES
from lingraft.engines.finishing import prompt_of
from lingraft.methods.base import Method
from lingraft.recipe.asking import methods_of
from lingraft.recipe.choices import EngineChoice
from lingraft.recipe.schema import Recipe
from lingraft.rendering.renderer import Renderer
from lingraft.suites.base import SUITES


@dataclass(frozen=True, kw_only=True)
class Room:
    """Says which general prompts leave room for their answers.

    Attributes:
        renderer: of the base's tokenizer.
        context: tokens that prompt and answer may have together; None: no limit is known.
        answer: most tokens that an answer to a general prompt may have.
        methods: of the run, whose examples the base must be able to read.
        longest: sequence of the base, in tokens; None: not known.
    """

    renderer: Renderer
    context: int | None
    answer: int
    methods: Sequence[Method] = ()
    longest: int | None = None

    @classmethod
    def of(cls, recipe: Recipe, renderer: Renderer, longest: int | None) -> Room:
        """Return what a recipe needs.

        Args:
            recipe: with its methods, suites and engines.
            renderer: of the base's tokenizer.
            longest: sequence of the base, in tokens; None: not known.
        """
        methods = [method for system in recipe.systems() for stage in system.stages for method in methods_of(stage)]
        limits = [0, *(method.answer_tokens for method in methods)]
        for choice in recipe.evaluate.retention.suites:
            limits.append(SUITES.create(choice).answer_tokens)
        return cls(
            renderer=renderer,
            context=context_tokens(recipe, longest),
            answer=max(limits),
            methods=methods,
            longest=longest,
        )

    @property
    def identity(self) -> list[Any]:
        """What decides which prompts leave room: limits, and what of a prompt the examples hold (told by one that has
        one letter as its question and two as its answer)."""
        one = Prompt("", (Message("user", "a"),), reference="ab")
        held = sorted({method.least_tokens(one, len) for method in self.methods})
        return [self.context, self.answer, held, self.longest]

    def fault(self, prompt: Prompt) -> tuple[str, str] | None:
        """Return the reason against a prompt and its details; None if it can be asked."""
        try:
            tokens = len(self.renderer.prompt_ids(prompt.messages).ids)
        except (UsageError, DataError) as error:
            return reasons.NOT_RENDERED, str(error)
        trained = max((method.least_tokens(prompt, self.renderer.count) for method in self.methods), default=0)
        for more, context in ((self.answer, self.context), (trained, self.longest)):
            if context is not None and tokens + more > context:
                detail = f"{tokens} tokens leave no room for {more} more in the model's context of {context}"
                return reasons.TOO_LONG, detail
        return None


MAX_REFUSED_SHARE = 0.05
"""Of the examples of a method; more that cannot be rendered are a mistake in the data."""


def too_long(renderer: Renderer, longest: int | None, examples: Iterable[Example]) -> str:
    """Return why too many of a method's examples are too long for the model, and what to do; "" if they are not.

    Args:
        renderer: of the tokenizer that is trained with.
        longest: sequence of the base, in tokens; None: not known.
        examples: as far as they are known yet.
    """
    if longest is None:
        return ""
    tried = refused = 0
    first = ""
    for example in examples:
        tried += 1
        texts = [*(message.content for message in example.messages), *(span.text for span in example.spans)]
        if sum(len(text.encode("utf-8", "replace")) + SLACK for text in texts) <= longest:  # nearly all, unrendered
            continue
        (row,) = renderer.render_many([example], longest)
        if isinstance(row, ExampleError):
            refused, first = refused + 1, first or f"{example.id!r}: {row.reason}"
    if refused <= MAX_REFUSED_SHARE * tried:
        return ""
    return (
        f"{refused:,} of {tried:,} training examples cannot be rendered, for instance {first}; shorten or leave out "
        f"such prompts, or lower `max_answer_tokens`"
    )


SLACK = 64
"""Tokens that a chat template puts around a message at most, roughly, beyond those around the first."""


class Window:
    """What an engine can hold, prompt and answer together.

    Args:
        renderer: of the tokenizer of the model that answers.
        context: tokens; None: no limit is known.
    """

    def __init__(self, renderer: Renderer, context: int | None) -> None:
        self.renderer, self.context = renderer, context

    @cached_property
    def _around(self) -> int:
        """Tokens of the chat template, the system message that it may put by itself included."""
        return len(self.renderer.prompt_ids((Message("user", "a"),)).ids)

    def excess(self, request: Request, more: int = 0) -> int:
        """Return by how many tokens a request and the longest answer to it exceed the context; at most 0: they fit.

        Args:
            request: with the number of tokens that its answer may have.
            more: tokens of the conversation that are not known yet.
        """
        wanted = request.sampling.max_new_tokens + more
        if self.context is None:
            return 0
        texts = [*(m.content for m in request.messages), request.prefill, *(span.text for span in request.turn)]
        # A token is a byte at least: this decides about nearly all without a tokenizer.
        most = len(request.prompt_ids) or sum(len(text.encode("utf-8", "replace")) + SLACK for text in texts)
        if most + self._around + wanted <= self.context:
            return 0
        return len(prompt_of(self.renderer, request).ids) + wanted - self.context

    def fitted(self, request: Request) -> Request:
        """Return the request, the limit of its answer lowered to what is left; 0 where nothing is."""
        excess = self.excess(request)
        if excess <= 0:
            return request
        room = max(0, request.sampling.max_new_tokens - excess)
        return replace(request, sampling=replace(request.sampling, max_new_tokens=room))


def context_tokens(recipe: Recipe, longest: int | None) -> int | None:
    """Return how many tokens a prompt and its answer may have together, with each of a recipe's engines.

    Args:
        recipe: with its engines.
        longest: sequence of the base, in tokens; None: not known.
    """
    chosen = [choice for choice in (recipe.engine, recipe.evaluate.engine) if choice is not None]
    return min((limit for choice in chosen if (limit := engine_tokens(choice, longest)) is not None), default=None)


def engine_tokens(choice: EngineChoice, longest: int | None) -> int | None:
    """Return how many tokens an engine with a base of `longest` can hold; None: no limit is known."""
    kind, params = ENGINES.read(choice)
    return kind.longest(params, longest)


def refuse(
    window: Window, asked: Iterable[tuple[Request, int]], where: str, what: str, remedy: str, prefix: str = ""
) -> None:
    """Refuse what does not fit the window.

    Args:
        window: what the model can hold.
        asked: each with the tokens of earlier answers that it quotes.
        where: file or suite, for the message.
        what: is asked, in the plural ("verdicts").
        remedy: for the message.
        prefix: of the ids, not shown.

    Raises:
        DataError: names the first, and how many there are.
    """
    first, ids = "", set[str]()
    for request, quoted in asked:
        excess = window.excess(request, quoted)
        if excess <= 0:
            continue
        ids.add(request.id)
        limit = request.sampling.max_new_tokens
        tokens = (window.context or 0) + excess - limit
        answers = f", {quoted} of them of earlier answers at most," if quoted else ""
        first = first or (
            f"{request.id.removeprefix(prefix)!r}: {tokens} prompt tokens{answers} leave no room for {limit} more in "
            f"the model's context of {window.context}"
        )
    if ids:
        raise DataError(f"{where}: {len(ids):,} {what} too long, first {first}; {remedy}")
