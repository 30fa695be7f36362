"""Words and progress go to stderr, in a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lingraft import progress
from lingraft.progress import Reporter


def test_words_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter()
    reporter.say("[bold]read[/bold] 1 of 2 " + "x" * 300)
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err == "[bold]read[/bold] 1 of 2 " + "x" * 300 + "\n"


def test_quiet_says_only_what_must_be_said(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    reporter.say("nothing")
    with reporter.task("train", 10) as task:
        task.update(10)
    reporter.say("the result", always=True)
    assert capsys.readouterr().err == "the result\n"


def test_outside_a_terminal_a_line_is_written_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Reporter().task("synthesis", 4000) as task:
        for step in range(0, 4000, 100):
            now += 1.0
            task.update(step, "7 tokens/s")
        assert task.elapsed == 40.0
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["  synthesis: 1,400/4,000 7 tokens/s", "  synthesis: 2,900/4,000 7 tokens/s"]


def test_in_a_terminal_there_is_one_live_bar_that_goes_away() -> None:
    reporter = Reporter()
    screen = io.StringIO()
    reporter.console = Console(file=screen, force_terminal=True, width=100)
    with reporter.task("train", 8) as task:
        task.update(8, "half [a] loss")
    assert "8/8" in screen.getvalue()
    assert "\x1b[2K" in screen.getvalue()  # the bar's line is erased
