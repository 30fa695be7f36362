"""What several mergers do to the changes of a weight: sum, trim, thin out, elect signs; piece by piece, in place.

A change is a model's weight less the base's. Pieces keep what is taken beside it small.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PIECE = 2**20
"""Numbers that are worked on at once."""


def pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield tensors of one shape piece by piece, as views that may be written to."""
    flat = [tensor.view(-1) for tensor in tensors]
    for start in range(0, flat[0].numel(), PIECE):
        yield tuple(tensor[start : start + PIECE] for tensor in flat)


def weighted_sum(changes: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return sum_i w_i change_i, in the memory of the first."""
    total = changes[0].mul_(weights[0])
    for change, weight in zip(changes[1:], weights[1:], strict=True):
        total.add_(change, alpha=weight)
    return total


def sums_to_nothing(weights: Sequence[float], *, normalise: bool) -> tuple[str, str] | None:
    """Return what `Merger.refusal` says of weights by whose sum nothing can be divided, or that leave nothing."""
    divided = normalise and abs(sum(weights)) < 1e-6 * sum(map(abs, weights))
    if divided or not any(weights):
        return "weights", "they sum to 0, by which nothing can be divided; give others, or drop them"
    return None


def trim(change: Tensor, density: float) -> None:
    """Set all but the largest numbers of a change to 0, in place; of equal ones the first stay.

    Args:
        change: contiguous, float32.
        density: share of the numbers that stays, at least one of them.
    """
    keep = max(1, int(density * change.numel()))
    if keep >= change.numel():
        return
    threshold, equal = _threshold(change, keep)
    for (part,) in pieces(change):
        size = _magnitudes(part)
        ties = size == threshold
        kept = size > threshold
        if equal > 0:
            first = ties & (ties.cumsum(0) <= equal)
            equal -= int(first.sum())
            kept |= first
        part.mul_(kept)


def _magnitudes(part: Tensor) -> Tensor:
    """Return whole numbers that are ordered as the magnitudes of float32 numbers are: their bits without the sign."""
    import torch

    return part.view(torch.int32) & 0x7FFFFFFF


def _threshold(change: Tensor, keep: int) -> tuple[int, int]:
    """Return the bits of the smallest magnitude that is kept, and how many numbers of that magnitude are."""
    import torch

    def counts(of: int | None) -> Tensor:
        found = torch.zeros(2**16, dtype=torch.int64)
        for (part,) in pieces(change):
            size = _magnitudes(part)
            high = size >> 16
            found += torch.bincount(high if of is None else size[high == of] & 0xFFFF, minlength=2**16)
        return found

    high, left = _bucket(counts(None), keep)
    low, left = _bucket(counts(high), left)
    return (high << 16) | low, left


def _bucket(counts: Tensor, keep: int) -> tuple[int, int]:
    """Return the bucket, counted from above, in which the last of so many numbers is, and how many are kept in it."""
    above = counts.flip(0).cumsum(0)
    place = int((above < keep).sum())
    before = int(above[place - 1]) if place else 0
    return len(counts) - 1 - place, keep - before


def thin(change: Tensor, density: float, generator: torch.Generator, *, rescale: bool) -> None:
    """Set numbers of a change that are drawn by chance to 0, in place.

    Args:
        change: contiguous, float32.
        density: probability with which a number stays.
        generator: what draws.
        rescale: whether those that stay are divided by it, so that the expectation stays.
    """
    import torch

    if density >= 1:
        return
    probability = torch.full((min(PIECE, change.numel()),), density)
    for (part,) in pieces(change):
        part.mul_(torch.bernoulli(probability[: len(part)], generator=generator))
        if rescale:
            part.div_(density)


def elected(changes: Sequence[Tensor], weights: Sequence[float], *, normalise: bool) -> Tensor:
    """Return the sum of the weighted changes that have the sign of all of them together, in the memory of the first.

    Args:
        changes: contiguous, of one shape.
        weights: one each.
        normalise: whether each number is divided by the weights of those that are summed there.
    """
    import torch

    for parts in pieces(*changes):
        scaled = torch.stack([part * weight for part, weight in zip(parts, weights, strict=True)])
        sign = torch.where(scaled.sum(0) >= 0, 1.0, -1.0)
        agree = scaled.sign() == sign
        total = (scaled * agree).sum(0)
        if normalise:
            shares = (agree * torch.tensor(weights).unsqueeze(1)).sum(0)
            total /= torch.where(shares == 0, 1.0, shares)
        parts[0].copy_(total)
    return changes[0]
