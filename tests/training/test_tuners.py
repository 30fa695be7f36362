"""Contract of every registered tuner, and LoRA against its definition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from builders import tiny_llama
from lingraft.core.errors import UsageError
from lingraft.reporting.citations import bibliography
from lingraft.training.span_trainer import save_adapter
from lingraft.training.tuners import TUNERS, Tuner, TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

IDS = torch.tensor([[3, 4, 5, 6]])


@pytest.fixture(params=list(TUNERS))
def tuner(request: pytest.FixtureRequest) -> Tuner:
    kind = TUNERS.get(request.param)
    return kind(kind.Params())  # type: ignore[attr-defined]


def learning(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_tuners_are_described(tuner: Tuner) -> None:
    assert tuner.name in TUNERS
    assert tuner.paper
    assert tuner.summary
    assert all(field.description for field in tuner.Params.model_fields.values())
    assert set(tuner.cited) <= set(bibliography())


@pytest.mark.parametrize(
    ("kind", "params", "cited"),
    [
        ("lora", {}, ["hu-2022-lora"]),
        ("lora", {"dora": True, "rslora": True}, ["hu-2022-lora", "kalajdzievski-2023-rslora", "liu-2024-dora"]),
        ("lora", {"orthogonal": 4}, ["hu-2022-lora", "xiong-2025-oplora"]),
        ("full", {"layers": "first 1"}, ["gao-2025-llamax2"]),
    ],
)
def test_what_is_chosen_is_cited(kind: str, params: dict[str, Any], cited: list[str]) -> None:
    assert list(TUNERS.create({"kind": kind, **params}).cited) == cited
    assert set(cited) <= set(bibliography())


def test_outputs_do_not_change_before_training(tuner: Tuner) -> None:
    expected = tiny_llama(128)(input_ids=IDS).logits
    found = tuner.apply(tiny_llama(128), TunerInputs()).eval()(input_ids=IDS).logits
    if tuner.name == "osf":  # takes what it began with off what it has learnt, number by number
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    else:
        assert torch.equal(found, expected)


def test_new_weights_follow_from_the_seed_alone(tuner: Tuner) -> None:
    torch.manual_seed(1)
    one = learning(tuner.apply(tiny_llama(128), TunerInputs(seed=5)))
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1))  # the global random state was left alone
    two, other = (
        learning(tuner.apply(tiny_llama(128), TunerInputs(seed=5))),
        learning(tuner.apply(tiny_llama(128), TunerInputs(seed=6))),
    )
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    if any("lora_A" in name for name in one):  # else nothing is drawn at random
        assert not all(torch.equal(one[name], other[name]) for name in one)


def test_what_learns_is_float32_beside_a_bfloat16_base(tuner: Tuner) -> None:
    model = tuner.apply(tiny_llama(128).to(torch.bfloat16), TunerInputs())
    assert {p.dtype for p in learning(model).values()} == {torch.float32}


def test_what_is_selected_follows_from_the_inputs_and_alone_learns(tuner: Tuner, tmp_path: Path) -> None:
    if not tuner.selects:
        assert tuner.passes == 1
        return
    rows, trained = random_rows(4), None
    if tuner.passes == 2:
        trained, first = tmp_path / "first", tuner.apply(tiny_llama(128), TunerInputs())
        with torch.no_grad():
            for number, parameter in enumerate(learning(first).values()):
                parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
        save_adapter(first, trained)
    model, inputs = tiny_llama(128), TunerInputs(seed=3, rows=rows, replay=rows, trained=trained)
    state = {name: parameter.clone() for name, parameter in model.named_parameters()}
    masks, again = tuner.select(model, inputs), tuner.select(model, inputs)
    assert masks.keys() == again.keys()
    assert all(torch.equal(mask, again[name]) for name, mask in masks.items())
    assert all(torch.equal(parameter, state[name]) for name, parameter in model.named_parameters())
    expected, numbers = model(input_ids=IDS).logits, [mask.expand_as(state[name]).sum() for name, mask in masks.items()]
    adapted = tuner.apply(model, inputs, masks)
    assert torch.equal(adapted.eval()(input_ids=IDS).logits, expected)
    parameters = list(learning(adapted).values())
    adapted.train()(input_ids=IDS).logits.square().mean().backward()
    moved = sum(int((p.grad != 0).sum()) for p in parameters if p.grad is not None)
    assert 0.5 * sum(numbers) < moved <= sum(numbers)
    tuner.save(adapted, tmp_path / "graft")
    plain = PeftModel.from_pretrained(tiny_llama(128), str(tmp_path / "graft"))
    torch.testing.assert_close(plain(input_ids=IDS).logits, expected, rtol=1e-5, atol=1e-5)


def test_lora_adapts_all_linear_layers_but_the_head() -> None:
    names = learning(LoraTuner(LoraTuner.Params(rank=4)).apply(tiny_llama(128), TunerInputs()))
    layers = {name.split(".lora_")[0].rpartition(".")[2] for name in names}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    # rank x (in + out) per layer, from the shapes of the tiny Llama
    assert sum(p.numel() for p in names.values()) == 2 * 4 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 64))


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 4), (True, 8 / 2)])
def test_lora_scale(rslora: bool, scale: float) -> None:
    params = LoraTuner.Params(rank=4, alpha=8, dropout=0, targets=("o_proj",), rslora=rslora)
    model = LoraTuner(params).apply(tiny_llama(128), TunerInputs()).eval()
    names = learning(model)
    assert len(names) == 4
    layer = model.get_base_model().model.layers[0].self_attn.o_proj
    torch.nn.init.ones_(layer.lora_B["default"].weight)
    x = torch.ones(1, 32)
    expected = layer.base_layer(x) + scale * (x @ layer.lora_A["default"].weight.T).sum()
    torch.testing.assert_close(layer(x), expected)


def test_lora_refuses_layers_the_model_lacks() -> None:
    with pytest.raises(UsageError, match=r"LlamaForCausalLM has no layer named 'qproj'.*q_proj"):
        LoraTuner(LoraTuner.Params(targets=("qproj",))).apply(tiny_llama(128), TunerInputs())


def test_a_rank_above_that_of_every_layer_is_refused() -> None:
    LoraTuner(LoraTuner.Params(rank=32)).apply(tiny_llama(128, hidden=32), TunerInputs())
    with pytest.raises(UsageError, match=r"tuner\.rank: 33 is above the rank of every layer .* at most 32; lower it"):
        LoraTuner(LoraTuner.Params(rank=33)).apply(tiny_llama(128, hidden=32), TunerInputs())
