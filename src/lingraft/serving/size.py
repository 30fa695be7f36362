"""Whether a conversation can fit a model's context, told without tokenising much more than fits."""

from __future__ import annotations

from collections.abc import Iterable

from lingraft.rendering.renderer import Renderer
from lingraft.serving.request import ApiError

MOST_WITHOUT_LIMIT = 32_768
"""Tokens of a prompt for models whose configuration knows no limit."""
_AT_ONCE = 8192
_LOST = 16
"""Tokens that a text may count more when it is cut in two: far more than any merge across the cut saves."""


class PromptSize:
    """Measures conversations for one model.

    Args:
        renderer: of the model.
        most: tokens that a prompt may have.
    """

    def __init__(self, renderer: Renderer, most: int) -> None:
        self._renderer, self._most = renderer, most
        self._longest = max(map(len, renderer.tokenizer.get_vocab()), default=1)

    def check(self, texts: Iterable[str]) -> int:
        """Return about how many tokens texts have. It takes no model, and any thread.

        Raises:
            ApiError: certainly too many. By their length alone where that tells, so that they are not tokenised.
        """
        found = list(texts)
        if sum(map(len, found)) > self._most * self._longest:
            raise self._too_long()
        count = 0
        for text in found:
            for begin in range(0, len(text), _AT_ONCE):
                count += max(0, self._renderer.count(text[begin : begin + _AT_ONCE]) - _LOST * (begin > 0))
                if count > self._most:
                    raise self._too_long()
        return count

    def check_length(self, tokens: int) -> int:
        """Return a number of tokens.

        Raises:
            ApiError: too many.
        """
        if tokens > self._most:
            raise self._too_long()
        return tokens

    def _too_long(self) -> ApiError:
        return ApiError(
            400,
            f"the conversation has more than {self._most:,} tokens, which leaves no room for an answer; shorten it, or "
            f"begin a new one",
            param="messages",
            code="context_length_exceeded",
        )
