"""The interface of a merger: one tensor of several models made into one. One file a merger, by name in `MERGERS`.

A merger knows no files and no devices: `lingraft.merging.stream` hands it one weight after the other, in float32, so
that no more than one weight of each model is in memory. The files of mergers import torch where they use it: a recipe
that names one is read without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from lingraft.core.errors import UsageError
from lingraft.core.registry import Registry
from lingraft.core.validation import Settings

if TYPE_CHECKING:
    from torch import Tensor

MOST = 64
"""Models that are merged at once; each is read beside the others."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """What a merger is told about a weight beside its numbers.

    Attributes:
        name: as the base's `state_dict` has it.
        embedding: whether its rows are those of tokens that the model reads; where the output head is the same
            tensor, this is it.
        head: whether its rows are those of tokens that the model writes, in a tensor of their own.
        transposed: whether it is kept as (in, out), as GPT-2 does, instead of (out, in).
        rows: of embeddings and head where the first model has another vocabulary than the others, so that its tensor
            may have another shape: row there -> row in the last model, for the tokens that are to be taken over from
            there. None where all have one vocabulary.
    """

    name: str
    embedding: bool = False
    head: bool = False
    transposed: bool = False
    rows: Mapping[int, int] | None = None


class Merger(ABC):
    """Base of all mergers.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list mergers`.
        paper: where the method comes from.
        cite: what a report cites for it, see `MetricFacts`.
        version: grows when the same models give other weights: what was merged is then merged anew.
        fewest, most: how many models it takes beside the base.
        other_vocabularies: whether the first model may have another vocabulary than the others.
        asked_as_last: whether what comes out is asked as the last model is, by its chat template, instead of the base.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    cite: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1
    fewest: ClassVar[int] = 1
    most: ClassVar[int] = MOST
    other_vocabularies: ClassVar[bool] = False
    asked_as_last: ClassVar[bool] = False

    class Params(Settings):
        """Typed parameters; every field has a default and a description."""

    def __init__(self, params: Params) -> None:
        self.params = params

    def refusal(self, models: int) -> tuple[str, str] | None:
        """Return the parameter that does not go with so many models ("" for the number itself), and why; None where all
        is well.

        Args:
            models: how many there are, the base as one of them counted, the base itself not.
        """
        if self.fewest <= models <= self.most:
            return _wrong_count(getattr(self.params, "weights", ()), models)
        wanted = str(self.fewest) if self.fewest == self.most else f"{self.fewest} to {self.most}"
        return "", f"{self.name} merges {wanted} {'model' if wanted == '1' else 'models'}, and there are {models}"

    def check(self, models: int, where: str = "") -> None:
        """Check parameters against the number of models.

        Args:
            models: see `refusal`.
            where: what names the merger, such as "merge.0", for the message.

        Raises:
            UsageError: they do not go together.
        """
        if (found := self.refusal(models)) is not None:
            key = ".".join(part for part in (where, found[0]) if part)
            raise UsageError.at(key, f"{key}: {found[1]}" if key else found[1])

    def keeps_base(self, models: int) -> bool:
        """Whether a weight stays that all of so many models have as the base has it; it is then not merged."""
        return True

    @abstractmethod
    def merge(self, weight: Weight, backbone: Tensor, models: Sequence[Tensor]) -> Tensor:
        """Return one weight of the merged model, float32, of the shape that the first model's has.

        The same arguments give the same numbers. The tensors are the merger's own, and no two of them are the same: it
        may work in them, and return one of them. What it takes beside them counts, for weights may be gigabytes.

        Args:
            weight: what is known of it.
            backbone: the base's, float32; of any number of dimensions.
            models: of the models in their order, float32 and of the same shape; but see `other_vocabularies`.
        """


class Weighted(Merger.Params):
    """Parameters of a merger that weighs its models."""

    weights: tuple[float, ...] = Field(
        (), description="A number for each model, in the order in which they are named; none: all count the same."
    )

    def each(self, models: int) -> tuple[float, ...]:
        """Return the weight of each of so many models."""
        return self.weights or (1.0,) * models


def _wrong_count(weights: Sequence[float], models: int) -> tuple[str, str] | None:
    if not weights or len(weights) == models:
        return None
    return "weights", f"there are {len(weights)} of them for {models} models; give one for each model, or none"


MERGERS: Registry[type[Merger]] = Registry(
    "merger",
    {
        "linear": "lingraft.merging.linear:Linear",
        "slerp": "lingraft.merging.slerp:Slerp",
        "task_arithmetic": "lingraft.merging.task_arithmetic:TaskArithmetic",
        "chat_vector": "lingraft.merging.chat_vector:ChatVector",
        "ties": "lingraft.merging.ties:Ties",
        "dare": "lingraft.merging.dare:Dare",
        "widen": "lingraft.merging.widen:Widen",
    },
)
"""What merges models."""
