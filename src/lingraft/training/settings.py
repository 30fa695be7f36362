"""Settings of a training run. Kept apart from the trainer so that reading a recipe does not import torch."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lingraft.core.validation import Needs, Positive, Settings
from lingraft.training.optimizers import OPTIMIZERS, check_name

DEVELOPMENT = ("dev_every_steps", "dev_sample", "best_by", "max_kl", "patience", "keep")
"""Settings that ask for a development set."""
_LATER = ("max_steps", "optimizer", "embedding_learning_rate", *DEVELOPMENT)
"""Settings that came later: at their defaults they are no part of what training is known by."""


class TrainSettings(Settings):
    """How to train; the defaults suit a LoRA graft of a small chat model."""

    needs: ClassVar[Needs] = {
        "warmup_share": (
            "a schedule that warms up (`constant_with_warmup`)",
            lambda own: own.schedule != "constant" or own.warmup_share == 0,
        ),
    }
    epochs: float = Field(1.0, gt=0, description="Passes over the rows; a fraction uses a random part of them.")
    learning_rate: float = Field(2e-4, gt=0, description="Highest learning rate of the schedule.")
    embedding_learning_rate: float | None = Field(
        None,
        gt=0,
        description="Highest learning rate of what learns of embeddings and output head: rows that a vocabulary has "
        "added, or all; default: `learning_rate`. Needs a tuner that trains them.",
    )
    optimizer: str = Field(
        "adamw_torch",
        description="Optimiser, by its transformers name; some need a package, such as bitsandbytes.",
        json_schema_extra={"enum": list(OPTIMIZERS)},
    )
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
    weight_decay: float = Field(0.0, ge=0, description="Weight decay of the optimiser; decoupled in AdamW.")
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
    max_steps: Positive | None = Field(
        None, description="Stop after this many optimiser steps, whatever `epochs` says; the schedule ends there."
    )
    max_grad_norm: float = Field(1.0, ge=0, description="Gradients are clipped to this norm; 0 leaves them.")
    save_every_steps: Positive = Field(20, description="Optimiser steps between two checkpoints.")
    dev_every_steps: Positive | None = Field(
        None,
        description="Optimiser steps between two measurements on the development set (`pairs.dev`), which is measured "
        "at the beginning and at the end, too; default: a tenth of the steps.",
    )
    dev_sample: Positive = Field(
        32, description="Pairs of the development set that are translated, and general prompts for the divergence."
    )
    best_by: Literal["loss", "chrf"] = Field(
        "loss", description="What the best measurement is told by: loss of the references, or chrF of the translations."
    )
    max_kl: float | None = Field(
        None,
        gt=0,
        description="Only what has moved from the base by at most so many nats per token may be the best.",
    )
    patience: Positive | None = Field(
        None, description="Stop after so many measurements in a row that are no better than the best one before."
    )
    keep: Literal["last", "best"] = Field("last", description="Which weights become the graft: the last or the best.")
    report_to: list[Literal["mlflow", "tensorboard", "trackio", "wandb"]] = Field(
        default_factory=list,
        description="Trackers that are told of each step, by their transformers names; tensorboard's files are in the "
        "run's folder `tensorboard`, the others are set as usual, by their environment variables.",
    )
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

    @field_validator("optimizer")
    @classmethod
    def _known(cls, value: str) -> str:
        return check_name(value)

    @field_validator("report_to")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("a tracker is named twice; name each once")
        return value

    @model_validator(mode="after")
    def _budget_is_used(self) -> TrainSettings:
        if self.max_kl is not None and self.keep == "last" and self.patience is None:
            raise ValueError("max_kl decides which measurement is the best, and nothing asks; add `keep: best`")
        return self

    @property
    def development(self) -> list[str]:
        """The settings that need a development set and are given."""
        fields = type(self).model_fields
        return [name for name in DEVELOPMENT if getattr(self, name) != fields[name].default]

    def acts(self) -> list[str]:
        """Return what is sent to others, in words: what a tracker keeps on this machine is not."""
        environment, said = os.environ, []
        if "wandb" in self.report_to:
            said.append("sends losses and settings of training to Weights & Biases, unless WANDB_MODE says otherwise")
        if "mlflow" in self.report_to and "://" in environment.get("MLFLOW_TRACKING_URI", ""):
            said.append("sends losses and settings of training to MLFLOW_TRACKING_URI")
        if "trackio" in self.report_to and {"TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"} & environment.keys():
            said.append("sends losses and settings of training to TRACKIO_SPACE_ID or TRACKIO_SERVER_URL")
        return said

    def identity(self) -> dict[str, Any]:
        """Return what of the settings may change what is trained, as JSON values."""
        values = self.model_dump(mode="json", exclude={"report_to"})
        defaults = {key: field.default for key, field in type(self).model_fields.items()}
        return {key: value for key, value in values.items() if key not in _LATER or value != defaults[key]}
