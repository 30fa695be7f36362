"""Tables about the run itself: what they call outcomes and reasons, and in which order systems stand."""

from __future__ import annotations

import re

import pytest

from lingraft.data.reasons import REASONS
from lingraft.data.records import Rejected
from lingraft.evaluation.scorecard import Contamination
from lingraft.methods.carried_text import REASONS as CARRIED
from lingraft.methods.radis import FILTERS
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.run_tables import (
    contamination_table,
    cost_table,
    filter_table,
    outcome_words,
    rejected_examples_table,
    rejected_table,
)
from lingraft.reporting.tables import Names, signatures_of


@pytest.mark.parametrize("reason", [*CARRIED, *FILTERS, "kept", "kept_truncated", "truncated", "no_reference"])
def test_outcomes_of_all_methods_have_words(reason: str) -> None:
    for outcome in (reason, f"replay: {reason}", f"english_query_{reason}"):
        assert not re.search("[a-z]_[a-z]", outcome_words(outcome))


def test_outcomes_say_part_and_text_they_are_about() -> None:
    assert outcome_words("kept_truncated") == "kept, cut off by the limit"
    assert outcome_words("replay: second_translation") == "replay: translates again"
    assert outcome_words("english_query_length_ratio") == (
        "english query: far longer or shorter than what it was made from"
    )
    assert outcome_words("kept_de") == "kept: de"
    assert outcome_words("left_out_zh-TW") == "left out: zh-TW"
    assert outcome_words("of_a_plugin") == "of a plugin"


def test_filters_and_rejected_rows_are_shown_in_words(contents: ReportContents) -> None:
    names = Names.of(contents.scorecard, "radis")
    rows = filter_table(contents.filters, names).groups[0].rows
    assert [row[0].text for row in rows] == ["kept", "repeats itself", "repeats source or reference", "too short"]
    rows = rejected_table(contents.rows_read, contents.rejected_counts).groups[0].rows
    assert [row[2].text for row in rows[:3]] == [
        REASONS["duplicate"],
        REASONS["length_ratio"],
        REASONS["wrong_language_target"],
    ]
    shown = rejected_examples_table([Rejected("a.jsonl", 1, "identical_sides", "x"), Rejected("a.jsonl", 2, "my_own")])
    assert [row[2].text for row in shown.groups[0].rows] == [REASONS["identical_sides"], "my own"]


def test_costs_stand_in_the_order_of_systems(contents: ReportContents) -> None:
    card = contents.scorecard
    mixed = card.model_copy(update={"cost": [*reversed(card.cost), card.cost[0].model_copy(update={"system": "base"})]})
    rows = cost_table(mixed, Names.of(card, "radis")).groups[0].rows
    assert [row[0].text for row in rows] == ["base", *["vanilla"] * 3, *["radis"] * 3]
    assert [row[1].text for row in rows[1:4]] == ["decode", "train", "synthesise"]  # as they were given


def test_overlap_is_called_the_same_in_rows_and_signatures(contents: ReportContents) -> None:
    found = [Contamination(where="test", kind="ngram", n=8, shared=0, signature="words:13")]
    table = contamination_table(contents.scorecard.model_copy(update={"contamination": found}))
    assert table.groups[0].rows[0][1].text == table.signatures[0][0] == "n-gram"


def test_a_signature_is_shown_once_whatever_the_intervals_are_made_of(contents: ReportContents) -> None:
    rows = [row for row in contents.scorecard.general if row.metric == "words"]

    def signed(*signatures: str) -> list[str]:
        return signatures_of(
            [row.model_copy(update={"signature": text}) for row, text in zip(rows, signatures, strict=True)]
        )

    # The base never drifts from its own lengths: its values are all 0, so that its interval is Wilson's.
    assert signed("drift|ci:wilson|bs:9", "drift|bs:9", "drift|bs:9") == ["drift|bs:9|ci:wilson of base"]
    assert signed(*["loops|ci:wilson|bs:9"] * 3) == ["loops|ci:wilson|bs:9"]
    assert signed("a", "a", "b") == ["a", "b"]
    assert signed("", "a", "") == ["a"]
