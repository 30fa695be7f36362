"""Fused layers against the libraries' own: same outputs, same gradients, same artefacts, undone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn

from architectures import MODELS, losses_and_gradients
from builders import tiny_llama
from families import build
from lingraft.core.errors import UsageError
from lingraft.training.collate import collate
from lingraft.training.kernels import FastLoraLinear, _LoraLinear, _RmsNorm, chosen_kernels, dropout_mask, fast_layers
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

ROWS = random_rows(6, weight=0.3)
BATCHES = [collate(ROWS, 0)]


def randn(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed + sum(shape)))


def adapted(
    name: str = "llama", dropout: float = 0.0, dtype: torch.dtype = torch.float32, **changes: object
) -> PeftModel:
    """A model with an adapter that has learned something."""
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=6, lora_dropout=dropout, target_modules="all-linear", **changes
    )
    model = get_peft_model(MODELS[name]().to(dtype), config).train()
    for number, (key, parameter) in enumerate(model.named_parameters()):
        if "lora_B" in key:
            parameter.data = randn(*parameter.shape, dtype=torch.float32, seed=number) / 10
    return model


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
def test_lora_gradients_by_finite_differences(dropout: float, bias: bool) -> None:
    x, a, b = (randn(*shape).requires_grad_() for shape in ((2, 3, 6), (2, 6), (5, 2)))
    weight, offset = randn(5, 6), randn(5) if bias else None

    def function(*inputs: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(4)  # the same mask at each evaluation
        return _LoraLinear.apply(inputs[0], weight, offset, inputs[1], inputs[2], 1.7, dropout)

    assert torch.autograd.gradcheck(function, (x, a, b))
    torch.manual_seed(4)
    mask, kept = dropout_mask(x.reshape(6, 6), dropout)
    survivors = (mask != 0).view(x.shape) * x / kept if dropout else x
    expected = nn.functional.linear(x, weight, offset) + 1.7 * survivors @ a.T @ b.T
    torch.testing.assert_close(function(x, a, b), expected)


def test_what_the_layers_return_may_be_changed_in_place_and_have_no_rows() -> None:
    x, a, b, weight = (randn(*shape).requires_grad_() for shape in ((2, 3, 6), (2, 6), (5, 2), (5, 6)))
    for output in (_LoraLinear.apply(x, weight.detach(), None, a, b, 1.0, 0.0), _RmsNorm.apply(x, randn(6), 1e-3)):
        output += 1  # Llama 4 adds its shared expert so
        output.sum().backward()
    empty = torch.empty(2, 0, 6, dtype=torch.float64, requires_grad=True)  # an output head that is asked for no logits
    output = _LoraLinear.apply(empty, weight.detach(), None, a, b, 1.0, 0.0)
    assert output.shape == (2, 0, 5)
    output.sum().backward()


def test_norms_that_take_a_gate_stay() -> None:
    """Those of Qwen3.5 want one, those of Bamba may have one."""
    for family in ("qwen3_5_text", "bamba"):
        model = build(family)
        gated = [module for module in model.modules() if "RMSNormGated" in type(module).__name__]
        assert gated
        kinds = [type(module) for module in gated]
        with fast_layers(model):
            assert [type(module) for module in gated] == kinds


def test_norm_gradients_by_finite_differences() -> None:
    x, weight = randn(150, 3).requires_grad_(), randn(3)  # more rows than a block has
    assert torch.autograd.gradcheck(lambda x: _RmsNorm.apply(x, weight, 1e-3), (x,))
    torch.testing.assert_close(_RmsNorm.apply(x, weight, 1e-3), nn.functional.rms_norm(x, (3,), weight, 1e-3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_dropout_masks(dtype: torch.dtype, p: float) -> None:
    torch.manual_seed(7)
    x = torch.ones(301, 333, dtype=dtype)
    mask, kept = dropout_mask(x, p)
    assert mask.shape == x.shape
    assert set(mask.unique().tolist()) == {-1, 0}
    assert kept == pytest.approx(1 - p, abs=2**-16)
    stays = (mask != 0).double()
    deviation = (p * (1 - p)) ** 0.5
    assert abs(stays.mean().item() - kept) < 5 * deviation / x.numel() ** 0.5
    # Neighbours come from the same random number; they must not depend on each other.
    for neighbour in (stays.roll(1, 1), stays.roll(1, 0)):
        covariance = ((stays - kept) * (neighbour - kept)).mean().item()
        assert abs(covariance) < 5 * deviation**2 / x.numel() ** 0.5
    torch.manual_seed(7)
    assert torch.equal(dropout_mask(x, p)[0], mask)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same(name: str) -> None:
    model = adapted(name)
    expected, of_expected = losses_and_gradients(model, BATCHES)
    kinds = [type(module) for module in model.modules()]
    with fast_layers(model) as changed:
        found, of_found = losses_and_gradients(model, BATCHES)
        linears = sum(isinstance(module, FastLoraLinear) for module in model.modules())
    assert linears == 2 * 7
    # Gemma's norms multiply by 1 + weight and stay; Qwen3 has two more in each layer.
    assert changed - linears == {"llama": 5, "mistral": 5, "qwen3": 9, "gemma2": 0}[name]
    assert [type(module) for module in model.modules()] == kinds
    assert found == pytest.approx(expected, rel=1e-6)
    assert of_found.keys() == of_expected.keys()
    for key, gradient in of_found.items():
        torch.testing.assert_close(gradient, of_expected[key], rtol=1e-4, atol=1e-5, msg=key)


def test_bfloat16_is_as_close_to_the_truth_as_the_libraries() -> None:
    _, truth = losses_and_gradients(adapted(), BATCHES)
    errors = []
    for fast in (False, True):
        model = adapted(dtype=torch.bfloat16)
        assert {p.dtype for key, p in model.named_parameters() if "lora" in key} == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16):
            if fast:
                with fast_layers(model):
                    found = losses_and_gradients(model, BATCHES)[1]
            else:
                found = losses_and_gradients(model, BATCHES)[1]
        errors.append(sum((found[key] - truth[key]).square().sum().item() for key in truth) ** 0.5)
    assert errors[1] < 1.2 * errors[0]


@pytest.mark.parametrize("how", ["eval", "off", "dora", "merged", "two"])
def test_what_is_not_covered_goes_the_librarys_way(how: str) -> None:
    model = adapted(dropout=0.2, **({"use_dora": True} if how == "dora" else {}))
    if how == "two":
        model.add_adapter("other", model.peft_config["default"])
        model.base_model.set_adapter(["default", "other"])
    if how == "merged":
        model.merge_adapter()
    if how in ("eval", "merged"):
        model.eval()

    def output() -> torch.Tensor:
        torch.manual_seed(2)
        off = model.disable_adapter() if how == "off" else torch.no_grad()
        with off, torch.set_grad_enabled(how not in ("eval", "merged")):
            return model(BATCHES[0].input_ids).logits.detach()

    expected = output()
    with fast_layers(model):
        torch.testing.assert_close(output(), expected, rtol=1e-5, atol=1e-5)


def test_layers_are_put_back_after_an_error() -> None:
    model = adapted()
    kinds = [type(module) for module in model.modules()]
    with pytest.raises(RuntimeError, match="inside"), fast_layers(model):
        raise RuntimeError("inside")
    assert [type(module) for module in model.modules()] == kinds


def settings(**changes: object) -> TrainSettings:
    base = {"learning_rate": 1e-2, "tokens_per_step": 60, "precision": "fp32", "epochs": 3}
    return TrainSettings.model_validate(base | changes)


def run(work: Path, dropout: float = 0.0, **changes: object) -> tuple[PeftModel, list[float]]:
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=dropout))
    made = train(tiny_llama(128), ROWS, settings(**changes), tuner, pad_id=0, work_dir=work, seed=3)
    return made.model, [point.loss for point in made.log]


def test_training_learns_the_same(tmp_path: Path) -> None:
    plain, fused = (run(tmp_path / kernels, kernels=kernels) for kernels in ("plain", "fused"))
    assert fused[1] == pytest.approx(plain[1], rel=1e-4)
    assert fused[1][-1] < fused[1][0]
    fused[0].save_pretrained(tmp_path / "graft")
    loaded = PeftModel.from_pretrained(tiny_llama(128), tmp_path / "graft").eval()
    ids = BATCHES[0].input_ids
    assert torch.equal(loaded(ids).logits, fused[0].eval()(ids).logits)
    torch.testing.assert_close(loaded(ids).logits, plain[0].eval()(ids).logits, rtol=1e-2, atol=1e-2)


def test_recomputation_draws_the_same_dropout(tmp_path: Path) -> None:
    kept, recomputed = (
        run(tmp_path / str(again), dropout=0.3, kernels="fused", gradient_checkpointing=again)[1]
        for again in (False, True)
    )
    assert recomputed == pytest.approx(kept, rel=1e-6)
    assert run(tmp_path / "none", dropout=0.0, kernels="fused")[1] != pytest.approx(kept, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "device", "expected"),
    [
        ({}, "cpu", "fused"),
        ({}, "cuda", "plain"),
        ({"compile": True}, "cuda", "plain"),
        ({"kernels": "plain"}, "cpu", "plain"),
    ],
)
def test_choice(changes: dict[str, object], device: str, expected: str) -> None:
    assert chosen_kernels(settings(**changes), torch.device(device)) == expected


@pytest.mark.parametrize(
    ("changes", "device", "message"),
    [
        ({"kernels": "liger"}, "cpu", "needs a CUDA GPU, and the model is on cpu"),
        ({"kernels": "liger"}, "cuda", r"pip install 'lingraft\[liger\]'"),
        ({"kernels": "fused"}, "cuda", "fused is made for CPUs, and the model is on cuda"),
        ({"compile": True}, "cpu", "train.compile is for CUDA GPUs, and the model is on cpu"),
    ],
)
def test_refusals(
    changes: dict[str, object], device: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("lingraft.training.kernels.is_liger_kernel_available", lambda: False)
    with pytest.raises(UsageError, match=message):
        chosen_kernels(settings(**changes), torch.device(device))
    if device == "cpu":
        with pytest.raises(UsageError, match=message):
            run(tmp_path, **changes)
        assert not list(tmp_path.iterdir())
