"""Whole copies of a base's layers that learn beside it, as an adapter of PEFT (`modules_to_save`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.constants import DUMMY_TARGET_MODULES

from lingraft.models.adapter import learn_in_float32, whole_layers
from lingraft.models.devices import quiet


def with_copies(model: Any, layers: Sequence[str], *, tied: bool = False, biases: bool = True) -> PeftModel:
    """Return a base wrapped with copies of some of its layers, in float32, that learn.

    Args:
        model: the base, without adapter.
        layers: their names.
        tied: whether the output head shares the embeddings' copy; it is then not among `layers`.
        biases: whether those of the copies learn as well.
    """
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=1,
        lora_alpha=1,
        target_modules=DUMMY_TARGET_MODULES,  # PEFT's way to say that no layer gets a low-rank update
        modules_to_save=list(layers),
        ensure_weight_tying=tied,
    )
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []), quiet():
        adapted = get_peft_model(model, config)  # draws weights for a tied head, which it then replaces
    if not biases:
        for _, copy in whole_layers(adapted):
            if getattr(copy, "bias", None) is not None:
                copy.bias.requires_grad_(False)
    learn_in_float32(adapted)
    return adapted
