"""Texts that an engine writes for somebody who reads along: many at once, each token as it comes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lingraft.engines.slot_batch import Written


@dataclass(frozen=True, kw_only=True)
class StreamRequest:
    """A text that is to be written.

    Attributes:
        ids: of the prompt; not empty.
        ends: tokens that end the text.
        most: tokens that may be written.
        temperature: 0 for the most probable token.
        top_p: share of the probability that sampled tokens are drawn from.
        seed: of the sampling.
        top: of how many tokens beside the one written the log-probabilities are given; None for none at all.
    """

    ids: tuple[int, ...]
    ends: tuple[int, ...]
    most: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    top: int | None = None


@dataclass(frozen=True)
class StreamToken:
    """A token that was written.

    Attributes:
        id: its number.
        noted: the same with its log-probability, where that is asked for.
        text: what it adds, where the engine gives text; None where the numbers tell it.
    """

    id: int
    noted: Written | None = None
    text: str | None = None


@dataclass(frozen=True)
class StreamEnd:
    """The text has ended. `cut`: since nothing more may be written; else the model has ended it."""

    cut: bool


class TokenStream(Protocol):
    """A text on its way."""

    def take(self) -> StreamToken | StreamEnd | None:
        """Return what comes next; None where it is not there yet.

        Raises:
            ContextExceeded: what was asked does not fit into the model's context.
            Unanswered: there is no answer, and there may be one later.
            EngineError: it is refused.
        """
        ...

    def close(self) -> None:
        """Want no more of it."""
        ...


class TokenStreams(ABC):
    """What an engine writes in streams; it belongs to one thread.

    Attributes:
        gives_ids: whether the tokens are the model's own, so that others can be put in their place; else the engine
            gives text, and the tokens are those of its pieces.
        gives_logprobs: whether it gives log-probabilities.
        wake: called, from any thread, when there is something to take.
        tell: called with a sentence for whoever runs the server, when the engine does not work any more.
    """

    gives_ids: bool
    gives_logprobs: bool
    wake: Callable[[], None] = staticmethod(lambda: None)
    tell: Callable[[str], None] = staticmethod(lambda text: None)

    @abstractmethod
    def context(self, graft: Path | None) -> int | None:
        """Return how many tokens prompt and answer may have together, where the engine says so."""

    @abstractmethod
    def begin(self, graft: Path | None, request: StreamRequest) -> TokenStream:
        """Let a text be written.

        Args:
            graft: folder of the one that writes; None: the base.
            request: what is asked.

        Raises:
            DataError: it cannot be put to the engine.
            EngineError: the engine does not work.
        """

    @property
    def ended(self) -> bool:
        """Whether the engine has ended for good; a server elsewhere may come back."""
        return False

    def step(self) -> bool:
        """Compute for all texts, where that is done in this thread; return whether there was anything to do."""
        return False
