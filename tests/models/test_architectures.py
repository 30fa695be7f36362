"""Models with pictures and models with capped attention, from the folder on disk to the exported graft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, ViTConfig, ViTModel

from builders import tiny_tokenizer
from families import build
from lingraft.core.errors import ModelError
from lingraft.data.records import Message
from lingraft.models.adapter import take_off
from lingraft.models.architectures import Loading, open_weights, without_weights
from lingraft.models.export import export_graft
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.graft import GraftInfo, check_fit, grafted, write_info
from lingraft.models.loading import load_model
from lingraft.reporting.card import CardContents, python_example
from lingraft.training.settings import TrainSettings
from lingraft.training.span_trainer import save_adapter
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

IDS = torch.tensor([[5, 9, 3, 7, 200, 11, 42]])
ROWS = random_rows(4, vocab=600)
FAMILIES = ["gemma2", "gemma3", "mistral3", "qwen3_5", "falcon_h1"]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(model(input_ids=IDS).logits.float())


def on_disk(family: str, folder: Path, **changes: Any) -> ModelFiles:
    build(family, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return find_model(str(folder))


def card(**values: Any) -> CardContents:
    names = ("name", "system", "license", "method", "prompt")
    empty: dict[str, Any] = dict.fromkeys(names, "") | {
        "directions": [("de", "en")],
        "messages": [Message("user", "Hi")],
    }
    return CardContents(**(empty | {"scorecard": None} | values))


def model_of(program: str) -> Any:
    """Run a card's program as far as it opens the model."""
    names: dict[str, Any] = {}
    exec(program.partition("\nmessages = ")[0], names)
    return names["model"]


@pytest.fixture(scope="module", params=FAMILIES)
def grafted_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelFiles, Path]:
    """A base on disk and a graft that was trained on it."""
    root = tmp_path_factory.mktemp(request.param)
    changes = {"attn_logit_softcapping": 1.0} if request.param == "gemma2" else {}
    files = on_disk(request.param, root / "base", **changes)
    loaded = load_model(files, "fp32", torch.device("cpu"))
    settings = TrainSettings(precision="fp32", learning_rate=0.1, tokens_per_step=50)
    tuner = LoraTuner(LoraTuner.Params(rank=4))
    result = train(loaded.model, ROWS, settings, tuner, pad_id=0, work_dir=root / "work", seed=1)
    save_adapter(result.model, root / "graft")
    take_off(result.model)
    values = {"schema": "lingraft.graft/1", "method": "vanilla", "instruction": "{source}", "directions": []}
    write_info(root / "graft", GraftInfo.model_validate(values | {"base_id": files.name, "base_sha256": files.sha256}))
    return files, root / "graft"


def test_a_graft_is_put_on_exported_and_loaded_by_plain_peft(
    grafted_folder: tuple[ModelFiles, Path], tmp_path: Path
) -> None:
    files, graft = grafted_folder
    loaded = load_model(files, "fp32", torch.device("cpu"))
    base = logits(loaded.model)
    with grafted(loaded, graft) as on:
        expected = logits(on.model)
    assert not torch.allclose(expected, base, atol=1e-2)
    assert torch.equal(logits(loaded.model), base)
    program = python_example(card(base_model=str(files.folder), graft=str(graft), loading=Loading.of(files.folder)))
    torch.testing.assert_close(logits(model_of(program)), expected, rtol=1e-4, atol=1e-4)
    check_fit(files, loaded.renderer, graft)
    export_graft(graft, tmp_path / "out", None, "fp32")
    readme = (tmp_path / "out" / "README.md").read_text("utf-8")
    program = readme.partition("```python\n")[2].replace('"path/to/model"', repr(str(tmp_path / "out")))
    torch.testing.assert_close(logits(model_of(program)), expected, rtol=1e-3, atol=1e-3)


def test_capped_attention_is_computed_as_it_is_defined(tmp_path: Path) -> None:
    files = on_disk("gemma2", tmp_path, attn_logit_softcapping=1.0)
    eager = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager").eval()
    try:
        sdpa = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="sdpa").eval()
    except ValueError as refused:  # newer versions of the library refuse what older ones compute without the cap
        if "scaled_dot_product_attention" not in str(refused):
            raise
    else:
        assert not torch.allclose(logits(sdpa), logits(eager), atol=1e-2)
    assert torch.equal(logits(load_model(files, "fp32", torch.device("cpu")).model), logits(eager))
    assert torch.equal(logits(open_weights(tmp_path)), logits(eager))


def test_models_with_pictures_are_opened_as_the_library_does(tmp_path: Path) -> None:
    on_disk("mistral3", tmp_path)
    opened, layers = open_weights(tmp_path), without_weights(tmp_path)
    assert type(opened) is type(AutoModelForImageTextToText.from_pretrained(tmp_path)) is type(layers)
    shapes = {name: weight.shape for name, weight in layers.named_parameters()}
    assert shapes == {name: weight.shape for name, weight in opened.named_parameters()}
    assert {weight.device.type for weight in layers.parameters()} == {"meta"}


def test_what_is_no_language_model_is_refused_with_a_way_out(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**sizes)).save_pretrained(tmp_path)
    for attempt in (open_weights, without_weights):
        with pytest.raises(ModelError, match=r"no causal language model of the kind 'vit'.*save its language"):
            attempt(tmp_path)
