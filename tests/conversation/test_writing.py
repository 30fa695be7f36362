"""Prompts that are read in pieces and padded: the same tokens as the library writes, and no more lengths than a few."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from chains import loaded
from lingraft.conversation import writing
from lingraft.conversation.stream import stream_direct
from lingraft.conversation.writing import Done, PromptProgress, TokenWriter
from lingraft.data.records import Message
from lingraft.engines.slot_decoder import MIN_TEMPERATURE
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel
from small_models import IN_SLOTS, NOT_IN_SLOTS, model_of

LENGTHS = (1, 2, 7, 8, 9, 17, 30)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PIECE", 8)
    monkeypatch.setattr(writing, "PADDING", 4)


def wrapped(model: Any) -> LoadedModel:
    return LoadedModel(ModelFiles("tiny", Path("tiny"), "0" * 64), model, loaded(0).renderer)


def prompts(model: Any) -> list[list[int]]:
    draws = torch.Generator().manual_seed(3)
    most = model.config.get_text_config().vocab_size
    return [torch.randint(5, most, (length,), generator=draws).tolist() for length in LENGTHS]


def written(model: Any, prompt: list[int], most: int = 6) -> list[int]:
    """Return what a writer writes greedily."""
    writer, out = TokenWriter(wrapped(model), prompt), []
    for _ in range(most):
        out.append(writer.propose())
        writer.accept(out[-1])
    return out


def plain(model: Any, prompt: list[int], most: int = 6) -> list[int]:
    """Return the greedy tokens by computing all of the text anew for each."""
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(most):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("family", [*IN_SLOTS, *NOT_IN_SLOTS])
def test_the_tokens_are_those_of_the_whole_prompt(family: str, small_pieces: None) -> None:
    model = model_of({**IN_SLOTS, **NOT_IN_SLOTS}[family]())
    for prompt in prompts(model):
        assert written(model, prompt) == plain(model, prompt), len(prompt)


@pytest.mark.parametrize("family", ["recurrent", "positions unknown"])
def test_what_keeps_more_than_keys_and_values_is_neither_cut_nor_padded(family: str, small_pieces: None) -> None:
    model = model_of(NOT_IN_SLOTS[family]())
    writer = TokenWriter(wrapped(model), prompts(model)[-1])
    assert list(writer.read()) == []
    assert writer._cache is None


@pytest.mark.parametrize("family", ["narrow window", "one narrow layer"])
def test_windows_narrower_than_the_prompt_are_read_in_pieces_without_padding(family: str, small_pieces: None) -> None:
    model = model_of(NOT_IN_SLOTS[family]())
    writer = TokenWriter(wrapped(model), prompts(model)[-1])
    lengths: list[int] = []
    model.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    assert [event.done for event in writer.read()] == [8, 16, 24]
    assert lengths == [8, 8, 8, 5]


def test_the_lengths_of_what_is_computed_are_few_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(0).model
    lengths: set[int] = set()
    model.get_decoder().register_forward_pre_hook(  # type: ignore[operator]
        lambda module, args, kwargs: lengths.add(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    for length in range(1, 2047, 13):
        for _ in TokenWriter(loaded(0), [7] * length).read():
            pass
    assert max(lengths) == writing.PIECE
    assert len(lengths) <= writing.PIECE // writing.PADDING
    lengths.clear()
    for _ in TokenWriter(loaded(0), [7] * 2047).read():  # no place beyond the context is computed
        pass
    assert sum(lengths) <= 2048


def test_reading_is_told_between_the_pieces(small_pieces: None) -> None:
    asked = (Message("user", "1 2 3 4 5 6 7 8 9"),)
    events = list(stream_direct(loaded(0), asked, 2))
    reading = [event for event in events if isinstance(event, PromptProgress)]
    total = len(loaded(0).renderer.prompt_ids(asked).ids)
    assert [event.done for event in reading] == list(range(8, total - 1, 8))
    assert {event.total for event in reading} == {total}
    assert events[: len(reading)] == reading
    assert isinstance(events[-1], Done)
    assert events[-1].timing.prompt_tokens == total


def test_the_lowest_temperature_is_that_of_the_most_probable_token() -> None:
    prompt = list(range(5, 25))
    for temperature in (1e-45, MIN_TEMPERATURE / 2):
        writer = TokenWriter(loaded(1), prompt, temperature=temperature)
        assert writer.propose() == TokenWriter(loaded(1), prompt).propose()
