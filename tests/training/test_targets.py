"""Which layers LoRA is put on: none that text does not reach, none that PEFT or a model's kernels cannot bear."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import nn

from builders import tiny_llama
from families import build
from lingraft.core.errors import UsageError
from lingraft.training.span_trainer import save_adapter
from lingraft.training.targets import adapted_share, linear_layers, without_gradient
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.full import FullTuner
from lingraft.training.tuners.lora import LoraTuner


def adapted(family: str, **params: object) -> set[str]:
    """The layers of a family that get an update."""
    model = LoraTuner(LoraTuner.Params.model_validate({"rank": 4, "dropout": 0, **params})).apply(
        build(family), TunerInputs()
    )
    return {name.split(".lora_B")[0].removeprefix("base_model.model.") for name in learning(model) if "lora_B" in name}


def learning(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("family", ["gemma3", "gemma4", "mistral3"])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "k_proj")])
def test_of_a_model_with_pictures_the_language_part_alone_learns(family: str, targets: object) -> None:
    names = adapted(family, targets=targets)
    assert names
    assert all(".language_model." in name for name in names)
    assert any("vision" in name and name.endswith("q_proj") for name, _ in build(family).named_modules())
    whole = FullTuner(FullTuner.Params()).apply(build(family), TunerInputs())
    assert not any("vision" in name for name in learning(whole))


def test_routers_that_return_more_than_a_product_stay() -> None:
    names = adapted("llama4_text")
    assert {name.rpartition(".")[2] for name in names} >= {"q_proj", "o_proj", "gate_proj"}
    assert not any("router" in name for name in names)


def test_linear_layers_of_a_class_of_their_own_are_adapted() -> None:
    assert {name.rpartition(".")[2] for name in adapted("falcon")} == {
        "query_key_value",
        "dense",
        "dense_h_to_4h",
        "dense_4h_to_h",
    }


@pytest.mark.parametrize("family", ["falcon_h1", "nemotron_h", "mamba"])
def test_what_peft_refuses_stays(family: str) -> None:
    names = {name.rpartition(".")[2] for name in adapted(family)}
    assert "in_proj" in names
    assert "out_proj" not in names
    with pytest.raises(UsageError, match=r"PEFT puts no update on 'out_proj' of .*tuner.targets"):
        adapted(family, targets=("in_proj", "out_proj"))


@pytest.mark.parametrize(("family", "name"), [("jamba", "dt_proj"), ("deepseek_v32", "indexer.wk")])
def test_layers_that_get_no_gradient_stay(family: str, name: str) -> None:
    assert not any(layer.endswith(name) for layer in adapted(family))
    with pytest.raises(UsageError, match=f"'{name}' of .* gets no gradient.*tuner.targets"):
        adapted(family, targets=(name,))


def test_a_layer_whose_weight_is_read_past_it_gets_no_gradient() -> None:
    model = tiny_llama(64)
    layer = model.model.layers[1].mlp
    layer.forward = lambda x: nn.functional.linear(x, layer.down_proj.weight @ layer.up_proj.weight)
    assert without_gradient(model, linear_layers(model)) == [
        f"model.layers.1.mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj")
    ]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            ("q_prj",),
            r"LlamaForCausalLM has no layer named 'q_prj'; did you mean 'q_proj'\?; its linear layers: down_pr",
        ),
        (("q_proj", "norm"), "'norm' of LlamaForCausalLM is a LlamaRMSNorm, which has no matrix to adapt"),
        (("input_layernorm",), "is a LlamaRMSNorm, which has no matrix"),
        (("lm_head",), "'lm_head' of LlamaForCausalLM shares its weight with the embeddings.*embeddings: all"),
    ],
)
def test_targets_that_cannot_be_adapted_are_refused_without_weights(targets: tuple[str, ...], message: str) -> None:
    with torch.device("meta"):
        model = tiny_llama(64)
    with pytest.raises(UsageError, match=f"tuner lora: .*{message}"):
        LoraTuner(LoraTuner.Params(targets=targets)).apply(model, TunerInputs())


def test_what_peft_would_not_read_back_stays(tmp_path: Path) -> None:
    """It renames `shared_experts` of Laguna on loading."""
    model = LoraTuner(LoraTuner.Params(rank=4, dropout=0)).apply(build("laguna"), TunerInputs())
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.3)
    save_adapter(model, tmp_path)
    ids = torch.tensor([[5, 9, 3, 7]])
    plain = PeftModel.from_pretrained(build("laguna"), tmp_path).eval()
    torch.testing.assert_close(plain(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
    names = adapted("laguna")
    assert any(name.endswith("mlp.gate_proj") for name in names)
    assert not any("shared_experts" in name for name in names)
    with pytest.raises(UsageError, match=r"does not read back the update of .*shared_experts.*out of tuner\.targets"):
        adapted("laguna", targets=("q_proj", "shared_experts.up_proj"))


def test_a_target_may_be_named_with_what_it_is_in() -> None:
    assert adapted("llama", targets=("self_attn.q_proj",)) == {f"model.layers.{i}.self_attn.q_proj" for i in range(4)}


@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe", "deepseek_v3"])
def test_experts_in_one_tensor_go_without_dropout(family: str) -> None:
    with pytest.raises(UsageError, match=r"PEFT cannot adapt .*dropout.*; set tuner.dropout to 0"):
        adapted(family, dropout=0.05)
    assert any("experts" in name for name in adapted(family))


@pytest.mark.parametrize(
    ("family", "least", "most"), [("llama", 1.0, 1.0), ("gpt_oss", 0.05, 0.5), ("mixtral", 1.0, 1.0)]
)
def test_the_share_of_adapted_weights(family: str, least: float, most: float) -> None:
    model = build(family)
    matrices = {
        name: weight.numel()
        for name, weight in model.named_parameters()
        if weight.dim() > 1 and "embed" not in name and "lm_head" not in name and "bias" not in name
    }
    tuned = LoraTuner(LoraTuner.Params(rank=4, dropout=0)).apply(model, TunerInputs())
    assert least <= adapted_share(tuned) <= most
    if family == "gpt_oss":  # attention alone
        attention = sum(size for name, size in matrices.items() if "self_attn" in name)
        assert adapted_share(tuned) == pytest.approx(attention / sum(matrices.values()), rel=0.05)


def test_what_a_graft_leaves_out_is_left_out_when_plain_peft_loads_it() -> None:
    tuned = LoraTuner(LoraTuner.Params(rank=4, dropout=0)).apply(build("gemma3"), TunerInputs())
    again = get_peft_model(build("gemma3"), tuned.peft_config["default"])
    assert learning(again) == learning(tuned)
