"""Orthogonal subspace fine-tuning: all but the leading singular directions of each weight learn (arXiv 2504.07097)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.core.errors import ModelError, UsageError, first_line
from lingraft.training.decoder_layers import EVERY_LAYER, HOW, Layers, chosen_layers, layer_share, within
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import ALL, BaseSize, Tuner, TunerInputs
from lingraft.training.tuners.layered import LayeredTuner

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class OsfTuner(LayeredTuner):
    """PEFT's OSF: W = U_high S_high V_high + U_low S_low V_low, of which the second sum learns, by singular values.

    The leading directions stay exactly as they are, and what is learnt is orthogonal to them on both sides.

    What PEFT would keep (`U_low`, `S_low`, `V_low`) means something only beside a decomposition of the base that is
    computed anew wherever it is loaded, and no engine but PEFT knows it. It is converted: the change U_low S_low V_low
    - (the same before training) has at most as many dimensions as there are directions that learn, so that it is a
    low-rank update exactly, of that rank. The graft is a plain LoRA adapter; without it the base is the base.

    Departures: PEFT projects gradients alone, after which the steps of AdamW leave the subspace; here `U_low` and
    `V_low` are projected after each step as well. Decompositions are float32 whatever the type of the base. All linear
    layers of the language part learn, with one share of directions kept, where the paper chooses it layer by layer.
    """

    name: ClassVar[str] = "osf"
    summary: ClassVar[str] = "all but the leading singular directions of each weight learn"
    paper: ClassVar[str] = "arXiv 2504.07097"
    cite: ClassVar[tuple[str, ...]] = ("nayak-2025-sculpting",)
    # Beside a step with frozen weights, products with two factors of half the rank each, forward and backward.
    operations: ClassVar[float] = 13.0
    learning_bytes: ClassVar[float] = 20.0  # weight, gradient, two moments of AdamW, and what it was before training
    usual_rates: ClassVar[tuple[float, float]] = (1e-8, 1e-3)

    class Params(Tuner.Params):
        """Parameters of OSF."""

        keep: float = Field(
            0.5, gt=0, lt=1, description="Share of the singular directions of each weight that stay as they are."
        )
        layers: Layers = Field(EVERY_LAYER, description=HOW)

    params: Params

    @property
    def cited(self) -> tuple[str, ...]:
        """Its paper, and that of the rule for layers."""
        return (*self.cite, *([self.rule.paper] if self.rule else []))

    def learnt(self, size: BaseSize) -> float:
        """Return about how many numbers learn."""
        # Seven products a layer; inputs and outputs of all of them together are some 21 times as wide as the model.
        layers = layer_share(self.params.layers, size.layers) * size.layers
        return (1 - self.params.keep) * size.hidden_size * 21 * size.hidden_size * layers

    def update_rank(self, width: int | None = None) -> int:
        """Return how many directions of a layer as wide as the base learn."""
        return 0 if width is None else width - int(width * self.params.keep)

    def refusal(self, train: TrainSettings) -> tuple[str, str] | None:
        """Return what hides whole weights."""
        if train.precision == "nf4":
            return "precision", (
                "osf decomposes whole weights, and those in 4 bits are rounded; choose another train.precision than "
                "nf4, or the tuner lora with `orthogonal`"
            )
        if train.sharding == "full":
            return "sharding", "osf decomposes whole weights, and `full` gives each process a part of them; drop it"
        return None

    def apply(self, model: PreTrainedModel, inputs: TunerInputs, selected: Mapping[str, Tensor] = ALL) -> PeftModel:
        """Return `model` wrapped with decompositions of its linear layers; nothing is random.

        Raises:
            UsageError: it has no such layers, or a share of directions that leaves none to keep or to learn.
        """
        from peft import OSFConfig, get_peft_model
        from torch import nn

        from lingraft.models.adapter import learn_in_float32
        from lingraft.models.devices import quiet
        from lingraft.training.targets import linear_layers, without_gradient

        chosen = chosen_layers(model, self.params.layers, selected)
        modules = dict(model.named_modules())
        layers = [n for n in linear_layers(model) if within(n, chosen) and type(modules[n]) is nn.Linear]
        if model.device.type != "meta":
            idle = {*without_gradient(model, layers)}
            layers = [name for name in layers if name not in idle]
        if not layers:
            raise UsageError(
                f"tuner osf: {type(model).__name__} has no plain linear layers there, and OSF knows no others; use the "
                f"tuner lora with `orthogonal`"
            )
        self._check_directions({name: min(modules[name].weight.shape) for name in layers})
        config = OSFConfig(task_type="CAUSAL_LM", target_modules=layers, effective_rank=self.params.keep)
        with _in_float32([modules[name].weight for name in layers]):
            try:
                with quiet():
                    adapted = get_peft_model(model, config)
            except ValueError as error:
                raise UsageError(
                    f"tuner osf: PEFT cannot adapt {type(model).__name__} ({first_line(error)}); use the tuner lora"
                ) from error
        learn_in_float32(adapted)
        return adapted

    def _check_directions(self, counts: Mapping[str, int]) -> None:
        from lingraft.models.adapter_config import MAX_RANK

        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        if int(counts[fewest] * self.params.keep) < 1:
            raise UsageError(
                f"tuner.keep: {self.params.keep:g} of the {counts[fewest]} directions of {fewest!r} is none; raise it"
            )
        learning = counts[most] - int(counts[most] * self.params.keep)
        if learning > MAX_RANK:
            raise UsageError(
                f"tuner.keep: {learning:,} directions of {most!r} would learn, and a graft holds {MAX_RANK:,}; raise it"
            )

    def constraint(
        self, adapted: PeftModel, originals: Mapping[nn.Parameter, Tensor] = MappingProxyType({})
    ) -> Callable[[], None] | None:
        """Return what puts the learning directions where they are orthogonal to those that stay."""
        layers = [layer for _, layer in osf_layers(adapted)]

        def project() -> None:
            for layer in layers:
                learning = layer.osf_svd_params["default"]
                u, v = learning["U_low"], learning["V_low"]
                u.copy_(_projected(u, dict(layer._osf_U_high.items()), layer._osf_U_low_init["default"]))
                high = {name: rows.T for name, rows in layer._osf_V_high.items()}
                v.copy_(_projected(v.T, high, layer._osf_V_low_init["default"].T).T)

        return project

    def save(self, adapted: PeftModel, folder: Path) -> None:
        """Write what has been learnt as a plain LoRA adapter."""
        import torch
        from peft import LoraConfig

        from lingraft.models.adapter import Factors, Parts, write_parts

        own = adapted.peft_config["default"]
        parts = Parts(LoraConfig(task_type="CAUSAL_LM", base_model_name_or_path=own.base_model_name_or_path))
        with torch.no_grad():
            for name, layer in osf_layers(adapted):
                change = layer.get_delta_weight("default").float()
                u, v = layer._osf_U_low_init["default"], layer._osf_V_low_init["default"]
                if change.shape[0] <= change.shape[1]:  # its columns lie in those of u, its rows in those of v
                    q, r = torch.linalg.qr((u.T @ change).T)
                    parts.factors[name] = Factors(q.T, u @ r.T)
                else:
                    parts.factors[name] = Factors(v, change @ v.T)
        write_parts(parts, folder)

    def continue_from(self, adapted: PeftModel, folder: Path) -> None:
        """Let training go on from a saved adapter.

        Raises:
            ModelError: damaged, of other layers, or with changes in directions that stay as they are.
        """
        import torch

        from lingraft.models.adapter import read_parts

        layers, parts = dict(osf_layers(adapted)), read_parts(folder)
        if parts.factors.keys() != layers.keys() or parts.whole or parts.rows:
            raise ModelError(f"the adapter in {folder} has other layers; continue with the tuner it was made with")
        with torch.no_grad():
            for name, layer in layers.items():
                learning = layer.osf_svd_params["default"]
                u, s, v = (learning[part] for part in ("U_low", "S_low", "V_low"))
                change = parts.factors[name].on(torch.zeros_like(u @ v))
                total = (u * s) @ v + change
                left, values, right = torch.linalg.svd(total, full_matrices=False)
                kept = (left[:, : len(s)], values[: len(s)], right[: len(s)])
                if ((kept[0] * kept[1]) @ kept[2] - total).norm() > 1e-3 * change.norm() + 1e-5 * total.norm():
                    raise ModelError(
                        f"the adapter in {folder} changes what stays as it is here (see {name}); continue with the "
                        f"tuner it was made with"
                    )
                for parameter, value in zip((u, s, v), kept, strict=True):
                    parameter.copy_(value)


def osf_layers(adapted: Any) -> Iterator[tuple[str, Any]]:
    """Yield the layers that learn, by the base's own names."""
    from peft.tuners.osf import OSFLayer

    for name, module in adapted.get_base_model().named_modules():
        if isinstance(module, OSFLayer):
            yield name, module


def _projected(learning: Tensor, high: Mapping[str, Tensor], low: Tensor) -> Tensor:
    """Return columns without what lies in the directions that stay.

    Args:
        learning: (n, number of directions that learn).
        high: adapter -> columns that stay, where PEFT keeps them: where there are others orthogonal to them than `low`.
        low: columns of the directions that learn, as they began.
    """
    if "default" in high:
        return learning - high["default"] @ (high["default"].T @ learning)
    return low @ (low.T @ learning)


@contextmanager
def _in_float32(weights: list[Any]) -> Iterator[None]:
    """Hold weights in float32 for the time of the block; then put back the very tensors that were there."""
    originals = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.float()
        yield
    finally:
        for weight, data in zip(weights, originals, strict=True):
            weight.data = data
