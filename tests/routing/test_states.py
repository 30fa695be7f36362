"""Mean states of prompts against transformers' own, and where a last turn begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lingraft.data.records import Message, Request, Sampling
from lingraft.models.loading import LoadedModel
from lingraft.routing import states as module
from lingraft.routing.states import last_turn, prompt_states
from models_support import tiny_loaded

TURNS = (Message("user", "Hello there."), Message("assistant", "Good day."), Message("user", "What is the weather?"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_loaded(scale=3.0)


def requests(*texts: str) -> list[Request]:
    return [Request(str(n), (Message("user", text),), Sampling()) for n, text in enumerate(texts)]


def alone(loaded: LoadedModel, request: Request) -> np.ndarray:
    """The same with all of a prompt at once, from the library's own list of hidden states."""
    ids, begin = last_turn(loaded.renderer, request)
    with torch.inference_mode():
        found = loaded.model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
    return found[0, begin:].mean(0).numpy()


def test_states_are_the_librarys_whatever_is_read_beside(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_TOKENS", 64)
    given = [*requests("Hi.", "Das Wetter ist heute schön, und wir gehen.", "a"), Request("t", TURNS, Sampling())]
    found = prompt_states(loaded, given)
    for row, request in zip(found, given, strict=True):
        np.testing.assert_allclose(row, alone(loaded, request), atol=1e-4)
    np.testing.assert_allclose(prompt_states(loaded, given[:1])[0], found[0], atol=1e-4)


def test_the_last_turn_begins_with_its_text(loaded: LoadedModel) -> None:
    ids, begin = last_turn(loaded.renderer, Request("t", TURNS, Sampling()))
    text = loaded.renderer.tokenizer.decode(ids[begin:])
    assert text.startswith("What is the weather?")
    assert "Good day." in loaded.renderer.tokenizer.decode(ids[:begin])


def test_long_prompts_keep_their_ends(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_READ", 120)
    long = Request("l", (Message("user", "First. " + "and so on " * 60 + "Last."),), Sampling())
    ids, begin = last_turn(loaded.renderer, long)
    everything = list(loaded.renderer.prompt_ids(long.messages).ids)
    assert (len(ids), ids[:60], ids[60:]) == (120, everything[:60], everything[-60:])
    assert loaded.renderer.tokenizer.decode(ids[begin:]).startswith("First.")
    later = Request("l", (*long.messages, Message("assistant", "Yes."), Message("user", "Why?")), Sampling())
    cut, start = last_turn(loaded.renderer, later)
    assert len(cut) == 120
    assert loaded.renderer.tokenizer.decode(cut[start:]).startswith("Why?")
