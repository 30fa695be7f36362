"""The page of a comparison in a real browser. Skipped, with the reason, where no Chromium is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from browser import browser, find_browser
from lingraft.evaluation.compared_row import ComparisonRow, Measured
from lingraft.evaluation.comparison import Frontier
from lingraft.evaluation.scorecard import System
from lingraft.reporting.comparison_page import comparison_html
from lingraft.statistics.metric_facts import MetricFacts

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium or Chrome on the path: install chromium")


def test_a_click_sorts_and_what_was_not_measured_stays_last(tmp_path: Path) -> None:
    assert EXECUTABLE is not None
    values = {"base": (0.0, 100.0), "b": (10.0, 60.0), "a": (9.0, 70.0), "<i>c</i>": (-2.0, None)}
    rows = [
        ComparisonRow(
            name,
            "run",
            System(name=name),
            Measured(gain, np.full(50, gain)),
            None if kept is None else Measured(kept, np.full(50, kept)),
            kept,
            {},
        )
        for name, (gain, kept) in values.items()
    ]
    path = tmp_path / "compare.html"
    found = Frontier("m", "chrf++", MetricFacts(label="chrF++", decimals=1), {}, 50, rows, [], [])
    path.write_text(comparison_html(found, "two runs"), "utf-8")
    with browser(EXECUTABLE) as page:
        page.open(path)

        def names() -> list[str]:
            return page.run("[...document.querySelectorAll('#systems tbody th')].map(e => e.innerText)")

        def click(column: int) -> str:
            head = f"document.querySelectorAll('#systems thead th')[{column}]"
            page.run(f"{head}.querySelector('button').click()")
            return str(page.run(f"{head}.getAttribute('aria-sort')"))

        assert names() == ["b", "a", "base", "<i>c</i>"]
        assert click(1) == "descending"
        assert click(1) == "ascending"
        assert names() == ["<i>c</i>", "base", "a", "b"]  # as numbers: 9 before 10
        assert click(2) == "descending"
        assert names() == ["base", "a", "b", "<i>c</i>"]
        assert click(2) == "ascending"
        assert names() == ["b", "a", "base", "<i>c</i>"]
        assert page.problems == []
