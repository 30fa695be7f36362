"""The page: everything is escaped, nothing is loaded, and it loads itself anew only while there is more to see."""

from __future__ import annotations

import re
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

import lingraft as lg
from browser import Browser, find_browser
from lingraft.watching.page import render_watch
from lingraft.watching.pieces import Filtered, WatchedPart, WatchedText
from lingraft.watching.states import WatchedBench, WatchedRun
from processes import HANGING

BAD = "<script>alert(1)</script>\"'&\x1b\u202e"


def test_a_run_at_work_is_shown_and_comes_again(shots: Path, tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    run = lg.watch(shots / "train-radis", html=page, every=3)
    assert isinstance(run, WatchedRun)
    text = page.read_text("utf-8")
    assert '<noscript><meta http-equiv="refresh" content="3"></noscript>' in text
    assert "location.reload()" in text
    for title in ("train radis", "ask base", "Loss of radis, by role", "Learning rate of radis", "now at step"):
        assert title in text
    assert "Last rationale" in text
    assert "<mark>" in text
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?(https?:|//)""", text)
    assert list(page.parent.iterdir()) == [page]


def test_a_page_of_what_is_over_stays_as_it_is(shots: Path) -> None:
    text = render_watch(lg.watch(shots / "finished"), 2.0)
    assert 'http-equiv="refresh"' not in text
    assert 'id="stale"' not in text
    assert "radis: " in text


def test_strangers_words_are_only_words() -> None:
    run = WatchedRun(
        folder=Path("/runs") / BAD.replace("/", ""),
        name=BAD,
        status="failed",
        said=BAD,
        parts=(WatchedPart(title=BAD, state="running", detail=BAD, share=0.5),),
        rationale=WatchedText(title="rationale", of=BAD, id=BAD, pieces=((BAD, BAD),)),
        example=WatchedText(title="example", of=BAD, id="", pieces=(("", f"{BAD}\ue000{BAD}\ue001{BAD}\ue000"),)),
        filtered=(Filtered(BAD, BAD, 1),),
        notes=(BAD,),
        results=(BAD,),
    )
    bench = WatchedBench(folder=Path(BAD), name=BAD, status="running", said=BAD, rows=run.parts, run=run, notes=(BAD,))
    for state in (run, bench):
        text = render_watch(state, 2.0)
        assert "<script>alert" not in text
        assert text.count("<script>") == 1


@pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed")
def test_it_fits_a_phone_and_loads_itself_anew(shots: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    state = lg.watch(shots / "train-radis", html=page, every=600)
    assert isinstance(state, WatchedRun)
    with tempfile.TemporaryDirectory() as profile:
        browser = Browser(str(find_browser()), profile)
        try:
            for width in (390, 1280):
                browser.open(page, width)
                assert browser.run("document.documentElement.scrollWidth") <= width
            assert browser.run("document.getElementById('stale').hidden")
            page.write_text(render_watch(state, 0.2), "utf-8")
            browser.open(page)
            page.write_text(render_watch(replace(state, name="changed", status="finished"), 0.2), "utf-8")
            end = time.monotonic() + HANGING
            while title(browser) != "changed: finished":
                assert time.monotonic() < end
            assert not browser.problems
        finally:
            browser.close()


def title(browser: Browser) -> str:
    """The title of the page, also while it loads."""
    try:
        history = browser._call("Page.getNavigationHistory")
    except AssertionError as error:
        if "Not attached to an active page" in str(error):  # between two pages
            return ""
        raise
    return str(history["entries"][history["currentIndex"]]["title"])
