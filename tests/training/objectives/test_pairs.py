"""Losses of preference pairs against their formulas on whole logits in float64, and against TRL's on the same batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from builders import tiny_llama, tiny_tokenizer
from lingraft.core.errors import DataError, UsageError
from lingraft.models.output_head import find_head
from lingraft.rendering.rows import Rendered
from lingraft.training.collate import collate
from lingraft.training.losses import SpanLoss
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.objectives.base_pairs import PairObjective
from lingraft.training.pair_losses import pair_loss
from lingraft.training.settings import TrainSettings
from lingraft.training.step_dataset import step_pairs
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.lora import LoraTuner
from lingraft.training.wrapping import batch_states
from random_rows import random_rows

KINDS = ("dpo", "ipo", "cpo")


def made(kind: str, **params: Any) -> Any:
    return OBJECTIVES.create({"kind": kind, **params})


def paired(rows: Sequence[Rendered]) -> list[Rendered]:
    """Return the rows as pairs, both of a pair with the prompt of its first."""
    out = []
    for number, (one, other) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
        prompt, answer = one.prompt_length, other.prompt_length
        other = replace(
            other,
            input_ids=one.input_ids[:prompt] + other.input_ids[answer:],
            weights=one.weights[:prompt] + other.weights[answer:],
            span_of=one.span_of[:prompt] + other.span_of[answer:],
        )
        out += [replace(row, group=f"{number}", sign=sign) for row, sign in ((one, 1), (other, -1))]
    return out


PAIRS = paired(random_rows(8, weight=0.25, shortest=14))  # weights that float32 holds exactly
OTHERS = [replace(row, id=f"other-{row.id}") for row in random_rows(4, seed=9)]


def adapted(seed: int = 0, dtype: torch.dtype = torch.float64) -> Any:
    """Return a model with an update that is not zero."""
    model = LoraTuner(LoraTuner.Params(rank=2, dropout=0)).apply(tiny_llama(128), TunerInputs(seed=seed)).to(dtype)
    filled(model, seed)
    return model


def filled(model: Any, seed: int = 0) -> None:
    """Give the second factors of the adapter that learns random values."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B.default" in name:
            parameter.data.normal_(0, 0.2, generator=generator)


def logps(model: Any, rows: Sequence[Rendered], *, mean: bool = False) -> torch.Tensor:
    """Return the weighted log-probability of each answer, from whole logits, row by row."""
    out = []
    for row in rows:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0]
        of_tokens = logits.log_softmax(-1)[:-1].gather(-1, torch.tensor(row.input_ids[1:])[:, None])[:, 0]
        weights = torch.tensor(row.weights[1:], dtype=logits.dtype)
        out.append((of_tokens * weights).sum() / (weights.sum() if mean else 1))
    return torch.stack(out)


def by_hand(kind: str, model: Any, rows: Sequence[Rendered], beta: float, alpha: float) -> torch.Tensor:
    """Return the mean loss of pairs as the papers have it."""
    own = logps(model, rows, mean=kind == "ipo")
    with model.disable_adapter(), torch.no_grad():
        base = logps(model, rows, mean=kind == "ipo")
    if kind == "cpo":
        tokens = sum(sum(row.weights) for row in rows[::2])
        return -logsigmoid(beta * (own[::2] - own[1::2])).mean() - alpha * own[::2].sum() / tokens
    gain = (own - base)[::2] - (own - base)[1::2]
    return -logsigmoid(beta * gain).mean() if kind == "dpo" else ((gain - 1 / (2 * beta)) ** 2).mean()


def found(model: Any, rows: Sequence[Rendered], objectives: list[PairObjective], **layout: Any) -> SpanLoss:
    """Return what training makes of pairs in one micro-batch, divided by what it is divided by."""
    chunk = layout.pop("chunk", None)
    batch = collate(rows, 0, **layout)
    head = find_head(model, rows[0].input_ids)
    with model.disable_adapter(), torch.no_grad():
        base = batch_states(model, batch, head)
    assert batch.pairs is not None
    states = batch_states(model, batch, head)
    return pair_loss(states, batch.pairs, step_pairs(rows), head, objectives, base, chunk)


@pytest.mark.parametrize("layout", [{}, {"packed": True}, {"packed": True, "share": True}, {"chunk": 3}])
@pytest.mark.parametrize("kind", KINDS)
def test_value_and_gradient_are_those_of_the_formula(kind: str, layout: dict[str, Any]) -> None:
    beta, params = (0.3, {"alpha": 0.7}) if kind == "cpo" else (0.3, {})
    model = adapted()
    weight = sum(sum(row.weights[1:]) for row in PAIRS)
    if layout.get("packed"):
        model.base_model.model.set_attn_implementation("lingraft")
    result = found(model, PAIRS, [made(kind, beta=beta, **params)], **dict(layout))
    (result.total / weight).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    model.base_model.model.set_attn_implementation("sdpa")
    expected = by_hand(kind, model, PAIRS, beta, params.get("alpha", 1.0))
    expected.backward()
    assert result.total.item() / weight == pytest.approx(expected.item(), rel=1e-9)
    assert result.by_role.sum().item() / weight == pytest.approx(expected.item(), rel=1e-9)
    total, count = result.of_objectives[0].tolist()
    assert (total / count, count) == (pytest.approx(expected.item(), rel=1e-9), 4)
    assert gradients
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-7, atol=1e-10)


def test_a_repeated_batch_is_silent() -> None:
    model = adapted()
    batch = collate(PAIRS, 0).silent()
    head = find_head(model, PAIRS[0].input_ids)
    assert batch.pairs is not None
    states = batch_states(model, batch, head)
    result = pair_loss(states, batch.pairs, step_pairs(PAIRS), head, [made("cpo")])
    result.total.backward()
    assert result.total.item() == 0
    assert not result.of_objectives.any()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)


def run(work: Path, rows: Sequence[Rendered], objectives: list[Any], model: Any = None, **changes: Any) -> TrainResult:
    settings = {"learning_rate": 1e-2, "tokens_per_step": 1000, "micro_tokens": 60, "precision": "fp32"} | changes
    tuner = LoraTuner(LoraTuner.Params(rank=2, dropout=0))
    return train(
        model or tiny_llama(128),
        rows,
        TrainSettings.model_validate(settings),
        tuner,
        pad_id=0,
        work_dir=work,
        seed=1,
        objectives=objectives,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_pairs_and_other_rows_is_their_mean_by_tokens(tmp_path: Path, kind: str) -> None:
    """Over micro-batches, packed and padded, two objectives at once; the first loss is before any update."""
    objectives = [made(kind, weight=0.5), made("ipo" if kind == "dpo" else "dpo", weight=0.25, beta=0.5)]
    model = LoraTuner(LoraTuner.Params(rank=2, dropout=0)).apply(tiny_llama(128), TunerInputs(seed=1)).double()
    weights = [sum(sum(row.weights[1:]) for row in rows) for rows in (PAIRS, OTHERS)]
    of_pairs = sum(one.params.weight * by_hand(one.name, model, PAIRS, one.params.beta, 1.0) for one in objectives)
    of_others = -logps(model, OTHERS).sum() / weights[1]
    expected = (weights[0] * of_pairs + weights[1] * of_others) / sum(weights)
    rows = [*PAIRS[:4], *OTHERS, *PAIRS[4:]]
    results = [run(tmp_path / name, rows, objectives, batching=name, epochs=3) for name in ("packed", "padded")]
    for result in results:
        first = result.log[0]
        assert first.loss == pytest.approx(expected.item(), rel=1e-5)
        said = by_hand(kind, model, PAIRS, objectives[0].params.beta, 1.0).item()
        assert first.objectives[kind] == pytest.approx(said, rel=1e-5)
        assert result.log[-1].objectives["dpo"] < first.objectives["dpo"]
    one, other = ([point.loss for point in result.log] for result in results)
    assert one == pytest.approx(other, rel=1e-4)


def test_rows_of_a_pair_have_passes_of_their_own_where_padding_does_not_hold() -> None:
    model = adapted()
    head = find_head(model, PAIRS[0].input_ids)
    apart, together = collate(PAIRS, 0, singly=True), collate(PAIRS, 0)
    assert collate(PAIRS[:1], 0, singly=True).alone is None
    states = [batch_states(model, batch, head) for batch in (apart, together)]
    for row, one, other in zip(PAIRS, *states, strict=True):
        torch.testing.assert_close(one[: len(row.input_ids)], other[: len(row.input_ids)])
    assert torch.equal(apart.targets.positions, together.targets.positions)
    passes: list[tuple[int, ...]] = []
    model.get_base_model().model.register_forward_pre_hook(
        lambda _, args, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    batch_states(model, apart, head)
    assert passes == [(1, len(row.input_ids)) for row in PAIRS]


def test_pairs_without_a_loss_are_refused_and_a_loss_without_pairs_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no objective compares them.*cpo or dpo"):
        run(tmp_path / "none", PAIRS, [made("cpo", weight=0)])
    said: list[str] = []
    settings = TrainSettings(precision="fp32")
    tuner = LoraTuner(LoraTuner.Params(rank=2))
    train(
        tiny_llama(128),
        OTHERS,
        settings,
        tuner,
        pad_id=0,
        work_dir=tmp_path / "idle",
        seed=1,
        objectives=[made("cpo")],
        say=said.append,
    )
    assert any("'cpo' does nothing" in words for words in said)
    with pytest.raises(DataError, match=r"'row-1'.*loss 'unlikelihood'.*no sign"):
        run(tmp_path / "kind", [PAIRS[0], replace(PAIRS[1], losses=("ce", "unlikelihood"))], [made("cpo")])


def given(masks: torch.Tensor, ids: torch.Tensor) -> list[Rendered]:
    """Return TRL's batch, chosen rows first, as rows of pairs."""
    rows = []
    count = len(ids) // 2
    for number in [n for pair in range(count) for n in (pair, pair + count)]:
        kept = int(masks[number].nonzero().max()) + 1
        weights = tuple(masks[number, :kept].double().tolist())
        rows.append(
            Rendered(
                f"trl-{number}",
                tuple(ids[number, :kept].tolist()),
                weights,
                tuple(int(weight) - 1 for weight in weights),
                ("ce",),
                ("reply",),
                group=f"{number % count}",
                sign=1 if number < count else -1,
            )
        )
    return rows


@pytest.mark.long  # TRL takes a while to be imported
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_gradients_are_those_of_trl(tmp_path: Path, kind: str) -> None:
    trl, datasets = pytest.importorskip("trl"), pytest.importorskip("datasets")
    tokenizer = tiny_tokenizer("smollm2")
    tokenizer.pad_token = tokenizer.eos_token
    words = [
        "the harbour is calm",
        "we walk to the harbour",
        "no",
        "fish",
        "a long way to go, and then some more of it",
    ]
    texts = [
        {"prompt": f"{words[n % 5]} {n}: ", "chosen": words[(n + 1) % 5], "rejected": words[(n + 3) % 5]}
        for n in range(6)
    ]
    data = datasets.Dataset.from_list(texts)
    arguments: dict[str, Any] = {
        "output_dir": str(tmp_path),
        "per_device_train_batch_size": 6,
        "beta": 0.2,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
    }
    model = LoraTuner(LoraTuner.Params(rank=2, dropout=0)).apply(tiny_llama(tokenizer), TunerInputs(seed=0))
    if kind == "cpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        trainer = CPOTrainer(
            model, CPOConfig(**arguments, cpo_alpha=0.6), train_dataset=data, processing_class=tokenizer
        )
    else:
        loss = {"dpo": "sigmoid", "ipo": "ipo"}[kind]
        trainer = trl.DPOTrainer(
            model, args=trl.DPOConfig(**arguments, loss_type=loss), train_dataset=data, processing_class=tokenizer
        )
    filled(model)  # not before: TRL measures from a copy of the adapter it is given
    batch = next(iter(trainer.get_train_dataloader()))
    if kind == "cpo":
        parts = [(batch[f"{name}_input_ids"], batch[f"{name}_labels"]) for name in ("chosen", "rejected")]
        width = max(ids.shape[1] for ids, _ in parts)
        ids = torch.cat([torch.nn.functional.pad(ids, (0, width - ids.shape[1])) for ids, _ in parts])
        labels = [torch.nn.functional.pad(own, (0, width - own.shape[1]), value=-100) for _, own in parts]
        masks = (torch.cat(labels) != -100).long()
    else:
        ids, masks = batch["input_ids"], batch["completion_mask"]
    rows = given(masks, ids)
    model.eval()
    theirs = trainer.compute_loss(model, batch)
    theirs.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    ours = found(model, rows, [made(kind, beta=0.2, **({"alpha": 0.6} if kind == "cpo" else {}))])
    total = ours.total / step_pairs(rows).weight
    total.backward()
    print(f"{kind}: theirs {theirs.item():.9f}, ours {total.item():.9f}, difference {total.item() - theirs.item():.1e}")
    assert total.item() == pytest.approx(theirs.item(), rel=1e-5)
    assert gradients
    for name, parameter in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-5)
