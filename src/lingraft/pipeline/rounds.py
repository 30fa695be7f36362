"""Rounds of synthesis: a method asks, of the base, a graft or an engine, and asks on by what was answered."""

from __future__ import annotations

from collections import ChainMap, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lingraft.core.errors import UsageError
from lingraft.data.records import Generation, Request
from lingraft.methods.base import Method, MethodInputs, Round, nobody_before
from lingraft.methods.rounds import own_name
from lingraft.pipeline.answers import _Asked, answer, read_answers
from lingraft.pipeline.context import Context
from lingraft.recipe.choices import EngineChoice
from lingraft.rendering.renderer import Renderer

MOST_ROUNDS = 100
"""A method that has asked so often will never be done."""


@dataclass(frozen=True)
class Before:
    """The graft that the stage before has trained, and what it depends on."""

    graft: Path
    graft_hash: str


class Answered(NamedTuple):
    """The answers of all rounds so far, by request id, and the artefacts that hold them, one a round."""

    answers: Mapping[str, Generation]
    artefacts: tuple[Path, ...]


def answered_rounds(
    context: Context,
    method: Method,
    inputs: MethodInputs,
    renderer: Renderer,
    before: Before | None = None,
    *,
    ahead: bool = False,
) -> Iterator[Answered]:
    """Let a method's rounds be answered one after the other, and yield after each what is known then.

    Each round is an artefact of its own, so that an interrupted run goes on within any of them.

    Args:
        context: of the run.
        method: that asks.
        inputs: of the method, prepared.
        renderer: of the system's tokenizer, for what the graft is asked.
        before: what the stage before has trained; None for the first stage, and where nothing is trained yet.
        ahead: whether to end before the first round that needs that graft: it is not trained yet.

    Raises:
        UsageError: a round asks the graft of a stage before where there is none; the method asks twice under one id,
            or for ever.
    """
    known = Answered({}, ())
    for number in range(MOST_ROUNDS):
        this = method.round(number, inputs, known.answers)
        if this is None:
            return
        asked = _Asked(this.requests)
        if not any(True for _ in asked):
            continue
        if this.of == "before" and before is None and ahead:
            return
        folder = _answer(context, method, number, this, asked, renderer, before)
        found = read_answers(folder)
        if known.artefacts and (twice := next((id_ for id_ in found if id_ in known.answers), None)) is not None:
            raise UsageError(
                f"method {method.name!r}: the request {twice!r} of round {number + 1} has the id of one before; ids of "
                f"different rounds must differ"
            )
        answers = ChainMap(found, known.answers) if known.artefacts else found  # type: ignore[arg-type]  # only read
        known = Answered(answers, (*known.artefacts, folder))
        yield known
    raise UsageError(
        f"method {method.name!r} has asked {MOST_ROUNDS} rounds and is not done; its `round` has to return None"
    )


def all_answered(
    context: Context, method: Method, inputs: MethodInputs, renderer: Renderer, before: Before | None = None
) -> Answered:
    """Return the answers of all of a method's rounds; arguments and errors as of `answered_rounds`."""
    return _last(answered_rounds(context, method, inputs, renderer, before))


def leading_answered(context: Context, method: Method, inputs: MethodInputs, renderer: Renderer) -> Answered:
    """Return the answers of the rounds before the first that needs the graft of the stage before."""
    return _last(answered_rounds(context, method, inputs, renderer, ahead=True))


def _last(rounds: Iterator[Answered]) -> Answered:
    return next(iter(deque(rounds, maxlen=1)), Answered({}, ()))


def _answer(
    context: Context,
    method: Method,
    number: int,
    this: Round,
    asked: Iterable[Request],
    renderer: Renderer,
    before: Before | None,
) -> Path:
    """Return the artefact with a round's answers."""
    stage = f"{this.kind}-{this.name or own_name(method.name, number, this.kind)}"
    if this.of == "base":
        return answer(context, stage, asked, renderer=context.renderer)
    if this.of != "before":
        choice = EngineChoice.model_validate(dict(this.of))
        return answer(context, stage, asked, choice=choice, renderer=context.renderer)
    if before is None:
        raise UsageError(nobody_before(method.name, this))
    return answer(context, stage, asked, graft=before.graft, graft_hash=before.graft_hash, renderer=renderer)
