"""A safetensors file that is written weight by weight, and gone on with where a killed process has left it.

The library's own writer takes all tensors at once. The format is: the length of a description (8 bytes), the
description (JSON: type, shape and place of each tensor), the numbers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lingraft.core.errors import StoreError
from lingraft.merging.changes import PIECE
from lingraft.store.files import read_sealed, write_sealed

TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Types of weights, by their names in the format."""
SYNCED_EVERY = 2**30
"""Bytes after which what was written is on the disk, and noted."""


def torch_type(kind: str) -> torch.dtype:
    """Return PyTorch's type of a name of the format, such as "BF16"."""
    return TYPES[kind]


class TensorFile:
    """A file that is being written; a context manager.

    Args:
        path: of the file.
        tensors: name -> type ("F32", "BF16", "F16", "F64") and shape, in the order in which they are written.
        note: path of the note of how far it is, removed by whoever names the file.
        identity: of what is written; what another one has begun is begun anew.
    """

    def __init__(
        self, path: Path, tensors: Mapping[str, tuple[str, tuple[int, ...]]], note: Path, identity: str
    ) -> None:
        described: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self._ends: list[int] = []
        end = 0
        for name, (kind, shape) in tensors.items():
            start, end = end, end + math.prod(shape) * TYPES[kind].itemsize
            described[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}
            self._ends.append(end)
        text = json.dumps(described, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
        self._head = len(text).to_bytes(8, "little") + text
        self._path, self._note, self._identity = path, note, identity
        self._kinds = [kind for kind, _ in tensors.values()]
        self._names = list(tensors)
        self.done = 0
        """Tensors that are written."""

    def __enter__(self) -> TensorFile:
        known = read_sealed(self._note) or {}
        if known.get("identity") == self._identity and self._path.exists():
            self.done = int(known["done"])
        size = len(self._head) + self._end(self.done)
        if not self.done or self._path.stat().st_size < size:
            self.done, size = 0, len(self._head)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_bytes(self._head)
        self._file = self._path.open("r+b")
        self._file.truncate(size)
        self._file.seek(size)
        self._synced = size
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self._sync()
        finally:
            self._file.close()

    def _end(self, tensors: int) -> int:
        return self._ends[tensors - 1] if tensors else 0

    def write(self, name: str, tensor: torch.Tensor) -> None:
        """Write the next tensor, rounded to its type.

        Raises:
            ValueError: it is not the next one, or has another shape.
            StoreError: a number does not fit the type.
        """
        if name != self._names[self.done]:
            raise ValueError(f"{name} is written where {self._names[self.done]} comes next")
        dtype = torch_type(self._kinds[self.done])
        flat = tensor.detach().contiguous().view(-1)
        for start in range(0, flat.numel(), PIECE):
            part = flat[start : start + PIECE].to(dtype)
            if not bool(torch.isfinite(part).all()):
                raise StoreError(f"{name} has numbers that do not fit {str(dtype).removeprefix('torch.')}")
            self._file.write(part.view(torch.uint8).numpy().tobytes())
        self.done += 1
        if self._file.tell() != len(self._head) + self._end(self.done):
            raise ValueError(f"{name} has another shape than was said")
        if self._file.tell() - self._synced >= SYNCED_EVERY:
            self._sync()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._synced = self._file.tell()
        write_sealed(self._note, {"identity": self._identity, "done": self.done})
