"""Which decoder layers stay as they are by a rule: by what instruction tuning changed in their weights, by how much
signal these hold, or by what a first training does to the model (`lingraft.training.tuners.layer_drift`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from pydantic import Field, model_validator

from lingraft.core.errors import UsageError
from lingraft.core.validation import Settings

if TYPE_CHECKING:
    from torch import Tensor


class LayerChoice(Settings):
    """A rule that says which decoder layers learn.

    `weight_change` is LF_H2 of CFT (Aggarwal et al. 2024, arXiv 2410.16006): frozen are the layers that changed most
    when a pretrained model became the chat model, |W - W0| / |W0| over all weights of a layer, so that what was learnt
    then is kept.

    `spectrum` is Spectrum (Hartford et al. 2024, arXiv 2406.06623): the matrices with the highest ratio of signal to
    noise learn, the others are frozen. Of the singular values S of an (n, m) matrix those above the threshold of
    Marchenko and Pastur, e = s (1 + sqrt(n / m)) with n <= m, are signal and the others noise, the deviation s being
    their interquartile range / 1.349; the ratio of their sums is divided by the largest of them. Departure: the paper
    ranks matrices of one kind and takes the best of each kind; here layers are ranked, by the mean rank of their
    matrices among those of their kind.

    `drift` freezes the layers behind which a first training of all layers moves the hidden states most: for general
    prompts of the replay half, 1 - cos of the base's and the trained model's hidden states, each the mean over the
    tokens of a prompt, and the mean of that over the prompts. CFT finds that such drift goes with what is forgotten;
    that layers are chosen by it is a reading of the paper, whose own choices are the two above and chance.
    """

    by: Literal["weight_change", "spectrum", "drift"] = Field(description="the rule, see `LayerChoice`")
    keep: float = Field(0.5, gt=0, lt=1, description="share of the layers that stay frozen; at least one, and not all")
    pretrained: str | None = Field(
        None, min_length=1, description="by: weight_change: the model that the base was tuned from, by path or hub id"
    )

    @model_validator(mode="after")
    def _whole(self) -> LayerChoice:
        if (self.by == "weight_change") != (self.pretrained is not None):
            raise ValueError(
                "`by: weight_change` compares the base with the pretrained model that it was tuned from, and no other "
                "rule does; give `pretrained` with it alone"
            )
        return self

    @property
    def paper(self) -> str:
        """The key of the paper that the rule is of."""
        return "hartford-2024-spectrum" if self.by == "spectrum" else "aggarwal-2024-cft"

    def frozen(self, count: int) -> int:
        """Return how many of so many layers stay frozen.

        Raises:
            UsageError: there is one, of which none can be kept.
        """
        if count < 2:
            raise UsageError("tuner.layers: the model has one layer, of which none can be kept; use `layers: all`")
        return min(count - 1, max(1, round(self.keep * count)))

    def __hash__(self) -> int:
        return hash((self.by, self.keep, self.pretrained))


_KNOWN: WeakKeyDictionary[Any, dict[Any, list[int]]] = WeakKeyDictionary()
"""What was chosen for a model with certain weights: the singular values of all its matrices take a while."""


def learning_layers(model: Any, names: Sequence[str], choice: LayerChoice) -> list[int]:
    """Return the numbers of the layers that learn, in order.

    Of a model without weights (meta device) the last ones are taken: which they are is not known then.

    Args:
        model: the base, in its own weights.
        names: of its decoder layers.
        choice: the rule, one that looks at weights alone.

    Raises:
        UsageError: the model has one layer, its weights are not whole, or the pretrained model has others.
        ModelError: the pretrained model cannot be found.
    """
    frozen = choice.frozen(len(names))
    weights = [dict(model.get_submodule(name).named_parameters()) for name in names]
    if any(weight.is_meta for layer in weights for weight in layer.values()):
        return list(range(frozen, len(names)))
    odd = next((w for layer in weights for w in layer.values() if not w.is_floating_point() or _sharded(w)), None)
    if odd is not None:
        raise UsageError(
            f"tuner.layers: `by: {choice.by}` needs whole weights, not in 4 bits and not sharded; name the layers "
            f"instead, or drop train.precision nf4 and train.sharding"
        )
    known = _KNOWN.setdefault(model, {})
    key = choice, tuple(float(weight.detach().double().sum()) for layer in weights for weight in layer.values())
    if key not in known:
        known.clear()
        scores = _snr_ranks(weights) if choice.by == "spectrum" else _changes(names, weights, choice)
        # The highest signal learns; what changed most is kept.
        worth = scores if choice.by == "spectrum" else [-score for score in scores]
        known[key] = best_layers(worth, choice)
    return known[key]


def best_layers(worth: Sequence[float], choice: LayerChoice) -> list[int]:
    """Return the numbers of the layers that learn, in order: those worth most, of equal ones the first.

    Args:
        worth: of each layer.
        choice: how many stay frozen.
    """
    best = sorted(range(len(worth)), key=lambda number: (-worth[number], number))
    return sorted(best[: len(worth) - choice.frozen(len(worth))])


def _sharded(weight: Tensor) -> bool:
    return hasattr(weight, "full_tensor")


def _snr_ranks(layers: Sequence[dict[str, Tensor]]) -> list[float]:
    """Return, for each layer, the mean rank of its matrices by signal to noise, from 0 among those of their kind."""
    kinds = [name for name, weight in layers[0].items() if weight.dim() == 2 and min(weight.shape) > 1]
    if not kinds:
        raise UsageError("tuner.layers: the model's layers have no matrices; name the layers instead")
    ranks = [0.0] * len(layers)
    for kind in kinds:
        ratios = [signal_to_noise(layer[kind]) if kind in layer else 0.0 for layer in layers]
        order = sorted(range(len(layers)), key=lambda number: (ratios[number], -number))
        for rank, number in enumerate(order):
            ranks[number] += rank / len(kinds)
    return ranks


def signal_to_noise(weight: Tensor) -> float:
    """Return the ratio of signal to noise of a matrix, see `LayerChoice`; infinite where nothing is noise."""
    import torch

    values = torch.linalg.svdvals(weight.detach().float())
    low, high = (float(torch.quantile(values, share)) for share in (0.25, 0.75))
    short, long = sorted(weight.shape)
    threshold = (high - low) / 1.349 * (1 + math.sqrt(short / long))
    noise, largest = float(values[values <= threshold].sum()), float(values[0])
    if not largest:
        return 0.0
    return float(values[values > threshold].sum()) / noise / largest if noise else math.inf


def _changes(names: Sequence[str], layers: Sequence[dict[str, Tensor]], choice: LayerChoice) -> list[float]:
    """Return how much each layer differs from the pretrained model's, relative to that."""
    from lingraft.models.files import find_model

    folder = find_model(str(choice.pretrained)).folder
    with ExitStack() as opened:
        read = _reader(folder, opened)
        return [_change(name, layer, read, folder) for name, layer in zip(names, layers, strict=True)]


def _change(name: str, layer: dict[str, Tensor], read: Callable[[str], Tensor | None], folder: Path) -> float:
    moved = size = 0.0
    for part, weight in layer.items():
        before = read(f"{name}.{part}")
        if before is None or before.shape != weight.shape:
            raise UsageError(
                f"tuner.layers: {folder} has no weights {name}.{part} of the base's shape; give as `pretrained` the "
                f"model that the base was tuned from"
            )
        before = before.to(weight.device).float()
        moved += float((weight.detach().float() - before).square().sum())
        size += float(before.square().sum())
    return math.sqrt(moved / size) if size else math.inf


def _reader(folder: Path, opened: ExitStack) -> Callable[[str], Tensor | None]:
    """Return what reads one tensor of a model's files by its name, None where there is none of it."""
    from safetensors import safe_open

    from lingraft.core.strangers import from_strangers

    places: dict[str, Any] = {}
    with from_strangers(f"cannot read the weights in {folder}", "copy the model anew"):
        for path in _files(folder):
            file = opened.enter_context(safe_open(path, framework="pt"))
            places |= dict.fromkeys(file.keys(), file)

    def read(name: str) -> Tensor | None:
        with from_strangers(f"cannot read the weights in {folder}", "copy the model anew"):
            found: Tensor | None = places[name].get_tensor(name) if name in places else None
            return found

    return read


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.glob("*.safetensors"))
