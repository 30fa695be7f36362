"""States of prompts against transformers' own, and what is read of long ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lingraft.data.records import Message, Request, Sampling
from lingraft.models.loading import LoadedModel
from lingraft.routing import states as module
from lingraft.routing.states import layers_read, prompt_states, read_ids
from models_support import tiny_loaded

TURNS = (Message("user", "Hello there."), Message("assistant", "Good day."), Message("user", "What is the weather?"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_loaded(scale=3.0)


def requests(*texts: str) -> list[Request]:
    return [Request(str(n), (Message("user", text),), Sampling()) for n, text in enumerate(texts)]


def alone(loaded: LoadedModel, request: Request) -> np.ndarray:
    """The same with all of a prompt at once, from the library's own list of hidden states."""
    ids = read_ids(loaded.renderer, request)
    with torch.inference_mode():
        layers = loaded.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
    return np.concatenate([layers[place][0, -1].numpy() for place in layers_read(len(layers) - 1)])


def test_states_are_the_librarys_whatever_is_read_beside(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 64)
    given = [*requests("Hi.", "Das Wetter ist heute schön, und wir gehen.", "a"), Request("t", TURNS, Sampling())]
    found = prompt_states(loaded, given)
    for row, request in zip(found, given, strict=True):
        np.testing.assert_allclose(row, alone(loaded, request), atol=1e-4)
    np.testing.assert_allclose(prompt_states(loaded, given[:1])[0], found[0], atol=1e-4)


def test_nothing_has_no_states(loaded: LoadedModel) -> None:
    assert prompt_states(loaded, []).shape == (0, prompt_states(loaded, requests("a")).shape[1])


def test_layers_are_shares_of_all() -> None:
    assert [layers_read(count) for count in (1, 2, 24, 30)] == [[1, 1, 1], [1, 2, 2], [14, 18, 22], [18, 22, 27]]


def test_a_prompt_ends_where_the_answer_begins(loaded: LoadedModel) -> None:
    ids = read_ids(loaded.renderer, Request("t", TURNS, Sampling()))
    assert ids == list(loaded.renderer.prompt_ids(TURNS).ids)
    given = Request("i", (), Sampling(), prompt_ids=(5, 6, 7))
    assert read_ids(loaded.renderer, given) == [5, 6, 7]


def test_long_prompts_keep_their_ends(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READ", 120)
    long = Request("l", (Message("user", "First. " + "and so on " * 60 + "Last."),), Sampling())
    ids = read_ids(loaded.renderer, long)
    everything = list(loaded.renderer.prompt_ids(long.messages).ids)
    assert (len(ids), ids[:60], ids[60:]) == (120, everything[:60], everything[-60:])
