"""The interface of a tuner: which parameters learn. One file a tuner, registered by name in `TUNERS`.

The files of tuners import torch and PEFT where they use them: a recipe that names one is read without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Protocol

from lingraft.core.registry import Registry
from lingraft.core.validation import Settings
from lingraft.training.settings import TrainSettings

if TYPE_CHECKING:
    from peft import PeftModel
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from lingraft.rendering.rows import Rendered

ALL: Mapping[str, Tensor] = MappingProxyType({})
"""The selection of a tuner that selects nothing: all that it adapts learns."""


@dataclass(frozen=True, kw_only=True)
class TunerInputs:
    """What a tuner may look at.

    Attributes:
        seed: of new weights, and of all else that is drawn.
        new_ids: token ids that a vocabulary has added to the base's.
        rows: what the stage trains on; may be on the disk.
        replay: rendered conversations of the kind that the base is to keep; may be on the disk.
        trained: folder of the adapter that the first of two passes has trained; None in the first.
    """

    seed: int = 0
    new_ids: Sequence[int] = ()
    rows: Sequence[Rendered] = ()
    replay: Sequence[Rendered] = ()
    trained: Path | None = None


class BaseSize(Protocol):
    """What is known of a base before it is loaded.

    Attributes:
        parameters: in all.
        embeddings: those of them that are embeddings and output head.
        hidden_size: width.
        layers: decoder layers.
    """

    @property
    def parameters(self) -> float: ...
    @property
    def embeddings(self) -> float: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def layers(self) -> int: ...


def unsplit(tuner: str, train: TrainSettings) -> tuple[str, str] | None:
    """Return why a tuner of weights themselves does not go with some settings, see `Tuner.refusal`.

    Args:
        tuner: its name.
        train: settings of the stage.
    """
    if train.precision == "nf4":
        return "precision", "weights in 4 bits cannot learn; choose another train.precision than nf4, or tuner: lora"
    if train.sharding == "full":
        return (
            "sharding",
            f"`full` gives each process a part of every weight, which the tuner {tuner} cannot copy; drop it",
        )
    return None


class Tuner(ABC):
    """Base of all tuners.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list tuners`.
        paper: where the method comes from.
        cite: what a report cites for it, see `MetricFacts`.
        operations: floating-point operations of a training step per parameter of the base and token, for the estimates
            of a dry run; of one of the `passes`.
        learning_bytes: memory for each number that learns: weight, gradient, moments; 0 where they are few.
        usual_rates: lowest and highest learning rate that is not most likely a slip.
        low_rank: whether what learns are updates beside frozen weights, not weights themselves.
        sparse: whether it learns changes of single numbers, an adapter of its own kind that holds nothing else.
        needs_prompts: whether it looks at replayed conversations (`TunerInputs.replay`).
        passes: how often it trains: with 2, all that it adapts learns first, then it selects, and what it has selected
            is trained again from the base.
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
    sparse: ClassVar[bool] = False
    needs_prompts: ClassVar[bool] = False
    passes: ClassVar[int] = 1

    class Params(Settings):
        """Typed parameters; every field has a default and a description."""

    def __init__(self, params: Params) -> None:
        self.params = params

    @property
    def kept_bytes(self) -> float:
        """Memory on the disk for each number that learns."""
        return 4.0

    @property
    def learns_embeddings(self) -> bool:
        """Whether embeddings learn, new rows or all: what a learning rate of their own needs."""
        return not self.low_rank

    @property
    def cited(self) -> tuple[str, ...]:
        """What a report cites for it as it is set, see `cite`."""
        return self.cite

    @property
    def beyond_updates(self) -> str:
        """What makes its adapters more than low-rank updates, which servers load alone, as words behind "a graft";
        empty where nothing does."""
        return "" if self.low_rank else f"of whole layers (tuner {self.name})"

    def update_rank(self, width: int | None = None) -> int:
        """Return the highest rank of its low-rank updates; 0 where it trains none, or where only the base tells.

        Args:
            width: hidden size of the base; None: not known.
        """
        return 0

    @property
    def adds_up(self) -> bool:
        """Whether what it learns can be put together with what another stage learns (`fresh`)."""
        return True

    @property
    def trains_new_rows(self) -> bool:
        """Whether the rows learn that a vocabulary adds to embeddings and output head."""
        return False

    @property
    def needs_new_rows(self) -> bool:
        """Whether it trains nothing without rows that a vocabulary adds, or what it is set to would do nothing."""
        return False

    def learnt(self, size: BaseSize) -> float:
        """Return about how many numbers learn, for the estimates of a dry run."""
        return 0.0 if self.low_rank else size.parameters

    @property
    def head_learns(self) -> bool:
        """Whether the output head learns, so that it no longer gives the base's logits."""
        return not self.low_rank

    def select(self, model: PreTrainedModel, inputs: TunerInputs) -> Mapping[str, Tensor]:
        """Return which numbers of the base learn: masks, true where one does, by the names of its parameters.

        A mask has the shape of the parameter, or one that broadcasts to it. By default there is none: all that the
        tuner adapts learns. What is selected is kept on the disk and must follow from base, inputs and parameters.

        Args:
            model: the base, without adapter and unchanged.
            inputs: what it may look at; `trained` is there where `passes` is 2.
        """
        return ALL

    @abstractmethod
    def apply(self, model: PreTrainedModel, inputs: TunerInputs, selected: Mapping[str, Tensor] = ALL) -> PeftModel:
        """Return `model` (changed in place) with what learns marked as trainable.

        New weights follow from the seed of the inputs.

        Args:
            model: the base.
            inputs: what it may look at.
            selected: what `select` has returned.
        """

    def constraint(
        self, adapted: PeftModel, originals: Mapping[nn.Parameter, Tensor] = MappingProxyType({})
    ) -> Callable[[], None] | None:
        """Return what puts the weights that learn where they may be, to be called after each optimiser step; None
        where they may be anywhere. When this returns, they are there.

        Args:
            adapted: what `apply` returned, with the weights that training begins with.
            originals: the base's weights that are held in another type meanwhile, as they were.
        """
        return None

    def save(self, adapted: PeftModel, folder: Path) -> None:
        """Write what has been learnt as a PEFT adapter that is read without this tuner.

        Args:
            adapted: what `apply` returned, trained.
            folder: to write into.
        """
        from lingraft.training.saving import save_adapter

        save_adapter(adapted, folder)

    def continue_from(self, adapted: PeftModel, folder: Path) -> None:
        """Let training go on from what `save` has written.

        Args:
            adapted: what `apply` returned.
            folder: that `save` has written.

        Raises:
            ModelError: damaged, or of another form.
        """
        from lingraft.models.adapter import continue_from

        continue_from(adapted, folder)

    def refusal(self, train: TrainSettings) -> tuple[str, str] | None:
        """Return a setting of `train` that it does not go with, and why and what else to choose; None where it goes.

        Asked when a recipe is read.

        Args:
            train: settings of the stage.
        """
        return None

    @property
    def selects(self) -> bool:
        """Whether it chooses what learns, see `select`."""
        return type(self).select is not Tuner.select

    def learning(self, adapted: PeftModel) -> int:
        """Return how many numbers learn in a model that `apply` has returned; in the end, where it has two passes."""
        return sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)

    def before_step(self, model: PeftModel) -> None:  # noqa: B027  # most change nothing
        """Change the gradients of an optimiser step, once they are whole and clipped; by default not at all."""


TUNERS: Registry[type[Tuner]] = Registry(
    "tuner",
    {
        "lora": "lingraft.training.tuners.lora:LoraTuner",
        "full": "lingraft.training.tuners.full:FullTuner",
        "osf": "lingraft.training.tuners.osf:OsfTuner",
        "sparse": "lingraft.training.tuners.sparse:SparseTuner",
        "ssu": "lingraft.training.tuners.ssu:SsuTuner",
    },
)
