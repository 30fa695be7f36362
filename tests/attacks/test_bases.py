"""Hostile models: refused in one sentence before anything large is built, or no harm done."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from attacks import change_json, default_and_long, sentence
from lingraft.core.errors import LingraftError
from lingraft.models.files import find_model
from lingraft.models.loading import load_model
from models_support import save_tiny_model

HEAD = "model.embed_tokens.weight"


def config(name: str = "config.json", /, **values: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / name, **values)


def whole(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def pipe(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return attack


def weights(change: Callable[[torch.Tensor], torch.Tensor], name: str = HEAD) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file({**tensors, name: change(tensors[name]).contiguous()}, path, {"format": "pt"})

    return attack


def spiked(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


def index(target: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {HEAD: target}}))

    return attack


def tokens(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "tokenizer.json", **values)


REFUSED: dict[str, Callable[[Path], object]] = {
    "10**9 layers": config(num_hidden_layers=10**9),
    "10**30 layers": config(num_hidden_layers=10**30),
    "10**9 heads": config(num_attention_heads=10**9),
    "wider than the weights": config(hidden_size=10**6, intermediate_size=10**7),
    "more words than the weights": config(vocab_size=10**9),
    "wider than memory": config(hidden_size=10**12),
    "no layer": config(num_hidden_layers="x"),
    "no width": config(hidden_size=0),
    "heads that do not divide": config(num_attention_heads=5),
    "kind unknown": config(model_type="evil"),
    "code of its own": config(
        model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.M"}
    ),
    "an attention kernel of the hub": config(_attn_implementation="kernels-community/evil"),
    "an attention of anybody": config(attn_implementation="me/evil:fast"),
    "a kernel within": config(text_config={"_attn_implementation_internal": "me/evil"}),
    "quantised by gptq": config(quantization_config={"quant_method": "gptq", "bits": 4}),
    "deep": whole("config.json", b'{"a":' * 50_000),
    "rather deep": whole("config.json", b'{"a":' * 300 + b"1" + b"}" * 300),
    "long number": whole("config.json", b'{"hidden_size": ' + b"9" * 5000 + b"}"),
    "list": whole("config.json", b"[]"),
    "NaN": weights(spiked(float("nan"))),
    "infinite": weights(spiked(float("-inf")), "model.norm.weight"),
    "int8": weights(lambda tensor: tensor.to(torch.int8)),
    "bool": weights(lambda tensor: tensor.bool(), "model.norm.weight"),
    "other shape": weights(lambda tensor: tensor[:-1]),
    "transposed": weights(lambda tensor: tensor.T),
    "weights elsewhere": index("../../../etc/passwd.safetensors"),
    "weights at the root": index("/tmp/x.safetensors"),
    "weights not there": index("other.safetensors"),
    "weights of a list": whole("model.safetensors.index.json", b'{"weight_map": {"x": ["y"]}}'),
    "no map of weights": whole("model.safetensors.index.json", b"{}"),
    "header without end": whole("model.safetensors", b"\xff" * 7 + b"\x7f{}"),
    "an adapter beside": whole("adapter_config.json", b'{"peft_type": "LORA", "base_model_name_or_path": "me/evil"}'),
    "a pipe of words": pipe("tokenizer_config.json"),
    "a pipe of a template": pipe("chat_template.jinja"),
    "a pipe of settings": pipe("generation_config.json"),
    "a pipe of words added": pipe("added_tokens.json"),
    "no ends": whole("generation_config.json", b"[1]"),
    "tokenizer of nothing": whole("tokenizer.json", b"{}"),
    "tokenizer without a model": tokens(model={"type": "evil"}),
    "tokenizer with a broken expression": tokens(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(("}, "behavior": "Isolated", "invert": False}
    ),
    "tokenizer with an endless expression": tokens(
        pre_tokenizer={"type": "Split", "pattern": {"Regex": "(a*)*$|(.*)*!"}, "behavior": "Isolated", "invert": False}
    ),
    "tokenizer of ids beyond the embeddings": tokens(
        model={"type": "WordLevel", "vocab": {"a": 0, "b": 10**6}, "unk_token": "a"}
    ),
    "no list of words": config("tokenizer_config.json", added_tokens_decoder={"x": 1}),
}
HARMLESS: dict[str, Callable[[Path], object]] = {
    "an attention that is not installed": config(_attn_implementation="flash_attention_3"),
    "an attention for servers": config(attn_implementation="flex_attention"),
    "a class of words to import": config("tokenizer_config.json", tokenizer_class="os.system"),
    "quantised by nobody": config(quantization_config={"quant_method": "evil"}),
    "code that is not run": config(auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.M"}),
    "ends beyond 64 bits": config("generation_config.json", eos_token_id=[10**30, -1, True]),
    "an end that is no number": config("generation_config.json", eos_token_id={"a": 1}),
}
WORST = {
    "10**9 layers",
    "wider than the weights",
    "more words than the weights",
    "an attention kernel of the hub",
    "deep",
    "NaN",
    "int8",
    "weights elsewhere",
    "an adapter beside",
    "a pipe of a template",
    "tokenizer without a model",
    "tokenizer with an endless expression",
    "tokenizer of ids beyond the embeddings",
    "quantised by gptq",
}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("honest") / "model")


@pytest.fixture
def folder(tmp_path: Path, honest: Path) -> Path:
    shutil.copytree(honest, tmp_path / "model")
    return tmp_path / "model"


def answer(folder: Path) -> str:
    """Load a model as a command does, and ask it; return the refusal, "" if there is none."""
    try:
        loaded = load_model(find_model(str(folder)), "fp32")
        with torch.inference_mode():
            ids = torch.tensor([loaded.renderer.plain_ids("Guten Tag, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab")])
            assert torch.isfinite(loaded.model(input_ids=ids).logits).all()
    except LingraftError as error:
        return sentence(error)
    return ""


@pytest.mark.parametrize("attack", default_and_long(REFUSED, WORST))
def test_refused_in_one_sentence(folder: Path, attack: Callable[[Path], object]) -> None:
    attack(folder)
    assert answer(folder)


@pytest.mark.parametrize("attack", default_and_long(HARMLESS, set()))
def test_taken_without_what_it_asks_for(folder: Path, attack: Callable[[Path], object]) -> None:
    attack(folder)
    assert answer(folder) == ""
