"""Processes that are started, listened to and killed; folders that are compared and damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

from nursery import Child

HANGING = 600.0
"""Seconds after which a test says that something hangs: far more than a slow or busy machine needs."""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    """Run a Python script that uses the package in a process of its own, and return at once."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def heard(process: subprocess.Popen[str] | Child, word: str) -> None:
    """Wait for a line on the process's stdout; it must be `word`."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line == word, line if line else process.communicate()[1]


def killed(process: subprocess.Popen[str] | Child) -> None:
    """Kill the process as a power cut would."""
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def flip(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
