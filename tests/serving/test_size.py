"""Conversations that are too long for a model: refused by their size, tokenised no further than needed."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints import tiny
from lingraft.rendering.renderer import Renderer
from lingraft.serving.request import ApiError
from lingraft.serving.size import PromptSize


@cache
def tiny_renderer() -> Renderer:
    return tiny().renderer


class Deaf(PromptSize):
    """Must not tokenise."""

    def __init__(self, most: int) -> None:
        super().__init__(tiny().renderer, most)
        self._renderer = None  # type: ignore[assignment]


def test_far_too_long_a_conversation_is_refused_by_its_length_alone() -> None:
    with pytest.raises(ApiError, match="more than 100 tokens"):
        Deaf(100).check(["x" * 1_000_000])


@pytest.mark.parametrize("text", ["1" * 40_000, "\U0001f600" * 20_000, "<|im_end|>" * 9000, "Ein Wort. " * 9000])
def test_no_more_is_tokenised_than_tells_that_it_is_too_long(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, counted = tiny().renderer, list[int]()
    size = PromptSize(renderer, 2000)
    count = renderer.count
    monkeypatch.setattr(renderer, "count", lambda part: counted.append(len(part)) or count(part))
    assert count(text) > 2000
    with pytest.raises(ApiError) as error:
        size.check(["kurz", text])
    assert error.value.code == "context_length_exceeded"
    assert sum(counted) <= 3 * 8192


@given(st.text(max_size=300), st.integers(1, 40))
def test_what_fits_is_never_refused(text: str, repeat: int) -> None:
    renderer = tiny_renderer()
    whole = text * repeat * 20
    assert PromptSize(renderer, max(1, renderer.count(whole))).check([whole]) <= renderer.count(whole)
