"""What a report shows: plain values gathered by the run; the report itself reads no files of other stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lingraft.data.records import Rejected
from lingraft.evaluation.scorecard import Scorecard


@dataclass(frozen=True)
class LossPoint:
    """One optimiser step. Losses are means per unit of span weight; tokens are cumulative real tokens."""

    step: int
    loss: float
    tokens: int
    by_role: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SideBySide:
    """One item with the outputs of all systems. `reference` is empty for general prompts."""

    id: str
    group: str  # "de-en" for a translation, or the suite's name, e.g. "self"
    source: str
    reference: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class ReportContents:
    """Everything the report renders.

    Attributes:
        filters: system -> reason -> number of rationales; "kept" is one of the reasons.
        rejected_counts: file -> reason -> rows. rejected_examples: a few of them, for display.
        rows_read: file -> rows read.
        recipe_yaml: the resolved recipe.
        verdict: the headline in one sentence.
        headline_system: the system of the big numbers; empty: the last of the scorecard.
        rendered_example: HTML-free text of one rendered training example per system, with the supervised
            text between U+E000 and U+E001.
    """

    scorecard: Scorecard
    recipe_yaml: str
    losses: Mapping[str, Sequence[LossPoint]] = field(default_factory=dict)
    filters: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejected_examples: Sequence[Rejected] = ()
    rows_read: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[SideBySide] = ()
    rendered_example: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    verdict: str = ""
    headline_system: str = ""
