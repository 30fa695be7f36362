"""The trial of training: what it finds, that the base is left as it was, and that what the libraries raise is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from builders import tiny_llama
from families import build
from lingraft.core.errors import LingraftError, ModelError, UsageError
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.trial import Trial, try_training
from lingraft.training.tuners import TUNERS
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

(ROW,) = random_rows(1, longest=24, shortest=20)


def tried(model: nn.Module, kind: str = "lora", params: dict[str, object] | None = None, **changes: object) -> Trial:
    settings = TrainSettings.model_validate({"precision": "fp32", **changes})
    entry = TUNERS.get(kind)
    tuner = entry(entry.Params.model_validate(params or {}))  # type: ignore[attr-defined]
    return try_training(model, ROW, settings, tuner, pad_id=0, seed=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        pytest.param(family, kind, marks=[] if family == "llama" or kind in ("lora", "full") else pytest.mark.long)
        for family in ("llama", "gemma2", "qwen3_5_text")
        for kind in TUNERS
    ],
)
@pytest.mark.parametrize("changes", [{}, {"precision": "bf16", "gradient_checkpointing": True}])
def test_the_base_is_left_as_it_was(kind: str, family: str, changes: dict[str, object]) -> None:
    model = build(family)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    modules = {name: type(module) for name, module in model.named_modules()}
    frozen = {name: weight.requires_grad for name, weight in model.named_parameters()}
    attention, state = model.config._attn_implementation, torch.get_rng_state()
    found = tried(model, kind, **changes)
    assert found.learning > 0
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(
        torch.equal(after[name], weight) and after[name].dtype == weight.dtype for name, weight in before.items()
    )
    assert {name: type(module) for name, module in model.named_modules()} == modules
    assert all(weight.grad is None for weight in model.parameters())
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == frozen
    assert model.config._attn_implementation == attention
    assert not model.is_gradient_checkpointing
    assert torch.equal(torch.get_rng_state(), state)


def test_it_finds_what_training_finds(tmp_path: Path) -> None:
    settings, tuner = TrainSettings(precision="fp32"), LoraTuner(LoraTuner.Params(rank=4))
    for family in ("llama", "qwen3_5_text"):
        found = try_training(build(family), ROW, settings, tuner, pad_id=0, seed=1)
        result = train(build(family), [ROW], settings, tuner, pad_id=0, work_dir=tmp_path / family, seed=1)
        assert found.packed == result.packed
        learning = [weight for weight in result.model.parameters() if weight.requires_grad]
        assert found.learning == sum(weight.numel() for weight in learning)
    assert found.share is not None
    assert str(found).endswith("matrix weights; rows are padded")


def test_what_the_libraries_raise_is_one_sentence_with_what_helps() -> None:
    def with_a_hook(on: str) -> nn.Module:
        """A model that cannot bear the fused layers, or no training at all."""
        model = tiny_llama(128)

        def broken(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
            fused = type(module.q_proj).__name__ == "FastLoraLinear"  # type: ignore[union-attr]
            if torch.is_grad_enabled() and module.training and (fused or on == "always"):
                raise AttributeError("'tuple' object has no attribute 'dtype'\nand more")

        model.model.layers[1].self_attn.register_forward_hook(broken)  # type: ignore[arg-type]
        return model

    with pytest.raises(ModelError) as caught:
        tried(with_a_hook("fused"))
    assert str(caught.value) == (
        "LlamaForCausalLM cannot be trained so ('tuple' object has no attribute 'dtype'); set train.kernels: plain"
    )
    assert not tried(with_a_hook("fused"), kernels="plain").singly
    model = with_a_hook("always")
    with pytest.raises(ModelError, match=r"\('tuple' object.*name other layers in tuner.targets"):
        tried(model)
    assert not any("lora" in name for name, _ in model.named_modules())


def test_what_cannot_be_trained_is_told_by_its_reason() -> None:
    with pytest.raises(UsageError, match="no layer named 'q_prj'"):
        tried(tiny_llama(128), params={"targets": ["q_prj"]})
    with pytest.raises(ModelError, match="looks at the tokens that follow"):
        tried(build("bert-generation"))
    with pytest.raises(ModelError, match="RobertaForCausalLM changes its logits"):
        tried(build("roberta"))
    poisoned = tiny_llama(128)
    poisoned.model.layers[0].mlp.up_proj.weight.data[0, 0] = torch.inf
    with pytest.raises(LingraftError):
        tried(poisoned)
