"""What the programs of this Python share that score for a metric: JSON lines in, JSON lines out. Imports nothing of
Lingraft, and is found beside them.

They read from standard input and write to the file descriptor given as their only argument, so that nothing a library
prints gets between them: settings in, what the model says of itself out; then any number of times {"rows": [...]} in,
{"scores": [number, ...]} out, until standard input ends. What fails is {"error": sentence}, and the end.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TextIO


class Scorer(Protocol):
    """What scores."""

    def about(self) -> dict[str, Any]:
        """Return what the model says of itself."""
        ...

    def scores(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return a score a row."""
        ...


def answer(opened: Callable[[Mapping[str, Any]], Scorer]) -> int:
    """Answer until standard input ends; return the exit code.

    Args:
        opened: loads the model, from the settings.
    """
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as out:
        try:
            scorer = opened(json.loads(sys.stdin.readline()))
            _say(out, scorer.about())
            for line in sys.stdin:
                _say(out, {"scores": scorer.scores(json.loads(line)["rows"])})
        except Exception as error:
            first = (str(error).strip().splitlines() or [""])[0]
            _say(out, {"error": f"{type(error).__name__}: {first[:300]}"})
            return 1
    return 0


def _say(out: TextIO, values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()
