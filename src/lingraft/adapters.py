"""PEFT adapters on a model in memory: reading their weights, comparing them with what the model expects, taking off.

Beside low-rank factors an adapter may hold whole layers (`modules_to_save`) or rows of the embeddings
(`trainable_token_indices`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from lingraft.errors import ModelError

WEIGHTS = "adapter_model.safetensors"


def read_adapter(folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """Return the PEFT configuration and the weights in a folder.

    Raises:
        ModelError: damaged, or not safetensors.
    """
    from peft import PeftConfig

    try:
        return PeftConfig.from_pretrained(str(folder)), load_file(folder / WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"the adapter in {folder} is damaged ({str(error).splitlines()[0]}); train again or copy the graft anew"
        ) from error


def put_weights(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Copy the weights of an adapter, read from `folder`, into a model that was wrapped for it.

    Raises:
        ModelError: names or shapes differ.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    # Compared first: PEFT would leave what the file lacks at its random start.
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    odd = [name for name, tensor in wanted.items() if name not in weights or weights[name].shape != tensor.shape]
    if not odd:
        on_meta = next(model.parameters()).device.type == "meta"  # nothing to copy into
        state: Any = set_peft_model_state_dict(model, weights, low_cpu_mem_usage=on_meta)
        odd = state.unexpected_keys
    if odd:
        raise ModelError(
            f"the adapter in {folder} does not fit the base (see {odd[0]}); train again or copy the graft anew"
        )


def continue_from(model: Any, folder: Path) -> None:
    """Let the adapter on a model go on from the weights of a saved one.

    Raises:
        ModelError: damaged, of another form, or scaled otherwise, so that the same weights would mean something else.
    """
    config, weights = read_adapter(folder)
    own = model.peft_config["default"]
    for key in ("peft_type", "lora_alpha", "use_rslora"):
        one, other = getattr(config, key, None), getattr(own, key, None)
        if one != other:
            raise ModelError(
                f"the adapter in {folder} has {key} {one}, the tuner {other}; continue with the tuner it was made with"
            )
    put_weights(model, weights, folder)


def whole_layers(model: nn.Module) -> list[tuple[Any, nn.Module]]:
    """Return the layers of which the adapter `default` has a whole copy, each with its copy."""
    from peft.utils.other import ModulesToSaveWrapper

    wrappers = (module for module in model.modules() if isinstance(module, ModulesToSaveWrapper))
    copies = ((wrapper, wrapper.modules_to_save) for wrapper in wrappers)
    return [(wrapper, own["default"]) for wrapper, own in copies if "default" in own]


@torch.no_grad()
def start_from(model: nn.Module, originals: Mapping[nn.Parameter, torch.Tensor]) -> None:
    """Let the copies that learn begin with these values of the base's weights, which may be rounded meanwhile."""
    from peft.utils.other import TrainableTokensWrapper

    for wrapper, copy in whole_layers(model):
        for name, parameter in wrapper.original_module.named_parameters():
            if parameter in originals:
                copy.get_parameter(name).copy_(originals[parameter])
    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper) and module.token_adapter.base_layer.weight in originals:
            rows: Any = module.token_adapter
            values = originals[rows.base_layer.weight][rows.token_indices["default"]]
            rows.trainable_tokens_delta["default"].copy_(values)


def take_off(model: Any) -> None:
    """Take a PEFT adapter off the base that it wraps; the base has its own layers again.

    PEFT's own `unload` leaves the trained copy of a whole layer in the base.
    """
    from peft.utils.other import ModulesToSaveWrapper

    base = model.get_base_model()
    for name, module in list(base.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, module.original_module)
    model.unload()
