"""Penalties on weights against the same worked out on whole matrices, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from builders import tiny_llama
from lingraft.core.errors import DataError
from lingraft.models.output_head import find_head
from lingraft.rendering.rows import Rendered
from lingraft.training.fisher import Fisher, measure_fisher
from lingraft.training.learnt_weights import Start, learnt_weights, squared_norm
from lingraft.training.objectives import OBJECTIVES, RegulariserInputs
from lingraft.training.settings import TrainSettings
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners import TunerInputs
from lingraft.training.tuners.full import FullTuner
from lingraft.training.tuners.lora import LoraTuner
from lingraft.training.wrapping import row_loss
from random_rows import random_rows

REPLIES = [replace(row, roles=("translation", "reply")) for row in random_rows(6, weight=0.5)]
REGULARISERS = ("l2_init", "ewc", "spd")


def made(kind: str, **params: Any) -> Any:
    return OBJECTIVES.create({"kind": kind, **params})


def lora(*, begun: bool = False, seed: int = 0) -> Any:
    """Return a model in float64 with an update; `begun`: one that is not zero."""
    tuner = LoraTuner(LoraTuner.Params(rank=2, dropout=0))
    model = tuner.apply(tiny_llama(128), TunerInputs(seed=seed)).double()
    if begun:
        move(model, seed + 1)
    return model


def inputs(model: Any, rows: Sequence[Rendered] = (), seed: int = 0) -> RegulariserInputs:
    def loss(row: Rendered) -> torch.Tensor:
        return row_loss(model, row, find_head(model, row.input_ids))

    return RegulariserInputs(model=model, rows=rows, seed=seed, loss=loss)


def whole() -> Any:
    return FullTuner(FullTuner.Params()).apply(tiny_llama(128), TunerInputs(seed=0)).double()


def move(model: Any, seed: int) -> None:
    """Change all that learns."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def matrices(model: Any) -> dict[str, torch.Tensor]:
    """Return, for each layer with an update, s B A as a whole matrix, and all else that learns as it is."""
    updates, others = learnt_weights(model)
    found = {one.name: one.scale * one.b @ one.a for one in updates}
    return found | {one.name: one.weight for one in others}


def taken(model: Any) -> dict[str, torch.Tensor]:
    return {name: matrix.detach().clone() for name, matrix in matrices(model).items()}


def gradients(model: Any) -> dict[str, torch.Tensor]:
    named = model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.requires_grad and p.grad is not None}


def check(model: Any, regulariser: Any, expected: torch.Tensor) -> None:
    """Compare penalty and gradient, added to one that is there."""
    expected.backward()
    wanted = gradients(model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5) if parameter.requires_grad else None
    assert regulariser.add_gradient() == pytest.approx(expected.item(), rel=1e-10)
    found = gradients(model)
    assert found.keys() >= wanted.keys()
    for name, gradient in found.items():
        strength = regulariser.params.weight
        torch.testing.assert_close(gradient, 0.5 + strength * wanted.get(name, torch.zeros_like(gradient)))


@pytest.mark.parametrize("build", [lora, lambda: lora(begun=True), whole], ids=["new", "continued", "whole"])
def test_l2_is_that_of_the_weights_themselves(build: Any) -> None:
    model, regulariser = build(), made("l2_init", weight=0.3)
    regulariser.begin(inputs(model))
    start = taken(model)
    assert regulariser.add_gradient() == pytest.approx(0, abs=1e-12)
    move(model, 9)
    for parameter in model.parameters():
        parameter.grad = None
    now = matrices(model)
    check(model, regulariser, sum((now[name] - start[name]).square().sum() for name in now) / 2)


def squares(model: Any, rows: Sequence[Rendered]) -> tuple[dict[str, torch.Tensor], float]:
    """Return, for each whole matrix, the sum of squared gradients of log p(answer), and the number of its tokens."""
    updates, others = learnt_weights(model)
    deltas = {one.name: torch.zeros(len(one.b), one.a.shape[1], dtype=torch.float64) for one in updates}
    for delta in deltas.values():
        delta.requires_grad_()
    handles = [
        one.layer.register_forward_hook(lambda _, given, made, name=one.name: made + given[0] @ deltas[name].T)
        for one in updates
    ]
    found = {name: torch.zeros_like(matrix) for name, matrix in taken(model).items()}
    tokens = 0
    for row in rows:
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].log_softmax(-1)
        at = [t for t in range(1, len(row.input_ids)) if row.span_of[t] == 1]
        log_p = sum(logits[t - 1, row.input_ids[t]] for t in at)
        wanted = [*deltas.values(), *(one.weight for one in others)]
        of_row = torch.autograd.grad(log_p, wanted, allow_unused=True)
        for name, gradient in zip([*deltas, *(one.name for one in others)], of_row, strict=True):
            found[name] += 0 if gradient is None else gradient.square()
        tokens += len(at)
    for handle in handles:
        handle.remove()
    return found, tokens


@pytest.mark.parametrize("build", [lora, lambda: lora(begun=True), whole], ids=["new", "continued", "whole"])
def test_ewc_weighs_changes_by_the_fisher_information_of_answers(build: Any) -> None:
    """Of a layer with an update the sums over rows and columns are those of the diagonal Fisher information."""
    model, regulariser = build(), made("ewc", weight=0.3)
    regulariser.begin(inputs(model, [*REPLIES, *random_rows(3, seed=5)]))
    diagonal, tokens = squares(model, REPLIES)
    updates = {one.name for one in learnt_weights(model)[0]}
    start = taken(model)
    move(model, 9)
    now, expected = matrices(model), torch.zeros((), dtype=torch.float64)
    for name, own in diagonal.items():
        fisher = own / tokens
        if name in updates:
            fisher = fisher.sum(1, keepdim=True) * fisher.sum(0, keepdim=True) / fisher.sum()
        expected = expected + (fisher * (now[name] - start[name]).square()).sum() / 2
    assert expected.item() > 1e-6
    check(model, regulariser, expected)


def measured(model: Any, start: Start, rows: Sequence[Rendered], seed: int = 0) -> Fisher:
    return measure_fisher(model, start, rows, inputs(model).loss, samples=3, seed=seed)


def test_the_fisher_information_follows_from_seed_and_rows() -> None:
    model = lora()
    start = Start(model)
    one, again, other = (measured(model, start, REPLIES, seed) for seed in (1, 1, 2))
    first = [torch.cat(pair) for pair in one.layers.values()]
    assert all(torch.equal(a, torch.cat(b)) for a, b in zip(first, again.layers.values(), strict=True))
    assert any(not torch.equal(a, torch.cat(b)) for a, b in zip(first, other.layers.values(), strict=True))
    with pytest.raises(DataError, match=r"'ewc' measures.*put the method `recovery` beside"):
        measured(model, start, random_rows(3))


def test_given_answers_do_not_count_as_the_bases_own() -> None:
    model = lora()
    start = Start(model)
    given = [replace(row, id=f"given:{row.id}", roles=("given_reply", "given_reply")) for row in random_rows(5, seed=8)]
    alone, beside = measured(model, start, REPLIES[:3]), measured(model, start, [*given, *REPLIES[:3]])
    for number, one in alone.layers.items():
        assert all(torch.equal(a, b) for a, b in zip(one, beside.layers[number], strict=True))
    with pytest.raises(DataError, match="there are none among the rows"):
        measured(model, start, given)


def decayed(
    before: torch.Tensor, after: torch.Tensor, gradient: torch.Tensor, base: torch.Tensor, strength: float
) -> torch.Tensor:
    """Return what algorithm 1 of the paper makes of one weight."""
    c = -(gradient * (before - base)).sum()
    old, new = (before - base).norm(), (after - base).norm()
    r = max(0.0, float((new - old) / new))
    return after - (strength * r * (after - base) if c < 0 else 0)


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("build", [lambda: lora(begun=True), whole], ids=["lora", "whole"])
def test_spd_takes_back_what_moves_away_against_the_gradient(build: Any, strength: float) -> None:
    model = build()
    base = {name: torch.zeros_like(matrix) for name, matrix in taken(model).items()}
    updates, others = learnt_weights(model)
    base |= {one.name: one.weight.detach().clone() for one in others}
    move(model, 3)  # as if steps had been taken
    regulariser = made("spd", weight=strength)
    regulariser.begin(inputs(model))
    before = taken(model)
    generator = torch.Generator().manual_seed(4)
    of_whole = {name: torch.randn(matrix.shape, generator=generator).double() for name, matrix in before.items()}
    for one in updates:  # the gradient of a factor is that of the layer's weight by the other factor
        one.b.grad = one.scale * of_whole[one.name] @ one.a.detach().T
        one.a.grad = one.scale * one.b.detach().T @ of_whole[one.name]
    for one in others:
        one.weight.grad = of_whole[one.name]
    assert regulariser.add_gradient() == 0
    move(model, 5)
    after = taken(model)
    regulariser.after_step(0.1)
    found, changed = taken(model), 0
    for name in before:
        wanted = decayed(before[name], after[name], of_whole[name], base[name], strength)
        torch.testing.assert_close(found[name], wanted)
        changed += not torch.equal(wanted, after[name])
    assert 0 < changed < len(before)


def test_updates_are_those_that_peft_adds() -> None:
    config = LoraConfig(r=3, lora_alpha=5, target_modules=["embed_tokens", "q_proj", "down_proj"])
    model = get_peft_model(tiny_llama(128), config)
    move(model, 1)
    updates, others = learnt_weights(model)
    assert len(updates) == 5
    assert not others
    assert [one.linear for one in updates].count(False) == 1
    for one in updates:
        delta = one.layer.get_delta_weight("default")
        a, b = one.factors()
        made_of = (b @ a)[0]
        torch.testing.assert_close(made_of if one.linear else made_of.T, delta)
        assert float(squared_norm(a, b).detach()) == pytest.approx(float(delta.detach().square().sum()), rel=1e-5)


def run(work: Path, objectives: list[Any], progress: Any = None, **changes: Any) -> TrainResult:
    settings = {
        "learning_rate": 3e-2,
        "schedule": "constant",
        "warmup_share": 0,
        "tokens_per_step": 60,
        "precision": "fp32",
        "epochs": 3,
        "save_every_steps": 2,
    }
    return train(
        tiny_llama(128),
        REPLIES,
        TrainSettings.model_validate(settings | changes),
        LoraTuner(LoraTuner.Params(rank=2, dropout=0)),
        pad_id=0,
        work_dir=work,
        seed=1,
        objectives=objectives,
        progress=progress,
    )


def distance(result: TrainResult) -> float:
    return sum(float(squared_norm(*one.factors()).detach()) for one in learnt_weights(result.model)[0]) ** 0.5


def test_at_their_defaults_they_change_what_is_trained(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", [])
    for kind in REGULARISERS:
        result = run(tmp_path / kind, [made(kind)])
        assert result.log[0].loss == pytest.approx(plain.log[0].loss, rel=1e-6)  # nothing has moved
        assert distance(result) < distance(plain)


def test_strong_ones_keep_the_weights_where_they_are(tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", [])
    for kind in ("l2_init", "ewc"):
        result = run(tmp_path / kind, [made(kind, weight=1e4)])
        assert distance(result) < 0.5 * distance(plain)
        assert all(point.objectives[kind] >= 0 for point in result.log)


class Stopped(Exception):
    """Stands for a kill."""


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    objectives = [made(kind, **({"samples": 4} if kind == "ewc" else {})) for kind in REGULARISERS]
    undisturbed = run(tmp_path / "whole", objectives)

    def stop(now: Any) -> None:
        if now.step == 3:
            raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path / "stopped", objectives, stop)
    resumed = run(tmp_path / "stopped", objectives)
    assert [point.loss for point in resumed.log] == [point.loss for point in undisturbed.log]
    named = dict(undisturbed.model.named_parameters())
    assert all(torch.equal(value, named[name]) for name, value in resumed.model.named_parameters())
