"""SSU: scores by hand, columns that stay, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from builders import tiny_llama
from lingraft.core.errors import UsageError
from lingraft.models.adapter import take_off
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.ssu import SsuTuner
from random_rows import random_rows

IDS = torch.arange(5, 60)[None]


def ssu(**params: Any) -> SsuTuner:
    return SsuTuner(SsuTuner.Params.model_validate(params))


def test_columns_of_the_largest_wanda_scores_stay() -> None:
    model, rows = tiny_llama(128), random_rows(3)
    found = ssu(frozen=0.25).select(model, TunerInputs(replay=rows))
    layer = model.model.layers[0].self_attn
    inputs = []
    layer.q_proj.register_forward_pre_hook(lambda module, given: inputs.append(given[0][0].detach().double()))
    for row in rows:
        model(input_ids=torch.tensor([row.input_ids]))
    x = torch.cat(inputs)
    scores = torch.zeros(32, dtype=torch.float64)
    for i in range(layer.q_proj.weight.shape[0]):
        for j in range(32):
            scores[j] += abs(layer.q_proj.weight[i, j].item()) * x[:, j].norm()
    stay = set(scores.topk(8).indices.tolist())
    mask = found["model.layers.0.self_attn.q_proj.weight"]
    assert mask.shape == (1, 32)
    assert {*(~mask[0]).nonzero().flatten().tolist()} == stay
    assert all(int((~one).sum()) == one.numel() // 4 for one in found.values())
    assert len(found) == 14  # the seven products of both layers


@pytest.mark.parametrize("embeddings", ["none", "all"])
def test_training_leaves_the_frozen_columns_bit_for_bit(tmp_path: Path, embeddings: str) -> None:
    model, tuner = tiny_llama(128), ssu(embeddings=embeddings)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    rows = random_rows(12)
    masks = tuner.select(model, TunerInputs(replay=rows[:4]))
    settings = TrainSettings(learning_rate=1e-3, tokens_per_step=60, precision="fp32")
    result = train(model, rows, settings, tuner, pad_id=0, work_dir=tmp_path / "w", seed=3, selected=masks)
    expected = result.model.eval()(input_ids=IDS).logits.detach()
    tuner.save(result.model, tmp_path / "graft")
    take_off(result.model)
    assert all(torch.equal(p, start[name]) for name, p in model.named_parameters())
    plain = PeftModel.from_pretrained(tiny_llama(128), str(tmp_path / "graft"))
    torch.testing.assert_close(plain(input_ids=IDS).logits, expected, rtol=1e-4, atol=1e-5)
    after = dict(plain.merge_and_unload().named_parameters())
    for name, before in start.items():
        if name not in masks:
            assert torch.equal(after[name], before) is not (embeddings == "all" and "embed" in name), name
            continue
        learns = masks[name].expand_as(before)
        assert torch.equal(after[name][~learns], before[~learns])
        assert (after[name][learns] != before[learns]).float().mean() > 0.9


def test_it_needs_prompts() -> None:
    with pytest.raises(UsageError, match="no prompts in the replay half to score columns with"):
        ssu().select(tiny_llama(128), TunerInputs())
