"""Tiny random models, by how their layers remember: keys and values of every token, or otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig

VOCABULARY = 120
SMALL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = SMALL | {"head_dim": 8, "query_pre_attn_scalar": 8}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
IN_SLOTS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**SMALL),
    "qwen2": lambda: transformers.Qwen2Config(**SMALL),
    "qwen3": lambda: transformers.Qwen3Config(**SMALL, head_dim=8),
    "mistral": lambda: transformers.MistralConfig(**SMALL, sliding_window=128),
    "gemma2": lambda: transformers.Gemma2Config(**GEMMA, sliding_window=128),
    "gemma3": lambda: transformers.Gemma3TextConfig(**GEMMA, sliding_window=128),
    "phi3": lambda: transformers.Phi3Config(**SMALL),
    "olmo2": lambda: transformers.Olmo2Config(**SMALL),
    "granite": lambda: transformers.GraniteConfig(**SMALL),
    "cohere": lambda: transformers.CohereConfig(**SMALL),
    "mixtral": lambda: transformers.MixtralConfig(**SMALL, num_local_experts=4),
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
}
NOT_IN_SLOTS: dict[str, Callable[[], PreTrainedConfig]] = {
    "narrow window": lambda: transformers.MistralConfig(**SMALL, sliding_window=16),
    "one narrow layer": lambda: transformers.Gemma2Config(**GEMMA, sliding_window=16),
    "recurrent": lambda: transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2),
    "positions unknown": lambda: transformers.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4),
}


def model_of(config: PreTrainedConfig) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3.0)  # surer of its choice
    return model
