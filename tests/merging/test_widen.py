"""WIDEN, against numpy from the formulas, and where it has to give one of the models."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from lingraft.merging.base import MERGERS, Weight

UP = Weight(name="up.weight")
EMBEDDING = Weight(name="embed_tokens.weight", embedding=True)


def by_numpy(base: Any, models: list[Any], ratio: float, value: float) -> Any:
    """WIDEN of one matrix (out, in) or vector as the paper has it, column by column, in float64."""

    def scores(rows: list[list[Fraction]]) -> list[list[float]]:
        found = [[0.0] * len(rows[0]) for _ in rows]
        for column in range(len(rows[0])):
            total = sum(np.exp(float(row[column])) for row in rows)
            for model, row in enumerate(rows):
                over = row[column] > Fraction(ratio) * sum(row) / len(row)
                found[model][column] = value if over else np.exp(float(row[column])) / total
        return found

    base = base.astype(np.float64)
    models = [model.astype(np.float64) for model in models]
    if base.ndim == 1:
        weights = scores([list(map(Fraction, abs(model - base))) for model in models])
        return base + sum(np.array(weight) * (model - base) for weight, model in zip(weights, models, strict=True))
    columns = base.shape[1]
    lengths, turns = [], []
    for model in models:
        length, turn = [], []
        for column in range(columns):
            m, own = np.sqrt((base[:, column] ** 2).sum()), np.sqrt((model[:, column] ** 2).sum())
            length.append(abs(own - m))
            turn.append(1 - float((base[:, column] / m) @ (model[:, column] / own)))
        for values, ranks in ((length, lengths), (turn, turns)):
            order = sorted(range(columns), key=values.__getitem__)
            ranks.append([Fraction(order.index(column), columns) for column in range(columns)])
    weights = (np.array(scores(lengths)) + np.array(scores(turns))) / 2
    return base + sum(weights[n][None, :] * (models[n] - base) for n in range(len(models)))


def given(shape: tuple[int, ...], models: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(5)
    base = torch.randn(shape, generator=generator)
    return base, [base + 0.1 * (n + 1) ** 2 * torch.randn(shape, generator=generator) for n in range(models)]


def widen(weight: Weight, base: torch.Tensor, models: list[torch.Tensor], **params: float) -> torch.Tensor:
    merger = MERGERS.create({"kind": "widen", **params})
    found: torch.Tensor = merger.merge(weight, base.clone(), [model.clone() for model in models])
    return found


@pytest.mark.parametrize("models", [1, 2, 3])
@pytest.mark.parametrize(("ratio", "value"), [(1.0, 1.0), (1.5, 1.0), (0.5, 0.7), (10.0, 1.0)])
@pytest.mark.parametrize("shape", [(300, 17), (5, 40), (23,)])
def test_it_is_what_the_formulas_give(shape: tuple[int, ...], ratio: float, value: float, models: int) -> None:
    base, others = given(shape, models)
    found = widen(UP, base, others, above_average_value_ratio=ratio, score_calibration_value=value)
    expected = by_numpy(base.numpy(), [one.numpy() for one in others], ratio, value)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [EMBEDDING, Weight(name="c_attn.weight", transposed=True)])
def test_rows_of_tokens_are_columns(weight: Weight) -> None:
    base, models = given((19, 8), 2)
    expected = by_numpy(base.numpy().T, [one.numpy().T for one in models], 1.0, 1.0).T
    np.testing.assert_allclose(widen(weight, base, models).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_experts_are_matrices_of_their_own() -> None:
    base, models = given((3, 12, 7), 2)
    found = widen(UP, base, models)
    for expert in range(3):
        assert torch.equal(found[expert], widen(UP, base[expert], [one[expert] for one in models]))


@pytest.mark.parametrize("shape", [(30, 17), (23,)])
def test_one_model_alone_is_what_comes_out(shape: tuple[int, ...]) -> None:
    base, (model,) = given(shape, 1)
    torch.testing.assert_close(widen(UP, base, [model]), model, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(30, 17), (23,)])
def test_twice_the_same_model_is_that_model_where_nothing_is_calibrated(shape: tuple[int, ...]) -> None:
    base, (model,) = given(shape, 1)
    found = widen(UP, base, [model, model], above_average_value_ratio=10)
    torch.testing.assert_close(found, model, rtol=1e-6, atol=1e-6)


def test_models_that_changed_other_columns_keep_their_own() -> None:
    base, _ = given((16, 12), 0)
    one, other = base.clone(), base.clone()
    one[:, 6:] *= torch.linspace(1.5, 2, 6)
    one[:, 6:] += 0.3 * torch.randn((16, 6), generator=torch.Generator().manual_seed(1))
    other[:, :6] *= torch.linspace(1.5, 2, 6)
    other[:, :6] += 0.3 * torch.randn((16, 6), generator=torch.Generator().manual_seed(2))
    found = widen(UP, base, [one, other])
    torch.testing.assert_close(found[:, 6:], one[:, 6:])
    torch.testing.assert_close(found[:, :6], other[:, :6])


def test_a_model_beside_the_base_is_recovered_where_all_of_it_is_calibrated() -> None:
    base, (model,) = given((16, 12), 1)
    found = widen(UP, base, [model, base], above_average_value_ratio=0)
    first = (
        (model.norm(dim=0) - base.norm(dim=0)).abs().argmin(),
        (1 - torch.cosine_similarity(model, base, 0)).argmin(),
    )
    others = [column for column in range(12) if column not in {int(one) for one in first}]  # ranks above 0
    torch.testing.assert_close(found[:, others], model[:, others])


def test_columns_of_zeros_have_no_direction() -> None:
    base, models = given((6, 4), 2)
    base[:, 1] = 0
    models[0][:, 2] = 0
    assert torch.isfinite(widen(UP, base, models)).all()
