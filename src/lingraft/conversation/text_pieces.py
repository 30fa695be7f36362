"""Text out of tokens that come one by one, in whole characters."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.rendering.renderer import Renderer


class TextStream:
    """Text from tokens of one part, in whole characters.

    Args:
        renderer: of the tokens.
        behind: tokens of running text behind which it goes on; None for a part of its own, which is given without white
            space at its ends.
    """

    def __init__(self, renderer: Renderer, behind: Sequence[int] | None = None) -> None:
        self._renderer, self._bare = renderer, behind is None
        self._ids: list[int] = _whole_end(renderer, behind or ())
        self._from, self._to = 0, len(self._ids)  # a character may be several tokens: those before `to` are given,
        self._before = renderer.decode(self._ids)  # `from` is context
        self._given = self._waiting = ""

    def step(self, token: int) -> str:
        """Return the text that a token completes; white space waits for what follows it."""
        self._ids.append(token)
        known = self._renderer.decode(self._ids[self._from : self._to])
        text = self._renderer.decode(self._ids[self._from :])
        if text.endswith("\ufffd") or len(text) <= len(known):
            return ""
        self._waiting += text[len(known) :]
        self._from, self._to = self._to, len(self._ids)
        if not self._given and self._bare:
            self._waiting = self._waiting.lstrip()
        ready = self._waiting.rstrip() if self._bare else self._waiting
        self._waiting = self._waiting[len(ready) :]
        self._given += ready
        return ready

    def rest(self) -> str:
        """Return what is left when the part has ended: a character that never became whole."""
        text = self._renderer.decode(self._ids)
        text = text.strip() if self._bare else text[len(self._before) :]
        return text.removeprefix(self._given) if text.startswith(self._given) else ""


def _whole_end(renderer: Renderer, ids: Sequence[int]) -> list[int]:
    """Return the last of some tokens, as many as begin at no half character."""
    for length in (4, 32):
        if "\ufffd" not in renderer.decode(ids[-length:]):
            return list(ids[-length:])
    return list(ids)
