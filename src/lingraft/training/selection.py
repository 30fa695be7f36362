"""Choosing numbers of a base: the largest of all its layers together, exactly so many, and masks as a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

from lingraft.core.errors import ModelError, UsageError
from lingraft.training.targets import linear_layers, without_gradient

FILE = "masks.safetensors"
_ABOUT = "masks"
_HALF = 1 << 16


def largest(names: Sequence[str], sizes: Callable[[str], torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Return masks of the `count` largest numbers of all tensors together.

    Of equal ones those come first that stand in an earlier tensor, and within one earlier, rows before columns. The
    threshold is found in two counts of the bits of float32 numbers, whose order is theirs: never more than one tensor
    is held beside the masks.

    Args:
        names: of the tensors, in their order.
        sizes: returns a tensor by name, of any shape, without a negative number; asked several times.
        count: how many, of as many as there are or fewer.
    """
    high = torch.zeros(_HALF, dtype=torch.long)
    for name in names:
        high += torch.bincount(_bits(sizes(name)) >> 16, minlength=_HALF).cpu()
    bucket, above = _place(high, count)
    low = torch.zeros(_HALF, dtype=torch.long)
    for name in names:
        bits = _bits(sizes(name))
        low += torch.bincount(bits[bits >> 16 == bucket] & (_HALF - 1), minlength=_HALF).cpu()
    rest, more = _place(low, count - above)
    threshold, equal = (bucket << 16) + rest, count - above - more
    masks = {}
    for name in names:
        values = sizes(name)
        bits = _bits(values)
        mask, ties = bits > threshold, (bits == threshold).nonzero().flatten()[:equal]
        mask[ties] = True
        equal -= len(ties)
        masks[name] = mask.view(values.shape).cpu()
    return masks


def _bits(sizes: torch.Tensor) -> torch.Tensor:
    """Return non-negative numbers as whole ones of the same order."""
    return (sizes.float().flatten() + 0.0).view(torch.int32)  # -0 is larger than all as bits


def _place(counts: torch.Tensor, wanted: int) -> tuple[int, int]:
    """Return the bucket that holds the one wanted, counted from the largest, and how many lie in those above."""
    falling = counts.flip(0).cumsum(0)
    index = int((falling < wanted).sum())
    above = int(falling[index - 1]) if index else 0
    return len(counts) - 1 - index, above


def changeable_layers(model: Any, tuner: str) -> list[str]:
    """Return the names of the linear layers of the language part, but its head, whose weights can learn in part.

    Args:
        model: the base, without adapter.
        tuner: its name, for messages.

    Raises:
        UsageError: there is none, or one is in 4 bits or distributed over processes.
    """
    names = linear_layers(model)
    if model.device.type != "meta":
        idle = {*without_gradient(model, names)}
        names = [name for name in names if name not in idle]
    modules = dict(model.named_modules())
    for name in names:
        weight: Any = modules[name].weight
        if type(weight) is not nn.Parameter or not weight.is_floating_point():
            raise UsageError(
                f"tuner {tuner}: {name} is in 4 bits or a part of a weight, and cannot learn in part; choose another "
                f"train.precision than nf4 and train.sharding none"
            )
    plain = [name for name in names if type(modules[name]) is nn.Linear]
    if not plain:
        raise UsageError(f"tuner {tuner}: {type(model).__name__} has no plain linear layers; use the tuner lora")
    return plain


def write_masks(path: Path, masks: Mapping[str, torch.Tensor], base: str) -> None:
    """Write masks, one bit a number.

    Args:
        path: of the file.
        masks: by name.
        base: hash of the base that they choose of.
    """
    packed = {name: np.packbits(mask.cpu().numpy().ravel()) for name, mask in sorted(masks.items())}
    shapes = {name: list(mask.shape) for name, mask in sorted(masks.items())}
    # One key: several are written in another order each time.
    save_file(packed, path, {_ABOUT: json.dumps({"base": base, "shapes": shapes})})


def masks_hash(masks: Mapping[str, torch.Tensor]) -> str:
    """Return one hash of masks."""
    found = hashlib.sha256()
    for name, mask in sorted(masks.items()):
        found.update(f"{name}{list(mask.shape)}".encode())
        found.update(np.packbits(mask.cpu().numpy().ravel()).tobytes())
    return found.hexdigest()


def read_masks(path: Path, base: str) -> dict[str, torch.Tensor]:
    """Return what `write_masks` has written.

    Raises:
        ModelError: they choose numbers of another base.
    """
    with safe_open(path, framework="np") as opened:
        about = json.loads((opened.metadata() or {}).get(_ABOUT, "{}"))
        if about.get("base") != base:
            raise ModelError(
                f"the masks in {path} choose numbers of another base ({str(about.get('base'))[:12]}, not "
                f"{base[:12]}); select anew with the base that is trained"
            )
        found = {}
        for name, shape in about["shapes"].items():
            size = int(np.prod(shape))
            bits = np.unpackbits(opened.get_tensor(name), count=size).astype(bool)
            found[name] = torch.from_numpy(bits).view(shape)
    return found
