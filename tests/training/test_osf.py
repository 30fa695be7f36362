"""Orthogonal subspace fine-tuning against its definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from builders import tiny_llama
from lingraft.core.errors import ModelError, UsageError
from lingraft.models.adapter import read_parts
from lingraft.training.settings import TrainSettings
from lingraft.training.targets import adapted_share
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from lingraft.training.tuners.osf import OsfTuner
from random_rows import random_rows
from small_models import IN_SLOTS, model_of

SETTINGS = {"learning_rate": 1e-3, "tokens_per_step": 10_000, "schedule": "constant", "warmup_share": 0.0}
ROWS = random_rows(12, vocab=128, weight=0.3)


def osf(**params: Any) -> OsfTuner:
    return OsfTuner(OsfTuner.Params.model_validate(params))


def tuned(model: Any, work: Path, tuner: Any, **options: Any) -> TrainResult:
    given = {"initial": options.pop("initial")} if "initial" in options else {}
    settings = TrainSettings.model_validate({**SETTINGS, "precision": "fp32", **options})
    return train(model, ROWS, settings, tuner, pad_id=0, work_dir=work, seed=3, **given)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_leading_directions_stay_as_they_are(tmp_path: Path, precision: str) -> None:
    model, tuner = tiny_llama(128), osf(keep=0.75, layers="first 1")
    result = tuned(model, tmp_path / "w", tuner, epochs=5, weight_decay=0.1, learning_rate=1e-2, precision=precision)
    tuner.save(result.model, tmp_path / "adapter")
    factors = read_parts(tmp_path / "adapter").factors
    assert len(factors) == 7
    weights = dict(tiny_llama(128).to(torch.float32 if precision == "fp32" else torch.bfloat16).named_parameters())
    for layer, found in factors.items():
        update, weight = found.update().double(), weights[f"{layer}.weight"].detach().double()
        u, _, vt = torch.linalg.svd(weight)
        kept = int(0.75 * min(weight.shape))
        assert update.norm() > 1e-2
        assert (u[:, :kept].T @ update).norm() < 1e-5 * update.norm()
        assert (update @ vt[:kept].T).norm() < 1e-5 * update.norm()
        values = torch.linalg.svdvals(update)
        assert values[min(weight.shape) - kept :].sum() < 1e-5 * values[0]


def test_a_step_is_that_of_its_definition(tmp_path: Path) -> None:
    """W = U_high S_high V_high + U S V with U, S and V free, whose gradients and values are projected."""
    name, tuner = "model.layers.1.mlp.up_proj", osf(layers="1")
    result = tuned(tiny_llama(128), tmp_path / "w", tuner)
    tuner.save(result.model, tmp_path / "adapter")
    found = read_parts(tmp_path / "adapter").factors

    model = tiny_llama(128).requires_grad_(False)
    learning: dict[str, list[torch.Tensor]] = {}
    high: dict[str, list[torch.Tensor]] = {}
    for layer in found:
        weight = model.get_parameter(f"{layer}.weight").double()
        u, s, v = torch.linalg.svd(weight, full_matrices=False)
        kept = len(s) // 2
        high[layer] = [u[:, :kept], v[:kept].T]
        learning[layer] = [x.clone().requires_grad_() for x in (u[:, kept:], s[kept:], v[kept:].T)]

        def forward(module: Any, inputs: Any, output: Any, layer: str = layer) -> torch.Tensor:
            u, s, v = learning[layer]
            rest = high[layer][0] @ (high[layer][0].T @ module.weight.double())
            return inputs[0] @ (rest + (u * s) @ v.T).float().T

        model.get_submodule(layer).register_forward_hook(forward)
    total, weight = torch.zeros(()), 0.0
    for row in ROWS:
        log_p = model(input_ids=torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        for t in range(1, len(row.input_ids)):
            total = total - row.weights[t] * log_p[t - 1, row.input_ids[t]]
            weight += row.weights[t]
    (total / weight).backward()
    u, s, v = learning[name]
    before = (u * s) @ v.T
    for x, directions in ((u, high[name][0]), (v, high[name][1])):
        x.grad = x.grad - directions @ (directions.T @ x.grad)
    torch.optim.AdamW([u, s, v], lr=1e-3, weight_decay=0.0).step()
    for x, directions in ((u, high[name][0]), (v, high[name][1])):
        x.data = x - directions @ (directions.T @ x)
    expected = (u * s) @ v.T - before
    assert result.steps == 1
    # The singular vectors of either may have the other sign, and a first step of AdamW is the sign of the gradient.
    difference = found[name].update().double() - expected
    assert difference.norm() < 0.02 * expected.norm()


def test_what_it_cannot_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no plain linear layers there"):
        osf().apply(model_of(IN_SLOTS["gpt2"]()), TunerInputs())
    with pytest.raises(UsageError, match=r"tuner\.keep: 0\.05 of the 16 directions of '.*k_proj' is none; raise it"):
        osf(keep=0.05).apply(tiny_llama(128), TunerInputs())
    result = tuned(tiny_llama(128), tmp_path / "w", osf(), epochs=2)
    osf().save(result.model, tmp_path / "half")
    with pytest.raises(ModelError, match="changes what stays as it is here"):
        tuned(tiny_llama(128), tmp_path / "x", osf(keep=0.8), initial=tmp_path / "half")
    with pytest.raises(ModelError, match="has other layers"):
        tuned(tiny_llama(128), tmp_path / "y", osf(layers="0"), initial=tmp_path / "half")


def test_its_share_of_the_weights_is_that_of_lora() -> None:
    shares = [
        adapted_share(tuner.apply(tiny_llama(128), TunerInputs()))
        for tuner in (osf(layers="0"), LoraTuner(LoraTuner.Params(rank=4, layers=("0",))))
    ]
    assert shares == [pytest.approx(0.5)] * 2
