"""Adapters as folders: writing any, reading and writing those that change single numbers of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lingraft.core.strangers import ANEW, from_strangers
from lingraft.models.adapter_files import PREFIX, WEIGHTS
from lingraft.models.sparse_entries import PLACES, VALUES, Entries, common_rank

MIXED = (
    "sparse changes and other ones cannot be in one adapter, for which PEFT has no form; use grafts of one kind, or "
    "merge one into the base with `lingraft export`"
)


def read_entries(config: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> dict[str, Entries]:
    """Return the numbers that an adapter of PEFT's SHiRA changes, by layer.

    Args:
        config: of the adapter.
        weights: by name, as PEFT writes them.
        folder: where they were read, for messages.

    Raises:
        ModelError: places and values do not go together.
    """
    found = {}
    with from_strangers(f"the adapter in {folder} is damaged", ANEW):
        for name in config.target_modules:
            key = f"{PREFIX}{name}"
            found[name] = Entries.of(weights[key + PLACES], weights[key + VALUES], config.r)
    return found


def write_adapter(config: Any, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write a PEFT folder; `config` is changed."""
    config.inference_mode = True
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(str(folder))
    save_file(
        {name: tensor.contiguous() for name, tensor in sorted(weights.items())}, folder / WEIGHTS, {"format": "pt"}
    )


def write_entries(config: Any, entries: Mapping[str, Entries], folder: Path) -> None:
    """Write an adapter that changes single numbers, as an ordinary PEFT folder; `config` is changed.

    Args:
        config: of PEFT's SHiRA.
        entries: by layer.
        folder: to write.
    """
    rank, weights = common_rank(entries), dict[str, torch.Tensor]()
    config.r, config.target_modules = rank, sorted(entries)
    config.mask_type = "selected"  # of "random" PEFT would draw places first
    for layer, one in entries.items():
        weights[f"{PREFIX}{layer}{PLACES}"], weights[f"{PREFIX}{layer}{VALUES}"] = one.filled(rank)
    write_adapter(config, weights, folder)
