"""Embeddings of texts: what is pooled, what stands behind it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaModel

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.models import embedding
from lingraft.models.embedding import TextEmbedder, cosine, kept_vectors
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer

TEXTS = ["The weather is nice today.", "Das Wetter.", "We walk to the old harbour and eat fish."]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = tiny_tokenizer("llama3")
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        LlamaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def parts(folder: Path, *kinds: str, pooling: str = "mean_tokens", activation: str = "Tanh") -> None:
    """Write what sentence-transformers writes beside a transformer."""
    listed = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, kind in enumerate(kinds, 1):
        inner = folder / f"{number}_{kind}"
        inner.mkdir()
        listed.append({"idx": number, "path": inner.name, "type": f"sentence_transformers.models.{kind}"})
        if kind == "Pooling":
            (inner / "config.json").write_text(
                json.dumps({f"pooling_mode_{pooling}": True, "pooling_mode_other": False})
            )
        if kind == "Dense":
            values = {"activation_function": f"torch.nn.modules.activation.{activation}", "bias": True}
            (inner / "config.json").write_text(json.dumps(values))
            generator = torch.Generator().manual_seed(2)
            weight = torch.randn(4, 16, generator=generator)
            save_file({"linear.weight": weight, "linear.bias": torch.ones(4)}, inner / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps(listed))


def hidden(folder: Path, text: str) -> torch.Tensor:
    """Return the hidden states (tokens, width) of one text, alone."""
    tokenizer, model = tiny_tokenizer("llama3"), LlamaModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        return model(torch.tensor([tokenizer(text)["input_ids"]])).last_hidden_state[0].float()


def test_texts_are_pooled_by_the_mean_of_their_tokens(folder: Path) -> None:
    found = TextEmbedder.open(str(folder)).mean(iter(TEXTS))
    expected = torch.stack([hidden(folder, text).mean(0) for text in TEXTS]).mean(0)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("pooling", ["cls_token", "max_tokens"])
def test_pooling_follows_the_models_own_files(folder: Path, pooling: str) -> None:
    parts(folder, "Pooling", pooling=pooling)
    found = TextEmbedder.open(str(folder)).mean(iter(TEXTS))
    rows = [hidden(folder, text) for text in TEXTS]
    expected = torch.stack([row[0] if pooling == "cls_token" else row.amax(0) for row in rows]).mean(0)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_dense_layers_and_lengths_stand_behind_the_pooling(folder: Path) -> None:
    parts(folder, "Pooling", "Dense", "Normalize")
    found = TextEmbedder.open(str(folder)).mean(iter(TEXTS[:1]))
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(2))
    expected = torch.tanh(weight @ hidden(folder, TEXTS[0]).mean(0) + 1)
    np.testing.assert_allclose(found, (expected / expected.norm()).numpy(), atol=1e-5)


def test_a_bases_hidden_states_take_the_place_of_embeddings() -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(tokenizer)
    loaded = LoadedModel(ModelFiles("tiny", Path(), "hash"), model, Renderer(tokenizer))
    found = TextEmbedder.of_base(loaded).mean(iter(TEXTS))
    rows = []
    for text in TEXTS:
        with torch.inference_mode():
            states = model(torch.tensor([tokenizer(text)["input_ids"]]), output_hidden_states=True).hidden_states[-1][0]
        rows.append(torch.nn.functional.normalize(states.mean(0), dim=-1))
    np.testing.assert_allclose(found, torch.stack(rows).mean(0).numpy(), atol=1e-5)


def test_the_cosine_by_hand() -> None:
    assert cosine(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(
    ("kinds", "options", "said"),
    [
        (["Pooling"], {"pooling": "weightedmean_tokens"}, "pools in a way that is not known here"),
        (["Pooling", "Dense"], {"activation": "GLU"}, "an activation that is not known here"),
        (["Pooling", "CNN"], {}, "a part 'CNN', which is not known here"),
    ],
)
def test_parts_that_are_not_known_are_refused(
    folder: Path, kinds: list[str], options: dict[str, str], said: str
) -> None:
    parts(folder, *kinds, **options)
    with pytest.raises(ModelError, match=said):
        TextEmbedder.open(str(folder))


def test_what_is_no_embedding_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no embedding model at 'nowhere'"):
        TextEmbedder.open("nowhere")
    with pytest.raises(ModelError, match=r"it has no config\.json"):
        TextEmbedder.open(str(tmp_path))


def test_parts_elsewhere_are_refused(folder: Path) -> None:
    listed = [{"idx": 0, "path": "../..", "type": "sentence_transformers.models.Pooling"}]
    (folder / "modules.json").write_text(json.dumps(listed))
    with pytest.raises(ModelError, match="lies elsewhere"):
        TextEmbedder.open(str(folder))


def test_each_text_has_its_vector_whatever_is_beside_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "TOGETHER", 2)
    embedder = TextEmbedder.open(str(folder))
    rows = torch.stack([torch.nn.functional.normalize(hidden(folder, text).mean(0), dim=-1) for text in TEXTS])
    np.testing.assert_allclose(embedder.vectors(TEXTS), rows.numpy(), atol=1e-5)
    np.testing.assert_allclose(embedder.vectors(TEXTS[::-1])[::-1], rows.numpy(), atol=1e-5)


def test_vectors_that_were_kept_are_read_and_what_is_damaged_is_made_anew(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "PART", 2)
    opened: list[TextEmbedder] = []

    def open_one() -> TextEmbedder:
        opened.append(TextEmbedder.open(str(folder)))
        return opened[-1]

    place, texts = tmp_path / "kept", [*TEXTS, "Ein Zug.", "Noch ein Zug."]
    first = kept_vectors(open_one, texts, place, "one")
    np.testing.assert_allclose(first, opened[0].vectors(texts), atol=1e-3)
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    assert len(files) == 3
    assert np.array_equal(kept_vectors(open_one, texts, place, "one"), first)
    assert len(opened) == 1
    gone, cut, _ = sorted(place.iterdir())
    gone.unlink()  # as where it was killed, and a file was cut short
    cut.write_bytes(cut.read_bytes()[:-9])
    assert np.array_equal(kept_vectors(open_one, texts, place, "one"), first)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == files
    kept_vectors(open_one, texts, place, "another model")
    assert len(opened) == 3
