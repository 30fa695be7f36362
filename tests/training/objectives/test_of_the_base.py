"""Objectives that look at the base, on cases worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from builders import tiny_llama
from lingraft.core.errors import UsageError
from lingraft.training.objectives import OBJECTIVES
from lingraft.training.settings import TrainSettings
from lingraft.training.terms import Chunk
from lingraft.training.train import train
from lingraft.training.tuners.full import FullTuner
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows, with_teacher


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) for p in probabilities]


BASE = torch.tensor([logs(0.5, 0.4, 0.1), logs(0.5, 0.4, 0.1), logs(0.85, 0.1, 0.05), logs(0.05, 0.1, 0.85)])
LABELS = torch.tensor([1, 2, 1, 2])
STUDENT = torch.tensor([logs(0.25, 0.25, 0.5)] * 4)


def chunk() -> Chunk:
    return Chunk(logits=STUDENT.clone().requires_grad_(), labels=LABELS, base_logits=BASE)


def made(kind: str, **params: Any) -> Any:
    return OBJECTIVES.create({"kind": kind, **params})


def test_a_token_is_masked_above_a_perplexity() -> None:
    # The base gives the four tokens 0.4, 0.1, 0.1 and 0.85: perplexities 2.5, 10, 10 and 1.18.
    assert made("stm").factor(chunk()).tolist() == [1, 0, 0, 1]
    assert made("stm", threshold=2.4).factor(chunk()).tolist() == [0, 0, 0, 1]
    assert made("stm", threshold=11).factor(chunk()).tolist() == [1, 1, 1, 1]


def test_a_token_is_masked_where_the_base_is_sure_of_another() -> None:
    # Only for the third is another token likely enough: 0.85; the fourth is the base's favourite itself.
    assert made("cc").factor(chunk()).tolist() == [1, 1, 0, 1]
    assert made("cc", confidence=0.45).factor(chunk()).tolist() == [0, 0, 0, 1]
    assert made("cc", confidence=0.9).factor(chunk()).tolist() == [1, 1, 1, 1]


def test_divergence_and_its_gradient() -> None:
    seen = chunk()
    value = made("kl_base").term(seen)
    # 0.5 ln(0.5 / 0.25) + 0.4 ln(0.4 / 0.25) + 0.1 ln(0.1 / 0.5) = 0.3466 + 0.1880 - 0.1609
    assert value[0].item() == pytest.approx(0.37363, abs=1e-5)
    value.sum().backward()
    assert seen.logits.grad is not None
    assert seen.logits.grad[0].tolist() == pytest.approx([0.25 - 0.5, 0.25 - 0.4, 0.5 - 0.1])  # q - p


ROWS = random_rows(6, longest=16, weight=0.7)


def run(work: Path, objectives: list[Any], say: Any = None, rows: Any = ROWS, **tuned: Any) -> Any:
    settings = TrainSettings(precision="fp32", tokens_per_step=10_000, micro_tokens=1)
    tuner = LoraTuner(LoraTuner.Params.model_validate({"rank": 4, "dropout": 0.0, **tuned}))
    model = tiny_llama(128, tied=False)
    passes: list[bool] = []
    model.model.register_forward_hook(lambda module, inputs, out: passes.append(torch.is_grad_enabled()))
    train(model, rows, settings, tuner, pad_id=0, work_dir=work, seed=3, objectives=objectives, say=say)
    return passes


def test_the_base_is_asked_only_where_an_objective_applies(tmp_path: Path) -> None:
    said: list[str] = []
    with_base = run(tmp_path / "a", [made("kl_base", on="replay")], said.append)
    without = run(tmp_path / "b", [made("kl_base", on="text"), made("eaft")], said.append)
    assert with_base.count(True) == without.count(True)
    assert with_base.count(False) == without.count(False) + len(ROWS)
    idle = [line for line in said if "does nothing" in line]
    assert len(idle) == 1
    assert "'kl_base'" in idle[0]
    assert "rationale, translation" in idle[0]


@pytest.mark.parametrize("kind", ["kl_base", "stm", "cc"])
def test_a_head_that_learns_is_refused(tmp_path: Path, kind: str) -> None:
    with pytest.raises(UsageError, match=f"objective '{kind}' needs an output head that does not learn"):
        run(tmp_path, [made(kind)], targets=["q_proj", "lm_head"])


def test_weights_of_some_layers_diverge_from_the_base_as_they_learn(tmp_path: Path) -> None:
    """At first they are the base's own, so that nothing is added to the loss."""
    tuner = FullTuner(FullTuner.Params.model_validate({"layers": "first 1"}))
    assert not tuner.head_learns
    settings = TrainSettings(precision="fp32", tokens_per_step=1, learning_rate=1e-2, epochs=1)
    losses = []
    for objectives in ([], [made("kl_base", on="both", weight=1.0)]):
        work = tmp_path / str(len(objectives))
        train(tiny_llama(128), ROWS, settings, tuner, pad_id=0, work_dir=work, seed=3, objectives=objectives)
        losses.append([json.loads(line)["loss"] for line in (work / "losses.jsonl").read_text("utf-8").splitlines()])
    plain, held = losses
    assert len(plain) > 2
    assert held[0] == pytest.approx(plain[0], abs=1e-6)
    assert held[-1] > plain[-1]


def test_a_factor_on_recorded_distributions_is_refused(tmp_path: Path) -> None:
    rows = [with_teacher(row) for row in ROWS]
    with pytest.raises(UsageError, match="'stm' is a factor on cross-entropy, and tokens of role 'rationale'"):
        run(tmp_path, [made("stm", on="both")], rows=rows)
    run(tmp_path, [made("stm"), made("kl_base")], rows=rows)
