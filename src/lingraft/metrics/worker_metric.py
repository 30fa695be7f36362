"""Metrics whose scores a process of its own gives; what is known is kept in the user's cache."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from lingraft.core.environment import cache_folder
from lingraft.metrics.base import Metric
from lingraft.metrics.score_cache import ScoreCache
from lingraft.metrics.worker_process import WorkerProcess


class WorkerMetric(Metric):
    """A metric that asks a process, which is started when a score is first missing and runs until `close`.

    Args:
        params: of the metric.
        command: returns the program and its arguments.

    Attributes:
        at_once: rows for which the process is asked at a time: what a killed run loses, and the steps of progress.
    """

    at_once: ClassVar[int]

    def __init__(self, params: Any, command: Callable[[], Sequence[str]]) -> None:
        super().__init__(params)
        self._command = command
        self._worker: WorkerProcess | None = None

    @abstractmethod
    def start(self) -> WorkerProcess:
        """Start the process.

        Raises:
            ModelError: the model is not there.
            EngineError: the process did not start.
        """

    def known_or_asked(self, rows: Mapping[bytes, Mapping[str, Any]]) -> dict[bytes, float]:
        """Return the score of each row, from the cache where it is known.

        Args:
            rows: by their keys in the cache, in the order in which they are asked.

        Raises:
            ModelError: the model is not there.
            EngineError: the process failed.
        """
        cache = ScoreCache(cache_folder() / "scores" / f"{self.name}.sqlite")
        known = cache.get(list(rows))
        queue = [key for key in rows if key not in known]
        for begin in range(0, len(queue), self.at_once):
            self.progress(begin, len(queue))
            if self._worker is not None and self._worker.failed:
                self.close()  # a server asks again; another may do
            self._worker = self._worker or self.start()
            asked = queue[begin : begin + self.at_once]
            scores = dict(zip(asked, self._worker.score([rows[key] for key in asked]), strict=True))
            cache.put(scores)
            known |= scores
        return known

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None
