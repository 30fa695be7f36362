"""The weights of what was merged, in files: one after the other, or by transformers where it rearranges them."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from lingraft.core.errors import StoreError, UsageError
from lingraft.core.hashing import content_hash
from lingraft.core.strangers import shown
from lingraft.merging.plan import Plan
from lingraft.merging.tensor_file import TYPES, TensorFile, torch_type
from lingraft.models.architectures import open_weights
from lingraft.models.checks import is_finite
from lingraft.models.devices import quiet
from lingraft.store.files import write_json

MODEL = "model.safetensors"
INDEX = "model.safetensors.index.json"
SHARD = 50 * 10**9
"""Bytes of a file of weights, as transformers and the hub have it."""
Progress = Callable[[int, int], None]
Described = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> type and shape of a tensor."""
_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def shard_bytes(size: str) -> int:
    """Return the bytes of a size such as "5GB" or "500 MiB".

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", size)
    unit = found[2].upper() if found else ""
    if not found or unit not in _UNITS or not float(found[1]):
        raise UsageError(f"{size!r} is no size of a file; write it as 5GB, 500MB or 2GiB")
    return max(1, int(float(found[1]) * _UNITS[unit]))


def write_weights(
    plan: Plan,
    path: Path,
    tensors: Described,
    firsts: list[str],
    note: Path,
    progress: Progress,
    others: Mapping[str, Path] | None = None,
    shard: int = 0,
) -> None:
    """Write weights under their names, each merged once for all names that follow one another.

    Args:
        plan: what is merged.
        path: of the file; of several, each has its number before the suffix, and an index stands beside them.
        tensors: of the result.
        firsts: first name of each of them, by which the plan knows it.
        note: of how far the file is; of several, each has its own.
        progress: told how many are done.
        others: further tensors of the base, that are no weights, and the files that hold them: copied.
        shard: bytes of a file, at most, unless one tensor alone has more; 0: one file.
    """
    given = others or {}
    first_of = dict(zip(tensors, firsts, strict=True))
    every: dict[str, tuple[str, tuple[int, ...]]] = {
        **tensors,
        **{name: _slice(holder, name) for name, holder in given.items()},
    }
    files = _named(path, _parts(every, shard))
    done, last, found = 0, "", torch.empty(0)
    for number, (file_path, names) in enumerate(files.items()):
        own = {name: every[name] for name in names}
        identity = content_hash([plan.identity, {name: list(one) for name, one in own.items()}])
        with TensorFile(file_path, own, _note(note, number), identity) as file:
            for place, name in enumerate(names):
                done += 1
                if place < file.done:
                    continue
                if name in given:
                    with safe_open(given[name], framework="pt") as opened:
                        file.write(name, opened.get_tensor(name))
                else:
                    if first_of[name] != last:
                        last, found = first_of[name], torch.empty(0)  # the former is given back first
                        found = plan.weight(last)
                    file.write(name, found)
                progress(done, len(every))
    if len(files) > 1:
        _write_index(path.with_name(INDEX), files, every)


def forget(note: Path) -> None:
    """Let what was written be begun anew."""
    for path in note.parent.glob(f"{note.stem}*{note.suffix}"):
        path.unlink()


def _note(note: Path, number: int) -> Path:
    return note.with_name(f"{note.stem}-{number}{note.suffix}") if number else note


def _bytes(kind: str, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * TYPES[kind].itemsize


def _parts(tensors: Described, shard: int) -> list[list[str]]:
    """Return the names of each file."""
    parts: list[list[str]] = [[]]
    size = 0
    for name, (kind, shape) in tensors.items():
        own = _bytes(kind, shape)
        if shard and parts[-1] and size + own > shard:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += own
    return parts


def _named(path: Path, parts: list[list[str]]) -> dict[Path, list[str]]:
    if len(parts) == 1:
        return {path: parts[0]}
    name = f"{path.stem}-{{:05d}}-of-{len(parts):05d}{path.suffix}"
    return {path.with_name(name.format(number)): part for number, part in enumerate(parts, 1)}


def _write_index(path: Path, files: Mapping[Path, list[str]], tensors: Described) -> None:
    write_json(
        path,
        {
            "metadata": {"total_size": sum(_bytes(*one) for one in tensors.values())},
            "weight_map": {name: file.name for file, names in files.items() for name in names},
        },
    )


def _slice(path: Path, name: str) -> tuple[str, tuple[int, ...]]:
    with safe_open(path, framework="pt") as opened:
        piece = opened.get_slice(name)
        return piece.get_dtype(), tuple(piece.get_shape())


def write_rearranged(
    plan: Plan, folder: Path, kinds: Mapping[str, str], scratch: Path, progress: Progress, shard: int
) -> None:
    """Write the weights of a model that transformers rearranges on loading, such as experts that it joins.

    Its files have other tensors than its parameters are, and other programs know the files alone: transformers writes
    them, as it read them, with what is no parameter. The model is in memory as a whole.

    Args:
        plan: what is merged.
        folder: to write into.
        kinds: type of each weight, by its first name.
        scratch: where it is written before it is moved.
        progress: told how many weights are done.
        shard: bytes of a file, at most.

    Raises:
        StoreError: numbers do not fit the type.
    """
    with quiet():
        model: Any = open_weights(plan.base.files.folder, dtype="auto")
    for done, name in enumerate(plan.shapes, 1):
        value = plan.weight(name).to(torch_type(kinds[name]))
        if not is_finite(value):
            raise StoreError(f"{shown(name)} has numbers that do not fit {str(value.dtype).removeprefix('torch.')}")
        model.get_parameter(name).data = value
        progress(done, len(plan.shapes))
    whole = scratch / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    with quiet():
        model.save_pretrained(whole, max_shard_size=shard)
    for path in (*whole.glob("*.safetensors"), *whole.glob(INDEX)):
        path.replace(folder / path.name)
    shutil.rmtree(whole)
