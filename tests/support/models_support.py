"""Tiny models on disk and in memory, as the package loads them, and adapters for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.hashing import content_hash
from lingraft.data.records import Message, Request, Sampling
from lingraft.models.files import ModelFiles
from lingraft.models.loading import LoadedModel, load_model
from lingraft.rendering.renderer import Renderer


def tiny_loaded(family: str = "smollm2", *, seed: int = 0, scale: float = 1.0) -> LoadedModel:
    """Return a tiny random model with its renderer; `scale` multiplies the weights (larger: surer of its choice)."""
    tokenizer = tiny_tokenizer(family)
    model = tiny_llama(tokenizer, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return LoadedModel(ModelFiles("tiny", Path("tiny"), "0" * 64), model, Renderer(tokenizer))


def tiny_on_disk(folder: Path, *, seed: int = 0, scale: float = 3.0) -> LoadedModel:
    """Write a tiny model, wide enough for the attention kernels of all engines, and return it as it was loaded."""
    tokenizer = tiny_tokenizer()
    model = tiny_llama(tokenizer, seed=seed, hidden=128)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_model(ModelFiles(str(folder), folder, content_hash(["tiny", seed, scale])), "fp32")


def save_tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """Write a tiny model with its tokenizer as `save_pretrained` does."""
    tokenizer = tiny_tokenizer()
    tiny_llama(tokenizer, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def with_adapter(model: PreTrainedModel, *, seed: int = 1, identity: bool = False, dora: bool = False) -> PeftModel:
    """Return the model wrapped in a random LoRA adapter that changes its outputs, or does not if `identity`."""
    targets = {"target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    config = LoraConfig(r=4, use_dora=dora, init_lora_weights=True, **targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
        if not identity:
            with torch.no_grad():
                for name, parameter in adapted.named_parameters():
                    if "lora_B" in name:
                        parameter.normal_(std=0.3)
    return adapted.eval()


def forced_llama(tokenizer: PreTrainedTokenizerFast, written: Sequence[int]) -> LlamaForCausalLM:
    """Return a model that writes tokens one after the other: behind the first of `written` comes the second, and so on.

    Its layers add nothing to the embedding of the last token, and the head knows that embedding by heart.
    """
    model = tiny_llama(tokenizer, hidden=128, layers=1)
    head = torch.nn.Linear(128, len(tokenizer), bias=False)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        head.weight.zero_()
        for before, after in pairwise(written):
            head.weight[after] += model.model.embed_tokens.weight[before]
    model.config.tie_word_embeddings = False
    model.lm_head = head
    return model.eval()


def request(id_: str, text: str, *, prefill: str = "", top: int = 0, **sampling: object) -> Request:
    """Return a request of one user message; 12 new tokens unless `sampling` says otherwise."""
    return Request(id_, (Message("user", text),), Sampling(**{"max_new_tokens": 12, **sampling}), prefill, top)  # type: ignore[arg-type]
