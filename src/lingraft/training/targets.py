"""Which layers of a model a low-rank update can be put on, found by rules and, where there are weights, by trying.

Left out of "all linear layers":

- the output head, and all that is outside of the language part (vision and sound towers, which text never reaches);
- layers that return more than a product, such as routers that choose experts;
- what PEFT refuses, since fused kernels read the weight past the layer (`out_proj` of Mamba's relatives);
- what gets no gradient: layers whose weight is read directly, or whose output only chooses, as the indexer of sparse
  attention.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lingraft.core.errors import UsageError, suggestion
from lingraft.models.architectures import language_part

PEFT_REFUSES = {
    kind: frozenset({"out_proj", "conv1d"}) for kind in ("falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h")
}
"""Model type -> names of layers that PEFT puts no LoRA on."""
PROBE_TOKENS = 16


def linear_layers(model: Any) -> list[str]:
    """Return the names of the layers that `all-linear` means, by rules alone: no weight is looked at."""
    part, _ = language_part(model)
    refused = PEFT_REFUSES.get(getattr(model.config, "model_type", ""), frozenset())
    head = model.get_output_embeddings()
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, _matrices())
        and module is not head
        and _inside(name, part)
        and name.rpartition(".")[2] not in refused
    ]


def all_linear_layers(model: Any) -> list[str]:
    """Return the names of the layers that PEFT's own `all-linear` means."""
    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, _matrices()) and module is not head]


def _matrices() -> tuple[type[nn.Module], ...]:
    """Return the classes of layers that compute a product with a matrix."""
    from transformers.pytorch_utils import Conv1D  # not while a recipe is read

    return (nn.Linear, Conv1D)


def _inside(name: str, part: str) -> bool:
    return not part or name.startswith(f"{part}.")


def layers_named(model: Any, targets: Sequence[str]) -> dict[str, list[str]]:
    """Return the layers that each of the targets names: those of that name, or whose name ends with it.

    Raises:
        UsageError: a target names no layer, one outside of the language part, or one that cannot have an update.
    """
    part, _ = language_part(model)
    kind = type(model).__name__
    modules = dict(model.named_modules())
    found: dict[str, list[str]] = {}
    for target in targets:
        named = [name for name in modules if name == target or name.endswith(f".{target}")]
        layers = [name for name in named if hasattr(modules[name], "weight") and not list(modules[name].children())]
        if not layers:
            known = {name.rpartition(".")[2] for name in linear_layers(model)}
            near = suggestion(target, known)
            listed = "" if near.startswith("; known") else f"; its linear layers: {', '.join(sorted(known))}"
            raise UsageError(f"tuner lora: {kind} has no layer named {target!r}{near}{listed}")
        found[target] = [name for name in layers if _inside(name, part) or modules[name] is _head(model)]
        if not found[target]:
            raise UsageError(
                f"tuner lora: {layers[0]!r} of {kind} is outside of its language part, which text never reaches; "
                f"take {target!r} out of tuner.targets"
            )
        _check_layer(model, target, modules[found[target][0]])
    return found


def _head(model: Any) -> nn.Module | None:
    head: nn.Module | None = model.get_output_embeddings()
    return head


def _check_layer(model: Any, target: str, layer: nn.Module) -> None:
    kind = type(model).__name__
    if not isinstance(layer, (*_matrices(), nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        raise UsageError(
            f"tuner lora: {target!r} of {kind} is a {type(layer).__name__}, which has no matrix to adapt; "
            f"take it out of tuner.targets"
        )
    if target.rpartition(".")[2] in PEFT_REFUSES.get(getattr(model.config, "model_type", ""), frozenset()):
        raise UsageError(
            f"tuner lora: PEFT puts no update on {target!r} of {kind}, whose kernels read its weight past the layer; "
            f"take it out of tuner.targets"
        )
    if layer is _head(model) and layer.weight is model.get_input_embeddings().weight:
        raise UsageError(
            f"tuner lora: the output head {target!r} of {kind} shares its weight with the embeddings, and an update of "
            f"one alone could not be merged; take it out of tuner.targets, or set tuner.embeddings: all"
        )


def without_gradient(model: Any, names: Iterable[str]) -> list[str]:
    """Return those of the layers, by name, that training on text would not change, as tried on a few tokens.

    The experts of a layer stand together: one that these tokens do not reach is reached by others.

    Args:
        model: without adapter, with weights.
        names: of the layers, as `named_modules` has them.
    """
    embeddings: Any = model.get_input_embeddings()
    ids = [1 + i % max(1, embeddings.weight.shape[0] - 1) for i in range(PROBE_TOKENS)]
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[re.sub(r"experts\.\d+\.", "experts.", name)].append(name)
    markers: dict[str, torch.Tensor] = {}
    odd: set[str] = set()

    def mark(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
            if not torch.is_tensor(output):
                odd.add(name)
                return output
            zero = markers.setdefault(name, torch.zeros((), device=output.device, requires_grad=True))
            return output + zero.to(output.dtype)

        return hook

    modules: Mapping[str, nn.Module] = dict(model.named_modules())
    handles = [modules[name].register_forward_hook(mark(name)) for group in groups.values() for name in group]
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad():
            logits = model(input_ids=torch.tensor([ids], device=embeddings.weight.device), use_cache=False).logits
        found = list(markers)
        total = logits.float().square().sum()
        gradients = torch.autograd.grad(total, list(markers.values()), allow_unused=True) if found else ()
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    reached = {name for name, gradient in zip(found, gradients, strict=True) if gradient is not None} - odd
    return [name for group in groups.values() if not reached & set(group) for name in group]


def adapted_share(model: Any) -> float:
    """Return the share of the language part's matrix weights that have an update; embeddings do not count.

    Args:
        model: wrapped by PEFT.
    """
    from peft.tuners.lora import LoraLayer
    from peft.tuners.osf import OSFLayer

    base: Any = model.get_base_model() if hasattr(model, "get_base_model") else model
    head, (_, part) = base.get_output_embeddings(), language_part(base)
    total = adapted = 0
    for name, module in part.named_modules():
        adapter: Any = module if isinstance(module, LoraLayer | OSFLayer) else None
        if adapter is not None and not isinstance(adapter.get_base_layer(), nn.Embedding):
            adapted += _matrix_weights(adapter.get_base_layer(), getattr(adapter, "parameter_name", None))
        elif not isinstance(module, nn.Embedding) and module is not head and not _OF_UPDATES.search(f".{name}"):
            total += _matrix_weights(module)
    return adapted / total if total else 0.0


_OF_UPDATES = re.compile(r"\.(lora_|osf_svd_params)")
"""Modules that PEFT puts into a layer."""


def _matrix_weights(module: Any, only: str | None = None) -> int:
    if hasattr(module, "in_features") and hasattr(module, "out_features"):  # in 4 bits the weight itself is packed
        return int(module.in_features * module.out_features)
    named = module.named_parameters(recurse=False)
    return sum(
        weight.numel() for name, weight in named if weight.dim() > 1 and "bias" not in name and only in (None, name)
    )
