"""What a server has done and is doing, in the text form that Prometheus reads; never what clients wrote."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lingraft.serving.answerer import Answer

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 600.0)
"""Of the buckets of seconds: from a token of a small model to the longest that clients wait."""

Sample = tuple[Mapping[str, str], float]


class Histogram:
    """Counts values by buckets.

    Args:
        bounds: upper ends of the buckets, in order; a last one has no end.
    """

    def __init__(self, bounds: Sequence[float] = BOUNDS) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        """Return the samples."""
        found, so_far = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            so_far += count
            found.append(_line(f"{name}_bucket", {"le": bound}, so_far))
        return [*found, _line(f"{name}_sum", {}, self._sum), _line(f"{name}_count", {}, so_far)]


class Metrics:
    """The figures of one server; it belongs to the thread of its event loop.

    Attributes:
        left: clients that left before they had all of their answer.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._read = self._written = self.left = 0
        self._first, self._queued, self._total = Histogram(), Histogram(), Histogram()

    def ended(self, kind: str, status: int, seconds: float) -> None:
        """Count a request that was answered or refused.

        Args:
            kind: "chat", "completion" or "translation".
            status: of HTTP.
            seconds: from its arrival on.
        """
        self._requests[kind, status] += 1
        if status == 200:
            self._total.add(seconds)

    def refused(self, kind: str, status: int) -> None:
        """Count a request that was refused before it had a place in the queue."""
        self._requests[kind, status] += 1

    def translated(self, read: int, written: int) -> None:
        """Count the tokens of a request for translations."""
        self._read += read
        self._written += written

    def answered(self, answer: Answer, queued: float, *, again: bool = False) -> None:
        """Count an answer.

        Args:
            answer: complete.
            queued: seconds that its request waited.
            again: whether it is a further one to the same prompt.
        """
        self._written += sum(answer.tokens.values())
        if again:
            return
        self._read += answer.timing.prompt_tokens
        self._queued.add(queued)
        if answer.timing.first_visible is not None:
            self._first.add(queued + answer.timing.first_visible)

    def text(
        self,
        running: int,
        waiting: int,
        failures: Mapping[str, int],
        outcomes: Mapping[str, int],
        *,
        up: bool = True,
    ) -> str:
        """Return all figures.

        Args:
            running: requests that are answered now.
            waiting: requests in the queue beside them.
            failures: what went wrong first in answers so far, "" for nothing.
            outcomes: of a decoder's translations.
            up: whether what writes works.
        """
        requests = [({"kind": kind, "status": str(status)}, n) for (kind, status), n in sorted(self._requests.items())]
        lines = [
            *_metric("engine_up", "gauge", "1 while what writes the answers works, 0 when it has ended.", [({}, +up)]),
            *_metric("requests_total", "counter", "Requests that were answered or refused, by status.", requests),
            *_metric("clients_left_total", "counter", "Clients that left before they had all.", [({}, self.left)]),
            *_metric("requests_running", "gauge", "Requests that are answered now.", [({}, running)]),
            *_metric("requests_waiting", "gauge", "Requests in the queue.", [({}, waiting)]),
            *_metric("prompt_tokens_total", "counter", "Tokens read.", [({}, self._read)]),
            *_metric("generation_tokens_total", "counter", "Tokens written.", [({}, self._written)]),
            *_metric("failures_total", "counter", "Chains and translations, by failure.", _named("failure", failures)),
            *_metric("outcomes_total", "counter", "Translations by a decoder.", _named("outcome", outcomes)),
        ]
        for name, about, histogram in (
            ("first_text_seconds", "From arrival to the first text that the user sees.", self._first),
            ("queue_seconds", "From arrival to the turn of the request.", self._queued),
            ("request_seconds", "From arrival to the end of the answer.", self._total),
        ):
            lines += [*_metric(name, "histogram", about, ()), *histogram.lines(f"lingraft_{name}")]
        return "\n".join(lines) + "\n"


def _named(label: str, counts: Mapping[str, int]) -> list[Sample]:
    return [({label: name or "none"}, count) for name, count in sorted(counts.items())]


def _metric(name: str, kind: str, about: str, samples: Iterable[Sample]) -> list[str]:
    full = f"lingraft_{name}"
    return [f"# HELP {full} {about}", f"# TYPE {full} {kind}", *(_line(full, *sample) for sample in samples)]


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{told}}} {value}" if told else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
