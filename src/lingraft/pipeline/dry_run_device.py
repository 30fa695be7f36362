"""What a dry run says of the device: how fast it is, how much memory a run takes, and what would fit if it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lingraft.core.errors import ModelError, StoreError, UsageError, suggestion
from lingraft.models.architectures import config_of, without_weights
from lingraft.models.files import ALIASES, local_folder
from lingraft.recipe.schema import Recipe
from lingraft.recipe.stages import Expected, Stage
from lingraft.store.disk import free_bytes
from lingraft.training.tuners import TUNERS

CPU_FLOPS = 2e11
"""Sustained bfloat16 rate of two ordinary cores; the estimate for CPUs is coarse."""
UTILISATION = 0.35
"""Share of its peak that training reaches on a GPU."""
NF4_BYTES = (4 + 32 / 256 / 64 + 8 / 64) / 8
"""A weight in 4 bits, with its block's scale in 8 bits and that one's in 32 (QLoRA, arXiv 2305.14314, section 3)."""
GIB = 1024**3


@dataclass(frozen=True)
class Gpu:
    """A graphics card: memory in GiB, and peak of dense bfloat16 products with sums in float32, in TFLOP/s."""

    memory: float
    tflops: float


GPUS = {
    "rtx3090": Gpu(24, 71),
    "rtx4080": Gpu(16, 97.5),
    "rtx4090": Gpu(24, 165.2),
    "rtx5090": Gpu(32, 209.5),
    "a6000": Gpu(48, 154.8),
    "a10": Gpu(24, 125),
    "l4": Gpu(24, 121),
    "l40s": Gpu(48, 362),
    "a100-40gb": Gpu(40, 312),
    "a100-80gb": Gpu(80, 312),
    "h100": Gpu(80, 989),
    "h100-pcie": Gpu(80, 756),
    "h200": Gpu(141, 989),
    "b200": Gpu(180, 2250),
}
"""By NVIDIA's data sheets and architecture whitepapers; where these give rates with sparsity, half of them."""


@dataclass(frozen=True)
class Size:
    """What is known of the base. `embeddings`: those of its parameters that are embeddings and output head."""

    parameters: float
    hidden_size: int
    layers: int
    embeddings: float = 0.0


@dataclass(frozen=True)
class Device:
    """Where a run is taken to happen. `flops`: what training sustains. `memory`: in GiB; None where none is assumed."""

    name: str
    flops: float
    memory: float | None = None


def find_gpu(name: str) -> Gpu:
    """Return a card by its name, in which case, blanks and hyphens do not count.

    Raises:
        UsageError: it is not in the table.
    """
    known = {_bare(key): key for key in GPUS}
    if _bare(name) not in known:
        raise UsageError(
            f"there is no GPU {name!r} in the table{suggestion(name.lower(), GPUS)}; or give its rate as "
            f"`expected.peak_tflops` of the recipe"
        )
    return GPUS[known[_bare(name)]]


def _bare(name: str) -> str:
    return "".join(name.lower().replace("nvidia", "").replace("geforce", "").split()).replace("-", "")


def device_of(expected: Expected | None, gpu: str | None = None) -> Device:
    """Return the device of the estimates: the card that is named, else that of the recipe's `expected:`, else the one
    of this machine.

    Raises:
        UsageError: as `find_gpu`.
    """
    if gpu:
        card = find_gpu(gpu)
        return Device(
            f"one {gpu} ({card.tflops:g} bfloat16 TFLOP/s at {UTILISATION:.0%})", _sustained(card), card.memory
        )
    if expected:
        text = f"one device of {expected.peak_tflops:g} bfloat16 TFLOP/s at {expected.utilisation:.0%}"
        return Device(text, expected.peak_tflops * 1e12 * expected.utilisation)
    return _own() or Device("two CPU cores", CPU_FLOPS)


def _sustained(card: Gpu) -> float:
    return card.tflops * 1e12 * UTILISATION


def _own() -> Device | None:
    """Return this machine's GPU, if it has one whose rate is known."""
    import torch

    if not torch.cuda.is_available():
        return None
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / GIB
    fitting = [key for key in GPUS if _bare(key).removesuffix("40gb").removesuffix("80gb") in _bare(name)]
    if not fitting:
        return None
    card = GPUS[max(fitting, key=lambda key: (len(key), -abs(GPUS[key].memory - memory)))]
    return Device(f"this machine's {name}", _sustained(card), memory)


def size_of(recipe: Recipe) -> Size | None:
    """Return the size of a recipe's base: of the model where it is on this machine, else as the recipe expects it; None
    where neither tells."""
    folder = local_folder(recipe.model, recipe.revision)
    if folder is not None and (size := _counted(folder)) is not None:
        return size
    if folder is None and recipe.model in ALIASES:
        return Size(135e6, 576, 30, 49152 * 576)
    expected = recipe.expected
    if expected is None or expected.parameters is None:
        return None
    embeddings = min(0.25 * expected.parameters, 2.0 * expected.vocabulary * expected.hidden_size)
    return Size(expected.parameters, expected.hidden_size, expected.layers, embeddings)


def width_of(recipe: Recipe) -> int | None:
    """Return the hidden size of a recipe's base; None where the model is not on this machine, or does not tell."""
    folder = local_folder(recipe.model, recipe.revision)
    return None if folder is None else getattr(config_of(folder).get_text_config(), "hidden_size", None)


def _counted(folder: Path) -> Size | None:
    """Return the size of a model by its configuration; None where it has no model to build, which the trial tells."""
    try:
        model = without_weights(folder)
        config = model.config.get_text_config()
        whole = sum(weight.numel() for weight in model.parameters())
        return Size(whole, config.hidden_size, config.num_hidden_layers, _embeddings(model))
    except (ModelError, AttributeError):
        return None


def _embeddings(model: Any) -> int:
    """Return the parameters of embeddings and output head, tied ones once."""
    layers = [layer for layer in (model.get_input_embeddings(), model.get_output_embeddings()) if layer is not None]
    return sum({id(layer.weight): layer.weight.numel() for layer in layers}.values())


def weights_gib(size: Size, precision: str) -> float:
    """Return the memory of the base's weights; with nf4, embeddings, head and norms stay in 16 bits."""
    if precision == "nf4":
        return (2 * size.embeddings + NF4_BYTES * (size.parameters - size.embeddings)) / GIB
    return (4 if precision == "fp32" else 2) * size.parameters / GIB


def training_gib(stage: Stage, size: Size) -> float:
    """Return what a stage needs beside the base."""
    # Per token and layer about 18 hidden-sized bfloat16 activations are kept for the backward pass (34 bytes each).
    per_token = size.layers * size.hidden_size * (2 if stage.train.gradient_checkpointing else 34)
    tuner = TUNERS.create(stage.tuner)
    learning = tuner.learning_bytes * tuner.learnt(size)
    return float(stage.train.micro_tokens * per_token + learning) / GIB


def memory_gib(recipe: Recipe, size: Size) -> float:
    """Return the memory of a recipe's largest stage."""
    trained = [training_gib(stage, size) for system in recipe.systems() for stage in system.stages]
    return weights_gib(size, recipe.precision) * 1.05 + 1.5 + max(trained, default=0.0)


def disk_bytes(recipe: Recipe, size: Size) -> float:
    """Return what a run's folder takes on the disk at most: the grafts of all stages, the published one, its copies at
    other scales, what is merged (whole layers), and of the largest training the old and the new checkpoint, each with
    two moments beside the weights. Text is small beside them."""
    learnt = [_learnt_bytes(stage, size) for system in recipe.systems() for stage in system.stages]
    own = scaled = _learnt_bytes(recipe.stages[-1], size) if recipe.stages else 0.0
    if recipe.stages and not TUNERS.create(recipe.stages[-1].tuner).adds_up:  # then a copy holds whole weights
        scaled = max(own, 4 * (size.parameters - size.embeddings))
    merged = 4 * (size.parameters + size.embeddings) * len(recipe.merges())  # shared embeddings are written twice
    return sum(learnt) + own + merged + len(recipe.evaluate.scales) * scaled + 2 * 3 * max(learnt, default=0.0)


def _learnt_bytes(stage: Stage, size: Size) -> float:
    """Return the bytes of what a stage trains, in float32."""
    tuner = TUNERS.create(stage.tuner)
    return tuner.kept_bytes * tuner.learnt(size)


def room(recipe: Recipe, size: Size, folder: Path) -> str:
    """Return what is needed on the disk and what is free, where it is too little; "" where it is enough."""
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed, free = disk_bytes(recipe, size) - there, free_bytes(folder)
    if needed <= free:
        return ""
    return (
        f"{folder} needs about {_bytes(needed)} more for adapters and checkpoints, and {_bytes(free)} are free on its "
        f"disk; free some space, or choose a folder on another one with --out"
    )


def _bytes(number: float) -> str:
    return f"{number / GIB:,.1f} GiB" if number >= GIB else f"{number / 1024**2:,.1f} MiB"


def check_room(recipe: Recipe, folder: Path) -> None:
    """Refuse to begin what will fill the disk hours later.

    Raises:
        StoreError: there is too little room.
    """
    size = size_of(recipe)
    if size is not None and (lacking := room(recipe, size, folder)):
        raise StoreError(lacking)


def verdict(recipe: Recipe, size: Size, device: Device) -> str:
    """Say whether a recipe fits the device's memory, and what makes it fit; "" where no memory is assumed."""
    if device.memory is None:
        return ""
    if memory_gib(recipe, size) <= device.memory:
        return f"fits {device.memory:.0f} GB"
    last = 0.0
    for words, changed in _smaller(recipe):
        last = memory_gib(changed, size)
        if last <= device.memory:
            return f"does not fit {device.memory:.0f} GB; fits with {words} ({last:.0f} GiB)"
    return (
        f"does not fit {device.memory:.0f} GB, nor with less at a time and the base in 4 bits ({last:.0f} GiB): take a "
        f"smaller base or a larger device"
    )


def _smaller(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Yield changes that need less memory, the cheapest first."""
    if recipe.stages:
        yield "gradient_checkpointing: true", _changed(recipe, {"gradient_checkpointing": True})
        for share in (2, 4):
            micro = max(stage.train.micro_tokens for stage in recipe.stages) // share
            changes = {"gradient_checkpointing": True, "micro_tokens": micro}
            yield f"gradient_checkpointing: true and micro_tokens: {micro}", _changed(recipe, changes)
    merges = any(stage.fresh for system in recipe.systems() for stage in system.stages)
    if recipe.precision != "nf4" and not merges:
        yield "precision: nf4", _changed(recipe, {"precision": "nf4"})
        if recipe.stages:
            both = {"precision": "nf4", "gradient_checkpointing": True}
            yield "precision: nf4 and gradient_checkpointing: true", _changed(recipe, both)


def _changed(recipe: Recipe, train: Mapping[str, object]) -> Recipe:
    """Return the recipe with settings of all its trainings changed."""
    stages = [stage.model_copy(update={"train": stage.train.model_copy(update=train)}) for stage in recipe.stages]
    compare = [one.model_copy(update={"train": {**one.train, **train} if one.train else {}}) for one in recipe.compare]
    evaluate = recipe.evaluate.model_copy(update={key: value for key, value in train.items() if key == "precision"})
    return recipe.model_copy(update={"stages": stages, "compare": compare, "evaluate": evaluate})


def generation_hours(tokens: float, size: Size, flops: float) -> float:
    """Return the hours of writing so many tokens: batched generation reaches about a tenth of what training does.

    Args:
        tokens: that are written.
        size: of the base.
        flops: floating-point operations a second that training reaches.
    """
    return 2 * size.parameters * tokens / (flops * 0.3) / 3600
