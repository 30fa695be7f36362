"""Packed weights compute what plain ones do, and leave the model as it was, bit by bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from lingraft.engines.packed import PackedLinear, can_pack, packed_weights
from lingraft.models.sparse_entries import Entries
from lingraft.models.sparse_layer import wrapped
from models_support import tiny_loaded, with_adapter

IDS = torch.arange(3, 27).reshape(4, 6)

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def model_of(kind: str) -> Any:
    model = tiny_loaded(scale=3.0).model
    if kind == "untied":
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 2)
    if kind == "sparse":
        places = torch.tensor([[0, 1, 2], [2, 0, 1]])
        layers = [name for name, one in model.named_modules() if name.endswith(("q_proj", "down_proj"))]
        entries = {name: Entries(places, torch.tensor([3.0, -2.0, 1.0]), _width(model, name)) for name in layers}
        return wrapped(model, entries).eval()
    if kind == "rows":  # of embeddings, to which the head is tied
        rows = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", trainable_token_indices=[3, 4, 9])
        adapted = get_peft_model(model, rows)
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "trainable_tokens_delta" in name:
                    parameter.mul_(-2)
        return adapted.eval()
    return with_adapter(model, dora=kind == "dora") if kind in ("adapter", "dora") else model


def _width(model: Any, name: str) -> int:
    return sum(model.get_submodule(name).weight.shape)


@pytest.mark.parametrize("kind", ["sparse", "dora", "rows"])
def test_what_was_never_computed_with_is_packed_with_its_adapter(kind: str) -> None:
    expected = logits(model_of(kind))
    assert not torch.allclose(expected, logits(model_of("tied")), rtol=1e-2)
    model = model_of(kind)  # a sparse layer puts its numbers into the weight at its first pass
    with packed_weights(model):
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(model_of("tied")), rtol=1e-4, atol=1e-5)
        with packed_weights(model):
            torch.testing.assert_close(logits(model), logits(model_of("tied")), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["tied", "untied", "adapter", "dora", "sparse"])
def test_logits_are_the_same_and_the_model_is_as_before(kind: str) -> None:
    model = model_of(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = logits(model)
    with packed_weights(model):
        packed = [module for module in model.modules() if isinstance(module, PackedLinear)]
        assert packed
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
        freed = [module for module in packed if module.weight.numel() == 0]
        shared = kind != "untied"  # the head, with the embeddings
        assert len(freed) == (0 if kind == "dora" else len(packed) - shared)
    after = model.state_dict()
    assert after.keys() == before.keys()
    if kind != "sparse":  # whose numbers stand in the weights by now
        assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(isinstance(module, PackedLinear) for module in model.modules())
    assert torch.equal(logits(model), expected)


def test_a_failure_gives_the_weights_back_and_gradients_flow_again() -> None:
    model = model_of("adapter")
    assert isinstance(model, PeftModel)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="out of luck"), packed_weights(model):
        raise RuntimeError("out of luck")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if "lora_B" in name)


def test_packing_within_packing_changes_nothing() -> None:
    model = model_of("tied")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = logits(model)
    with packed_weights(model):
        with packed_weights(model):
            torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_types_without_kernels_are_left_as_they_are() -> None:
    model = model_of("tied").double()
    assert not can_pack(model)
    with packed_weights(model):
        assert not any(isinstance(module, PackedLinear) for module in model.modules())
