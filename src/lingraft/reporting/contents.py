"""What a report shows: plain values gathered by the run; the report itself reads no files of other stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lingraft.data.records import Rejected, SideBySide
from lingraft.evaluation.gate import Verdict
from lingraft.evaluation.scorecard import Scorecard


@dataclass(frozen=True)
class LossPoint:
    """One optimiser step. Losses are means per unit of span weight; tokens are cumulative real tokens; the norm is that
    before clipping; `objectives` is what each says: the mean factor or term of the tokens it applies to, or a penalty.
    """

    step: int
    loss: float
    tokens: int
    by_role: Mapping[str, float] = field(default_factory=dict)
    learning_rate: float = 0.0
    gradient_norm: float = 0.0
    objectives: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class CoursePoint:
    """What the development set said after a step.

    Attributes:
        step: 0 before the first.
        loss: of the references.
        chrf: of translations; None where none was made.
        kl: divergence from the base, in nats per token; None without general prompts.
        kept: whether the system has the weights of this step.
    """

    step: int
    loss: float
    chrf: float | None = None
    kl: float | None = None
    kept: bool = False


@dataclass(frozen=True)
class TrainedStage:
    """How a system was trained in one of its stages, as a methods section has it.

    Attributes:
        stage: its name; empty where the system has no other.
        tuner: settings by name, `kind` among them.
        steps: taken, repeated epochs counted.
        tokens: seen, repeated epochs counted.
        objectives: what the loss had beside its spans' own, in words, and what is cited for each.
        upon: hash of another graft that was in the base while this was trained; empty: none.
    """

    system: str
    stage: str
    tuner: Mapping[str, Any]
    learning_rate: float
    schedule: str
    epochs: float
    steps: int
    tokens: int
    objectives: Mapping[str, Sequence[str]] = field(default_factory=dict)
    upon: str = ""


@dataclass(frozen=True)
class Breakdown:
    """What went wrong with the translations of one test set.

    Attributes:
        test_set: as in the scorecard.
        direction: as in the scorecard.
        n: segments.
        counts: system -> kind -> segments. One segment may count under several kinds; kinds that no system shows are
            left out.
    """

    test_set: str
    direction: str
    n: int
    counts: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Work:
    """What all stages of a run took together, each counted once, whenever it was done.

    Attributes:
        seconds: of wall time.
        trained: tokens that were trained on, repeated epochs counted.
        written: tokens that models wrote, of the training data and of the answers that are measured.
    """

    seconds: float
    trained: int = 0
    written: int = 0


@dataclass(frozen=True)
class ReportContents:
    """Everything the report renders.

    Attributes:
        courses: system -> what the development set said while it was trained.
        filters: system -> reason -> number of rationales; "kept" is one of the reasons.
        rejected_counts: file -> reason -> rows.
        rejected_examples: a few of them, for display.
        rows_read: file -> rows read.
        recipe_yaml: the resolved recipe.
        stages: of every trained system, in their order.
        training_pairs: of which they are made, directions apart; 0 where pairs play no part.
        verdict: the headline in one sentence.
        headline_system: the system of the big numbers; empty: the last of the scorecard.
        examples: items with all outputs, in any number; the page draws the few that are looked at.
        outcomes: system -> what its decoder did with a segment -> segments.
        breakdowns: what went wrong with translations, one entry a test set and direction.
        work: what all stages took; None: not known.
        gates: how the recipe's gates stand.
        rendered_example: HTML-free text of one rendered training example per system, with the supervised
            text between U+E000 and U+E001.
    """

    scorecard: Scorecard
    recipe_yaml: str
    losses: Mapping[str, Sequence[LossPoint]] = field(default_factory=dict)
    courses: Mapping[str, Sequence[CoursePoint]] = field(default_factory=dict)
    filters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected_examples: Sequence[Rejected] = ()
    rows_read: Mapping[str, int] = field(default_factory=dict)
    stages: Sequence[TrainedStage] = ()
    training_pairs: int = 0
    examples: Sequence[SideBySide] = ()
    outcomes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    breakdowns: Sequence[Breakdown] = ()
    rendered_example: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    work: Work | None = None
    gates: Sequence[Verdict] = ()
    verdict: str = ""
    headline_system: str = ""
