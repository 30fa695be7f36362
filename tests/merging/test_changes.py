"""Trimming, thinning and electing signs, against plain sorting and cases worked out by hand."""

from __future__ import annotations

import pytest
import torch

from lingraft.merging import changes
from lingraft.merging.changes import elected, thin, trim


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "PIECE", 64)


@pytest.mark.parametrize("density", [0.001, 0.2, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_what_stays_is_the_largest(density: float, rounded: bool) -> None:
    change = torch.randn(37, 29, generator=torch.Generator().manual_seed(1))
    if rounded:  # many numbers of the same size
        change = change.bfloat16().float() / 16
        change = change.round(decimals=2)
    keep = max(1, int(density * change.numel()))
    order = change.abs().flatten().argsort(descending=True, stable=True)
    expected = torch.zeros(change.numel())
    expected[order[:keep]] = change.flatten()[order[:keep]]
    found = change.clone()
    trim(found, density)
    assert torch.equal(found.flatten(), expected)


def test_numbers_of_every_size_are_told_apart() -> None:
    change = torch.tensor([0.0, -1e-42, 1e-38, -3.0, 3.0000002, -torch.finfo(torch.float32).max, 1e20, 0.5])
    trim(change, 0.5)
    assert change.tolist() == [0.0, 0.0, 0.0, -3.0, change[4], -torch.finfo(torch.float32).max, torch.tensor(1e20), 0.0]


def test_a_change_of_zeros_stays_one() -> None:
    change = torch.zeros(100)
    trim(change, 0.2)
    assert not change.any()


def test_what_is_drawn_is_drawn_once_and_keeps_its_expectation() -> None:
    def drawn(seed: int, rescale: bool = True) -> torch.Tensor:
        change = torch.ones(400, 100)
        thin(change, 0.25, torch.Generator().manual_seed(seed), rescale=rescale)
        return change

    found = drawn(3)
    assert set(found.flatten().tolist()) == {0.0, 4.0}
    assert found.mean().item() == pytest.approx(1, abs=0.05)
    assert torch.equal(found, drawn(3))
    assert not torch.equal(found, drawn(4))
    assert torch.equal(found / 4, drawn(3, rescale=False))


def test_pieces_draw_what_the_whole_would(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.bernoulli(torch.full((300,), 0.3), generator=torch.Generator().manual_seed(7))
    change = torch.ones(300)
    thin(change, 0.3, torch.Generator().manual_seed(7), rescale=False)
    assert torch.equal(change, expected)


def test_signs_are_elected() -> None:
    one, other, third = torch.tensor([2.0, -1, 0, 3]), torch.tensor([-1.0, -3, 0, 0]), torch.tensor([-3.0, 2, 0, 0])
    three = [one, other, third]
    found = elected([each.clone() for each in three], (1, 1, 1), normalise=True)
    assert found.tolist() == [-2, -2, 0, 3]  # means of -1 and -3, of -1 and -3; of nothing; of 3 alone
    found = elected([each.clone() for each in three], (1, 1, 1), normalise=False)
    assert found.tolist() == [-4, -4, 0, 3]
    found = elected([each.clone() for each in three], (3, 1, 1), normalise=True)
    assert found.tolist() == [2, -1.5, 0, 3]  # 6 against -4; (-3 - 3) / 4
