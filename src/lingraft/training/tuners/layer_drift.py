"""Which decoder layers stay as they are by what a first training does to the model: the drift of its hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from lingraft.core.errors import UsageError
from lingraft.models.adapter import take_off
from lingraft.training.decoder_layers import decoder_layers
from lingraft.training.layer_choice import LayerChoice, best_layers

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from lingraft.rendering.rows import Rendered
    from lingraft.training.tuners import Tuner, TunerInputs

SAMPLES = 100
"""General prompts that drift is measured on at most."""


def least_drifted(
    model: PreTrainedModel, tuner: Tuner, inputs: TunerInputs, choice: LayerChoice
) -> dict[str, torch.Tensor]:
    """Return masks of the layers that a first training has moved least, whose weights are to learn.

    Args:
        model: the base, without adapter.
        tuner: that has trained all layers first; it puts that training on the model again.
        inputs: of which `trained` and `replay` are used.
        choice: how many layers stay as they are.

    Raises:
        UsageError: there are no prompts to measure on, or the model has one layer.
        ModelError: the first training is damaged.
    """
    rows = list(islice(iter(inputs.replay), SAMPLES))
    if not rows:
        raise UsageError(
            "tuner.layers: there are no prompts in the replay half to measure drift on; add more `prompts`"
        )
    names = decoder_layers(model)
    adapted = tuner.apply(model, inputs)
    try:
        if inputs.trained is not None:
            tuner.continue_from(adapted, inputs.trained)
        moved = _states(adapted, names, rows)
        with adapted.disable_adapter():
            before = _states(adapted, names, rows)
    finally:
        take_off(adapted)
    learning = best_layers([-one for one in drift(before, moved).tolist()], choice)
    return {
        f"{names[number]}.{name}": torch.ones((1,) * weight.dim(), dtype=torch.bool)
        for number in learning
        for name, weight in model.get_submodule(names[number]).named_parameters()
    }


def drift(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 - cos of mean hidden states before and after a training, the mean over rows, for each layer.

    Args:
        before: (rows, layers, hidden).
        after: the same.
    """
    return (1 - torch.cosine_similarity(before.double(), after.double(), dim=-1)).mean(0)


@torch.no_grad()
def _states(model: PeftModel, names: Sequence[str], rows: Sequence[Rendered]) -> Tensor:
    """Return what comes out of each layer, the mean over the tokens of a row: (rows, layers, hidden)."""
    means: dict[int, Tensor] = {}

    def noted(number: int) -> Any:
        def hook(_: torch.nn.Module, given: Any, made: Any) -> None:
            means[number] = (made[0] if isinstance(made, tuple) else made)[0].float().mean(0).cpu()

        return hook

    base: Any = model.get_base_model()
    dtype, device = base.dtype, base.device
    was_training = model.training
    model.eval()
    found = []
    try:
        with ExitStack() as hooks, torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for number, name in enumerate(names):
                hooks.callback(base.get_submodule(name).register_forward_hook(noted(number)).remove)
            for row in rows:
                base(input_ids=torch.tensor([list(row.input_ids)], device=device), use_cache=False)
                found.append(torch.stack([means[number] for number in range(len(names))]))
    finally:
        model.train(was_training)
    return torch.stack(found)
