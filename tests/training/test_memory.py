"""Too little memory: the step is taken again in smaller micro-batches and nothing else changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import tiny_llama
from lingraft.core.errors import LingraftError, UsageError
from lingraft.rendering.rows import Rendered
from lingraft.training.collate import Batch, collate
from lingraft.training.settings import TrainSettings
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

ROWS = random_rows(40, weight=0.3)


def run(
    work: Path, capacity: int | None, rows: Sequence[Rendered] = ROWS, **changes: Any
) -> tuple[TrainResult, list[str], list[int]]:
    """Train on a device that has room for `capacity` tokens: a pass with more fails at its last layer, as it would
    where memory runs out, with gradients of earlier passes already there."""
    model = tiny_llama(128)
    passes: list[int] = []
    said: list[str] = []

    def limited(module: torch.nn.Module, args: Any, output: Any) -> None:
        if not torch.is_grad_enabled() or not module.training:  # a trial of few tokens before it
            return
        tokens = args[0].shape[0] * args[0].shape[1]
        if capacity is not None and tokens > capacity:
            raise torch.OutOfMemoryError("out of memory")
        passes.append(tokens)

    model.model.layers[-1].register_forward_hook(limited)
    settings = TrainSettings.model_validate(
        {"learning_rate": 1e-2, "tokens_per_step": 300, "micro_tokens": 300, "precision": "fp32", **changes}
    )
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0))
    result = train(model, rows, settings, tuner, pad_id=0, work_dir=work, seed=3, say=said.append)
    return result, [text for text in said if not text.startswith("3 optimiser steps")], passes


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_training_goes_on_with_smaller_micro_batches_to_the_same_losses(tmp_path: Path, batching: str) -> None:
    enough, quiet, whole = run(tmp_path / "enough", None, batching=batching)
    assert not quiet
    capacity = max(whole) // 3
    little, said, halves = run(tmp_path / "little", capacity, batching=batching)
    assert max(halves) <= capacity
    assert len(halves) > len(whole)
    assert said
    assert all(text.startswith("Out of memory at step ") and "at most" in text for text in said)
    assert len(said) <= 3  # the limit stays lowered
    assert [point.loss for point in little.log] == pytest.approx([point.loss for point in enough.log], rel=1e-4)
    for (name, one), (_, two) in zip(enough.model.named_parameters(), little.model.named_parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-4), name


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_rows_of_a_group_stay_together_when_memory_is_short(
    tmp_path: Path, batching: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [replace(row, group=f"{n // 2}") for n, row in enumerate(ROWS)]
    batches: list[list[str]] = []

    def watched(some: Sequence[Rendered], *args: Any, **kwargs: Any) -> Batch:
        batches.append([row.group for row in some])
        return collate(some, *args, **kwargs)

    monkeypatch.setattr("lingraft.training.step_dataset.collate", watched)
    enough, _, whole = run(tmp_path / "enough", None, rows, batching=batching)
    count = len(batches)
    little, said, halves = run(tmp_path / "little", max(whole) // 3, rows, batching=batching)
    assert said
    assert max(halves) <= max(whole) // 3
    assert len(batches) - count > count
    assert all(groups[::2] == groups[1::2] for groups in batches)
    assert [point.loss for point in little.log] == pytest.approx([point.loss for point in enough.log], rel=1e-4)
    with pytest.raises(LingraftError, match=r"with a single row or group with one of \d+ tokens; set"):
        run(tmp_path / "none", 5, rows, batching=batching)


def test_preference_pairs_are_not_trained_on_as_if_both_were_chosen(tmp_path: Path) -> None:
    rows = [replace(row, group=f"{n // 2}", sign=1 - n % 2 * 2) for n, row in enumerate(ROWS)]
    with pytest.raises(UsageError, match="preference pairs"):
        run(tmp_path, None, rows)


def test_a_single_row_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(LingraftError, match=r"out of memory at step 1 with a single row of \d+ tokens; set"):
        run(tmp_path, 5)


def test_other_failures_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    model = tiny_llama(128)

    def broken(*_: Any) -> None:
        raise RuntimeError("something else")

    model.model.layers[-1].register_forward_hook(
        lambda *_: broken() if torch.is_grad_enabled() else None  # type: ignore[func-returns-value]
    )
    with pytest.raises(RuntimeError, match="something else"):
        train(
            model,
            ROWS,
            TrainSettings(precision="fp32"),
            LoraTuner(LoraTuner.Params(rank=4)),
            pad_id=0,
            work_dir=tmp_path,
            seed=3,
        )
