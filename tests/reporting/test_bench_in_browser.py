"""The page of a bench in a real browser. Skipped, with the reason, where no Chromium is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from benches import publish, row, write_table
from browser import browser, find_browser
from lingraft.pipeline.bench_report import write_report

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium or Chrome on the path: install chromium")


def test_rows_sort_by_click_and_by_keyboard_and_fit_a_phone(tmp_path: Path) -> None:
    assert EXECUTABLE is not None
    for name, (level, kept) in {"b": (12.0, 0.6), "a": (21.0, 0.5), "c": (9.0, 0.7)}.items():
        publish(tmp_path / "rows" / name, {"vanilla": (level, kept)})
    write_table(tmp_path, [row("b"), row("a"), row("c"), row("dear", "not run", why="days")])
    path = write_report(tmp_path)
    with browser(EXECUTABLE) as page:
        page.open(path)

        def names() -> list[str]:
            return page.run("[...document.querySelector('#rows table').tBodies[0].rows].map(e => e.cells[0].innerText)")

        def head(column: str) -> str:
            return f"[...document.querySelectorAll('#rows th')].find(e => e.innerText.startsWith('{column}'))"

        def click(column: str) -> str:
            page.run(f"{head(column)}.querySelector('button').click()")
            return str(page.run(f"{head(column)}.getAttribute('aria-sort')"))

        assert names() == ["base", "b", "a", "c", "dear"]
        assert click("Gain") == "ascending"
        assert names() == ["c", "b", "a", "base", "dear"]  # as numbers; what was not measured stays last
        assert click("Gain") == "descending"
        assert names() == ["a", "b", "c", "base", "dear"]
        page.run(f"{head('Retention')}.querySelector('button').focus()")
        page.press("Enter", 13)
        assert page.run(f"{head('Retention')}.getAttribute('aria-sort')") == "ascending"
        assert names() == ["a", "b", "c", "base", "dear"]
        page.press("Enter", 13)
        assert names() == ["base", "c", "b", "a", "dear"]
        page.resize(360, 800)
        assert page.run("document.documentElement.scrollWidth") <= 360
        assert page.problems == []
