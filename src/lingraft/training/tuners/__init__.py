"""The interface of a tuner: which parameters learn. One file a tuner, registered by name in `TUNERS`.

The files of tuners import torch and PEFT where they use them: a recipe that names one is read without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from lingraft.core.registry import Registry
from lingraft.core.validation import Settings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class Tuner(ABC):
    """Base of all tuners.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list tuners`.
        paper: where the method comes from.
        cite: what a report cites for it, see `MetricFacts`.
        operations: floating-point operations of a training step per parameter of the base and token, for the estimates
            of a dry run.
        learning_bytes: memory per parameter of the base for what learns: weights, gradients, moments.
        usual_rates: lowest and highest learning rate that is not most likely a slip.
        low_rank: whether what learns are updates beside frozen weights, not weights themselves.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    cite: ClassVar[tuple[str, ...]] = ()
    # Forward 2, backward through frozen weights 2, adapters and attention about 0.5 more.
    operations: ClassVar[float] = 4.5
    learning_bytes: ClassVar[float] = 0.0
    usual_rates: ClassVar[tuple[float, float]] = (1e-6, 2e-2)
    low_rank: ClassVar[bool] = True

    class Params(Settings):
        """Typed parameters; every field has a default and a description."""

    def __init__(self, params: Params) -> None:
        self.params = params

    @property
    def scales(self) -> bool:
        """Whether what it learns has other strengths (`evaluate.scales`): updates do, weights themselves do not."""
        return self.low_rank

    @abstractmethod
    def apply(self, model: PreTrainedModel, seed: int, new_ids: Sequence[int] = ()) -> PeftModel:
        """Return `model` (changed in place) with what learns marked as trainable; new weights follow from `seed`.

        `new_ids` are the token ids that a vocabulary has added to the base's.

        Args:
            model: the base.
            seed: of new weights.
            new_ids: token ids that a vocabulary has added to the base's.
        """


TUNERS: Registry[type[Tuner]] = Registry(
    "tuner",
    {
        "lora": "lingraft.training.tuners.lora:LoraTuner",
        "full": "lingraft.training.tuners.full:FullTuner",
    },
)
