"""A process that scores for a metric: see the programs in `workers`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lingraft.core import worker_process
from lingraft.core.errors import EngineError


class WorkerProcess(worker_process.WorkerProcess):
    """A process that scores."""

    def score(self, rows: Sequence[Mapping[str, Any]]) -> list[float]:
        """Return the score of each row, as the worker wants them.

        Raises:
            EngineError: it failed, or answered something else.
        """
        scores = self.ask({"rows": list(rows)}).get("scores")
        if not isinstance(scores, list) or len(scores) != len(rows):
            self.failed = True
            raise EngineError(
                f"{self.label}'s process did not return a score for each of {len(rows)} segments; {self.remedy}"
            )
        return [float(score) for score in scores]
