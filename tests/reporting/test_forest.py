"""Forest plots: places on the scale, what is cut, and which rows belong to which direction and suite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fuller import enriched
from lingraft.reporting import forest
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.forest import Forest, ForestRow, PanelValues, layout
from lingraft.reporting.tables import Names
from lingraft.statistics.metric_facts import MetricFacts

NAMES = Names({"base": 0, "a": 1, "a#2": 2}, {"base": 0, "a": 1, "a#2": 1}, "a")


def scale(drawn: Forest) -> np.poly1d:
    """Return the map from percent of the width to values, from the labels of the ticks."""
    labels = [float(label.replace("−", "-").replace(",", "")) for _, label in drawn.ticks]
    assert len(labels) >= 3
    return np.poly1d(np.polyfit([at for at, _ in drawn.ticks], labels, 1))


def test_marks_and_intervals_lie_at_their_values() -> None:
    rows = [ForestRow("a", 4.6, (3.8, 5.4)), ForestRow("a#2", -1.25, (-2.5, 0.5)), ForestRow("base", 2.0, None)]
    drawn = layout(
        "Gain", "chrF++", [PanelValues("de-en", "", rows, MetricFacts(decimals=1), "de-en")], NAMES, 0.0, signed=True
    )
    assert drawn is not None
    value = scale(drawn)
    (panel,) = drawn.panels
    assert [value(mark.at) for mark in panel.marks] == pytest.approx([4.6, -1.25, 2.0], abs=0.02)
    assert (
        [(value(m.low), value(m.high)) for m in panel.marks[:2]]
        == [  # type: ignore[arg-type]
            pytest.approx(row.ci95, abs=0.02) for row in rows[:2]
        ]
    )
    assert (panel.marks[2].low, panel.marks[2].bounds) == (None, "")
    assert value(drawn.reference) == pytest.approx(0, abs=0.02)
    assert [mark.value for mark in panel.marks] == ["+4.6", "−1.2", "+2.0"]
    assert panel.marks[0].bounds == "[+3.8, +5.4]"
    assert [mark.system.series for mark in panel.marks] == [1, 1, 0]


def test_an_interval_beyond_the_limits_is_cut_and_says_so() -> None:
    rows = [ForestRow("a", 80.0, (20.0, 4000.0)), ForestRow("a#2", 95.0, (90.0, 100.0))]
    drawn = layout("Kept", "%", [PanelValues("self", "", rows, suite="self")], NAMES, 100.0, limits=(0.0, 200.0))
    assert drawn is not None
    wide, narrow = drawn.panels[0].marks
    assert (wide.cut_low, wide.cut_high, wide.high) == (False, True, 100.0)
    assert not narrow.cut_high
    assert wide.bounds == "[20.0, 4,000.0]"
    assert scale(drawn)(100) == pytest.approx(207.2, abs=0.5)


def test_nothing_to_draw() -> None:
    assert layout("x", "y", [], NAMES, 0.0) is None
    assert layout("x", "y", [PanelValues("b", "", [ForestRow("a", math.nan, None)])], NAMES, 0.0) is None
    lone = layout("x", "y", [PanelValues("b", "", [ForestRow("a", 0.0, None)])], NAMES, 0.0)
    assert lone is not None
    assert lone.panels[0].marks[0].at == lone.reference == 50.0


def test_what_the_scorecard_holds_is_drawn_under_its_direction_or_suite(contents: ReportContents) -> None:
    full = enriched(contents)
    card = full.scorecard
    names = Names.of(card, "radis")
    gains = forest.gain_forest(card, names)
    assert gains is not None
    assert [(p.direction, [m.system.text for m in p.marks]) for p in gains.panels] == [
        ("de-en", ["vanilla", "radis"]),
        ("en-zh", ["vanilla", "radis"]),
    ]
    kept = forest.retention_forest(card, names)
    assert kept is not None
    assert [panel.suite for panel in kept.panels] == ["self", "self", "refusal"]
    assert scale(kept)(kept.reference) == pytest.approx(100, abs=0.5)
    lengths = forest.length_forest(card, names)
    assert lengths is not None
    assert [len(panel.marks) for panel in lengths.panels] == [3, 3]
    errors = forest.error_forest(card, full.breakdowns, names)
    assert errors is not None
    assert [(panel.title, panel.direction) for panel in errors.panels] == [
        ("Off-target", "de-en"),
        ("Empty", "de-en"),
        ("Repeats itself", "de-en"),
        ("Source copied", "de-en"),
        ("Off-target", "en-zh"),
        ("odd <kind>", "en-zh"),
    ]
    empty = errors.panels[1]
    assert [(mark.system.text, mark.value) for mark in empty.marks] == [("base", "5.0"), ("vanilla", "0.0")]
    judged = forest.judge_forest(card, names)
    assert judged is not None
    assert [panel.title for panel in judged.panels] == [
        *("refusal: Refused", "refusal: Refused (guard)", "refusal: Guard against keywords"),
    ]
    assert forest.judge_forest(contents.scorecard, names) is None
    assert forest.length_forest(contents.scorecard, names) is None
