"""Copies of the base's embeddings and output head, which PEFT writes into an adapter that changes one of the two.

They are no part of the adapter: nothing is to be read from them, but which base it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lingraft.core.errors import ModelError
from lingraft.core.strangers import from_strangers, shown
from lingraft.models.adapter_files import BASE_COPIES, BASE_LAYER, split
from lingraft.models.architectures import open_weights, without_weights
from lingraft.models.checks import check_size
from lingraft.models.devices import quiet
from lingraft.models.files import ModelFiles

_ROUNDED = (torch.bfloat16, torch.float16)
"""Types in which a base may have been loaded for training, whatever it was stored and is copied in."""


def is_replaced(config: Any, parameter: str) -> bool:
    """Whether an adapter keeps the layer of a parameter as a whole, or one that shares its weight."""
    tied = config.ensure_weight_tying and BASE_COPIES.fullmatch(parameter) is not None
    return tied or any(f".{layer}." in f".{parameter}." for layer in config.modules_to_save or ())


def base_copies(config: Any, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return those weights of an adapter that are copies of its base's, by their names in the file.

    Args:
        config: of the adapter, by PEFT.
        weights: all of it, as `read_adapter` returns them.
    """
    found = {}
    for name, tensor in weights.items():
        parameter, ending = split(name)
        if ending or not BASE_COPIES.fullmatch(parameter):
            continue
        if BASE_LAYER in parameter or config.peft_type != "LORA" or not is_replaced(config, parameter):
            found[name] = tensor
    return found


def check_copies(files: ModelFiles, copies: Mapping[str, torch.Tensor], where: str) -> None:
    """Check that copies are of this base, for which its weights are read.

    Args:
        files: the base.
        copies: as `base_copies` returns them.
        where: "the adapter in FOLDER", for messages.

    Raises:
        ModelError: one is of another base, or the base cannot be read.
    """
    check_size(files.folder, without_weights(files.folder))
    with from_strangers(f"cannot load the model in {files.folder}", "copy it anew"), quiet():
        known = open_weights(files.folder, dtype="auto", use_safetensors=True).state_dict()
    for name, copy in copies.items():
        parameter = split(name)[0].replace(BASE_LAYER, ".")
        original = known.get(parameter)
        held = f"{where} does not fit {files.name}: it holds {shown(parameter)} of the base that it was trained on"
        if original is None:
            raise ModelError(f"{held}, which {files.name} does not have; give the former base")
        if original.shape != copy.shape:
            raise ModelError(
                f"{held}, of {_size(copy)} numbers, where {files.name} has {_size(original)}; give the base as it was "
                f"in training, with the tokens that it was given"
            )
        if not same_numbers(original, copy):
            raise ModelError(f"{held}, and {files.name} has other numbers there; give the former base")


def _size(tensor: torch.Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def same_numbers(original: torch.Tensor, copy: torch.Tensor) -> bool:
    """Whether one tensor is a copy of another of its shape, be it rounded once to a type of fewer bits."""
    if torch.equal(original, copy.to(original)):
        return True
    exact = copy.to(original.device).float()
    return any(torch.equal(original.to(kind).float(), exact) for kind in (copy.dtype, *_ROUNDED))
