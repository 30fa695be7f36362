"""Tiny random models of several architectures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from builders import tiny_llama
from lingraft.models.output_head import find_head
from lingraft.training.collate import Batch
from lingraft.training.losses import span_loss

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.3,  # large, so that attention matters
}
WINDOW = 7  # shorter than most rows


def build(model: type[PreTrainedModel], config: type, **changes: object) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attention = "sdpa" if model._supports_sdpa else "eager"  # Gemma 2 with newer versions of the library
        return model(config(**SIZES, attn_implementation=attention, **changes)).eval()


MODELS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: tiny_llama(128),
    "qwen3": lambda: build(Qwen3ForCausalLM, Qwen3Config),
    "mistral": lambda: build(MistralForCausalLM, MistralConfig, sliding_window=WINDOW),
    # Every other layer slides; the cap bends the scores visibly.
    "gemma2": lambda: build(Gemma2ForCausalLM, Gemma2Config, sliding_window=WINDOW, attn_logit_softcapping=2.0),
}


def hidden(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Return the final hidden states."""
    output = model(**batch.model_inputs(), use_cache=False, output_hidden_states=True, logits_to_keep=1)
    return output.hidden_states[-1]


def losses_and_gradients(model: PreTrainedModel, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the sum of the losses, and the gradients of all that learns."""
    head, total = find_head(model, range(1, 9)), 0.0
    model.zero_grad()
    for batch in batches:
        loss = span_loss(hidden(model, batch), batch.targets, head).total
        loss.backward()
        total += loss.item()
    return total, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
