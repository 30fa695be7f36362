"""What other programs print, kept apart from our own words."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lingraft.core.errors import first_line
from lingraft.engines.captured_output import first_exception, output_into

LOG = """\
(Worker pid=7) ERROR 11-21 07:15:07 [worker.py:114] Traceback (most recent call last):
(Worker pid=7) ERROR 11-21 07:15:07 [worker.py:114] torch.OutOfMemoryError: Tried to allocate 20.00 GiB.
Traceback (most recent call last):
RuntimeError: Engine core initialization failed. See root cause above.
"""


def test_children_print_into_the_file_also_later(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    script = "import sys; print('early', flush=True); input(); print('late', file=sys.stderr)"
    with output_into(log):
        child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE)
        os.write(1, b"hidden\n")  # as a library in C does
    print("shown", flush=True)
    child.communicate(b"\n")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("shown\n", "")
    assert sorted(log.read_text("utf-8").split()) == ["early", "hidden", "late"]


def test_without_a_file_nothing_is_hidden_and_errors_pass(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with output_into(None):
        print("shown", flush=True)
    with pytest.raises(ValueError, match="inner"), output_into(tmp_path / "log"):
        raise ValueError("inner")
    print("shown again", flush=True)
    assert capfd.readouterr().out == "shown\nshown again\n"


def test_the_first_exception_is_the_cause(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert first_exception(log) == first_exception(None) == ""
    log.write_text("INFO all is well\n", "utf-8")
    assert first_exception(log) == ""
    log.write_text(LOG, "utf-8")
    assert first_exception(log) == "Tried to allocate 20.00 GiB"
    assert first_line(ValueError("one.\ntwo")) == "one"
    assert first_line(KeyError()) == "KeyError"
