"""The interface of an objective: what a stage's loss has beside its spans' own. One file an objective, registered by
name in `OBJECTIVES`.

The loss of a step is

    sum(w x F x term) / sum(w)  +  sum of weight x sum(w x T) / sum(w)  +  sum of weight x R

over its supervised tokens: w is the weight of the token's span, F the product of the token factors where the span's
loss is cross-entropy (1 elsewhere), T a span term on the roles it applies to (0 elsewhere), R a regulariser's penalty.
Rows of preference pairs have, in place of the first two, (sum of w of pairs) / sum(w) x the mean over the step's pairs
of the sum of weight x P, P being the loss that an objective of pairs gives a pair.
sum(w) counts all supervised tokens, whatever factors and roles are, so that it is known before any pass and the same
however a step is cut into passes and shared by devices.

The files of objectives import torch where they use it: a recipe that names one is read without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from lingraft.core.registry import Registry
from lingraft.core.validation import Settings, also

if TYPE_CHECKING:
    import torch
    from peft import PeftModel

    from lingraft.rendering.rows import Rendered
    from lingraft.training.terms import Chunk

RoleGroup = Literal["translation", "replay", "text"]


def group_of(role: str) -> RoleGroup | None:
    """Return the group that a span's role belongs to: translations, documents, or all else that is said in turns; None
    for what is unlearnt, which is neither to be weighed as a reference nor to stay as the base has it."""
    if role == "unwanted":
        return None
    return "translation" if role == "translation" else "text" if role == "text" else "replay"


class Objective(ABC):
    """Base of all objectives.

    Attributes:
        name: registered name.
        summary: one line for `lingraft list objectives`.
        paper: where it comes from.
        cite: what a report cites for it: keys of `reporting/references.bib`, BibTeX entries or addresses.
        base: whether it needs the base's logits: a pass without the adapter over each batch it applies to.
        Params: its parameters.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    cite: ClassVar[tuple[str, ...]] = ()
    base: ClassVar[bool] = False

    class Params(Settings):
        """Parameters every objective has; each adds its own. Every field has a default and a description."""

        weight: float = Field(1.0, ge=0, description="strength; 0 is as without it")

    def __init__(self, params: Any) -> None:
        self.params = params

    def __str__(self) -> str:
        """Return its name and parameters, as a report has them."""
        said = [
            f"{key.replace('_', ' ')} {'+'.join(value) if isinstance(value, list) else value}"
            for key, value in self.params.model_dump(mode="json").items()
        ]
        return f"{self.name} ({', '.join(said)})"


def _on(*default: RoleGroup) -> Any:
    """Return the field `on` with its default."""
    return Field(
        default,
        min_length=1,
        description="tokens it applies to: of `translation` (references), of `replay` (rationales, answers to general "
        "prompts, whatever else is said in turns), of `text` (documents); `both` are the first two",
        json_schema_extra=also({"enum": ["both", "translation", "replay", "text"]}),
    )


class TokenObjective(Objective):
    """An objective of single tokens, of the roles that its parameter `on` names."""

    class Params(Objective.Params):
        """Parameters of an objective of tokens."""

        on: tuple[RoleGroup, ...] = _on("translation", "replay")

        @field_validator("on", mode="before")
        @classmethod
        def _named(cls, value: Any) -> Any:
            if isinstance(value, str):
                return ("translation", "replay") if value == "both" else (value,)
            return value

    def applies(self, role: str) -> bool:
        """Whether it applies to the tokens of a role."""
        return group_of(role) in self.params.on


class TokenFactor(TokenObjective):
    """A factor on the cross-entropy of each token it applies to.

    Its `weight` lies between 0 and 1: a token counts 1 - weight + weight x factor.
    """

    class Params(TokenObjective.Params):
        """Parameters of a token factor: by default it applies to references alone."""

        weight: float = Field(
            1.0, ge=0, le=1, description="a token counts 1 - weight + weight x factor; 0 is as without it"
        )
        on: tuple[RoleGroup, ...] = _on("translation")

    @abstractmethod
    def factor(self, chunk: Chunk) -> torch.Tensor:
        """Return the factor of each token, (m,), at least 0; no gradient goes through it.

        Args:
            chunk: of m tokens, without gradient; with the base's logits where `base` says so.
        """


class SpanTerm(TokenObjective):
    """A term that is added to the loss of each token it applies to, times the weight of the token's span."""

    @abstractmethod
    def term(self, chunk: Chunk) -> torch.Tensor:
        """Return the term of each token, (m,), differentiable in the logits.

        Args:
            chunk: of m tokens; with the base's logits, without gradient, where `base` says so.
        """


@dataclass(frozen=True, kw_only=True)
class RegulariserInputs:
    """What a regulariser sees before the first step.

    Attributes:
        model: the adapter on its base, with the weights that the stage begins with, also where a run is resumed.
        rows: what will be trained on.
        seed: of the run.
        loss: gives the sum of -log p x weight over the supervised tokens of a row, differentiable in what learns.
    """

    model: PeftModel
    rows: Sequence[Rendered]
    seed: int
    loss: Callable[[Rendered], torch.Tensor]


class Regulariser(Objective):
    """A penalty on the weights that learn, beside what tokens say; its `weight` times it is added to the loss.

    `replay`: whether it looks at the base's own answers to general prompts among the stage's rows.
    """

    replay: ClassVar[bool] = False

    @abstractmethod
    def begin(self, inputs: RegulariserInputs) -> None:
        """Take down what is compared with later. It is called once in each process, before anything has learnt, and
        again where a run is resumed: it must come to the same."""

    def add_gradient(self) -> float:
        """Add `weight` x the gradient of the penalty to that of the weights, which holds that of the tokens of the
        whole step and is clipped next; return the penalty, without `weight`. All processes do the same."""
        return 0.0

    def after_step(self, learning_rate: float) -> None:
        """Change the weights that the optimiser has just updated; their gradient, clipped, is still there.

        Args:
            learning_rate: of the update.
        """


def in_force(objectives: Iterable[Objective]) -> list[Objective]:
    """Return those with a weight: one of weight 0 costs nothing and changes no bit."""
    return [one for one in objectives if one.params.weight > 0]


def described(objectives: Iterable[Objective]) -> list[dict[str, Any]]:
    """Return what those in force are, for hashes."""
    return [{"kind": one.name, **one.params.model_dump(mode="json")} for one in in_force(objectives)]


OBJECTIVES: Registry[type[Objective]] = Registry(
    "objective",
    {
        "kl_base": "lingraft.training.objectives.kl_base:KLBase",
        "eaft": "lingraft.training.objectives.eaft:EAFT",
        "stm": "lingraft.training.objectives.stm:STM",
        "cc": "lingraft.training.objectives.cc:CC",
        "dpo": "lingraft.training.objectives.dpo:DPO",
        "ipo": "lingraft.training.objectives.ipo:IPO",
        "cpo": "lingraft.training.objectives.cpo:CPO",
        "l2_init": "lingraft.training.objectives.l2_init:L2Init",
        "ewc": "lingraft.training.objectives.ewc:EWC",
        "spd": "lingraft.training.objectives.spd:SPD",
    },
)
