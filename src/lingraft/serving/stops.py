"""What of an answer the user sees: it ends before the first stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lingraft.conversation.writing import TextDelta, Written
from lingraft.engines.finishing import before_stop


class Cut(Protocol):
    """Says what of a text that comes in pieces is shown; see `StopStrings`."""

    @property
    def given(self) -> str: ...

    @property
    def hit(self) -> str: ...

    def take(self, text: str, *, last: bool = False) -> str: ...


class StopStrings:
    """Cuts a text that comes in pieces before the first stop string; what may begin one waits.

    Attributes:
        given: the text so far.
        hit: the stop string that was found.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = self.given = self.hit = ""

    def take(self, text: str, *, last: bool = False) -> str:
        """Return what may be shown after one more piece; all of it after the last one."""
        if self.hit:
            return ""
        ready, self.hit = before_stop(self._held + text, self._stops)
        keep = 0 if self.hit or last else self._may_begin(ready)
        ready, self._held = ready[: len(ready) - keep], ready[len(ready) - keep :]
        self.given += ready
        return ready

    def _may_begin(self, text: str) -> int:
        """Return the length of the longest end of a text that begins a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        return next(
            (size for size in range(min(longest, len(text)), 0, -1) if self._begins(text[len(text) - size :])), 0
        )

    def _begins(self, end: str) -> bool:
        return any(stop.startswith(end) for stop in self._stops)


class Shown:
    """The visible text of an answer, and the tokens that it was written with.

    Args:
        cut: says where it ends.

    Attributes:
        cut: as given.
        raw: as the model wrote it, stop strings included.
        tokens: of what may be shown.
    """

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self._waiting: list[tuple[int, Written]] = []
        self.raw, self.tokens = "", list[Written]()

    @property
    def text(self) -> str:
        """What may be shown so far."""
        return self.cut.given

    @property
    def hit(self) -> str:
        """The stop string that was found."""
        return self.cut.hit

    def take(self, delta: TextDelta, *, last: bool = False) -> TextDelta:
        """Return what may be shown after some more visible text, with the tokens that begin in it."""
        self._waiting += [(len(self.raw), token) for token in delta.tokens]
        self.raw += delta.text
        text = self.cut.take(delta.text, last=last)
        tokens = [token for begin, token in self._waiting if begin < len(self.text)]
        self._waiting = self._waiting[len(tokens) :]
        self.tokens += tokens
        return TextDelta(delta.role, text, True, tuple(tokens))
