"""`lingraft watch`: once where nobody sits before it, live in a terminal, and ended at any time without a word."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from commands import lingraft, one_sentence  # noqa: F401  (fixture)
from lingraft.store.holders import Holder
from lingraft.store.progress_file import PartNote, ProgressFile, read_progress
from models_support import save_tiny_model
from processes import HANGING
from tiny_runs import values

NOTE = ProgressFile(
    holder=Holder.own(),
    began=1000.0,
    now=1010.0,
    part=1,
    parts=(PartNote(kind="data", estimate=60.0, began=1000.0), PartNote(kind="evaluate", estimate=10.0)),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder in which this process works."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("name: mine\n")
    NOTE.write(folder)
    return folder


def test_without_a_terminal_it_prints_once(run: Path, lingraft: Any) -> None:
    for options in ((), ("--once",)):
        found = lingraft("watch", run, *options)
        assert found.code == 0
        assert " ".join(found.out.split()).startswith(f"mine {run} Process {os.getpid()} works since ")
        assert "▶ data" in found.out
        assert "· evaluate" in found.out
    assert sorted(path.name for path in run.parent.iterdir()) == ["mine"]


def test_the_page_lies_beside_the_folder_or_where_it_is_told(run: Path, lingraft: Any) -> None:
    assert lingraft("watch", run, "--once", "--html").code == 0
    assert lingraft("watch", run, "--html", "--once").code == 0
    assert (run.parent / "mine.watch.html").is_file()
    assert lingraft("watch", run, "--once", "--html", run.parent / "other.html").code == 0
    assert (run.parent / "other.html").is_file()
    one_sentence(lingraft("watch", run, "--once", "--html", run / "page.html"), 2, "would lie in the folder")
    one_sentence(lingraft("watch", run, "--once", "--html", ""), 2, "--html is empty")


def test_what_is_no_folder_is_one_sentence(run: Path, lingraft: Any) -> None:
    one_sentence(lingraft("watch", run / "recipe.yaml"), 1, "is a file; give the folder of a run, or of a bench")
    assert "No run has begun here." in lingraft("watch", run / "none").out


class Terminal:
    """The command in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.main, side = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lingraft", "watch", *arguments],
            stdin=side,
            stdout=side,
            stderr=side,
            env={**os.environ, "COLUMNS": "80", "LINES": "30", "TERM": "xterm"},
            start_new_session=True,
        )
        os.close(side)
        self.seen = ""

    def until(self, text: str) -> None:
        while text not in self.seen:
            ready, _, _ = select.select([self.main], [], [], HANGING)
            assert ready, self.seen
            try:
                data = os.read(self.main, 65536)
            except OSError:  # it has ended
                data = b""
            assert data, self.seen
            self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode("utf-8", "replace"))

    def end(self) -> int:
        with suppress(AssertionError):
            self.until("\0")  # all that comes
        return self.process.wait(HANGING)


@pytest.mark.long
def test_in_a_terminal_it_follows_until_it_is_interrupted(run: Path) -> None:
    terminal = Terminal(str(run), "--every", "0.2")
    terminal.until("▶ data")
    terminal.until("Ctrl-C ends this, not the run.")
    replace(NOTE, parts=(replace(NOTE.parts[0], seconds=5.0), NOTE.parts[1])).write(run)
    terminal.until("✓ data")
    os.kill(terminal.process.pid, signal.SIGINT)
    assert terminal.end() == 0
    assert "Traceback" not in terminal.seen
    assert "lingraft:" not in terminal.seen


@pytest.mark.long
def test_a_folder_that_vanishes_is_one_sentence(run: Path) -> None:
    terminal = Terminal(str(run), "--every", "0.2")
    terminal.until("▶ data")
    shutil.rmtree(run)
    assert terminal.end() == 1
    assert "Traceback" not in terminal.seen
    assert "is no longer there, or empty: it was moved or removed" in " ".join(terminal.seen.split())


@pytest.mark.long
def test_a_run_is_followed_until_it_is_killed(tmp_path: Path, lingraft: Any) -> None:
    save_tiny_model(tmp_path / "model", seed=3)
    recipe = values(tmp_path / "model", compare=[])
    recipe["stages"][0]["train"] |= {"epochs": 500}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    folder = tmp_path / "run"
    watching = Terminal(str(folder), "--every", "0.2")
    watching.until("No run has begun here")
    process = subprocess.Popen(
        [sys.executable, "-m", "lingraft", "run", str(tmp_path / "recipe.yaml"), "--out", str(folder), "--quiet"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        watching.until("Training radis: step")
        assert not watching.process.poll()
        note = read_progress(folder)
        assert note is not None
        assert note.holder.pid == process.pid
    finally:
        process.kill()
        process.wait()
    assert watching.end() == 0
    assert "No process is running since" in watching.seen
    found = lingraft("watch", folder)
    assert found.code == 0
    assert "it was killed; the same command continues" in " ".join(found.out.split())
