"""Report and form in a real browser. Skipped, with the reason, where no Chromium is installed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser, browser, find_browser
from fuller import enriched, many
from lingraft.data.records import SideBySide
from lingraft.evaluation.sheet import make_sheet, read_filled, read_key, write_sheet
from lingraft.reporting.contents import ReportContents
from lingraft.reporting.rating_form import render_form
from lingraft.reporting.report import render_report
from processes import HANGING

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium or Chrome on the path: install chromium")
VISIBLE = "(e => e.offsetParent !== null)"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    assert EXECUTABLE is not None
    with browser(EXECUTABLE) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(contents: ReportContents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(enriched(contents)), "utf-8")
    return path


@pytest.fixture
def page(chromium: Browser, report: Path) -> Browser:
    """The full report, freshly opened."""
    chromium.problems.clear()
    chromium.open(report)
    return chromium


def choose(page: Browser, selector: str, value: str) -> None:
    page.run(
        f"(e => {{ e.value = {json.dumps(value)}; e.dispatchEvent(new Event('change')); }})"
        f"(document.querySelector({json.dumps(selector)}))"
    )


def shown(page: Browser, selector: str) -> list[str]:
    """Return the texts of the elements that are seen."""
    found = page.run(f"[...document.querySelectorAll({json.dumps(selector)})].filter({VISIBLE}).map(e => e.innerText)")
    return [str(text).strip() for text in found]


def test_the_filter_acts_on_tables_plots_and_outputs(page: Browser) -> None:
    assert len(shown(page, "#examples article")) == 10
    choose(page, "#filter [name=direction]", "en-zh")
    assert shown(page, "#translation caption") == [
        "Change of chrF++ from base",
        "Length of translations",
        "Errors by kind",
        "en-zh: test.en-zh",
        "Paired differences between systems, en-zh",
    ]
    panels = shown(page, "#translation .forest .group")
    assert panels
    assert all("en-zh" in panel for panel in panels)
    assert set(shown(page, "#examples .badge")) == {"en-zh"}
    assert shown(page, "#shown") == ["1–3 of 3 items (12 in all)"]
    assert shown(page, ".unfiltered")
    choose(page, "#filter [name=direction]", "")
    choose(page, "#filter [name=suite]", "refusal")
    assert {text.split(":")[0] for text in shown(page, "#general .group")} == {"refusal"}
    assert set(shown(page, "#examples .badge")) == {"refusal"}
    assert len(shown(page, "#translation table:not(.forest)")) == 4  # translation is not filtered by suite
    choose(page, "#filter [name=suite]", "")
    assert shown(page, "#shown") == ["1–10 of 12 items"]
    assert page.problems == []


def test_outputs_are_searched_paged_compared_and_never_parsed(page: Browser) -> None:
    page.run("document.querySelector('.pager [data-step=\"1\"]').click()")
    assert len(shown(page, "#examples article")) == 2
    page.run("document.getElementById('search').value = 'GOOD HABIT'")
    page.run("document.getElementById('search').dispatchEvent(new Event('input'))")
    page.run("new Promise(done => setTimeout(done, 250))")
    assert [text.split() for text in shown(page, "#examples article h3")] == [["prompt-014", "self"]]
    page.run("document.getElementById('search').value = ''")
    choose(page, "#left", "1")  # vanilla
    choose(page, "#right", "2")  # radis
    first = "document.querySelector('#examples article')"
    marks = page.run(f"[...{first}.querySelectorAll('mark')].map(m => [m.className, m.textContent])")
    # vanilla: "before the autumn ... We are not taking any risks", radis: "before autumn ... We take no risks".
    assert [word for side, word in marks if side == "left"] == ["the", "are", "not", "taking", "any"]
    assert [word for side, word in marks if side == "right"] == ["take", "no"]
    page.run("document.getElementById('two').click()")
    assert page.run(f"{first}.querySelectorAll('.output').length") == 2
    page.run("document.getElementById('differing').click()")
    assert shown(page, "#shown") == ["1–10 of 11 items (12 in all)"]  # "144" is the same for both
    assert page.problems == []


def test_outputs_are_ordered_by_score_and_systems_stay_in_their_order(page: Browser) -> None:
    first = "document.querySelector('#examples article')"
    names = f"[...{first}.querySelectorAll('.output .system')].map(e => e.textContent)"
    as_in_tables = page.run(names)
    assert as_in_tables[:3] == ["base", "vanilla", "radis"]
    choose(page, "#left", "2")
    choose(page, "#right", "0")
    assert page.run(names) == as_in_tables
    titles = page.run("[...document.getElementById('order').options].map(o => o.text)")
    assert titles == [
        "As they were measured",
        "Lowest score of radis first",
        "Largest loss against base first",
        "Largest gain against base first",
    ]
    scores = "[...document.querySelectorAll('#examples .output:nth-child(3) .score')].map(e => e.textContent)"
    as_measured = page.run(scores)
    assert len(as_measured) == 7  # of ten items; the others have no reference
    choose(page, "#order", "1")
    values = [float(text.split()[1]) for text in page.run(scores)]
    assert values == sorted(values)
    choose(page, "#order", "3")
    gains = [float(text.split("(")[1].rstrip(")").replace("\N{MINUS SIGN}", "-")) for text in page.run(scores)]
    assert gains == sorted(gains, reverse=True)
    choose(page, "#order", "0")
    assert page.run(scores) == as_measured
    assert page.problems == []


def test_hostile_text_is_shown_and_does_nothing(chromium: Browser, contents: ReportContents, tmp_path: Path) -> None:
    text = '<img src=x onerror="window.hit=1"></script><script>window.hit=1</script><!-- & \u2028 \ud800'
    item = SideBySide(text, "self", text, text, {"base": text, "radis": text + " more"})
    path = tmp_path / "hostile.html"
    filled = ReportContents(scorecard=contents.scorecard, recipe_yaml=text, examples=[item], verdict=text)
    path.write_text(render_report(filled), "utf-8", errors="backslashreplace")
    chromium.problems.clear()
    chromium.open(path)
    assert chromium.run("window.hit === undefined && document.querySelectorAll('img, main script').length") == 1
    assert chromium.run("document.querySelector('.output .text').textContent") == text
    assert chromium.problems == []


def test_tables_sort_by_number_with_the_keyboard(page: Browser) -> None:
    table = "document.querySelector('#summary table')"
    column = f"[...{table}.tHead.rows[0].cells].findIndex(c => c.innerText.startsWith('Retention'))"
    cells = f"[...{table}.tBodies[0].rows].map(r => r.cells[{column}].innerText.split('\\n')[0])"
    before = page.run(cells)
    page.run(f"{table}.tHead.rows[0].cells[{column}].querySelector('button').focus()")
    page.press("Enter", 13)
    assert page.run(cells) == ["53.1", "60.0", "88.4", "90.2", "96.0", "100.0"]
    assert page.run(f"{table}.tHead.rows[0].cells[{column}].ariaSort") == "ascending"
    page.press("Enter", 13)
    assert page.run(cells) == ["100.0", "96.0", "90.2", "88.4", "60.0", "53.1"]
    page.press("Enter", 13)
    assert page.run(cells) == before
    gains = f"[...{table}.tBodies[0].rows].map(r => r.cells[2].innerText)"
    page.run(f"{table}.tHead.rows[0].cells[2].querySelector('button').click()")
    assert page.run(gains)[-1] == "-"  # the base has no gain: missing values stay last


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_window_and_print_shows_all(page: Browser, width: int) -> None:
    page.resize(width, 780)
    assert page.run("document.documentElement.scrollWidth") == width
    assert page.print().startswith(b"%PDF")
    assert page.run("document.querySelectorAll('details:not([open])').length") > 0  # folded again after printing


def test_two_thousand_segments_of_five_systems_load_in_two_seconds(
    chromium: Browser, contents: ReportContents, tmp_path: Path
) -> None:
    path = tmp_path / "many.html"
    path.write_text(render_report(many(contents, 2000, 5)), "utf-8")
    chromium.open(path)
    taken = chromium.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert shown(chromium, "#shown") == ["1–10 of 2,000 items"]
    assert taken < 2000


def test_the_form_saves_what_was_chosen(chromium: Browser, tmp_path: Path) -> None:
    texts = [
        SideBySide(f"t/{n}", "de-en", f"Quelle {n}", "", {"base": f"one {n}", "radis": f"two {n}"}) for n in range(12)
    ]
    sheet = make_sheet(texts, ["base", "radis"], n=12, seed=2)
    write_sheet(tmp_path, sheet, render_form(sheet), False)
    key = read_key(tmp_path)
    chromium.problems.clear()
    chromium.downloads(tmp_path)
    chromium.open(tmp_path / "raters" / "form.html", 360, 780)
    assert chromium.run("document.documentElement.scrollWidth") == 360
    chromium.run("[...document.querySelectorAll('article')].forEach(a => a.querySelector('[value=BB]').click())")
    chromium.run("document.querySelector('[data-step=\"1\"]').click()")
    chromium.run("document.querySelector('article [value=tie]').click()")
    assert shown(chromium, "#progress") == ["11 of 12 rated"]
    chromium.run("document.querySelector('[data-save=csv]').click()")
    assert shown(chromium, "#progress") == ["Please enter your name first."]
    chromium.run(
        "(r => { r.value = 'Anna, B.'; r.dispatchEvent(new Event('input')); })(document.getElementById('rater'))"
    )
    for kind in ("csv", "json"):
        chromium.run(f"document.querySelector('[data-save={kind}]').click()")
        path = tmp_path / f"ratings-{sheet.id}-Anna-B-.{kind}"
        end = time.monotonic() + HANGING
        while not path.exists() and time.monotonic() < end:
            chromium.run("new Promise(done => setTimeout(done, 50))")
        filled = read_filled(path, key)
        assert filled.rater == "Anna, B."
        assert list(filled.ratings.values()) == [2] * 10 + [0]
    assert chromium.problems == []
