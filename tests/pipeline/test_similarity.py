"""How alike what is taught is to what the base writes: told before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.progress import Reporter
from lingraft.models.embedding import TextEmbedder, cosine
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.synthesise import ask_ahead
from lingraft.recipe.load import parse_recipe


class Heard(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def say(self, text: str, *, always: bool = False) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def told(model: Path, folder: Path, **params: Any) -> str:
    starter = {"source": "de", "target": "en"}
    values = {
        "name": "similar",
        "model": str(model),
        "engine": {"kind": "scripted", "rules": [{"answer": "It is about the harbour."}]},
        "pairs": {
            "train": {"path": "starter:train.de-en.jsonl", "limit": 6, **starter},
            "test": {"path": "starter:test.de-en.jsonl", "limit": 2, **starter},
        },
        "stages": [{"method": "cft", "params": {"replay_share": 1, **params}}],
        "evaluate": {"retention": {"suites": []}, "engine": "transformers"},
    }
    heard = Heard()
    context = Context(parse_recipe(values, "test", Path("/")), folder, heard)
    ask_ahead(context, prepare(context))
    (said,) = (line for line in heard.said if line.startswith(("cft:", "Warning: cft:")))
    return said


def test_it_is_told_by_the_bases_hidden_states_or_by_an_embedding_model(model: Path, tmp_path: Path) -> None:
    own = told(model, tmp_path)
    assert "by the base's own mean hidden states, as no embedding model is named" in own
    named = told(model, tmp_path, embedder=str(model))
    assert f"by {model}; in the paper data at 0.924" in named
    kept = [json.loads((one / "similarity.json").read_text()) for one in tmp_path.glob("similarity-cft-*")]
    by_model = {one["embedder"]: f"own answers {one['similarity']:.3f}" for one in kept}
    assert by_model[None] in own
    assert by_model[str(model)] in named


def test_that_nothing_can_be_compared_is_said(model: Path, tmp_path: Path) -> None:
    assert "is there to be replayed" in told(model, tmp_path, replay_share=1e-9)


def test_the_same_texts_are_as_alike_as_can_be(model: Path) -> None:
    embedder = TextEmbedder.open(str(model))
    texts = ["The harbour is old.", "We eat fish."]
    assert cosine(embedder.mean(iter(texts)), embedder.mean(iter(texts[::-1]))) == pytest.approx(1.0)
