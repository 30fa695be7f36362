"""Sparse tuning: what is selected, what a step does, what is written, against plain training and brute force."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from builders import tiny_llama
from lingraft.core.errors import ModelError, UsageError
from lingraft.models.adapter import read_parts, take_off
from lingraft.models.export import export_graft
from lingraft.models.graft import GraftInfo, check_fit, grafted, write_info
from lingraft.models.loading import load_renderer
from lingraft.models.merge_in_memory import merged
from lingraft.training.selection import largest, read_masks, write_masks
from lingraft.training.settings import TrainSettings
from lingraft.training.span_trainer import save_adapter
from lingraft.training.step_callback import TrainProgress
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import ALL, TunerInputs
from lingraft.training.tuners.sparse import SparseTuner
from random_rows import random_rows
from vocabulary_support import load_base, save_base

BASE = {"learning_rate": 1e-3, "tokens_per_step": 100, "micro_tokens": 1000, "precision": "fp32", "epochs": 1}
IDS = torch.arange(5, 60)[None]


def sparse(**params: Any) -> SparseTuner:
    return SparseTuner(SparseTuner.Params.model_validate(params))


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def tuned(model: Any, work: Path, tuner: SparseTuner, selected: Any = ALL, **options: Any) -> TrainResult:
    given = {key: options.pop(key) for key in ("initial", "progress") if key in options}
    rows = random_rows(12, vocab=model.config.vocab_size, weight=0.3)
    settings = TrainSettings.model_validate(BASE | options)
    return train(model, rows, settings, tuner, pad_id=0, work_dir=work, seed=3, selected=selected, **given)


def linear(model: Any) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if name.endswith("proj.weight")}


@pytest.mark.parametrize("count", [1, 7, 40, 64, 99])
def test_the_largest_are_those_of_sorting_all(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    # Of few values, so that there are ties; zeros of both signs are equal.
    tensors = {name: torch.randint(0, 9, (5, size), generator=generator) / 7 for name, size in (("b", 13), ("a", 7))}
    tensors["b"][0, 0] = -0.0
    found = largest(list(tensors), tensors.__getitem__, count)
    flat = [(-value, i) for i, value in enumerate(v for t in tensors.values() for v in t.double().flatten().tolist())]
    expected = {i for _, i in sorted((key, i) for key, i in flat)[:count]}
    chosen = torch.cat([found[name].flatten() for name in tensors]).nonzero().flatten().tolist()
    assert set(chosen) == expected


def test_lottery_ticket_keeps_the_largest_changes_of_full_training(tmp_path: Path) -> None:
    model, tuner = tiny_llama(128), sparse(density=0.03)
    start = {name: p.detach().double().clone() for name, p in linear(model).items()}
    first = tuned(model, tmp_path / "first", tuner)
    learnt = {name for name, p in first.model.named_parameters() if p.requires_grad}
    assert len(learnt) == len(start)
    save_adapter(first.model, tmp_path / "trained")
    take_off(first.model)
    whole = read_parts(tmp_path / "trained").whole
    changes = torch.cat([(whole[name].double() - start[name]).abs().flatten() for name in start])
    masks = tuner.select(model, TunerInputs(trained=tmp_path / "trained"))
    count = round(0.03 * len(changes))
    mask = torch.cat([masks[name].flatten() for name in start])
    assert int(mask.sum()) == count
    assert changes[mask].min() >= changes[~mask].max() - 1e-9
    result = tuned(model, tmp_path / "second", tuner, masks)
    assert tuner.learning(result.model) == count
    after = dict(result.model.merge_and_unload().named_parameters())
    for name, before in start.items():
        assert torch.equal(after[name].double()[~masks[name]], before[~masks[name]])  # rewound, and kept
        assert (after[name].double()[masks[name]] != before[masks[name]]).float().mean() > 0.9


def test_a_step_is_that_of_plain_training_of_these_numbers(tmp_path: Path) -> None:
    plain, model, tuner = tiny_llama(128).train(), tiny_llama(128), sparse(mask="random", density=0.2)
    masks = tuner.select(model, TunerInputs(seed=4))
    once = {"schedule": "constant", "warmup_share": 0.0, "tokens_per_step": 10_000, "max_grad_norm": 0}
    result = tuned(model, tmp_path, tuner, masks, **once)
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for row in random_rows(12, vocab=128, weight=0.3):
        log_p = plain(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        for t in range(1, len(row.input_ids)):
            total = total - row.weights[t] * log_p[t - 1, row.input_ids[t]]
            weight += row.weights[t]
    (total / weight).backward()
    after = dict(result.model.merge_and_unload().named_parameters())
    for name, parameter in linear(plain).items():
        # AdamW's first step is the sign of the gradient: where that is next to nothing, the sign is chance.
        gradient = parameter.grad
        moved = masks[name] & (gradient.abs() > 1e-6)
        expected = torch.where(moved, parameter - 1e-3 * gradient / (gradient.abs() + 1e-8), parameter)
        surely = moved | ~masks[name]
        torch.testing.assert_close(after[name][surely], expected[surely], rtol=1e-4, atol=2e-6, msg=name)


def test_the_penalty_is_the_gradient_of_the_mean_change() -> None:
    for selected in (True, False):
        tuner, model = sparse(l1=0.3, mask="random"), tiny_llama(128)
        adapted = tuner.apply(model, TunerInputs(), tuner.select(model, TunerInputs()) if selected else ALL)
        learns = [p for p in adapted.parameters() if p.requires_grad]
        starts = [p.detach().clone() for p in learns]
        for p in learns:
            p.data += torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
            p.grad = torch.zeros_like(p)
        tuner.before_step(adapted)
        found = [p.grad.clone() for p in learns]
        for p in learns:
            p.grad = None
        changes = [(p - start).abs().sum() for p, start in zip(learns, starts, strict=True)]
        (0.3 * sum(changes) / sum(p.numel() for p in learns)).backward()
        for mine, p in zip(found, learns, strict=True):
            torch.testing.assert_close(mine, p.grad)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_graft_is_an_ordinary_one_beside_an_untouched_base(tmp_path: Path, precision: str) -> None:
    files = save_base(tmp_path / "base")
    loaded, graft = load_base(files), tmp_path / "graft"
    before, state = logits(loaded.model), {name: p.clone() for name, p in loaded.model.named_parameters()}
    tuner = sparse(mask="magnitude", density=0.1)
    masks = tuner.select(loaded.model, TunerInputs())
    result = tuned(loaded.model, tmp_path / "w", tuner, masks, precision=precision)
    trained = logits(result.model)
    with result.model.disable_adapter():
        assert torch.equal(logits(result.model), before)
    torch.testing.assert_close(logits(result.model), trained, rtol=0, atol=0)
    tuner.save(result.model, graft)
    take_off(result.model)
    assert all(torch.equal(p, state[name]) for name, p in loaded.model.named_parameters())
    assert (trained - before).abs().max() > 1e-3
    with grafted(loaded, graft) as on:
        torch.testing.assert_close(logits(on.model), trained, rtol=1e-4, atol=1e-5)
        with on.model.disable_adapter():  # type: ignore[operator]
            assert torch.equal(logits(on.model), before)
        torch.testing.assert_close(logits(on.model), trained, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(p, state[name]) for name, p in loaded.model.named_parameters())
    check_fit(files, load_renderer(files), graft)
    with merged(loaded.model, graft):
        torch.testing.assert_close(logits(loaded.model), trained, rtol=1e-4, atol=1e-5)
    plain = PeftModel.from_pretrained(load_base(files).model, str(graft))
    torch.testing.assert_close(logits(plain), trained, rtol=1e-4, atol=1e-5)
    info = {"method": "x", "instruction": "x {source}", "base_id": str(files.folder), "base_sha256": files.sha256}
    write_info(graft, GraftInfo.model_validate({**info, "directions": [{"source": "en", "target": "th"}]}))
    found = export_graft(graft, tmp_path / "out", dtype="fp32")
    assert found["max_logit_difference"] < 1e-4


def test_training_stops_and_goes_on_and_continues_a_graft(tmp_path: Path) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    model, tuner = tiny_llama(128), sparse(mask="random")
    masks = tuner.select(model, TunerInputs())
    whole = tuned(model, tmp_path / "whole", tuner, masks, save_every_steps=1)
    expected = logits(whole.model)
    take_off(whole.model)
    with pytest.raises(KeyboardInterrupt):
        tuned(model, tmp_path / "cut", tuner, masks, save_every_steps=1, progress=stop)
    again = tuned(model, tmp_path / "cut", tuner, masks, save_every_steps=1)
    assert [point.loss for point in again.log] == [point.loss for point in whole.log]
    assert torch.equal(logits(again.model), expected)
    tuner.save(again.model, tmp_path / "graft")
    take_off(again.model)
    still = tuned(model, tmp_path / "next", tuner, masks, initial=tmp_path / "graft", learning_rate=1e-12)
    torch.testing.assert_close(logits(still.model), expected, rtol=0, atol=1e-5)
    take_off(still.model)
    other = sparse(mask="magnitude").select(model, TunerInputs())
    with pytest.raises(ModelError, match="changes other numbers of the base; continue with its own selection"):
        tuned(model, tmp_path / "odd", tuner, other, initial=tmp_path / "graft")


def test_masks_are_drawn_by_the_seed_and_kept_for_their_base(tmp_path: Path) -> None:
    model, tuner = tiny_llama(128), sparse(mask="random", count=100)
    masks = tuner.select(model, TunerInputs(seed=1))
    assert sum(int(mask.sum()) for mask in masks.values()) == 100
    again, other = (tuner.select(model, TunerInputs(seed=seed)) for seed in (1, 2))
    assert all(torch.equal(mask, again[name]) for name, mask in masks.items())
    assert not all(torch.equal(mask, other[name]) for name, mask in masks.items())
    write_masks(tmp_path / "m", masks, "a" * 64)
    found = read_masks(tmp_path / "m", "a" * 64)
    assert found.keys() == masks.keys()
    assert all(torch.equal(mask, found[name]) for name, mask in masks.items())
    with pytest.raises(ModelError, match="choose numbers of another base"):
        read_masks(tmp_path / "m", "b" * 64)


def test_what_cannot_be_selected_is_refused() -> None:
    with pytest.raises(UsageError, match=r"tuner\.count: 10,000,000 of the .* leave none as it is"):
        sparse(mask="random", count=10_000_000).select(tiny_llama(128), TunerInputs())
    model: Any = tiny_llama(128)
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(UsageError, match=r"up_proj is in 4 bits"):
        sparse(mask="random").select(model.to("meta"), TunerInputs())
