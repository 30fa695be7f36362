"""Packed rows equal padded rows and single rows, on several architectures; no example sees another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from transformers import Lfm2Config, Lfm2ForCausalLM, PreTrainedModel

from architectures import MODELS, build, hidden, losses_and_gradients
from builders import tiny_llama
from families import build as family
from lingraft.core.errors import ModelError, UsageError
from lingraft.rendering.rows import Rendered
from lingraft.training import packing
from lingraft.training.collate import collate, model_inputs
from lingraft.training.packing import OWN, attention_for
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows, with_teacher

every_model = pytest.mark.parametrize("name", MODELS)
ROWS = [with_teacher(row, seed=i) for i, row in enumerate(random_rows(7, longest=20, weight=0.3))]


@every_model
def test_packed_equals_padded_equals_one_by_one(name: str) -> None:
    model = MODELS[name]()
    model.set_attn_implementation("eager")  # attention as it is defined: sdpa leaves out the soft cap of Gemma 2
    singly, of_singly = losses_and_gradients(model, [collate([row], 0) for row in ROWS])
    ways = [(False, "sdpa"), (True, "sdpa")] if model._supports_sdpa else []
    for packed, before in (*ways, *(((True, "eager"), (False, "eager")) if name == "gemma2" else ())):
        model.set_attn_implementation(before)
        with attention_for(model, "packed" if packed else "padded", ROWS[0].input_ids) as found:
            assert found.packed == packed
            assert not found.singly
            assert model.config._attn_implementation == OWN
            batches = [collate(rows, 0, packed=packed) for rows in (ROWS[:4], ROWS[4:])]
            total, gradients = losses_and_gradients(model, batches)
        assert model.config._attn_implementation == before
        assert total == pytest.approx(singly, rel=1e-5)
        assert gradients.keys() == of_singly.keys()
        for key, gradient in gradients.items():
            torch.testing.assert_close(gradient, of_singly[key], rtol=1e-3, atol=1e-4, msg=key)


@every_model
@pytest.mark.parametrize("implementation", [OWN, "sdpa"])
def test_no_example_sees_another(name: str, implementation: str) -> None:
    model = MODELS[name]()
    if implementation == "sdpa" and not model._supports_sdpa:
        pytest.skip("newer versions of the library have no such attention for it")
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
    model.set_attn_implementation("eager")
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


def test_what_attention_does_not_know_is_not_dropped() -> None:
    query, key, value = (torch.randn(1, heads, 5, 8) for heads in (4, 2, 2))
    quiet = {"use_cache": False, "position_ids": torch.arange(5), "s_aux": None}
    packing.short_attention(torch.nn.Identity(), query, key, value, None, **quiet)
    for name in ("s_aux", "position_bias", "invented"):
        with pytest.raises(packing.UnknownArgument, match=name):
            packing.short_attention(torch.nn.Identity(), query, key, value, None, **{name: torch.ones(4)})


def test_a_model_that_looks_ahead_is_refused() -> None:
    with pytest.raises(ModelError, match="BertGenerationDecoder looks at the tokens that follow"):
        attention_for(family("bert-generation"), "padded", ROWS[0].input_ids).__enter__()


def test_rows_that_change_each_other_go_one_by_one(tmp_path: Path) -> None:
    def mixing() -> PreTrainedModel:
        model = tiny_llama(128)
        model.model.layers[0].register_forward_hook(lambda module, inputs, out: out + 3 * out.mean(0, keepdim=True))
        return model

    with attention_for(mixing(), "padded", ROWS[0].input_ids) as layout:
        assert layout == packing.BatchLayout(packed=False, singly=True)
    settings = TrainSettings(tokens_per_step=10_000, precision="fp32", batching="padded")
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0))
    rows = random_rows(7, longest=20)
    found = train(mixing(), rows, settings, tuner, pad_id=0, work_dir=tmp_path, seed=1).log[0].loss
    model, total, tokens = mixing(), 0.0, 0
    for row in rows:
        ids = torch.tensor([row.input_ids])
        labels = torch.tensor([[-100 if weight == 0 else token for token, weight in zip(*row_of(row), strict=True)]])
        total += model(input_ids=ids, labels=labels).loss.item() * row.supervised
        tokens += row.supervised
    assert found == pytest.approx(total / tokens, rel=1e-5)


def row_of(row: Rendered) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return row.input_ids, row.weights


@every_model
def test_both_ways_of_packing_agree(name: str) -> None:
    model, batch = MODELS[name](), collate(ROWS, 0, packed=True)
    found = []
    for implementation in (OWN, "eager" if name == "gemma2" else "sdpa"):
        model.set_attn_implementation(implementation)
        found.append(hidden(model, batch).detach())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_attention_is_put_back() -> None:
    model = tiny_llama(128)
    with attention_for(model, "packed", ROWS[0].input_ids) as layout:
        assert layout.packed
        assert model.config._attn_implementation == OWN
    assert model.config._attn_implementation == "sdpa"
    with attention_for(model, "auto", ROWS[0].input_ids) as layout:
        assert layout.packed  # on a CPU
    with pytest.raises(RuntimeError, match="inside"), attention_for(model, "auto", ROWS[0].input_ids):
        raise RuntimeError("inside")
    assert model.config._attn_implementation == "sdpa"


def leaking() -> PreTrainedModel:
    """Each token sees the one before it, whatever example that belongs to: as in a convolution."""
    model = tiny_llama(128)
    model.model.layers[0].register_forward_hook(
        lambda module, inputs, out: out + torch.nn.functional.pad(out[:, :-1], (0, 0, 1, 0))
    )
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
    with attention_for(made, "auto", ROWS[0].input_ids) as layout:
        assert not layout.packed
        assert made.config._attn_implementation == before
