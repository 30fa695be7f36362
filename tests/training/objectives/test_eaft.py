"""EAFT on cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from lingraft.training.objectives.eaft import EAFT
from lingraft.training.terms import Chunk


def factors(logits: list[list[float]], **params: float) -> list[float]:
    chunk = Chunk(logits=torch.tensor(logits), labels=torch.zeros(len(logits), dtype=torch.long))
    return list(EAFT(EAFT.Params.model_validate(params)).factor(chunk).tolist())


def test_even_is_1_certain_is_0_and_between_them_the_entropy_decides() -> None:
    certain = [0.0, -1e4, -1e4, -1e4]
    half = [0.0, 0.0, -1e4, -1e4]  # two equal ones of four: log 2 / log 4
    third = [math.log(0.7), math.log(0.1), math.log(0.1), math.log(0.1)]
    by_hand = (0.7 * -math.log(0.7) + 0.3 * -math.log(0.1)) / math.log(4)  # 0.9404 / 1.3863
    assert factors([[1.0] * 4, certain, half, third]) == pytest.approx([1, 0, 0.5, by_hand], abs=1e-6)
    assert by_hand == pytest.approx(0.6784, abs=1e-4)


def test_only_the_most_probable_tokens_count_made_to_sum_to_1() -> None:
    # Probabilities 0.4 0.4 0.1 0.1: of the best two 0.5 and 0.5, which is all there can be.
    logits = [[math.log(p) for p in (0.4, 0.1, 0.4, 0.1)]]
    assert factors(logits, top_k=2) == pytest.approx([1.0])
    p = [4 / 9, 4 / 9, 1 / 9]
    assert factors(logits, top_k=3) == pytest.approx([sum(-x * math.log(x) for x in p) / math.log(3)])
