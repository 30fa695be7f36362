"""Words and progress go to stderr, in a terminal and elsewhere."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console
from rich.text import Text

from lingraft.core import progress
from lingraft.core.progress import Reporter
from processes import HANGING


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
    assert lines == [f"  synthesis: {done}/4,000 7 tokens/s" for done in ("900", "1,900", "2,900", "3,900")]


def test_no_line_stands_still_while_nothing_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = 100.0, 0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with Reporter().task("synthesis", 128) as task:
        task.describe(lambda: f"{written} tokens")
        for _ in range(25):
            now, written = now + 1.0, written + 30
            task.beat()
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["  synthesis: 0/128 300 tokens, 10 s", "  synthesis: 0/128 600 tokens, 20 s"]


def test_work_of_unknown_length_speaks_by_itself_and_only_where_no_task_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reporter, "line_every", 0.0)
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0.001)
    reporter = Reporter()
    said = threading.Event()
    seen: list[str] = []

    def say(text: str, *, always: bool = False) -> None:
        seen.append(text.split(",")[0])
        said.set()

    monkeypatch.setattr(reporter, "say", say)
    with reporter.working("merging"):
        assert said.wait(HANGING)
        with reporter.task("train", 10):
            seen.clear()
            while "  train: 0/10" not in seen:
                assert said.wait(HANGING)
            begun = seen.index("  train: 0/10")
            while len(seen) < begun + 3:
                assert said.wait(HANGING)
            assert set(seen[begun:]) == {"  train: 0/10"}
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]


def test_in_a_terminal_there_is_one_live_bar_that_goes_away() -> None:
    reporter = Reporter()
    screen = io.StringIO()
    reporter.console = Console(file=screen, force_terminal=True, width=100)
    with reporter.task("train", 8) as task:
        task.update(8, "half [a] loss")
    assert "8/8" in screen.getvalue()
    assert "\x1b[2K" in screen.getvalue()  # the bar's line is erased


@pytest.mark.parametrize("width", [60, 80, 200])
def test_counts_and_times_are_whole_and_the_detail_gives_way(width: int) -> None:
    reporter = Reporter()
    screen = io.StringIO()
    reporter.console = Console(file=screen, force_terminal=True, width=width, highlight=False)
    with reporter.task("train-radis", 1184) as task:
        task.update(1002, "loss 2.386, 131 real and 56 supervised tokens/s")
        assert task._live is not None
        task._live.refresh()
    lines = [line for line in screen.getvalue().replace("\r", "\n").splitlines() if "1,002" in line]
    assert lines
    for line in lines:
        plain = Text.from_ansi(line).plain
        assert "train-radis" in plain
        assert "1,002/1,184" in plain
        assert re.search(r" \d:\d\d:\d\d (-:--:--|\d:\d\d:\d\d)", plain), plain
        assert len(plain.rstrip()) <= width
    shown = Text.from_ansi(lines[-1]).plain
    assert ("loss 2.3" in shown) == (width >= 80)
    assert ("supervised tokens/s" in shown) == (width == 200)
