"""The way through training: what is drawn is what was measured."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from lingraft.reporting.contents import CoursePoint, ReportContents
from lingraft.reporting.course import Course, course_svg, courses
from lingraft.reporting.report import render_report
from lingraft.reporting.tables import Names

WAY = [
    CoursePoint(0, 3.0, 10.0, 0.0),
    CoursePoint(10, 2.0, 14.5, 0.02),
    CoursePoint(20, 1.5, 16.25, 0.05, kept=True),
    CoursePoint(30, 1.6, 16.0, 0.11),
]


def test_the_line_goes_through_the_measurements_and_the_kept_step_is_named() -> None:
    drawn = course_svg([Course("radis", WAY)])
    root = ElementTree.fromstring(drawn)
    (description,) = [node.text or "" for node in root.iter() if node.tag.endswith("desc")]
    assert description == "radis: step 20 is kept, chrF +6.2, 0.050 nats per token"
    assert "radis, step 20" in drawn
    lines = [
        [tuple(map(float, pair)) for pair in re.findall(r"[ML] ([\d.]+) ([\d.]+)", node.attrib["d"])]
        for node in root.iter()
        if node.tag.endswith("path") and "stroke-width: 1.5" in node.attrib.get("style", "")
    ]
    (way,) = (line for line in lines if len(line) == 4)
    xs, ys = zip(*way, strict=True)
    # Straight scales: distances in the drawing are proportional to those measured, and divergence grows downwards.
    for places, values in ((xs, [0.0, 4.5, 6.25, 6.0]), (ys, [0.0, 0.02, 0.05, 0.11])):
        unit = (places[2] - places[0]) / (values[2] - values[0])
        assert unit > 0
        assert places == pytest.approx([places[0] + unit * (value - values[0]) for value in values], abs=1e-2)


def test_equal_input_gives_equal_bytes() -> None:
    assert course_svg([Course("a", WAY), Course("b", WAY, 2)]) == course_svg([Course("a", WAY), Course("b", WAY, 2)])


def test_the_report_has_the_figure_only_where_both_were_measured(contents: ReportContents) -> None:
    system = contents.scorecard.systems[-1].name
    names = Names.of(contents.scorecard, system)
    alone = [replace(point, kl=None) for point in WAY]
    assert courses({system: alone}, names) == []
    assert courses({system: WAY[:1]}, names) == []
    plain = render_report(contents)
    assert "On the way there" not in plain
    assert "Development set while training went on" not in plain
    page = render_report(replace(contents, courses={system: WAY}))
    assert "On the way there" in page
    assert "Development set while training went on" in page
    without = render_report(replace(contents, courses={system: alone}))
    assert "On the way there" not in without
    assert "Development set while training went on" in without
