"""Rounds of synthesis: what a method asks at once, and of whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lingraft.data.records import Request

Of = Literal["base", "before"] | Mapping[str, Any]
"""Who is asked: the base, the graft of the stage before, or an engine, as `engine:` of a recipe has it."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a method asks at once: as much as can be asked without further answers.

    Attributes:
        requests: makes them, anew and alike at each call: there may be millions, and they are gone over several times.
            Their ids differ from those of all rounds before.
        of: who answers.
        name: under which the answers are kept; methods that ask the same share them. "": the method's own.
        kind: how the round is called in progress, tables and folders: `synthesis-<name>` or `translation-<name>`.
    """

    requests: Callable[[], Iterator[Request]]
    of: Of = "base"
    name: str = ""
    kind: Literal["synthesis", "translation"] = "synthesis"


@dataclass(frozen=True, kw_only=True)
class ExpectedRound:
    """A round as far as a method's parameters tell of it: for the checks of a recipe, before anything is asked.

    Attributes:
        of, name, kind: as of `Round`.
        tokens: about how many are written for each pair (or prompt); None: as many as prompts and their answers have,
            which are translated sentence by sentence.
        logprobs: whether log-probabilities are needed, so that an engine that gives none is refused.
        key: the parameter that says who answers, for messages.
        instead: what to set where log-probabilities cannot be had, for messages.
    """

    of: Of = "base"
    name: str = ""
    kind: Literal["synthesis", "translation"] = "synthesis"
    tokens: float | None = 0.0
    logprobs: bool = False
    key: str = ""
    instead: str = "targets: hard"


def nobody_before(method: str, asked: Round | ExpectedRound) -> str:
    """Return what is said where a round of a method, by its name, asks the graft of a stage before without one."""
    if asked.kind == "translation":
        return (
            f"method {method!r} lets the graft of the stage before translate, and there is none; put a stage before "
            f"it, or set its parameter `translator` or `translations`"
        )
    key = asked.key if isinstance(asked, ExpectedRound) else ""
    change = f", or change its parameter `{key}`" if key else ""
    return f"method {method!r} asks the graft of the stage before, and there is none; put a stage before it{change}"


def own_name(method: str, number: int, kind: str) -> str:
    """Return the name of a round that has none: the method's, with a number from its second such round on."""
    return method if number == 0 or kind == "translation" else f"{method}-{number + 1}"


def checked_engine(value: Any) -> Any:
    """Return a parameter's value that may be an engine as `engine:` of a recipe has it; within a validator.

    Raises:
        ValueError: a mapping without a `kind`.
    """
    if isinstance(value, Mapping) and not isinstance(value.get("kind"), str):
        raise ValueError("an engine needs a `kind`, see `lingraft list engines`")
    return value
