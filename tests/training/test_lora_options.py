"""What LoRA can be told: lengths of rows (DoRA), decoder layers, orthogonality (OPLoRA); against their formulas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

import architectures
from builders import tiny_llama
from lingraft.core.errors import ModelError, UsageError
from lingraft.models.adapter import read_parts, take_off
from lingraft.models.concatenate import concatenate
from lingraft.models.merge_in_memory import merged
from lingraft.training.decoder_layers import decoder_layers, layer_numbers
from lingraft.training.orthogonal import leading_directions
from lingraft.training.settings import TrainSettings
from lingraft.training.span_trainer import save_adapter
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows
from small_models import IN_SLOTS, model_of

FAMILIES = {"llama": lambda: tiny_llama(120), "gpt2": lambda: model_of(IN_SLOTS["gpt2"]())}
IDS = torch.arange(3, 60)[None]
SETTINGS = {"learning_rate": 1e-2, "tokens_per_step": 100, "precision": "fp32", "weight_decay": 0.1}


@torch.inference_mode()
def logits(model: Any) -> torch.Tensor:
    return torch.as_tensor(model.eval()(input_ids=IDS).logits)


def lora(**params: Any) -> LoraTuner:
    return LoraTuner(LoraTuner.Params.model_validate({"rank": 4, "dropout": 0.0, **params}))


def tuned(model: Any, work: Path, tuner: LoraTuner, **settings: Any) -> TrainResult:
    rows = random_rows(20, vocab=model.config.vocab_size, weight=0.3)
    options = TrainSettings.model_validate(SETTINGS | settings)
    return train(model, rows, options, tuner, pad_id=0, work_dir=work, seed=3)


def learning(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


# Layers


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [
        ("all", range(6)),
        ("first 2", [0, 1]),
        ("last 1", [5]),
        (["first 1", "last 1"], [0, 5]),
        ("1-3", [1, 2, 3]),
        (4, [4]),
        ([5, "0-1"], [0, 1, 5]),
        ("not 1-4", [0, 5]),
        (["not 0", "not last 2"], [1, 2, 3]),
        (["first 4", "not 2"], [0, 1, 3]),
    ],
)
def test_layers_are_named(chosen: Any, numbers: Any) -> None:
    entries = LoraTuner.Params.model_validate({"layers": chosen}).layers
    assert layer_numbers(entries, 6) == list(numbers)
    assert LoraTuner.Params.model_validate({"layers": list(entries)}).layers == entries


@pytest.mark.parametrize("chosen", ["", [], "-4:", -1, "5-2", "first 0", "top 3", True, ["all", None], "first", 1.5])
def test_what_names_no_layers_is_refused(chosen: Any) -> None:
    with pytest.raises(ValueError, match=r"names no layers|no numbers"):
        LoraTuner.Params.model_validate({"layers": chosen})


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [
        ("6", r"'6' names more than the model has, whose 6 layers are 0 to 5"),
        ("last 7", "'last 7' names more"),
        ("not 0-5", "leaves none of the model's 6 layers"),
        (["0", "not 0"], "leaves none"),
    ],
)
def test_layers_that_a_model_lacks_are_refused(chosen: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=rf"^tuner\.layers: .*{complaint}"):
        layer_numbers(LoraTuner.Params.model_validate({"layers": chosen}).layers, 6)


@pytest.mark.parametrize("name", architectures.MODELS)
def test_the_layers_of_every_family_are_found(name: str) -> None:
    model = architectures.MODELS[name]()
    adapted = lora(layers="last 1").apply(model, TunerInputs(seed=0))
    last = decoder_layers(adapted.get_base_model())[-1]
    assert learning(adapted)
    assert all(f".{last}." in key for key in learning(adapted))


def test_the_other_layers_stay_and_plain_peft_loads_the_rest(tmp_path: Path) -> None:
    result = tuned(tiny_llama(128, layers=4), tmp_path / "w", lora(layers=["first 1", "last 1"]))
    expected = logits(result.model)
    save_adapter(result.model, tmp_path / "adapter")
    numbers = {int(name.split(".")[2]) for name in read_parts(tmp_path / "adapter").factors}
    assert numbers == {0, 3}
    loaded = PeftModel.from_pretrained(tiny_llama(128, layers=4), str(tmp_path / "adapter"))
    assert torch.equal(logits(loaded), expected)


def test_a_target_outside_of_the_layers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"tuner\.layers: 'embed_tokens' is in none of these"):
        lora(layers="first 1", targets=("q_proj", "embed_tokens")).apply(tiny_llama(128), TunerInputs(seed=0))


# Orthogonal updates


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (16, 16)])
def test_leading_directions_are_those_of_a_singular_value_decomposition(shape: tuple[int, int]) -> None:
    weight = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    u, _, vt = torch.linalg.svd(weight.double())
    for found, expected in zip(leading_directions(weight, 3), (u[:, :3], vt[:3].T), strict=True):
        projection = found.double() @ found.double().T
        torch.testing.assert_close(projection, expected @ expected.T, rtol=0, atol=1e-6)


def directions(weight: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    u, _, vt = torch.linalg.svd(weight.double())
    return u[:, :k], vt[:k].T


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_saved_updates_are_orthogonal_to_the_leading_directions(tmp_path: Path, family: str, precision: str) -> None:
    model = FAMILIES[family]()
    dropout = {"dropout": 0.1} if family == "llama" else {}
    result = tuned(model, tmp_path / "w", lora(orthogonal=5, **dropout), precision=precision)
    save_adapter(result.model, tmp_path / "adapter")
    take_off(result.model)
    parts = read_parts(tmp_path / "adapter")
    assert parts.factors
    for layer, factors in parts.factors.items():
        weight, update = model.get_parameter(f"{layer}.weight"), factors.update()
        left, right = directions(weight.T if factors.transposed else weight, 5)
        update = (update.T if factors.transposed else update).double()
        assert update.norm() > 0.01
        assert (left.T @ update).norm() < 1e-5 * update.norm()
        assert (update @ right).norm() < 1e-5 * update.norm()


def test_training_is_that_of_the_projected_product(tmp_path: Path) -> None:
    """The paper's own form, P_L B A P_R with A and B free, trained by the same optimiser: the same products."""
    k, name = 6, "model.layers.1.mlp.up_proj"
    options = {"schedule": "constant", "warmup_share": 0.0, "tokens_per_step": 10_000, "epochs": 4}
    tuner = lora(orthogonal=k, targets=("layers.1.mlp.up_proj",))
    result = tuned(tiny_llama(128), tmp_path / "w", tuner, **options)
    save_adapter(result.model, tmp_path / "adapter")
    found = read_parts(tmp_path / "adapter").factors[name].update()

    model = tiny_llama(128).requires_grad_(False)
    begun = LoraTuner(tuner.params.model_copy(update={"orthogonal": 0})).apply(tiny_llama(128), TunerInputs(seed=3))
    a, b = (learning(begun)[f"base_model.model.{name}.lora_{x}.default.weight"] for x in "AB")
    left, right = (found.float() for found in directions(model.get_parameter(f"{name}.weight"), k))
    scale = tuner.params.alpha / tuner.params.rank

    def add(module: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        low = (inputs[0] - inputs[0] @ right @ right.T) @ a.T @ b.T
        return output + scale * (low - low @ left @ left.T)

    model.get_submodule(name).register_forward_hook(add)
    optimiser = torch.optim.AdamW([a, b], lr=1e-2, weight_decay=0.1)
    for _ in range(result.steps):
        total, weight = torch.zeros(()), 0.0
        for row in random_rows(20, vocab=128, weight=0.3):
            log_p = model(input_ids=torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
            for t in range(1, len(row.input_ids)):
                total = total - row.weights[t] * log_p[t - 1, row.input_ids[t]]
                weight += row.weights[t]
        optimiser.zero_grad()
        (total / weight).backward()
        torch.nn.utils.clip_grad_norm_([a, b], 1.0)
        optimiser.step()
    expected = (b - left @ left.T @ b) @ (a - a @ right @ right.T) * scale
    assert result.steps == 4
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.abs().max().item())


def test_more_directions_than_a_layer_has_are_refused() -> None:
    model = tiny_llama(128)
    before = logits(model)
    with pytest.raises(UsageError, match=r"tuner\.orthogonal: 16 leaves nothing of 'k_proj' to learn"):
        lora(orthogonal=16).apply(model, TunerInputs(seed=0))
    assert torch.equal(logits(model), before)
    with pytest.raises(UsageError, match=r"take 'embed_tokens' out of tuner\.targets"):
        lora(orthogonal=1, targets=("embed_tokens",)).apply(tiny_llama(128, tied=False), TunerInputs(seed=0))


# DoRA


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_dora_is_its_formula_and_merges_as_peft_does(tmp_path: Path, family: str) -> None:
    model = FAMILIES[family]()
    originals = {name: weight.clone() for name, weight in model.named_parameters()}
    result = tuned(model, tmp_path / "w", lora(dora=True))
    expected = logits(result.model)
    save_adapter(result.model, tmp_path / "adapter")
    take_off(result.model)
    parts, weights = read_parts(tmp_path / "adapter"), dict[str, torch.Tensor]()
    for layer, factors in parts.factors.items():
        weight = originals[f"{layer}.weight"]
        assert factors.lengths is not None
        total = (weight.T if factors.transposed else weight) + factors.b @ factors.a
        lengths = (weight.T if factors.transposed else weight).norm(dim=1)
        assert (factors.lengths - lengths).abs().max() > 1e-3
        weights[layer] = factors.lengths[:, None] * total / total.norm(dim=1, keepdim=True)
    with merged(model, tmp_path / "adapter"):
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
        for layer, weight in weights.items():
            found = model.get_parameter(f"{layer}.weight")
            torch.testing.assert_close(found.T if parts.factors[layer].transposed else found, weight)
    loaded = PeftModel.from_pretrained(FAMILIES[family](), str(tmp_path / "adapter"))
    torch.testing.assert_close(logits(loaded), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(logits(loaded.merge_and_unload()), expected, rtol=1e-4, atol=1e-5)


def test_dora_beside_a_rounded_base_begins_as_the_base(tmp_path: Path) -> None:
    plain = tiny_llama(128).to(torch.bfloat16)
    adapted = lora(dora=True).apply(tiny_llama(128).to(torch.bfloat16), TunerInputs(seed=0))
    assert torch.equal(logits(adapted), logits(plain))


def test_dora_is_no_sum(tmp_path: Path) -> None:
    for name in ("one", "two"):
        adapted = lora(dora=name == "one").apply(tiny_llama(128), TunerInputs(seed=0))
        save_adapter(adapted, tmp_path / name)
    for first, second in (("one", "two"), ("two", "one")):
        with pytest.raises(ModelError, match="which is no sum that another could be added to"):
            concatenate(tmp_path / first, tmp_path / second, tmp_path / "both")
    adapted = lora(dora=True, targets=("embed_tokens",))
    with pytest.raises(UsageError, match=r"tuner\.dora: is for layers that are one matrix; take 'embed_tokens'"):
        adapted.apply(tiny_llama(128, tied=False), TunerInputs(seed=0))


def test_dora_continues_dora_alone(tmp_path: Path) -> None:
    result = tuned(tiny_llama(128), tmp_path / "w", lora(dora=True))
    expected = logits(result.model)
    save_adapter(result.model, tmp_path / "one")
    rows, settings = (
        random_rows(20, vocab=128, weight=0.3),
        TrainSettings.model_validate(SETTINGS | {"learning_rate": 1e-12}),
    )
    more = {"pad_id": 0, "seed": 4, "initial": tmp_path / "one"}
    again = train(tiny_llama(128), rows, settings, lora(dora=True), work_dir=tmp_path / "x", **more)
    torch.testing.assert_close(logits(again.model), expected, rtol=0, atol=1e-5)
    with pytest.raises(ModelError, match="has use_dora True, the tuner False"):
        train(tiny_llama(128), rows, settings, lora(), work_dir=tmp_path / "y", **more)
