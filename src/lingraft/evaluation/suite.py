"""The interface of a general-ability suite: one file a suite, registered by name in `SUITES`.

A suite says what each system must be asked, and turns the answers into one value per item. Retention, intervals and
the scorecard rows follow from the values alone (`evaluation/retention.py`), so that a suite contains no statistics.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from lingraft.data.records import Generation, Prompt, Request
from lingraft.registry import Registry


@dataclass(frozen=True)
class KL:
    """Kullback-Leibler divergence of a system from the base on one answer: sum in nats and number of tokens."""

    nats: float
    tokens: int


@dataclass(frozen=True)
class ItemScores:
    """One metric of one system: a value per item id.

    `better` "lower" marks an error-like metric, `chance` the score of guessing, in the unit of the values.
    `weights`: the score is the weighted mean of the values (default: the plain mean). `scale` multiplies the score (100
    turns a share into percent). `retains` False marks a diagnostic: shown, but no retention is computed from it.
    """

    metric: str
    values: Mapping[str, float]
    better: Literal["higher", "lower"] = "higher"
    chance: float = 0.0
    weights: Mapping[str, float] | None = None
    scale: float = 1.0
    retains: bool = True
    signature: str = ""


@dataclass(frozen=True)
class SuiteInputs:
    """What a suite sees: held-out general prompts, languages of the run, seed."""

    prompts: Sequence[Prompt]
    languages: Sequence[str]
    seed: int = 0


@dataclass(frozen=True)
class Answers:
    """Generations of one system by request id, and the KL from base by request id where the suite asked for it."""

    generations: Mapping[str, Generation]
    kl: Mapping[str, KL] = field(default_factory=dict)


class Suite(ABC):
    """Base of all suites.

    Attributes:
        name: registered name. paper: where the measure comes from.
    """

    name: ClassVar[str]
    paper: ClassVar[str] = ""

    class Params(BaseModel):
        """Typed parameters; every field has a default and a description."""

        model_config = ConfigDict(extra="forbid")

    def __init__(self, params: Params) -> None:
        self.params = params

    @abstractmethod
    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Return what every system (the base included) is asked; ids are unique within the suite."""

    def base_only_requests(self, inputs: SuiteInputs) -> list[Request]:
        """Return what only the base is asked: sampled answers on which each system's KL from base is measured."""
        return []

    @abstractmethod
    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Turn answers into values per item. `system` may be the base itself."""


SUITES: Registry[Callable[..., Suite]] = Registry(
    "suite",
    {
        "self": "lingraft.evaluation.self_consistency:SelfSuite",
        "refusal": "lingraft.evaluation.safety:RefusalSuite",
    },
)
