"""SSU: the columns of weights that the base's own abilities rest on stay as they are (arXiv 2512.04844)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.core.validation import Positive
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import ALL, BaseSize, Tuner, TunerInputs, unsplit

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel


class SsuTuner(Tuner):
    """All linear layers learn but the columns that matter most to the base on its source data.

    The score of a number is Wanda's, s_ij = |theta_ij| ||X_j||_2, X_j being what comes in at input j over the tokens of
    the source samples; those of a column j are summed, and in each layer the half of the columns with the highest sums
    is frozen (of equal ones the first). The source samples are general prompts of the recipe's replay half, as the base
    is asked them.

    Departures: the paper's 500 samples are whole conversations of instruction data, these are their questions, and
    answers where the prompt file has them; embeddings and output head, which it trains, stay by default
    (`embeddings: all` trains them, too); norms and biases stay.

    The graft holds the layers as a whole, 4 bytes a weight; training needs 16 for each (weight, gradient and two
    moments of AdamW), those of frozen columns included.
    """

    name: ClassVar[str] = "ssu"
    summary: ClassVar[str] = "weights learn but for the columns that the base's own answers rest on"
    paper: ClassVar[str] = "arXiv 2512.04844"
    cite: ClassVar[tuple[str, ...]] = ("yamaguchi-2026-mitigating",)
    operations: ClassVar[float] = 6.0
    low_rank: ClassVar[bool] = False
    needs_prompts: ClassVar[bool] = True
    usual_rates: ClassVar[tuple[float, float]] = (1e-8, 1e-3)
    learning_bytes: ClassVar[float] = 16.0

    class Params(Tuner.Params):
        """Parameters of SSU."""

        frozen: float = Field(0.5, ge=0, lt=1, description="Share of each layer's columns that stay as they are.")
        samples: Positive = Field(500, description="General prompts of the replay half that columns are scored on.")
        embeddings: Literal["none", "all"] = Field(
            "none", description="Whether embeddings and output head learn as well; a vocabulary of its own needs all."
        )

    params: Params

    @property
    def trains_new_rows(self) -> bool:
        """Whether embeddings learn."""
        return self.params.embeddings == "all"

    @property
    def learns_embeddings(self) -> bool:
        """Whether embeddings learn."""
        return self.params.embeddings == "all"

    @property
    def head_learns(self) -> bool:
        """Whether the output head learns."""
        return self.params.embeddings == "all"

    def learnt(self, size: BaseSize) -> float:
        """Return about how many numbers have a gradient, those of frozen columns included."""
        return size.parameters if self.params.embeddings == "all" else size.parameters - size.embeddings

    def refusal(self, train: TrainSettings) -> tuple[str, str] | None:
        """Return what keeps columns from being learnt, or from staying."""
        if train.weight_decay:
            return "weight_decay", "frozen columns would be made smaller by it; set it to 0 with the tuner ssu"
        return unsplit(self.name, train)

    def select(self, model: PreTrainedModel, inputs: TunerInputs) -> Mapping[str, Tensor]:
        """Return for each linear layer which columns learn, (1, in).

        Raises:
            UsageError: there are no prompts to score with, or the base has no plain linear layers.
        """
        import torch

        from lingraft.training.selection import changeable_layers

        if not inputs.replay:
            raise UsageError(
                "tuner ssu: there are no prompts in the replay half to score columns with; add more `prompts`"
            )
        names = changeable_layers(model, self.name)
        squares = _input_squares(model, names, list(islice(iter(inputs.replay), self.params.samples)))
        masks = {}
        for name in names:
            weight: Any = model.get_parameter(f"{name}.weight")
            scores = weight.detach().abs().double().sum(0) * squares[name].sqrt().to(weight.device)
            kept = scores.sort(descending=True, stable=True).indices[: round(self.params.frozen * len(scores))]
            learns = torch.ones(1, len(scores), dtype=torch.bool)
            learns[0, kept.cpu()] = False
            masks[f"{name}.weight"] = learns
        return masks

    def apply(self, model: PreTrainedModel, inputs: TunerInputs, selected: Mapping[str, Tensor] = ALL) -> PeftModel:
        """Return `model` with copies of its linear layers, of which the selected columns learn; all without selection.

        Raises:
            UsageError: the base is in 4 bits or distributed, or has no plain linear layers.
        """
        from lingraft.models.adapter import whole_layers
        from lingraft.training.selection import changeable_layers
        from lingraft.training.tuners.full import shares_head
        from lingraft.training.whole_copies import with_copies

        names = [name.removesuffix(".weight") for name in selected] or changeable_layers(model, self.name)
        masks = {model.get_submodule(name.removesuffix(".weight")): mask for name, mask in selected.items()}
        ends, tied = list[str](), False
        if self.params.embeddings == "all":
            named = {module: name for name, module in model.named_modules()}
            tied = shares_head(model, self.name)
            heads = [model.get_input_embeddings(), *([] if tied else [model.get_output_embeddings()])]
            ends = [named[head] for head in heads]
        adapted = with_copies(model, [*ends, *names], tied=tied, biases=False)
        for wrapper, copy in whole_layers(adapted):
            if (mask := masks.get(wrapper.original_module)) is not None:
                copy.get_parameter("weight").register_hook(_Masked(mask))
        return adapted


class _Masked:
    """Sets the gradient of what stays to zero, before it is summed and its norm taken; AdamW leaves that as it is."""

    def __init__(self, mask: Tensor) -> None:
        self._mask = mask

    def __call__(self, gradient: Tensor) -> Tensor:
        if self._mask.device != gradient.device:
            self._mask = self._mask.to(gradient.device)
        return gradient * self._mask


def _input_squares(model: Any, names: Sequence[str], rows: Sequence[Any]) -> dict[str, Tensor]:
    """Return for each layer the sums of the squares of what comes in at each input, over all tokens of some rows."""
    import torch

    modules = dict(model.named_modules())
    sums = {name: torch.zeros(modules[name].in_features, dtype=torch.float64) for name in names}

    def note(name: str) -> Any:
        def hook(module: Any, inputs: Any) -> None:
            found = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float().square().sum(0)
            sums[name] += found.double().cpu()

        return hook

    handles = [modules[name].register_forward_pre_hook(note(name)) for name in names]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for row in rows:
                model(input_ids=torch.tensor([list(row.input_ids)], device=model.device), use_cache=False)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    return sums
