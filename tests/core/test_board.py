"""Progress of several works at once: what a process passes on, and what is shown of it."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from lingraft.core import board as module
from lingraft.core.board import Relay, board
from lingraft.core.progress import Reporter


def reporter(terminal: bool, quiet: bool = False) -> Reporter:
    found = Reporter(quiet)
    found.console = Console(file=StringIO(), force_terminal=terminal, width=60, color_system=None)
    return found


def shown(one: Reporter) -> str:
    file: Any = one.console.file
    return str(file.getvalue())


def test_a_relay_passes_on_what_is_said_and_how_far_a_task_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bool, bool]] = []
    relay = Relay(lambda *line: told.append(line))
    monkeypatch.setattr(Relay, "line_every", 0.0)
    relay.say("Starting x")
    relay.say("Warning", always=True)
    with relay.task("training", 7) as task:
        task.update(3, "2.1 tokens/s")
    assert told[:3] == [
        ("Starting x", False, False),
        ("Warning", True, False),
        ("training: 3/7 2.1 tokens/s", False, True),
    ]


def test_without_a_terminal_names_stand_before_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    one = reporter(terminal=False)
    with board(one) as rows:
        rows.begin("a")
        rows.told("a", "  Starting x", False, False)
        rows.told("a", "training: 3/7", False, True)  # too soon after that
        monkeypatch.setattr(module, "LINE_EVERY_SECONDS", 0.0)
        rows.told("a", "training: 4/7", False, True)
        rows.told("b", "failed: \x1b[31mred", True, False)
        rows.end("a")
    assert shown(one).splitlines()[:2] == ["a: Starting x", "a: training: 4/7"]
    assert "\x1b" not in shown(one)
    quiet = reporter(terminal=False, quiet=True)
    with board(quiet) as rows:
        rows.begin("a")
        rows.told("a", "Starting x", False, False)
        rows.told("a", "spoilt", True, False)
    assert shown(quiet) == "a: spoilt\n"


def test_in_a_terminal_each_work_has_one_line() -> None:
    one = reporter(terminal=True)
    with board(one) as rows:
        for name in ("vanilla", "radis"):
            rows.begin(name)
            rows.told(name, f"Starting train-{name} {'x' * 90}", False, False)
        assert rows._live is not None
        lines = [f"{task.description} {task.fields['detail']}" for task in rows._live.tasks]
        rows.end("vanilla")
        rows.told("vanilla", "too late", False, True)
        assert [task.description for task in rows._live.tasks] == ["radis"]
    assert [line.split()[:3] for line in lines] == [
        ["vanilla", "Starting", "train-vanilla"],
        ["radis", "Starting", "train-radis"],
    ]
    assert all(len(line) < 60 and line.endswith("…") for line in lines)
