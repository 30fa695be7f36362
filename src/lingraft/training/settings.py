"""Settings of a training run. Kept apart from the trainer so that reading a recipe does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lingraft.core.validation import Positive, Settings


class TrainSettings(Settings):
    """How to train; the defaults suit a LoRA graft of a small chat model."""

    epochs: float = Field(1.0, gt=0, description="Passes over the rows; a fraction uses a random part of them.")
    learning_rate: float = Field(2e-4, gt=0, description="Highest learning rate of the schedule.")
    schedule: Literal[
        "linear",
        "cosine",
        "cosine_with_restarts",
        "polynomial",
        "constant",
        "constant_with_warmup",
        "inverse_sqrt",
    ] = Field("cosine", description="Learning-rate schedule, by its transformers name.")
    warmup_share: float = Field(0.03, ge=0, lt=1, description="Share of the optimiser steps spent on warm-up.")
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of AdamW.")
    tokens_per_step: Positive = Field(4096, description="Real tokens of one optimiser step, over all devices.")
    micro_tokens: Positive = Field(4096, description="Padded tokens of one forward pass; lower it to save memory.")
    batching: Literal["auto", "padded", "packed"] = Field(
        "auto",
        description="How examples share a forward pass: padded to the length of the longest, or packed end to end with "
        "attention within each; auto takes the faster one for the device.",
    )
    share_prefix: bool = Field(
        True,
        description="Compute once what all packed examples of a pass begin with, such as a system prompt; on a CPU.",
    )
    kernels: Literal["auto", "plain", "fused", "liger"] = Field(
        "auto",
        description="How layers compute: plain as the libraries do; fused LoRA and norms for CPUs; Liger's Triton "
        "kernels for NVIDIA GPUs; auto is fused on a CPU and plain elsewhere.",
    )
    compile: bool = Field(False, description="Compile the model with torch.compile (CUDA GPUs only).")
    max_tokens: Positive | None = Field(None, description="Stop after this many real tokens, whatever `epochs` says.")
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are clipped to this norm; 0 leaves them.")
    save_every_steps: Positive = Field(20, description="Optimiser steps between two checkpoints.")
    sharding: Literal["none", "full"] = Field(
        "none",
        description="For several processes: none gives each the whole base (DDP), full a part of every weight (FSDP2).",
    )
    gradient_checkpointing: bool = Field(False, description="Recompute activations in the backward pass: less memory.")
    precision: Literal["auto", "bf16", "fp32", "nf4"] = Field(
        "auto",
        description="Type of the base weights and of matrix products; auto is bf16 where the device has it; nf4 keeps "
        "the base in 4 bits (QLoRA, arXiv 2305.14314) and computes as auto.",
    )
