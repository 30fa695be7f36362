"""Sparse deltas of weights as data: which numbers are changed and by how much; their form in the files of PEFT's SHiRA.

SHiRA (arXiv 2406.13175) keeps for each layer rows and columns (`shira_indices`) and values (`shira_weight`), r x (in +
out) of them with one r for all layers. A delta with other counts is filled up: its last place is repeated with the
value 0, which adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

VALUES, PLACES = ".shira_weight", ".shira_indices"
ENDINGS = (VALUES, PLACES)
"""What tensors of such an adapter are called, behind the layer."""


@dataclass(frozen=True)
class Entries:
    """The numbers of a weight (out, in) that are changed.

    Attributes:
        places: rows and columns, (2, n), in the order of rows, then columns, none twice.
        values: what is added there, (n,), float32.
        width: in + out.
    """

    places: torch.Tensor
    values: torch.Tensor
    width: int

    @classmethod
    def of(cls, places: torch.Tensor, values: torch.Tensor, rank: int) -> Entries:
        """Return what the tensors of a file say.

        Args:
            places: rows and columns, (2, n).
            values: (n,).
            rank: r of the file's configuration.

        Raises:
            ValueError: the numbers do not go together.
        """
        if places.dim() != 2 or len(places) != 2 or values.shape != places.shape[1:] or len(values) % rank:
            raise ValueError(f"it has {tuple(places.shape)} places for {tuple(values.shape)} values with r {rank}")
        if bool((places < 0).any()):
            raise ValueError("it has a place below 0")
        rows, columns = places.long()
        key = rows * (int(columns.max()) + 1) + columns
        if bool((key[1:] < key[:-1]).any()):  # written by another program
            order = key.argsort(stable=True)
            key, rows, columns, values = key[order], rows[order], columns[order], values[order]
        first = torch.ones(len(key), dtype=torch.bool)
        first[1:] = key[1:] != key[:-1]
        groups = first.cumsum(0) - 1
        summed = torch.zeros(int(first.sum())).index_add_(0, groups, values.float())
        found = summed if len(summed) < len(values) else values.float()
        return cls(torch.stack((rows[first], columns[first])).int(), found, len(values) // rank)

    def filled(self, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return places and values as a file with this r has them."""
        more = rank * self.width - len(self.values)
        places = torch.cat((self.places, self.places[:, -1:].expand(2, more)), dim=1)
        return places.int().contiguous(), torch.nn.functional.pad(self.values.float(), (0, more))

    def times(self, scale: float) -> Entries:
        """Return them with all values so many times as large."""
        return Entries(self.places, self.values * scale, self.width)

    def plus(self, other: Entries) -> Entries:
        """Return the sum of both.

        Raises:
            ValueError: they are of weights of different shapes.
        """
        if self.width != other.width:
            raise ValueError(f"weights with {self.width} and {other.width} inputs and outputs")
        places = torch.cat((self.places, other.places), dim=1)
        return Entries.of(places, torch.cat((self.values, other.values)), 1)._wide(self.width)

    def _wide(self, width: int) -> Entries:
        return Entries(self.places, self.values, width)

    def fits(self, shape: Iterable[int]) -> bool:
        """Whether a weight of this shape has all of the places."""
        out, inner = shape
        rows, columns = self.places
        return self.width == out + inner and int(rows.max()) < out and int(columns.max()) < inner


def common_rank(entries: Mapping[str, Entries]) -> int:
    """Return the least r with which all of them can be written."""
    return max(-(-len(one.values) // one.width) for one in entries.values())


def changed(weight: torch.Tensor, places: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Return a copy of a weight with some of its numbers changed; sums are made in float32.

    Args:
        weight: (out, in).
        places: rows and columns of the numbers, (2, n), no place twice.
        values: what is added to them, (n,).
    """
    found = weight.clone()
    rows, columns = places
    found[rows, columns] = (weight[rows, columns].float() + values).to(weight.dtype)
    return found
