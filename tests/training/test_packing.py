"""Packed rows equal padded rows and single rows, on several architectures; no example sees another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import pytest
import torch
from architectures import MODELS, build, hidden, losses_and_gradients
from random_rows import random_rows, with_teacher
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedModel

from builders import tiny_llama
from lingraft.errors import UsageError
from lingraft.training import packing
from lingraft.training.collate import collate, model_inputs
from lingraft.training.packing import OWN, attention_for

every_model = pytest.mark.parametrize("name", MODELS)
ROWS = [with_teacher(row, seed=i) for i, row in enumerate(random_rows(7, longest=20, weight=0.3))]


@every_model
def test_packed_equals_padded_equals_one_by_one(name: str) -> None:
    model = MODELS[name]()
    singly, of_singly = losses_and_gradients(model, [collate([row], 0) for row in ROWS])
    for packed in (False, True):
        with attention_for(model, "packed" if packed else "padded", ROWS[0].input_ids) as found:
            assert found == packed
            assert model.config._attn_implementation == OWN
            batches = [collate(rows, 0, packed=packed) for rows in (ROWS[:4], ROWS[4:])]
            total, gradients = losses_and_gradients(model, batches)
        assert total == pytest.approx(singly, rel=1e-5)
        assert gradients.keys() == of_singly.keys()
        for key, gradient in gradients.items():
            torch.testing.assert_close(gradient, of_singly[key], rtol=1e-3, atol=1e-4, msg=key)


@every_model
@pytest.mark.parametrize("implementation", [OWN, "sdpa"])
def test_no_example_sees_another(name: str, implementation: str) -> None:
    model = MODELS[name]()
    model.set_attn_implementation(implementation)
    lengths = [len(row.input_ids) for row in ROWS]
    bounds = [0, *accumulate(lengths)]
    ids = collate(ROWS, 0, packed=True).input_ids

    def states(tokens: torch.Tensor) -> torch.Tensor:
        output = model(**model_inputs(tokens, lengths), use_cache=False, output_hidden_states=True)
        return output.hidden_states[-1][0].detach()

    before = states(ids)
    for example in range(len(ROWS)):
        begin, end = bounds[example], bounds[example + 1]
        changed = ids.clone()
        changed[0, begin:end] = (changed[0, begin:end] + 1) % 128
        after = states(changed)
        assert torch.equal(after[:begin], before[:begin])
        assert torch.equal(after[end:], before[end:])
        assert not torch.allclose(after[begin:end], before[begin:end], atol=1e-2)


@every_model
@pytest.mark.parametrize("longest_plain", [0, 10, 512])
def test_short_and_long_examples_equal_the_library(
    name: str, longest_plain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LONGEST_PLAIN", longest_plain)
    model, batch = MODELS[name](), collate(ROWS, 0)
    expected = hidden(model, batch)
    model.set_attn_implementation(OWN)
    found = hidden(model, batch)
    for row, one, two in zip(ROWS, expected, found, strict=True):
        length = len(row.input_ids)  # what stands in the padding is free
        torch.testing.assert_close(two[:length], one[:length], rtol=1e-4, atol=1e-5)


def test_bfloat16_is_as_close_to_the_truth_as_the_eager_attention_of_the_library() -> None:
    model, batch = MODELS["qwen3"](), collate(ROWS, 0)
    truth = hidden(model, batch)
    model.to(torch.bfloat16)
    errors = []
    for implementation in ("eager", OWN):
        model.set_attn_implementation(implementation)
        gap = hidden(model, batch).float() - truth
        errors.append(torch.cat([g[: len(row.input_ids)] for g, row in zip(gap, ROWS, strict=True)]).norm().item())
    assert errors[1] < 1.1 * errors[0]


def test_attention_dropout_is_applied() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, heads, 40, 8) for heads in (4, 2, 2))
    without = packing.short_attention(torch.nn.Identity(), query, key, value, None)[0]
    drawn = [packing.short_attention(torch.nn.Identity(), query, key, value, None, 0.3)[0] for _ in range(400)]
    assert not torch.equal(drawn[0], drawn[1])
    assert (torch.stack(drawn).mean(0) - without).abs().max() < 0.25  # unbiased: 400 draws, deviation below 0.05


@every_model
def test_both_ways_of_packing_agree(name: str) -> None:
    model, batch = MODELS[name](), collate(ROWS, 0, packed=True)
    found = []
    for implementation in (OWN, "sdpa"):
        model.set_attn_implementation(implementation)
        found.append(hidden(model, batch).detach())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_attention_is_put_back() -> None:
    model = tiny_llama(128)
    with attention_for(model, "packed", ROWS[0].input_ids) as packed:
        assert packed
        assert model.config._attn_implementation == OWN
    assert model.config._attn_implementation == "sdpa"
    with attention_for(model, "auto", ROWS[0].input_ids) as packed:
        assert packed  # on a CPU
    with pytest.raises(RuntimeError, match="inside"), attention_for(model, "auto", ROWS[0].input_ids):
        raise RuntimeError("inside")
    assert model.config._attn_implementation == "sdpa"


def leaking() -> PreTrainedModel:
    """Each token sees the one before it, whatever example that belongs to: as in a convolution."""
    model = tiny_llama(128)
    model.model.layers[0].register_forward_hook(lambda module, inputs, out: out + out.roll(1, dims=1))
    return model


def counting() -> PreTrainedModel:
    """Positions are counted along the row, whatever the position ids say."""
    model = tiny_llama(128)
    model.model.layers[0].register_forward_hook(
        lambda module, inputs, out: out + torch.arange(out.shape[1])[None, :, None]
    )
    return model


def eager() -> PreTrainedModel:
    model = tiny_llama(128)
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (leaking, "LlamaForCausalLM lets packed examples see each other"),
        (counting, "LlamaForCausalLM computes a packed example otherwise than the same example alone"),
        (
            lambda: build(Lfm2ForCausalLM, Lfm2Config, layer_types=["conv", "full_attention"]),
            "Lfm2ForCausalLM has layers of the kind conv",
        ),
        (eager, "LlamaForCausalLM uses eager attention"),
    ],
)
def test_models_that_cannot_be_packed(model: Callable[[], PreTrainedModel], reason: str) -> None:
    made = model()
    before = made.config._attn_implementation
    with pytest.raises(UsageError, match=f"{reason}.*set train.batching to padded"):
        attention_for(made, "packed", ROWS[0].input_ids).__enter__()
    assert made.config._attn_implementation == before
    with attention_for(made, "auto", ROWS[0].input_ids) as packed:
        assert not packed
        assert made.config._attn_implementation == before
