"""Sparse tuning: single numbers of the base's weights learn (LT-SFT, Ansell et al. 2022, arXiv 2110.07560)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from lingraft.core.errors import UsageError
from lingraft.core.hashing import seed_of
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import ALL, BaseSize, Tuner, TunerInputs, unsplit

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel


class SparseTuner(Tuner):
    """K numbers of the linear layers' weights learn; all others stay as they are.

    `lt`, lottery-ticket sparse fine-tuning: (1) all weights of the linear layers are trained, theta0 to theta'; (2) the
    K numbers of largest |theta' - theta0| are kept, over all layers together; (3) training begins again at theta0, and
    only they learn. The delta phi = theta - theta0 is the graft: deltas that were trained apart are added,
    theta = theta0 + phi_language + phi_task (arXiv 2204.02292). `l1` adds (l1 / N) sum |theta - theta0| over the N
    numbers that learn to the loss of every step, in both passes; its gradient is not clipped. `random` and `magnitude`
    (the largest |theta0|) choose without the first pass.

    Departures: layer norms, biases, embeddings and output head are never chosen (the paper freezes norms and head); the
    first pass is one round, not several.

    The graft is an adapter of PEFT's SHiRA (arXiv 2406.13175), 12 bytes a number (value and place) where the layers
    have shares alike; it is filled up to the share of the densest layer. Training needs 24 bytes for each number that
    learns and one layer's weight twice; the first pass of `lt` 16 bytes for each weight of the linear layers.
    """

    name: ClassVar[str] = "sparse"
    summary: ClassVar[str] = "single numbers of the weights learn (LT-SFT): small deltas that can be added"
    paper: ClassVar[str] = "arXiv 2110.07560, 2204.02292"
    cite: ClassVar[tuple[str, ...]] = ("ansell-2022-composable", "litschko-2022-parameter")
    operations: ClassVar[float] = 6.0
    low_rank: ClassVar[bool] = False
    sparse: ClassVar[bool] = True
    usual_rates: ClassVar[tuple[float, float]] = (1e-7, 1e-2)

    class Params(Tuner.Params):
        """Parameters of sparse tuning."""

        density: float = Field(0.05, gt=0, lt=1, description="Share of the linear layers' weights that learn.")
        count: int | None = Field(None, ge=1, description="How many learn, in place of `density`.")
        mask: Literal["lt", "random", "magnitude"] = Field(
            "lt",
            description="Which learn: those that a first training of all changes most (twice the time), drawn ones, or "
            "the largest of the base.",
        )
        l1: float = Field(
            0.0, ge=0, description="Weight of the mean |change| in the loss; the paper's language masks: 0.1."
        )

        @model_validator(mode="after")
        def _one_number(self) -> SparseTuner.Params:
            if self.count is not None and self.density != type(self).model_fields["density"].default:
                raise ValueError("`count` and `density` both say how many learn; drop one of the two")
            return self

    params: Params

    @property
    def passes(self) -> int:  # type: ignore[override]
        """Two where a first training selects."""
        return 2 if self.params.mask == "lt" else 1

    @property
    def learning_bytes(self) -> float:  # type: ignore[override]
        """Weight, gradient and two moments; without a first pass also the place, three numbers of it."""
        return 16.0 if self.passes == 2 else 24.0

    @property
    def kept_bytes(self) -> float:
        """Of a first pass' copy; without one, value and place of each."""
        return 4.0 if self.passes == 2 else 12.0

    def learnt(self, size: BaseSize) -> float:
        """Return about how many numbers learn at once: all of the linear layers where a first pass selects."""
        linear = size.parameters - size.embeddings
        return linear if self.passes == 2 else min(linear, self.params.count or self.params.density * linear)

    def refusal(self, train: TrainSettings) -> tuple[str, str] | None:
        """Return what keeps single numbers of weights from being learnt."""
        return unsplit(self.name, train)

    @property
    def beyond_updates(self) -> str:
        """Its changes have a form of their own."""
        return "that changes single numbers of the base (tuner sparse)"

    @property
    def learns_embeddings(self) -> bool:
        """Embeddings stay."""
        return False

    @property
    def head_learns(self) -> bool:
        """The output head stays."""
        return False

    def select(self, model: PreTrainedModel, inputs: TunerInputs) -> Mapping[str, Tensor]:
        """Return masks of the numbers that learn, by `mask`.

        Raises:
            UsageError: `count` is all that there is, or more.
        """
        from lingraft.models.adapter import read_parts
        from lingraft.training.selection import changeable_layers, largest

        names = changeable_layers(model, self.name)
        weights: dict[str, Any] = {f"{name}.weight": model.get_parameter(f"{name}.weight") for name in names}
        total = sum(weight.numel() for weight in weights.values())
        count = self._count(total)
        trained = read_parts(inputs.trained).whole if self.params.mask == "lt" and inputs.trained else {}

        def sizes(name: str) -> Tensor:
            weight = weights[name].detach()
            if self.params.mask == "magnitude":
                return weight.float().abs()
            if self.params.mask == "lt":
                return (trained[name].to(weight.device) - weight.float()).abs()
            return _drawn(weight.shape, seed_of(["sparse", inputs.seed, name]))

        return largest(list(weights), sizes, count)

    def _count(self, total: int) -> int:
        count = self.params.count or max(1, round(self.params.density * total))
        if count >= total:
            raise UsageError(
                f"tuner.count: {count:,} of the {total:,} weights of the linear layers leave none as it is; lower it, "
                f"or take the tuner full"
            )
        return count

    def learning(self, adapted: PeftModel) -> int:
        """Return how many numbers learn in the end."""
        from lingraft.models.sparse_layer import sparse_layers

        found = super().learning(adapted)
        return found if sparse_layers(adapted) else self._count(found)

    def apply(self, model: PreTrainedModel, inputs: TunerInputs, selected: Mapping[str, Tensor] = ALL) -> PeftModel:
        """Return `model` with what was selected learning from 0; without a selection, all weights of linear layers.

        Raises:
            UsageError: the base has no plain linear layers, or they are in 4 bits or distributed.
        """
        if not selected:
            from lingraft.training.selection import changeable_layers
            from lingraft.training.whole_copies import with_copies

            return with_copies(model, changeable_layers(model, self.name), biases=False)
        import torch

        from lingraft.models.sparse_entries import Entries
        from lingraft.models.sparse_layer import wrapped

        entries = {}
        for name, mask in selected.items():
            places = mask.nonzero().t()
            if places.shape[1]:
                values = torch.zeros(places.shape[1])
                entries[name.removesuffix(".weight")] = Entries(places.int(), values, sum(mask.shape))
        adapted: PeftModel = wrapped(model, entries)
        return adapted

    def save(self, adapted: PeftModel, folder: Path) -> None:
        """Write the changes filled up to the counts of PEFT's form; those of a first pass as whole layers."""
        import copy

        from lingraft.models.sparse_files import write_entries
        from lingraft.models.sparse_layer import entries_of

        if entries := entries_of(adapted):
            write_entries(copy.copy(adapted.peft_config["default"]), entries, folder)
        else:
            super().save(adapted, folder)

    def before_step(self, model: PeftModel) -> None:
        """Add the gradient of the penalty."""
        if not self.params.l1:
            return
        from lingraft.models.adapter import whole_layers

        learns = {parameter for parameter in model.parameters() if parameter.requires_grad}
        rate = self.params.l1 / max(1, sum(parameter.numel() for parameter in learns))
        starts: dict[Any, Tensor] = {
            copy.get_parameter("weight"): wrapper.original_module.weight for wrapper, copy in whole_layers(model)
        }
        for parameter in learns:
            if parameter.grad is not None:
                start = starts.get(parameter)
                change = parameter.detach() if start is None else parameter.detach() - start.float()
                parameter.grad.add_(change.sign(), alpha=rate)


def _drawn(shape: Any, seed: int) -> Tensor:
    import torch

    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
