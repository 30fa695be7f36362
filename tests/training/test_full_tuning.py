"""Full tuning: all weights learn by plain gradients, and what is learnt is an ordinary PEFT adapter."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from architectures import MODELS
from builders import tiny_llama
from lingraft.core.errors import UsageError
from lingraft.models.adapter import take_off
from lingraft.models.concatenate import concatenate
from lingraft.models.export import export_graft
from lingraft.models.graft import GraftInfo, check_fit, grafted, write_info
from lingraft.models.growth import extended
from lingraft.models.loading import load_renderer
from lingraft.models.merge_in_memory import merged
from lingraft.models.vocabulary import Vocabulary
from lingraft.training.settings import TrainSettings
from lingraft.training.span_trainer import save_adapter
from lingraft.training.step_callback import TrainProgress
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.full import FullTuner
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows
from vocabulary_support import learn, load_base, save_base, untie

BASE = {"learning_rate": 1e-3, "tokens_per_step": 100, "micro_tokens": 1000, "precision": "fp32", "epochs": 1}
IDS = torch.arange(5, 60)[None]


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def tuned(model: Any, work: Path, tuner: Any = None, **options: Any) -> TrainResult:
    given = {key: options.pop(key) for key in ("initial", "progress", "new_ids") if key in options}
    rows = random_rows(12, vocab=model.config.vocab_size, weight=0.3)
    tuner = tuner or FullTuner(FullTuner.Params())
    settings = TrainSettings.model_validate(BASE | options)
    return train(model, rows, settings, tuner, pad_id=0, work_dir=work, seed=3, **given)


def bare(tied: bool) -> Any:
    model = tiny_llama(128)
    if not tied:
        untie(model, bias=True)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_learns(name: str) -> None:
    model = MODELS[name]()
    expected = logits(model)
    shapes = sorted(tuple(parameter.shape) for parameter in model.parameters())
    adapted = FullTuner(FullTuner.Params()).apply(model, TunerInputs())
    assert sorted(tuple(p.shape) for p in adapted.parameters() if p.requires_grad) == shapes
    assert torch.equal(logits(adapted), expected)
    take_off(adapted)
    assert sorted(tuple(parameter.shape) for parameter in model.parameters()) == shapes


@pytest.mark.parametrize("tied", [True, False])
def test_steps_are_those_of_plain_training(tmp_path: Path, tied: bool) -> None:
    plain = bare(tied).requires_grad_(True).train()
    result = tuned(bare(tied), tmp_path / "w", schedule="constant", warmup_share=0.0, tokens_per_step=10_000)
    assert result.steps == 1
    total, weight = torch.zeros((), dtype=torch.float64), 0.0
    for row in random_rows(12, vocab=128, weight=0.3):
        log_p = plain(input_ids=torch.tensor([row.input_ids])).logits[0].double().log_softmax(-1)
        for t in range(1, len(row.input_ids)):
            total = total - row.weights[t] * log_p[t - 1, row.input_ids[t]]
            weight += row.weights[t]
    (total / weight).backward()
    torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
    torch.optim.AdamW(plain.parameters(), lr=1e-3, weight_decay=0.0).step()
    merged_weights = dict(result.model.merge_and_unload().named_parameters())
    for name, parameter in plain.named_parameters():
        # AdamW's first step is the sign of the gradient: where that is next to nothing, the sign is chance.
        surely = parameter.grad.abs() > 1e-6
        torch.testing.assert_close(merged_weights[name][surely], parameter[surely], rtol=1e-4, atol=2e-6, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_graft_is_an_ordinary_one_beside_an_untouched_base(tmp_path: Path, tied: bool, precision: str) -> None:
    files = save_base(tmp_path / "base", tied=tied)
    loaded = load_base(files)
    before, state = logits(loaded.model), dict(loaded.model.named_parameters())
    learn(files, tmp_path / "v")
    graft = tmp_path / "graft"
    with extended(loaded, Vocabulary.of(tmp_path / "v")) as grown:
        result = tuned(grown.model, tmp_path / "w", new_ids=grown.new_ids, precision=precision)
        trained = logits(result.model)
        with result.model.disable_adapter():
            torch.testing.assert_close(logits(result.model)[..., : before.shape[-1]], before)
        save_adapter(result.model, graft)
        take_off(result.model)
        weights = dict(grown.model.named_parameters())
    Vocabulary.of(tmp_path / "v").copy_to(graft)
    assert (trained[..., : before.shape[-1]] - before).abs().max() > 1e-3
    assert all(parameter is state[name] for name, parameter in loaded.model.named_parameters())
    assert torch.equal(logits(loaded.model), before)
    with grafted(loaded, graft) as on:
        torch.testing.assert_close(logits(on.model), trained, rtol=1e-4, atol=1e-5)
    assert torch.equal(logits(loaded.model), before)
    check_fit(files, load_renderer(files), graft)
    with extended(loaded, Vocabulary.of(graft)) as grown:
        torch.testing.assert_close(
            logits(PeftModel.from_pretrained(grown.model, str(graft))), trained, rtol=1e-4, atol=1e-5
        )
    info = {"method": "x", "instruction": "x {source}", "base_id": str(files.folder), "base_sha256": files.sha256}
    write_info(graft, GraftInfo.model_validate({**info, "directions": [{"source": "en", "target": "th"}]}))
    found = export_graft(graft, tmp_path / "out", dtype="fp32")
    assert found["max_logit_difference"] < 1e-4
    assert found["parameters"] == sum(parameter.numel() for parameter in weights.values())


def test_training_stops_and_goes_on_and_continues_a_graft(tmp_path: Path) -> None:
    def stop(progress: TrainProgress) -> None:
        if progress.step == 2:
            raise KeyboardInterrupt

    whole, model = tuned(bare(True), tmp_path / "whole", save_every_steps=1), bare(True)
    with pytest.raises(KeyboardInterrupt):
        tuned(model, tmp_path / "cut", save_every_steps=1, progress=stop)
    again = tuned(model, tmp_path / "cut", save_every_steps=1)
    assert [point.loss for point in again.log] == [point.loss for point in whole.log]
    assert torch.equal(logits(again.model), logits(whole.model))
    expected = logits(again.model)
    save_adapter(again.model, tmp_path / "graft")
    take_off(again.model)
    still = tuned(model, tmp_path / "next", initial=tmp_path / "graft", learning_rate=1e-12)
    torch.testing.assert_close(logits(still.model), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", [(FullTuner, LoraTuner), (LoraTuner, FullTuner), (FullTuner, FullTuner)])
def test_it_is_joined_with_an_adapter_before_or_after_it(tmp_path: Path, order: tuple[Any, Any]) -> None:
    model = bare(True)
    found = None
    for name, kind in zip(("one", "two"), order, strict=True):
        with nullcontext() if found is None else merged(model, tmp_path / "one"):
            result = tuned(model, tmp_path / f"work-{name}", kind(kind.Params()))
            found = logits(result.model)
            save_adapter(result.model, tmp_path / name)
            take_off(result.model)
    concatenate(tmp_path / "one", tmp_path / "two", tmp_path / "both")
    joined = PeftModel.from_pretrained(bare(True), str(tmp_path / "both"))
    torch.testing.assert_close(logits(joined), found, rtol=1e-4, atol=1e-4)


def test_what_cannot_learn_is_refused() -> None:
    model: Any = bare(True)
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(128))
    with pytest.raises(UsageError, match="shares the embeddings and has a bias"):
        FullTuner(FullTuner.Params()).apply(model, TunerInputs())
    model = bare(True)
    layer = model.model.layers[0].mlp.up_proj
    layer.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(UsageError, match=r"up_proj\.weight is in 4 bits"):
        FullTuner(FullTuner.Params()).apply(model, TunerInputs())
