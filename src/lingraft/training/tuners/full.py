"""Full tuning: all weights learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.training.decoder_layers import EVERY_LAYER, HOW, Layers, chosen_layers, layer_share, within
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import ALL, BaseSize, Tuner, TunerInputs, unsplit
from lingraft.training.tuners.layered import LayeredTuner

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class FullTuner(LayeredTuner):
    """All weights of the base learn, embeddings and output head included, tied where the base ties them.

    What is trained is kept as a PEFT adapter all the same: a whole copy of every layer that has weights
    (`modules_to_save`), and no low-rank update. It so loads, switches off, is merged and exported like any other,
    beside the untouched base. The copies are float32 whatever the type of the base: the graft has 4 bytes for each
    weight of the model (shared embeddings are written twice, as PEFT does), and training needs 16 (weight, gradient and
    two moments of AdamW) beside the base itself. A learning rate ten times lower than for LoRA is usual.

    With `layers` the weights of some decoder layers learn, and nothing else: layer-selective tuning, as of Qwen3-XPlus
    (arXiv 2510.09189), whose two phases are stages with `fresh`.
    """

    name: ClassVar[str] = "full"
    summary: ClassVar[str] = "all weights learn: a graft as large as the model, and the memory that takes"
    paper: ClassVar[str] = "arXiv 1801.06146"
    cite: ClassVar[tuple[str, ...]] = ("howard-2018-universal",)
    operations: ClassVar[float] = 6.0  # forward 2, backward 4: gradients of activations and of weights
    low_rank: ClassVar[bool] = False
    usual_rates: ClassVar[tuple[float, float]] = (1e-8, 1e-3)
    learning_bytes: ClassVar[float] = 16.0  # weight, gradient and two moments of AdamW, in float32

    class Params(Tuner.Params):
        """Parameters of full tuning."""

        layers: Layers = Field(EVERY_LAYER, description=f"{HOW} All means embeddings and output head as well.")

    params: Params

    @property
    def cited(self) -> tuple[str, ...]:
        """The paper of tuning all weights, or that of choosing layers."""
        if self.rule:
            return (self.rule.paper,)
        return self.cite if self.params.layers == EVERY_LAYER else ("gao-2025-llamax2",)

    @property
    def trains_new_rows(self) -> bool:
        """Whether embeddings learn."""
        return self.params.layers == EVERY_LAYER

    @property
    def learns_embeddings(self) -> bool:
        """Whether embeddings learn: where no layers are chosen."""
        return self.params.layers == EVERY_LAYER

    @property
    def head_learns(self) -> bool:
        """Whether the output head learns: where no layers are chosen."""
        return self.params.layers == EVERY_LAYER

    def learnt(self, size: BaseSize) -> float:
        """Return about how many numbers learn: all, or those of as many decoder layers."""
        if self.params.layers == EVERY_LAYER:
            return size.parameters
        return layer_share(self.params.layers, size.layers) * (size.parameters - size.embeddings)

    def refusal(self, train: TrainSettings) -> tuple[str, str] | None:
        """Return what keeps weights from being learnt."""
        return unsplit(self.name, train)

    def apply(self, model: PreTrainedModel, inputs: TunerInputs, selected: Mapping[str, Tensor] = ALL) -> PeftModel:
        """Return `model` wrapped with copies of its layers; nothing is random, and rows of new tokens learn with all.

        Raises:
            UsageError: the base's weights are in 4 bits or distributed over processes, its head is odd, or it lacks the
                chosen layers.
        """
        from lingraft.training.whole_copies import with_copies

        if odd := [name for name, weight in model.named_parameters() if not _is_plain(weight)]:
            raise UsageError(
                f"tuner full: {odd[0]} is in 4 bits or a part of a weight, and cannot learn; choose another "
                f"train.precision than nf4 and train.sharding none"
            )
        chosen = chosen_layers(model, self.params.layers, selected)
        head, tied = model.get_output_embeddings(), chosen is None and shares_head(model, self.name)
        names = [name for name in _layers_with_weights(model, head if tied else None) if within(name, chosen)]
        return with_copies(model, names, tied=tied)


def _is_plain(weight: nn.Parameter) -> bool:
    from torch import nn

    return type(weight) is nn.Parameter and weight.is_floating_point()


def shares_head(model: Any, tuner: str) -> bool:
    """Whether the output head has the weights of the embeddings.

    Args:
        model: the base.
        tuner: the tuner's name, for messages.

    Raises:
        UsageError: it has a bias beside them, which PEFT's tied layer leaves out.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None or head.weight is not embedding.weight:
        return False
    if getattr(head, "bias", None) is not None:
        raise UsageError(
            f"tuner {tuner}: the output head of {type(model).__name__} shares the embeddings and has a bias, which "
            f"PEFT cannot hold; use the tuner lora"
        )
    return True


def _layers_with_weights(model: Any, left_out: nn.Module | None) -> list[str]:
    """Return the names of the outermost modules that hold weights themselves, but one.

    What is outside of the language part, such as a vision tower, is never reached by text and stays.
    """
    from lingraft.models.architectures import language_part

    part, _ = language_part(model)
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names: list[str] = []
    for name, module in model.named_modules():
        inside = bool(names) and name.startswith(f"{names[-1]}.")  # modules come before those within them
        reached = not part or name.startswith(f"{part}.") or module in ends
        has_weights = any(True for _ in module.parameters(recurse=False))
        if name and reached and not inside and module is not left_out and has_weights:
            names.append(name)
    return names
