"""A tiny training, as its tests and the processes that they kill run it."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from builders import tiny_llama
from lingraft.rendering.rows import Rendered
from lingraft.training.settings import TrainSettings
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

ROWS = random_rows(40, weight=0.3)
BASE = {"learning_rate": 1e-2, "tokens_per_step": 100, "micro_tokens": 1000, "precision": "fp32", "epochs": 2}


def run(
    work: Path,
    *,
    rows: list[Rendered] = ROWS,
    model: PreTrainedModel | None = None,
    dropout: float = 0.0,
    seed: int = 3,
    progress: object = None,
    **changes: object,
) -> TrainResult:
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=dropout))
    settings = TrainSettings.model_validate(BASE | changes)
    model = model or tiny_llama(128)
    return train(model, rows, settings, tuner, pad_id=0, work_dir=work, seed=seed, progress=progress)  # type: ignore[arg-type]
