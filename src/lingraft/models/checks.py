"""A model's folder before a library opens it: what its descriptions may say, and what its weights have to be.

The library builds what a configuration describes, however large, and follows the names of an index wherever they lead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open

from lingraft.core.errors import ModelError
from lingraft.core.strangers import check_files, from_strangers, read_object, shown

INDEX = "model.safetensors.index.json"
_SHARD = r"[A-Za-z0-9_.-]+\.safetensors"
MAX_TENSORS = 5_000_000
MAX_LAYERS = 4096
"""Of layers, heads and experts, each of which is built one after the other."""
MAX_NUMBER = 2**40
_COUNTED = re.compile(r"(layers?|blocks?|depth|heads?|experts?|streams?)s?$|^n_(layer|head)s?$")
SURPLUS = 2
"""A configuration may describe so many times the numbers that the weights hold: a head that shares the embeddings."""
PACKED = 40
"""The same of weights that are packed into fewer bits."""
_PLAIN = {"F64", "F32", "F16", "BF16"}


def check_model(folder: Path) -> None:
    """Check descriptions and headers of the weights in a model's folder.

    Raises:
        ModelError: a file that is no regular one or far too large, a damaged description, or one that names files
            elsewhere, code from the hub, an adapter to be put on, or numbers that no model has.
    """
    check_files(folder)
    remedy = "copy the model anew"
    for name in ("config.json", "generation_config.json", "tokenizer_config.json", INDEX):
        path = folder / name
        if not path.exists():
            continue
        with from_strangers(f"cannot load the model in {folder}: {name} is damaged", remedy):
            values = read_object(path, 64 * 1024**2)
            if name == "config.json":
                _check_config(values)
            if name == INDEX:
                _check_index(values, folder)
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder} holds a model and an adapter, which the library would put on it unasked; keep them in folders "
            f"of their own, and give the adapter as --graft"
        )


def _check_config(values: dict[str, Any]) -> None:
    for key, value in _items(values):
        named = shown(key, 60)
        if "attn_implementation" in key or "experts_implementation" in key:
            texts = [value] if isinstance(value, str) else list(value.values()) if isinstance(value, dict) else []
            if any(not isinstance(text, str) or not re.fullmatch(r"[a-z0-9_]{0,40}", text) for text in texts):
                raise ValueError(f"{named} names code elsewhere")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(f"{named} is not a number")
        most = MAX_LAYERS if _COUNTED.search(key) and "token" not in key else MAX_NUMBER
        if isinstance(value, int) and abs(value) > most:
            raise ValueError(f"{named} is {shown(str(value), 20) if abs(value) < 10**18 else 'far'} beyond {most:,}")


def _items(values: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values of an object and of all objects in it."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield key, value
            yield from _items(value)
    elif isinstance(values, list):
        for value in values:
            yield from _items(value)


def _check_index(values: dict[str, Any], folder: Path) -> None:
    files = set(values["weight_map"].values())
    odd = next((name for name in files if not isinstance(name, str) or not re.fullmatch(_SHARD, name)), None)
    if odd is not None:
        raise ValueError(f"it names {shown(repr(odd))}, which is no file beside it")
    if lacking := sorted(name for name in files if not (folder / name).is_file()):
        raise ValueError(f"it names {lacking[0]}, which is not there")


def check_size(folder: Path, model: Any) -> None:
    """Check that a configuration describes about as many numbers as the weights hold.

    Args:
        folder: of the model, with its safetensors.
        model: on the meta device, as the configuration describes it.

    Raises:
        ModelError: it describes far more, or the weights are no floating-point numbers.
    """
    described = sum(parameter.numel() for parameter in model.parameters())
    packed = getattr(model.config, "quantization_config", None) is not None
    held = tensors = 0
    for path in sorted(folder.glob("*.safetensors")):
        with (
            from_strangers(f"cannot load the model in {folder}: {path.name} is damaged", "copy the model anew"),
            safe_open(path, framework="pt") as opened,
        ):
            names = opened.keys()
            tensors += len(names)
            if tensors > MAX_TENSORS:
                raise ValueError("too many tensors")
            for name in names:
                piece = opened.get_slice(name)
                if not packed and piece.get_dtype() not in _PLAIN and name.endswith("weight"):
                    raise ValueError(f"{shown(name)} is of type {piece.get_dtype()}, and weights are fractions")
                held += math.prod(piece.get_shape())
    if described > held * (PACKED if packed else SURPLUS) + 1_000_000:
        raise ModelError(
            f"config.json in {folder} describes a model of {described:,} numbers, and its weights hold {held:,}; copy "
            f"all files of one model"
        )


def check_numbers(model: Any, folder: Path, *, shared: bool = False) -> None:
    """Check that all weights are finite.

    Args:
        model: loaded.
        folder: where it was read, for the message.
        shared: whether each process holds a part of every weight (FSDP2) and looks at that; all of them call this
            together, and none goes on where one has found something.

    Raises:
        ModelError: one is not.
    """
    parameters = list(model.named_parameters())
    with torch.no_grad():
        odd = next((name for name, tensor in parameters if not is_finite(_part(tensor))), None)
    if shared:
        found: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(found, odd)
        odd = next((name for name in found if name is not None), None)
    if odd is not None:
        raise ModelError(
            f"the weights in {folder} are damaged: {shown(odd)} holds numbers that are not finite; copy the model anew"
        )


def _part(tensor: Any) -> torch.Tensor:
    """Return what this process holds of a weight."""
    return torch.as_tensor(tensor.to_local() if hasattr(tensor, "to_local") else tensor)


def check_ids(model: Any, tokenizer: Any, needed: Collection[int], folder: Path) -> None:
    """Check that every token that a text may have has a row of the embeddings.

    Control tokens beyond them are let pass, as some published models have one to pad with.

    Args:
        model: with the input embeddings; its other weights do not matter.
        tokenizer: of the model.
        needed: ids of control tokens that have to have a row, such as those of the chat template.
        folder: where both were read, for the message.

    Raises:
        ModelError: one has none.
    """
    rows = model.get_input_embeddings().num_embeddings
    idle = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special} - set(needed)
    odd = [token for token, number in tokenizer.get_vocab().items() if number >= rows and number not in idle]
    if odd:
        raise ModelError(
            f"the tokenizer in {folder} has the token {shown(repr(odd[0]))} beyond the {rows:,} embeddings of the "
            f"model; copy all files of one model"
        )


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether all numbers are finite; in one pass, which takes no further memory."""
    if not tensor.numel() or not tensor.is_floating_point() or tensor.device.type == "meta":
        return True
    return all(bool(torch.isfinite(end)) for end in torch.aminmax(tensor))
