"""What packed examples begin with, computed once, gives what computing it in each of them gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from architectures import MODELS, hidden, losses_and_gradients
from builders import tiny_llama
from lingraft.rendering.rows import Rendered
from lingraft.training import packing
from lingraft.training.collate import SHORTEST_PREFIX, collate, common_prefix
from lingraft.training.packing import OWN
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows, with_teacher

every_model = pytest.mark.parametrize("name", MODELS)
PREFIX = 11


def beginning_alike(row: Rendered, prompt: tuple[int, ...]) -> Rendered:
    """The row with a common, unsupervised prompt in front."""
    shifted = row.teacher and replace(row.teacher, positions=row.teacher.positions + len(prompt))
    return replace(
        row,
        input_ids=(*prompt, *row.input_ids),
        weights=(0.0,) * len(prompt) + tuple(row.weights),
        span_of=(-1,) * len(prompt) + tuple(row.span_of),
        teacher=shifted,
    )


PROMPT = tuple(int(token) for token in np.random.default_rng(9).integers(1, 128, PREFIX))
OWN_PARTS = [with_teacher(row, seed=i) for i, row in enumerate(random_rows(7, longest=20, weight=0.3))]
ROWS = [beginning_alike(replace(row, input_ids=(i + 1, *row.input_ids[1:])), PROMPT) for i, row in enumerate(OWN_PARTS)]


def test_common_prefix() -> None:
    assert common_prefix([row.input_ids for row in ROWS]) == PREFIX
    same = list(range(20))
    assert common_prefix([same, same]) == 19  # something must be left to be an example
    assert common_prefix([same, same[:12], same[:12]]) == 11
    assert common_prefix([same, same[:5] + same[6:]]) == 0  # 5 are too few
    assert common_prefix([same, [*same[:SHORTEST_PREFIX], 99]]) == SHORTEST_PREFIX
    assert common_prefix([same]) == 0


def test_the_prefix_stands_in_the_batch_once() -> None:
    batch = collate(ROWS, 0, packed=True, share=True)
    assert batch.prefix == PREFIX
    assert batch.input_ids[0].tolist() == [*PROMPT, *(token for row in ROWS for token in row.input_ids[PREFIX:])]
    positions = batch.model_inputs()["position_ids"][0].tolist()
    assert positions == [*range(PREFIX), *(t for row in ROWS for t in range(PREFIX, len(row.input_ids)))]
    assert collate(ROWS, 0, packed=True).prefix == collate(ROWS, 0, share=True).prefix == 0


@every_model
@pytest.mark.parametrize("longest_plain", [0, 25, 512])
def test_sharing_changes_neither_loss_nor_gradients(
    name: str, longest_plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LONGEST_PLAIN", longest_plain)
    model = MODELS[name]()
    model.set_attn_implementation("eager")
    singly, of_singly = losses_and_gradients(model, [collate([row], 0) for row in ROWS])
    model.set_attn_implementation(OWN)
    total, gradients = losses_and_gradients(model, [collate(ROWS, 0, packed=True, share=True)])
    assert total == pytest.approx(singly, rel=1e-5)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, of_singly[key], rtol=1e-3, atol=1e-4, msg=key)


def test_supervised_tokens_inside_the_prefix_count_for_each_example() -> None:
    first = random_rows(1, shortest=16, longest=16)[0]
    assert min(np.flatnonzero(np.asarray(first.weights))) < 14
    rows = [replace(first, input_ids=(*first.input_ids[:-1], last)) for last in (3, 4, 5)]  # alike but for the end
    model = tiny_llama(128)
    singly, of_singly = losses_and_gradients(model, [collate([row], 0) for row in rows])
    model.set_attn_implementation(OWN)
    batch = collate(rows, 0, packed=True, share=True)
    assert batch.prefix == 15
    total, gradients = losses_and_gradients(model, [batch])
    assert total == pytest.approx(singly, rel=1e-5)
    for key, gradient in gradients.items():
        torch.testing.assert_close(gradient, of_singly[key], rtol=1e-3, atol=1e-4, msg=key)


@every_model
def test_no_example_sees_another_behind_the_prefix(name: str) -> None:
    model = MODELS[name]()
    model.set_attn_implementation(OWN)
    batch = collate(ROWS, 0, packed=True, share=True)
    before = hidden(model, batch)[0].detach()
    begin = PREFIX
    for row in ROWS:
        end = begin + len(row.input_ids) - PREFIX
        changed = batch.input_ids.clone()
        changed[0, begin:end] = (changed[0, begin:end] + 1) % 128
        after = hidden(model, replace(batch, input_ids=changed))[0].detach()
        assert torch.equal(after[:begin], before[:begin])
        assert torch.equal(after[end:], before[end:])
        assert not torch.allclose(after[begin:end], before[begin:end], atol=1e-2)
        begin = end


def test_a_training_run_is_the_same_with_and_without_sharing(tmp_path: Path) -> None:
    losses = []
    for share in (True, False):
        settings = TrainSettings(
            epochs=2, learning_rate=1e-2, tokens_per_step=100, precision="fp32", share_prefix=share, kernels="plain"
        )
        tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0))
        made = train(tiny_llama(128), ROWS, settings, tuner, pad_id=0, work_dir=tmp_path / str(share), seed=1)
        assert made.packed
        losses.append([point.loss for point in made.log])
        copies = 2 * len(ROWS) - made.steps if share else 0  # each row twice; one copy is left in each step
        assert made.computed_tokens == made.tokens - copies * PREFIX
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
