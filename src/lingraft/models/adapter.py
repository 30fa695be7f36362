"""PEFT adapters on a model in memory: reading their weights, comparing them with what the model expects, taking off.

Beside low-rank factors an adapter may hold whole layers (`modules_to_save`) or rows of the embeddings
(`trainable_token_indices`). One that changes single numbers of weights (SHiRA) holds nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lingraft.core.errors import ModelError
from lingraft.core.strangers import from_strangers, shown
from lingraft.models.adapter_config import FITTING
from lingraft.models.adapter_files import BASE_COPIES, FACTORS, LENGTHS, PREFIX, ROWS, WEIGHTS, read_adapter, split
from lingraft.models.base_copies import base_copies, is_replaced, same_numbers
from lingraft.models.devices import quiet
from lingraft.models.sparse_entries import VALUES, Entries
from lingraft.models.sparse_files import MIXED, read_entries, write_adapter, write_entries

__all__ = ["WEIGHTS", "read_adapter"]


@dataclass(frozen=True)
class Factors:
    """A low-rank update b @ a of a weight, its scale included in `b`.

    Attributes:
        a: (rank, in).
        b: (out, rank).
        transposed: whether the weight is kept as (in, out).
        embedding: whether it is one of an embedding, which PEFT names otherwise.
        lengths: (out,), of the rows of the sum of weight and update (DoRA); None leaves them as they come out.
    """

    a: torch.Tensor
    b: torch.Tensor
    transposed: bool = False
    embedding: bool = False
    lengths: torch.Tensor | None = None

    def update(self) -> torch.Tensor:
        """Return what is added to the weight, in float32."""
        found = self.b.float() @ self.a.float()
        return found.T if self.transposed else found

    def on(self, weight: torch.Tensor) -> torch.Tensor:
        """Return what becomes of a weight, in float32, as PEFT merges it."""
        total = weight.float() + self.update().to(weight.device)
        if self.lengths is None:
            return total
        side = 0 if self.transposed else 1
        lengths = self.lengths.float().to(weight.device).unsqueeze(side)
        return lengths / torch.linalg.norm(total, dim=side, keepdim=True) * total


@dataclass
class Parts:
    """What a saved adapter does to its base, by the base's own names.

    Attributes:
        config: PEFT's configuration.
        factors: layer -> its low-rank update.
        whole: parameter -> what it is replaced by.
        rows: layer -> token ids, and the rows of its weight that they are replaced by.
        sparse: layer -> the numbers of its weight that are changed.
    """

    config: Any
    factors: dict[str, Factors] = field(default_factory=dict)
    whole: dict[str, torch.Tensor] = field(default_factory=dict)
    rows: dict[str, tuple[list[int], torch.Tensor]] = field(default_factory=dict)
    sparse: dict[str, Entries] = field(default_factory=dict)

    def replaces(self, layer: str) -> bool:
        """Whether a layer is replaced as a whole."""
        return any(name.startswith(f"{layer}.") for name in self.whole)


def read_parts(folder: Path) -> Parts:
    """Return what the adapter in a folder does to its base.

    Raises:
        ModelError: damaged, or of a kind whose effect is more than a sum with or a replacement of weights.
    """
    config, weights = read_adapter(folder)
    if config.peft_type == "SHIRA":
        return Parts(config, sparse=read_entries(config, weights, folder))
    plain = True
    parts, lengths = Parts(config), dict[str, torch.Tensor]()
    halves: dict[str, dict[str, tuple[torch.Tensor, bool]]] = {"a": {}, "b": {}}
    for key, tensor in weights.items():
        layer, ending = split(key)
        if ending in FACTORS:
            halves[FACTORS[ending]][layer] = tensor, "embedding" in ending
            plain = plain and not (config.use_dora and "embedding" in ending)  # whose rows are no outputs
        elif ending == LENGTHS and config.use_dora:
            lengths[layer] = tensor
        elif ending == ROWS:
            parts.rows[layer] = _token_ids(config, layer), tensor
        elif ending or not is_replaced(config, layer):
            plain = False
        else:
            parts.whole[layer] = tensor
    whole = halves["a"].keys() == halves["b"].keys() == (lengths.keys() if config.use_dora else halves["b"].keys())
    if not plain or not whole:
        raise ModelError(
            f"the adapter in {folder} is not a plain LoRA adapter; use one of linear layers, without biases"
        )
    for layer, (a, embedding) in halves["a"].items():
        b = halves["b"][layer][0] * _scale(config, layer, len(a))
        parts.factors[layer] = Factors(a, b, embedding or config.fan_in_fan_out, embedding, lengths.get(layer))
    return parts


def _scale(config: Any, layer: str, rank: int) -> float:
    from peft.utils.other import get_pattern_key

    patterns = dict(config.alpha_pattern or {})
    alpha = float(patterns.get(get_pattern_key(list(patterns), layer), config.lora_alpha))
    return alpha / (math.sqrt(rank) if config.use_rslora else rank)


def _token_ids(config: Any, layer: str) -> list[int]:
    given = config.trainable_token_indices
    if not isinstance(given, Mapping):
        return list(given)
    return list(next(ids for name, ids in given.items() if f".{layer}".endswith(f".{name}")))


def write_parts(parts: Parts, folder: Path) -> None:
    """Write an adapter that does this to its base, as an ordinary PEFT folder.

    All updates have one rank, the highest, filled up with zeros, and the scale 1: programs that know neither ranks by
    layer nor other scales load it. `parts.config` is changed.

    Raises:
        ValueError: an update is no sum.
        ModelError: sparse changes beside others, which no form of PEFT holds together.
    """
    if any(one.lengths is not None for one in parts.factors.values()):
        raise ValueError("lengths of rows are written by PEFT alone")
    from peft.utils.constants import DUMMY_TARGET_MODULES

    if parts.sparse:
        if parts.factors or parts.whole or parts.rows:
            raise ModelError(MIXED)
        write_entries(parts.config, parts.sparse, folder)
        return
    config, weights = parts.config, dict[str, torch.Tensor]()
    rank = max((len(one.a) for one in parts.factors.values()), default=1)
    for layer, one in parts.factors.items():
        names = ("lora_embedding_A", "lora_embedding_B") if one.embedding else ("lora_A.weight", "lora_B.weight")
        more = rank - len(one.a)
        filled = nn.functional.pad(one.a, (0, 0, 0, more)), nn.functional.pad(one.b, (0, more))
        weights |= {f"{PREFIX}{layer}.{name}": tensor for name, tensor in zip(names, filled, strict=True)}
    weights |= {f"{PREFIX}{name}": tensor for name, tensor in parts.whole.items()}
    weights |= {f"{PREFIX}{layer}{ROWS}": values for layer, (_, values) in parts.rows.items()}
    config.r = config.lora_alpha = rank
    config.rank_pattern, config.alpha_pattern, config.use_rslora = {}, {}, False
    config.use_dora = False
    config.target_modules = sorted(parts.factors) or DUMMY_TARGET_MODULES
    config.trainable_token_indices = {layer: ids for layer, (ids, _) in sorted(parts.rows.items())} or None
    write_adapter(config, weights, folder)


def changes_nothing(config: Any, weights: Mapping[str, torch.Tensor]) -> bool:
    """Whether an adapter holds updates alone and all are zero: a factor or the scale of each, or all sparse values.

    The second factors of one that is not trained are zero.

    Args:
        config: of the adapter, by PEFT.
        weights: by name, as PEFT writes them.
    """
    sparse = [tensor for name, tensor in weights.items() if name.endswith(VALUES)]
    if sparse:
        return not any(bool(values.any()) for values in sparse)
    copies = base_copies(config, weights)
    parts = {name: split(name) for name in weights if name not in copies}
    if not parts or not all(ending in FACTORS for _, ending in parts.values()):
        return False
    idle = {layer for name, (layer, _) in parts.items() if not weights[name].any()}
    return all(layer in idle or not _scale(config, layer, 1) for layer, _ in parts.values())


def put_weights(model: Any, weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Copy the weights of an adapter, read from `folder`, into a model that was wrapped for it; the base stays.

    Args:
        model: wrapped by PEFT; on the meta device names and shapes are compared, and nothing is copied.
        weights: by name, as PEFT writes them.
        folder: where they were read, for messages.

    Raises:
        ModelError: names or shapes differ, or the base's own weights are among them with other numbers.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    from lingraft.models.sparse_layer import sparse_layers

    # Compared first: PEFT would leave what the file lacks at its random start, and would copy all else that the model
    # has a name for into the base.
    wanted = get_peft_model_state_dict(model, save_embedding_layers=False)
    odd = [name for name, tensor in wanted.items() if name not in weights or weights[name].shape != tensor.shape]
    odd += _foreign(model, {name: tensor for name, tensor in weights.items() if name not in wanted})
    if odd:
        raise ModelError(f"the adapter in {folder} does not fit the base (see {shown(odd[0])}); {FITTING}")
    for layer in sparse_layers(model).values():
        layer.unmerge()  # else its former numbers would go on standing in the base's weight
    own = {name: tensor for name, tensor in weights.items() if name in wanted}
    on_meta = next(model.parameters()).device.type == "meta"  # nothing to copy into
    with (
        from_strangers(f"the adapter in {folder} does not fit the base", FITTING),
        quiet(),
    ):
        state: Any = set_peft_model_state_dict(model, own, low_cpu_mem_usage=on_meta)
        if state.unexpected_keys:
            raise ValueError(f"see {state.unexpected_keys[0]}")


def _foreign(model: Any, others: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the names of weights that are neither the adapter's nor equal to what the base has."""
    if not others:
        return []
    known = model.state_dict()
    return [name for name, tensor in others.items() if not _is_copy(name, tensor, known.get(name))]


def _is_copy(name: str, tensor: torch.Tensor, original: torch.Tensor | None) -> bool:
    """Whether a tensor is what the base has by that name, which PEFT may write unasked."""
    if original is None or original.shape != tensor.shape or not BASE_COPIES.fullmatch(split(name)[0]):
        return False
    return original.device.type == "meta" or same_numbers(original, tensor)


@torch.no_grad()
def lost_when_read(model: Any) -> list[str]:
    """Return the base's layers whose low-rank update PEFT would write under a name that it does not read back.

    It renames layers on reading for the sake of older files, and for some models once too often (Laguna).
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    learning = {name: weight for name, weight in model.named_parameters() if ".lora_" in name}
    originals = {name: weight.clone() for name, weight in learning.items()}
    saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    written = {name: tensor + 1 if ".lora_" in name else tensor for name, tensor in saved.items()}
    set_peft_model_state_dict(model, written)
    lost = {name for name, weight in learning.items() if torch.equal(weight, originals[name])}
    for name, weight in learning.items():
        weight.copy_(originals[name])
    return sorted({name.removeprefix(PREFIX).split(".lora_")[0] for name in lost})


def continue_from(model: Any, folder: Path) -> None:
    """Let the adapter on a model go on from the weights of a saved one.

    Raises:
        ModelError: damaged, of another form, or scaled otherwise, so that the same weights would mean something else.
    """
    config, weights = read_adapter(folder)
    own = model.peft_config["default"]
    if config.peft_type == own.peft_type == "SHIRA":
        _continue_sparse(model, read_entries(config, weights, folder), folder)
        return
    for key in ("peft_type", "lora_alpha", "use_rslora", "use_dora"):
        one, other = getattr(config, key, None), getattr(own, key, None)
        if one != other:
            raise ModelError(
                f"the adapter in {folder} has {key} {one}, the tuner {other}; continue with the tuner it was made with"
            )
    put_weights(model, weights, folder)


def _continue_sparse(model: Any, entries: Mapping[str, Entries], folder: Path) -> None:
    from lingraft.models.sparse_layer import entries_of, sparse_layers

    own = entries_of(model)
    if own.keys() != entries.keys() or any(not torch.equal(own[name].places, entries[name].places) for name in own):
        raise ModelError(f"the adapter in {folder} changes other numbers of the base; continue with its own selection")
    for name, layer in sparse_layers(model.get_base_model()).items():
        layer.put(entries[name].places, entries[name].values)


def whole_layers(model: nn.Module) -> list[tuple[Any, nn.Module]]:
    """Return the layers of which the adapter `default` has a whole copy, each with its copy."""
    from peft.utils.other import ModulesToSaveWrapper

    wrappers = (module for module in model.modules() if isinstance(module, ModulesToSaveWrapper))
    copies = ((wrapper, wrapper.modules_to_save) for wrapper in wrappers)
    return [(wrapper, own["default"]) for wrapper, own in copies if "default" in own]


def learn_in_float32(model: nn.Module) -> None:
    """Hold what learns in float32, whatever the type of the base; the base's layers see numbers of their type."""
    for parameter in model.parameters():
        if parameter.requires_grad:  # PEFT keeps whole layers in the type of the base
            parameter.data = parameter.data.float()
    for wrapper, _ in whole_layers(model):
        wrapper.register_forward_pre_hook(_in_own_type, with_kwargs=True)
        wrapper.register_forward_hook(_in_type_of_base)


def _in_own_type(
    wrapper: Any, inputs: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give a float32 layer beside a bfloat16 base its input in float32; token ids stay."""
    active = wrapper.original_module if wrapper.disable_adapters else wrapper.modules_to_save["default"]
    dtype = next(active.parameters()).dtype
    return tuple(_in_type(x, dtype) for x in inputs), {name: _in_type(x, dtype) for name, x in named.items()}


def _in_type_of_base(wrapper: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    """Let the base's layers see numbers of their type."""
    dtype = next(wrapper.original_module.parameters()).dtype
    if isinstance(output, tuple):  # a layer with more than one result, such as attention
        return tuple(_in_type(x, dtype) for x in output)
    return _in_type(output, dtype)


def _in_type(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if torch.is_tensor(value) and value.is_floating_point() else value


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


@contextmanager
def layers_kept(model: nn.Module) -> Iterator[None]:
    """Give a model its very layers and tensors back after the block, also where PEFT stopped half way."""
    before = [(module, [dict(held) for held in _held(module)]) for module in model.modules()]
    try:
        yield
    finally:
        for module, kept in before:
            for now, then in zip(_held(module), kept, strict=True):
                now.clear()
                now.update(then)
        vars(model).pop("peft_config", None)  # PEFT's mark of an adapter


def _held(module: nn.Module) -> tuple[dict[str, Any], ...]:
    return module._modules, module._parameters, module._buffers


def take_off(model: Any) -> None:
    """Take a PEFT adapter off the base that it wraps; the base has its own layers again.

    PEFT's own `unload` leaves the trained copy of a whole layer in the base.
    """
    from peft.tuners.shira import ShiraLayer
    from peft.utils.other import ModulesToSaveWrapper

    base = model.get_base_model()
    for name, module in list(base.named_modules()):
        if isinstance(module, ShiraLayer) and module.merged:  # its numbers stand in the base's weight
            module.unmerge()
        if isinstance(module, ModulesToSaveWrapper):
            parent, _, child = name.rpartition(".")
            setattr(base.get_submodule(parent), child, module.original_module)
    model.unload()
