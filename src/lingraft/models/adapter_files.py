"""Reading a PEFT adapter that somebody else wrote: names, types, shapes and numbers are looked at before all else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from lingraft.core.errors import ModelError
from lingraft.core.strangers import ANEW, check_file, from_strangers, read_object, shown, told
from lingraft.models.adapter_config import (
    CONFIG,
    MAX_RANK,
    NAME,
    SparseConfig,
    lora_config,
    parse_config,
    sparse_config,
)
from lingraft.models.checks import is_finite
from lingraft.models.graft_seal import check_seal
from lingraft.models.sparse_entries import ENDINGS, PLACES

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTORS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_embedding_A": "a",
    ".lora_embedding_B": "b",
}
ROWS = ".token_adapter.trainable_tokens_delta"
LENGTHS = ".lora_magnitude_vector"
"""Of the rows of a weight, which DoRA learns beside its factors."""
_BESIDE = (".lora_B.bias", LENGTHS)
"""Further parts of updates: biases of second factors, and the lengths of DoRA."""
BASE_COPIES = re.compile(r"(.*\.)?(embed_tokens|lm_head)(\.base_layer)?\.(weight|bias)")
"""Weights of the base that PEFT writes into an adapter unasked, where it adapts embeddings."""
BASE_LAYER = ".base_layer."
"""Within the names of those that belong to a layer with an update."""

MAX_TENSORS = 1_000_000
_TYPES = {"F64", "F32", "F16", "BF16"}
_INTEGERS = {"I32", "I64"}


def read_adapter(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the PEFT configuration and the weights in a folder.

    The configuration names the very layers that have weights, and begins from nothing that the base would be changed
    for. Copies of the base's embeddings may be among the weights (see `BASE_COPIES`).

    Raises:
        ModelError: damaged, changed since its graft was sealed, not safetensors, of another kind than LoRA or SHiRA, or
            with something that has no place in one.
    """
    check_seal(folder)
    where, again = f"the adapter in {folder}", ANEW
    try:
        values = read_object(folder / CONFIG)
    except (OSError, ValueError) as error:
        raise ModelError(f"{where} is damaged ({CONFIG}: {told(error)}); {again}") from error
    found = parse_config(values, where)
    check_file(folder / WEIGHTS)
    with from_strangers(f"{where} is damaged", again), safe_open(folder / WEIGHTS, framework="pt") as opened:
        names = opened.keys()
        if not 0 < len(names) <= MAX_TENSORS:
            raise ValueError(f"it has {len(names):,} tensors")
        slices = {name: opened.get_slice(name) for name in names}
        shapes = {name: list(piece.get_shape()) for name, piece in slices.items()}
        for name, piece in slices.items():
            _check_tensor(name, piece.get_dtype(), shapes[name])
        if isinstance(found, SparseConfig):
            config = sparse_config(found, _changed_layers(names, where), where)
        else:
            ranks = _ranks(shapes)
            _check_names(names, ranks, found.modules_to_save or (), where)
            config = lora_config(found, ranks, where)
        weights = {name: opened.get_tensor(name) for name in names}
        for name, tensor in weights.items():
            if not is_finite(tensor):
                raise ValueError(f"{shown(name)} holds numbers that are not finite")
    return config, weights


def _check_tensor(name: str, kind: str, shape: list[int]) -> None:
    if not re.fullmatch(NAME, name) or len(name) > 500:
        raise ValueError(f"{shown(repr(name))} is no name of a weight")
    if kind not in (_INTEGERS if name.endswith(PLACES) else _TYPES):
        raise ValueError(f"{shown(name)} is of type {shown(kind, 20)}, and weights are floating-point numbers")
    if not all(shape):
        raise ValueError(f"{shown(name)} holds no number")


def split(name: str) -> tuple[str, str]:
    """Return the layer that a tensor of an adapter belongs to, and what it is of it; "" where it is the layer's own."""
    plain = name.removeprefix(PREFIX)
    ending = next((ending for ending in (*FACTORS, ROWS, *_BESIDE, *ENDINGS) if plain.endswith(ending)), "")
    return plain.removesuffix(ending), ending


def _ranks(shapes: Mapping[str, list[int]]) -> dict[str, int]:
    """Return the rank of each layer with low-rank factors."""
    found: dict[str, int] = {}
    for name in sorted(shapes):
        layer, ending = split(name)
        kind, shape = FACTORS.get(ending), shapes[name]
        if kind is None:
            continue
        if len(shape) < 2:
            raise ValueError(f"{shown(name)} has {len(shape)} dimensions, where a factor has two")
        rank = shape[0] if kind == "a" else shape[1]
        if found.setdefault(layer, rank) != rank or rank > MAX_RANK:
            raise ValueError(f"the factors of {shown(layer)} have ranks {found[layer]} and {rank}")
    return found


def _check_names(names: list[str], ranks: Mapping[str, int], whole: Any, where: str) -> None:
    """Refuse weights that the configuration has no place for, and layers kept as a whole without weights.

    Raises:
        ModelError: there is one.
    """
    replaced: Counter[str] = Counter()
    for name in names:
        layer, ending = split(name)
        if ending in ENDINGS:
            raise ModelError(f"{where} says that it is LoRA and holds {shown(name)}, which is not; {ANEW}")
        if ending in _BESIDE and layer not in ranks:
            raise ModelError(f"{where} does not fit the base: {shown(name)} belongs to no update; {ANEW}")
        if ending:
            continue
        owners = [entry for entry in whole if f".{entry}." in f".{layer}."]
        replaced.update(owners)
        if not owners and not BASE_COPIES.fullmatch(layer):
            raise ModelError(
                f"{where} holds {shown(name)}, which is no update of a layer, nor in a layer that it says it keeps as "
                f"a whole (modules_to_save); it would overwrite the base; {ANEW}"
            )
    if lacking := [entry for entry in whole if not replaced[entry]]:
        raise ModelError(
            f"{where} does not fit the base: it has no weights of {lacking[0]}, which its modules_to_save name; {ANEW}"
        )


def _changed_layers(names: list[str], where: str) -> list[str]:
    """Return the layers of which single numbers are changed.

    Raises:
        ModelError: there is anything else, or one lacks its places or its values.
    """
    found: dict[str, set[str]] = {}
    for name in names:
        layer, ending = split(name)
        if not ending and BASE_COPIES.fullmatch(layer):
            continue
        if ending not in ENDINGS:
            raise ModelError(f"{where} holds {shown(name)}, which is no sparse change of a layer; {ANEW}")
        found.setdefault(layer, set()).add(ending)
    if odd := [layer for layer, endings in found.items() if len(endings) < len(ENDINGS)]:
        raise ModelError(f"{where} is damaged: places or values of {shown(odd[0])} are missing; {ANEW}")
    return sorted(found)
