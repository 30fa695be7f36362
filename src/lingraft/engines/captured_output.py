"""What an engine's processes print: into a file, and the cause of a failure out of it. Stderr is for our words."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def output_into(log: Path | None) -> Iterator[None]:
    """Send what this process and those it starts print into a file; those keep printing there afterwards.

    Args:
        log: appended to; nothing is redirected if None.
    """
    if log is None:
        yield
        return
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    with log.open("ab") as handle:
        for number, _ in saved:
            os.dup2(handle.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in saved:
            os.dup2(copy, number)
            os.close(copy)


def first_exception(log: Path | None) -> str:
    """Return the message of the first exception in a log, in one line; those after it follow from it."""
    if log is None or not log.exists():
        return ""
    found = re.search(r"\b(?:\w+\.)*\w*(?:Error|Exception): (.+)", log.read_text("utf-8", "replace"))
    return found.group(1).strip()[:500].rstrip(".") if found else ""
