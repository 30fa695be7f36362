"""Span losses against plain float64 cross-entropy on full logits, and output heads against the models' own logits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaForCausalLM,
    PreTrainedModel,
)

from builders import tiny_llama
from families import build as family
from lingraft.core.errors import ModelError
from lingraft.models.output_head import OutputHead, final_states, find_head
from lingraft.rendering.rows import Rendered
from lingraft.training import losses
from lingraft.training.collate import Batch, collate
from lingraft.training.losses import span_loss
from lingraft.training.terms import LOSSES, Chunk, Loss
from random_rows import random_rows

SIZES = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def gemma2() -> PreTrainedModel:
    # Large weights, so that the cap bends the logits visibly.
    config = Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=3.0, initializer_range=1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Gemma2ForCausalLM(config).eval()


def granite() -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=8.0)).eval()


def cohere() -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CohereForCausalLM(CohereConfig(**SIZES, logit_scale=0.0625)).eval()


def llama() -> PreTrainedModel:
    return tiny_llama(128)


def run(model: PreTrainedModel, batch: Batch) -> torch.Tensor:
    return model(**batch.model_inputs(), output_hidden_states=True, use_cache=False).hidden_states[-1]


def reference(model: PreTrainedModel, rows: list[Rendered]) -> torch.Tensor:
    """Sum of weight x -log p, row by row, from the model's own logits in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for row in rows:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].double()
        log_p = logits - logits.logsumexp(-1, keepdim=True)
        for t in range(1, len(row.input_ids)):
            total = total - row.weights[t] * log_p[t - 1, row.input_ids[t]]
    return total


def scaled() -> PreTrainedModel:
    """A factor that no configuration names."""

    class Scaled(LlamaForCausalLM):
        def forward(self, *args: object, **kwargs: object) -> object:
            outputs = super().forward(*args, **kwargs)
            outputs.logits = outputs.logits * 0.37
            return outputs

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Scaled(llama().config).eval()


@pytest.mark.parametrize("build", [llama, gemma2, granite, cohere, scaled])
def test_padded_batch_equals_plain_cross_entropy_row_by_row(build: object) -> None:
    model = build()  # type: ignore[operator]
    rows = random_rows(6, weight=0.3)
    batch = collate(rows, 0)
    head = find_head(model, rows[0].input_ids)
    found = span_loss(run(model, batch), batch.targets, head)
    assert found.total.item() == pytest.approx(reference(model, rows).item(), rel=1e-5)
    assert found.by_role.sum().item() == pytest.approx(found.total.item(), rel=1e-5)


def test_sums_per_role() -> None:
    model, rows = llama(), random_rows(6, weight=0.3)
    batch = collate(rows, 0)
    by_role = span_loss(run(model, batch), batch.targets, find_head(model, rows[0].input_ids)).by_role
    for name, value in zip(batch.targets.role_names, by_role.tolist(), strict=True):
        only = [
            replace(
                row,
                weights=tuple(
                    weight if span >= 0 and row.roles[span] == name else 0.0
                    for weight, span in zip(row.weights, row.span_of, strict=True)
                ),
            )
            for row in rows
        ]
        assert value == pytest.approx(reference(model, only).item(), rel=1e-5)


@pytest.mark.parametrize("train_head", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_gradients_equal_autograd_through_full_logits(chunk: int, train_head: bool) -> None:
    model, rows = llama(), random_rows(5, weight=0.3)
    head_weight = model.get_output_embeddings().weight
    head_weight.requires_grad_(train_head)
    batch = collate(rows, 0)
    head = find_head(model, rows[0].input_ids)

    (span_loss(run(model, batch), batch.targets, head, chunk).total / 7).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    (reference(model, rows) / 7).backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    assert found.keys() == expected.keys()
    assert ("model.embed_tokens.weight" in found) == train_head
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


def test_chunk_size_changes_nothing() -> None:
    model, rows = llama(), random_rows(8)
    batch = collate(rows, 0)
    hidden = run(model, batch).detach()
    head = find_head(model, rows[0].input_ids)
    totals = [span_loss(hidden, batch.targets, head, chunk).total.item() for chunk in (1, 2, 13, None)]
    assert totals == pytest.approx([totals[0]] * 4, rel=1e-6)


def test_only_states_before_supervised_tokens_get_a_gradient() -> None:
    model, rows = llama(), random_rows(4)
    batch = collate(rows, 0)
    hidden = run(model, batch).detach().requires_grad_()
    span_loss(hidden, batch.targets, find_head(model, rows[0].input_ids)).total.backward()
    assert hidden.grad is not None
    touched = {tuple(index) for index in hidden.grad.abs().sum(-1).nonzero().tolist()}
    assert touched == {
        (r, t - 1) for r, row in enumerate(rows) for t in range(1, len(row.input_ids)) if row.weights[t] > 0
    }


def test_bfloat16_is_as_close_to_the_truth_as_the_plain_bfloat16_loss() -> None:
    model, rows = llama(), random_rows(20)
    truth = reference(model, rows).item()
    model.to(torch.bfloat16)
    batch = collate(rows, 0)
    with torch.no_grad():
        hidden = run(model, batch)
        found = span_loss(hidden, batch.targets, find_head(model, rows[0].input_ids)).total.item()
        logits = model.get_output_embeddings()(hidden).reshape(-1, 128)[batch.targets.positions]
        plain = torch.nn.functional.cross_entropy(logits, batch.targets.labels, reduction="sum").item()
    assert abs(found - truth) <= abs(plain - truth) + 1e-3 * truth


def test_kinds_have_their_own_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "doubled", Loss(lambda chunk: 2 * LOSSES["ce"].term(chunk)))
    model, rows = llama(), random_rows(5)
    mixed = [replace(row, losses=("ce", "doubled")) for row in rows]
    heavier = [
        replace(row, weights=tuple(w * (2 if s == 1 else 1) for w, s in zip(row.weights, row.span_of, strict=True)))
        for row in rows
    ]
    batch = collate(mixed, 0)
    assert [kind for kind, _, _ in batch.targets.segments] == ["ce", "doubled"]
    total = span_loss(run(model, batch), batch.targets, find_head(model, rows[0].input_ids), chunk=3).total
    assert total.item() == pytest.approx(reference(model, heavier).item(), rel=1e-5)


def test_unknown_treatment_of_logits_is_refused() -> None:
    class Shifted(LlamaForCausalLM):
        def forward(self, *args: object, **kwargs: object) -> object:
            outputs = super().forward(*args, **kwargs)
            outputs.logits = outputs.logits + torch.arange(128)
            return outputs

    model = Shifted(llama().config).eval()
    with pytest.raises(ModelError, match="Shifted changes its logits"):
        find_head(model, [1, 2, 3])


def test_states_wider_than_the_weights_pass_the_head() -> None:
    """As the float32 states of Mamba beside weights in bfloat16."""
    head = OutputHead(llama().to(torch.bfloat16).get_output_embeddings())
    assert torch.equal(head(torch.ones(2, 32)), head(torch.ones(2, 32, dtype=torch.bfloat16)))


@pytest.mark.parametrize("name", ["gemma3n_text", "recurrent_gemma", "inkling_text", "falcon_h1"])
def test_the_head_of_unusual_models(name: str) -> None:
    model, ids = family(name), [5, 9, 3, 7, 200, 11]
    head = find_head(model, ids)
    states = final_states(model, {"input_ids": torch.tensor([ids])}, from_decoder=head.from_decoder)
    torch.testing.assert_close(head(states), model(input_ids=torch.tensor([ids])).logits, rtol=1e-4, atol=1e-4)


def test_finding_the_head_keeps_the_mode() -> None:
    model = llama().train()
    assert isinstance(find_head(model, [1, 2, 3]), OutputHead)
    assert model.training


def test_chunks_are_bounded_by_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = llama(), random_rows(8)
    batch = collate(rows, 0)
    sizes: list[int] = []

    def noted(chunk: Chunk) -> torch.Tensor:
        sizes.append(chunk.logits.numel())
        return chunk.logits.sum(-1)

    monkeypatch.setitem(LOSSES, "ce", Loss(noted))
    monkeypatch.setattr(losses, "LOGITS_PER_CHUNK", 10 * 128)
    span_loss(run(model, batch), batch.targets, OutputHead(model.get_output_embeddings()))
    assert max(sizes) == 10 * 128
    assert sum(sizes) == 128 * len(batch.targets.labels)
