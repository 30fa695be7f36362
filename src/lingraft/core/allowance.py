"""How long programs that a model wrote may run together, where somebody waits for all of them: see `core.sandbox`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from lingraft.core.errors import LingraftError


class OutOfTimeError(LingraftError):
    """Programs have run for as long as they may in all."""


@dataclass(kw_only=True)
class Allowance:
    """How long all programs of one piece of work may run together.

    Attributes:
        seconds: on the clock.
        asked: called before each run and a few times a second within it; what it raises ends the program at once.
        spent: seconds that programs have run.
    """

    seconds: float
    asked: Callable[[], None]
    spent: float = 0.0

    def check(self, running: float = 0.0) -> None:
        """Say that programs may go on, the one that has run for so many seconds as well.

        Raises:
            OutOfTimeError: no longer.
        """
        self.asked()
        if self.spent + running > self.seconds:
            raise OutOfTimeError(
                f"the programs of one piece of work have run for {self.seconds:g} s together, and may not run on; give "
                f"a program that takes less"
            )


_ALLOWED: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def current_allowance() -> Allowance | None:
    """Return what bounds programs that are run now; None: each has but its own limits."""
    return _ALLOWED.get()


@contextmanager
def allowing(allowance: Allowance) -> Iterator[None]:
    """Bound what is run in this thread while the block lasts."""
    token = _ALLOWED.set(allowance)
    try:
        yield
    finally:
        _ALLOWED.reset(token)
