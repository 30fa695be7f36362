"""A base in 4 bits: loaded, trained beside an adapter, and answering."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from peft.tuners.lora import LoraLayer

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import ModelError
from lingraft.data.records import Example, Message, Span
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from models_support import request


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tokenizer = tiny_tokenizer("smollm2")
    tiny_llama(tokenizer, seed=3, hidden=128).save_pretrained(tmp_path / "model")  # blocks of 64 weights share a scale
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def logits(loaded: LoadedModel) -> torch.Tensor:
    with torch.inference_mode():
        return loaded.model(input_ids=torch.arange(5, 45)[None], use_cache=False).logits.float()


def test_a_base_in_4_bits_is_small_learns_through_its_adapter_and_stays_what_it_was(
    folder: Path, tmp_path: Path
) -> None:
    full, small = (load_model(find_model(str(folder)), precision) for precision in ("fp32", "nf4"))
    layers = [layer for layer in small.model.modules() if type(layer).__name__ == "Linear4bit"]
    assert len(layers) == 14  # seven in each of two layers; embeddings and head stay as they are
    weights = [layer.weight for layer in layers]
    assert (
        sum(weight.nbytes for weight in weights) * 8
        == sum(parameter.numel() for name, parameter in full.model.named_parameters() if "proj" in name) * 4
    )
    before = logits(small)
    correlation = torch.corrcoef(torch.stack([before.flatten(), logits(full).flatten()]))[0, 1]
    assert correlation > 0.95
    rows = [
        small.renderer.render(Example(f"e{i}", (Message("user", f"say {i}"),), (Span(f"number {i}", "translation"),)))
        for i in range(12)
    ]
    # The same weights in plain float32, as bitsandbytes reads them back, are trained beside for comparison.
    plain = load_model(find_model(str(folder)), "fp32").model
    for name, layer in small.model.named_modules():
        if layer in layers:
            plain.get_submodule(name).weight.data = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    runs = []
    for model, precision in ((small.model, "nf4"), (plain, "fp32")):
        settings = TrainSettings(
            precision=precision, epochs=8, learning_rate=0.004, tokens_per_step=400, warmup_share=0
        )
        tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0))
        work = tmp_path / precision
        result = train(model, rows, settings, tuner, pad_id=small.renderer.pad_id, work_dir=work, seed=1)
        assert {p.dtype for name, p in result.model.named_parameters() if "lora" in name} == {torch.float32}
        adapter = {name: p.detach().clone() for name, p in result.model.named_parameters() if "lora_B" in name}
        runs.append(([point.loss for point in result.log], adapter))
        result.model.unload()
    (losses, adapter), (expected, reference) = runs
    assert losses == pytest.approx(expected, rel=0.02)
    assert losses[-1] < 0.99 * losses[0]
    for name, weight in adapter.items():  # also in the first layer: gradients pass through every frozen product
        assert torch.cosine_similarity(weight.flatten(), reference[name].flatten(), dim=0) > 0.8, name
    assert torch.equal(logits(small), before)
    (answer,) = TransformersEngine(small).generate([request("a", "hello")])
    assert answer.token_ids


def test_without_the_package_the_remedy_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else found(name)
    )
    with pytest.raises(ModelError, match=r"pip install 'lingraft\[qlora\]'"):
        load_model(find_model(str(folder)), "nf4")


def test_updates_are_orthogonal_to_the_directions_of_the_base_in_4_bits(folder: Path, tmp_path: Path) -> None:
    small = load_model(find_model(str(folder)), "nf4")
    tuner = LoraTuner(LoraTuner.Params(rank=4, orthogonal=3, targets=("down_proj",)))
    row = small.renderer.render(Example("e", (Message("user", "say 1"),), (Span("number 1", "translation"),)))
    settings = TrainSettings(precision="nf4", epochs=3, learning_rate=0.01, tokens_per_step=40, warmup_share=0)
    train(small.model, [row], settings, tuner, pad_id=small.renderer.pad_id, work_dir=tmp_path / "w", seed=1)
    adapted = [layer for layer in small.model.modules() if isinstance(layer, LoraLayer)]
    assert len(adapted) == 2
    for layer in adapted:
        base = layer.get_base_layer()
        u, _, vt = torch.linalg.svd(dequantize_4bit(base.weight.data, base.weight.quant_state).double())
        update = layer.get_delta_weight("default").double()
        assert update.norm() > 1e-3
        assert (u[:, :3].T @ update).norm() < 1e-5 * update.norm()
        assert (update @ vt[:3].T).norm() < 1e-5 * update.norm()
