"""What every registered objective must do."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders import tiny_llama
from lingraft.core.registry import Registry
from lingraft.models.output_head import OutputHead
from lingraft.rendering.rows import Rendered
from lingraft.training.losses import Targets, span_loss
from lingraft.training.objectives import OBJECTIVES, Objective, Regulariser, SpanTerm, TokenFactor, TokenObjective
from lingraft.training.objectives.base_pairs import PairObjective
from lingraft.training.settings import TrainSettings
from lingraft.training.train import TrainResult, train
from lingraft.training.tuners.lora import LoraTuner
from random_rows import random_rows

WIDTH, VOCABULARY = 6, 31
ROLES = ("rationale", "text", "translation")
BOTH = {"on": "both"}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)
every_token_objective = pytest.mark.parametrize(
    "name", [name for name in OBJECTIVES if issubclass(OBJECTIVES.get(name), TokenObjective)]
)


def made(name: str, **params: Any) -> Any:
    return OBJECTIVES.create({"kind": name, **params})


def normal(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, shape))


def eaft(params: Any, q: torch.Tensor, base: torch.Tensor, label: int) -> torch.Tensor:
    best = sorted(q.tolist(), reverse=True)[: params.top_k]
    shares = [p / sum(best) for p in best]
    return torch.tensor(sum(-p * math.log(p) for p in shares) / math.log(len(best)), dtype=torch.float64)


def kl_base(params: Any, q: torch.Tensor, base: torch.Tensor, label: int) -> torch.Tensor:
    return sum((p * (p.log() - other.log()) for p, other in zip(base, q, strict=True)), torch.zeros(()).double())


def stm(params: Any, q: torch.Tensor, base: torch.Tensor, label: int) -> torch.Tensor:
    return torch.tensor(float(1 / float(base[label]) <= params.threshold), dtype=torch.float64)


def cc(params: Any, q: torch.Tensor, base: torch.Tensor, label: int) -> torch.Tensor:
    others = [p for token, p in enumerate(base.tolist()) if token != label]
    return torch.tensor(float(max(others) < params.confidence), dtype=torch.float64)


PLAIN = {"eaft": eaft, "kl_base": kl_base, "stm": stm, "cc": cc}
"""What each says of one token, from the probabilities, (vocabulary,), of student and base, and the token."""


def scene(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, OutputHead, Targets]:
    """Return hidden states of student and base, a head, and targets of two kinds of loss, in float64."""
    rng = np.random.default_rng(seed)
    rows, length, n = 3, 9, 20
    head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False, dtype=torch.float64).requires_grad_(False)
    head.weight.data = normal(VOCABULARY, WIDTH, seed=seed + 1)
    hidden = normal(rows, length, WIDTH, seed=seed + 2)
    base = hidden + normal(rows, length, WIDTH, seed=seed + 3, scale=0.5)
    positions = torch.from_numpy(rng.permutation(rows * length)[:n])
    # Half of the tokens are what the base thinks likeliest, as in text that a model would write itself.
    likeliest = head(base.reshape(-1, WIDTH)[positions]).argmax(-1)
    drawn = torch.from_numpy(rng.integers(0, VOCABULARY, n))
    targets = Targets(
        positions=positions,
        labels=torch.where(torch.from_numpy(rng.random(n) < 0.5), likeliest, drawn),
        weights=torch.from_numpy(rng.uniform(0.1, 2, n)).float(),
        roles=torch.from_numpy(rng.integers(0, 3, n)),
        role_names=ROLES,
        segments=(("ce", 0, 14), ("unlikelihood", 14, n)),
    )
    return hidden, base, OutputHead(head), targets


def by_hand(
    objectives: list[TokenObjective], hidden: torch.Tensor, base: torch.Tensor, head: OutputHead, targets: Targets
) -> tuple[torch.Tensor, list[list[float]]]:
    """Return the loss sum from whole distributions, token by token, and what each objective says, summed."""
    total, said = torch.zeros((), dtype=torch.float64), [[0.0, 0.0] for _ in objectives]
    weight = head.module.weight
    for kind, begin, end in targets.segments:
        for i in range(begin, end):
            at, label, w = int(targets.positions[i]), int(targets.labels[i]), float(targets.weights[i])
            q = (hidden.reshape(-1, WIDTH)[at] @ weight.T).softmax(-1)
            p = (base.reshape(-1, WIDTH)[at] @ weight.T).softmax(-1)
            own = -q[label].log() if kind == "ce" else -(1 - q[label]).log()
            added = torch.zeros((), dtype=torch.float64)
            for number, one in enumerate(objectives):
                role = ROLES[int(targets.roles[i])]
                if ("text" if role == "text" else "translation" if role == "translation" else "replay") not in (
                    one.params.on
                ):
                    continue
                strength = one.params.weight
                if isinstance(one, TokenFactor):
                    if kind != "ce":
                        continue
                    value = 1 - strength + strength * PLAIN[one.name](one.params, q.detach(), p, label)
                    own = own * value
                else:
                    value = PLAIN[one.name](one.params, q, p, label)
                    added = added + strength * value
                said[number][0] += w * float(value.detach())
                said[number][1] += w
            total = total + w * (own + added)
    return total, said


def compare(objectives: list[TokenObjective], chunk: int | None) -> None:
    hidden, base, head, targets = scene()
    states = hidden.clone().requires_grad_()
    found = span_loss(states, targets, head, chunk, base, objectives)
    found.total.backward()
    plain = hidden.clone().requires_grad_()
    expected, said = by_hand(objectives, plain, base, head, targets)
    expected.backward()
    assert found.total.item() == pytest.approx(expected.item(), rel=1e-9)
    assert found.by_role.sum().item() == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(found.of_objectives, torch.tensor(said, dtype=torch.float64), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(states.grad, plain.grad, rtol=1e-7, atol=1e-9)


@every_objective
def test_it_says_what_it_is(name: str) -> None:
    entry = OBJECTIVES.get(name)
    assert entry.name == name
    assert entry.summary
    assert entry.paper
    assert len(entry.__doc__ or "") > 200  # formula and departures
    assert entry.Params()  # every parameter has a default
    assert all(field.description for field in entry.Params.model_fields.values())


@every_token_objective
@pytest.mark.parametrize("on", ["both", "replay", ["translation"], ["text", "replay"]])
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_value_and_gradient_equal_the_definition(name: str, chunk: int | None, on: Any) -> None:
    compare([made(name, weight=0.7, on=on)], chunk)


def test_all_of_them_together() -> None:
    entries = [(made(name, weight=0.3, on="both")) for name in PLAIN]
    compare(entries, None)
    compare([made("stm", on="replay"), made("kl_base", on="text"), made("eaft", on="translation")], 2)


@every_token_objective
def test_at_its_defaults_it_changes_the_loss_and_its_gradient(name: str) -> None:
    hidden, base, head, targets = scene(5)
    results = []
    for objectives in ([], [made(name)]):
        states = hidden.clone().requires_grad_()
        found = span_loss(states, targets, head, None, base, objectives)
        found.total.backward()
        results.append((found.total.item(), states.grad))
    (plain, of_plain), (other, of_other) = results
    assert abs(plain - other) > 1e-3
    assert (of_plain - of_other).abs().max() > 1e-3


ROWS = random_rows(6, longest=16, weight=0.7)


def rows_for(name: str) -> list[Rendered]:
    """Return rows that an objective applies to."""
    entry = OBJECTIVES.get(name)
    if issubclass(entry, Regulariser) and entry.replay:
        return [replace(row, roles=("translation", "reply")) for row in ROWS]
    if not issubclass(entry, PairObjective):
        return ROWS
    return [replace(row, group=f"{n // 2}", sign=1 - n % 2 * 2) for n, row in enumerate(ROWS)]


def run(work: Path, objectives: list[Objective], rows: list[Rendered] = ROWS, **changes: Any) -> TrainResult:
    settings = TrainSettings.model_validate(
        {
            "learning_rate": 1e-2,
            "schedule": "constant",
            "warmup_share": 0,
            "tokens_per_step": 10_000,
            "precision": "fp32",
            "epochs": 2,
        }
        | changes
    )
    tuner = LoraTuner(LoraTuner.Params(rank=4, dropout=0.0))
    return train(tiny_llama(128), rows, settings, tuner, pad_id=0, work_dir=work, seed=3, objectives=objectives)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return run(tmp_path_factory.mktemp("plain"), [])


@every_objective
def test_weight_0_is_as_without_it_to_the_last_bit(tmp_path: Path, plain: TrainResult, name: str) -> None:
    results = [plain, run(tmp_path, [made(name, weight=0)])]
    first, second = ([replace(point, seconds=0) for point in result.log] for result in results)
    assert first == second
    weights = [dict(result.model.named_parameters()) for result in results]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@every_objective
def test_packed_is_padded_is_one_by_one(tmp_path: Path, name: str) -> None:
    layouts: list[dict[str, Any]] = [
        {"batching": "padded"},
        {"batching": "packed", "micro_tokens": 40},
        {"batching": "padded", "micro_tokens": 1},
    ]
    params = BOTH if issubclass(OBJECTIVES.get(name), TokenObjective) else {}
    first, *others = [
        run(tmp_path / str(i), [made(name, **params)], rows_for(name), **one) for i, one in enumerate(layouts)
    ]
    assert [point.objectives.keys() for point in first.log] == [{name}] * 2
    for other in others:
        for one, two in zip(first.log, other.log, strict=True):
            assert two.loss == pytest.approx(one.loss, rel=2e-4)
            assert two.objectives == pytest.approx(one.objectives, rel=2e-4)
            assert two.by_role == pytest.approx(one.by_role, rel=2e-4)


def test_every_objective_of_tokens_has_its_definition_here() -> None:
    known = {name for name in OBJECTIVES if issubclass(OBJECTIVES.get(name), TokenObjective)}
    assert known == PLAIN.keys()
    assert all(issubclass(OBJECTIVES.get(name), TokenFactor | SpanTerm) for name in known)


def test_an_entry_is_a_class_of_the_registry() -> None:
    assert isinstance(OBJECTIVES, Registry)
    assert all(issubclass(OBJECTIVES.get(name), Objective) for name in OBJECTIVES)
