"""Gates: conditions on a scorecard that hold only where the interval says so, for use in continuous integration.

`NAME>=NUMBER` holds where the lower end of the 95 % interval is at least the number, `NAME<=NUMBER` where the upper end
is at most the number (`>` and `<` likewise); a number on the wrong side of no change is a margin of non-inferiority.
The interval is two-sided, so that a gate that should not hold does in at most 2.5 % of cases; with `@one-sided` behind
the number, in 5 %: its bound is then an end of the two-sided 90 % interval. NAME is one of

- `gain`, `retention_mean`, `retention_min`, `extraction_failure_percent`, `output_tokens_per_translation` (the summary;
  the last two have no interval),
- `gain_vs_SYSTEM`: by how much more than another system, in the metric of the gain,
- `forgotten`, `SUITE.forgotten`, `METRIC.forgotten`, `SUITE.METRIC.forgotten`: percent of the items that the base had
  right and that are wrong now, net of chance (`lingraft.statistics.changed`); `forgotten` alone is that of the suite
  whose bound is worst, diagnostics apart,
- `METRIC`, `SUITE.METRIC`, `TEST_SET.METRIC`, `DIRECTION.METRIC` or `TEST_SET.DIRECTION.METRIC`, alone for the score,
  or followed by `.score`, `.gain` (translation: the improvement on base), `.retention` or `.delta` (suites).

Where a name stands for several rows, each has to hold; a diagnostic has no retention that could. `SYSTEM:` in front
says which system; by default it is the run's own. What was not measured does not hold.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lingraft.core.errors import LingraftError, UsageError, suggestion
from lingraft.evaluation.scorecard import Delta, Interval, Scorecard, SummaryRow
from lingraft.evaluation.summary import headline_task, improvement, mean_of_deltas

_FORM = re.compile(
    r"\s*(?P<subject>[^<>=]+?)\s*(?P<sign>>=|<=|>|<)"
    r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)\s*%?\s*(?:@\s*(?P<side>[^\s@]*)\s*)?",
    re.ASCII,
)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


ONE_SIDED = "one-sided"
FORGOTTEN = "forgotten"
GAIN_OVER = "gain_vs_"
_COUNTED = ("extraction_failure_percent", "output_tokens_per_translation")
SUMMARY_NAMES = ("gain", "retention_mean", "retention_min", FORGOTTEN, *_COUNTED)
"""Names that are about a system as a whole; so are those that begin with `GAIN_OVER`."""


class GateMissedError(LingraftError):
    """A gate does not hold."""


@dataclass(frozen=True)
class Gate:
    """One condition; `subject` is NAME or SYSTEM:NAME. `one_sided`: by the one-sided bound of 95 %."""

    text: str
    subject: str
    sign: str
    number: float
    one_sided: bool = False

    @property
    def level(self) -> str:
        """Which bound is compared, in words."""
        return f"{ONE_SIDED if self.one_sided else 'two-sided'} 95 %"

    @property
    def end(self) -> str:
        """The end of the interval that is compared."""
        return "lower" if self.sign.startswith(">") else "upper"


@dataclass(frozen=True)
class GateValue:
    """A value with its intervals, and where it stands; None where it was not measured.

    `ci90` holds the one-sided bounds of 95 %; a scorecard of an earlier version has none.
    """

    where: str
    value: float | None
    ci95: Interval | None = None
    ci90: Interval | None = None


NO_BOUND = "without a one-sided bound, which earlier versions did not write; run the recipe again with this one"


@dataclass(frozen=True)
class Verdict:
    """Whether one gate holds for one system and row."""

    gate: Gate
    system: str
    reading: GateValue
    holds: bool

    @property
    def bound(self) -> float | None:
        """The number that is compared: the end of the interval against which the gate is. None: there is none."""
        if self.reading.ci95 is None:
            return self.reading.value
        interval = self.reading.ci90 if self.gate.one_sided else self.reading.ci95
        return None if interval is None else interval[0 if self.gate.end == "lower" else 1]

    def line(self) -> str:
        """Return the verdict in one line."""
        found = "not measured"
        if self.reading.value is not None:
            found = f"{self.reading.value:.4g}"
            if self.reading.ci95 is None:
                found += ", no interval"
            elif self.bound is None:
                found += f", {NO_BOUND}"
            else:
                low, high = self.reading.ci95
                found += "" if self.gate.one_sided else f" [{low:.4g}, {high:.4g}]"
                found += f", {self.gate.end} bound {self.bound:.4g}, {self.gate.level}"
        where = f" ({self.reading.where})" if self.reading.where else ""
        return f"{'holds ' if self.holds else 'MISSED'}  {self.gate.text}  {self.system}{where}: {found}"


def parse_gate(text: str) -> Gate:
    """Return the condition.

    Raises:
        UsageError: it is not of the form NAME>=NUMBER, or something else than `@one-sided` stands behind it.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"gate {text[:80]!r} is not of the form NAME>=NUMBER or NAME<=NUMBER, such as retention_min>=97, or "
            f"retention_min>=97@{ONE_SIDED}"
        )
    if match["subject"].endswith(f"@{ONE_SIDED}"):
        raise UsageError(f"gate {text[:80]!r}: @{ONE_SIDED} stands behind the number, as in gain>=0@{ONE_SIDED}")
    side = match["side"]
    if side not in (None, ONE_SIDED):
        raise UsageError(
            f"gate {text[:80]!r}: there is no @{side}; write @{ONE_SIDED} for the one-sided bound of 95 %, or nothing "
            f"for the end of the two-sided 95 % interval"
        )
    return Gate(text.strip(), match["subject"], match["sign"], float(match["number"]), side is not None)


def check_gates(gates: Iterable[Gate], scorecard: Scorecard, own: Sequence[str]) -> list[Verdict]:
    """Return a verdict for every gate, system and row that it is about.

    Args:
        gates: of a recipe or the command line, parsed.
        scorecard: of the finished run.
        own: systems that a gate without `SYSTEM:` is about.

    Raises:
        UsageError: unknown system or name, with the nearest known one.
    """
    names = [system.name for system in scorecard.systems]
    known = {name for system in names for name in readings(scorecard, system)}
    out = []
    for gate in gates:
        system, name = "", gate.subject
        if name not in known and ":" in name:  # a test set may have a colon in its name
            system, name = (part.strip() for part in name.split(":", 1))
            if system not in names:
                raise UsageError(f"gate {gate.text!r}: there is no system {system!r}{suggestion(system, names)}")
        if name not in known:
            raise UsageError(f"gate {gate.text!r}: there is no {name!r} in the scorecard{_near(name, known)}")
        for measured in [system] if system else own:
            found = readings(scorecard, measured).get(name) or [GateValue("", None)]
            if name == FORGOTTEN:
                found = [_worst(gate, found)]
            for reading in found:
                out.append(Verdict(gate, measured, reading, _holds(gate, reading)))
    return out


def _worst(gate: Gate, found: Sequence[GateValue]) -> GateValue:
    """Return the reading whose bound is furthest on the wrong side: where it holds, all do."""

    def wrong_by(reading: GateValue) -> float:
        bound = Verdict(gate, "", reading, False).bound
        return math.inf if bound is None else -bound if gate.end == "lower" else bound

    return max(found, key=wrong_by)


def _near(name: str, known: Iterable[str]) -> str:
    # All names would not make a sentence; those of the summary do.
    near = suggestion(name, known)
    return (
        near
        if near.startswith("; did")
        else "; try gain, retention_mean, retention_min, forgotten, gain_vs_SYSTEM or SUITE.METRIC.retention"
    )


def _holds(gate: Gate, reading: GateValue) -> bool:
    bound = Verdict(gate, "", reading, False).bound
    return bound is not None and _SIGNS[gate.sign](bound, gate.number)


def readings(scorecard: Scorecard, system: str) -> dict[str, list[GateValue]]:
    """Return everything a gate may name, with its values for one system."""
    found: dict[str, list[GateValue]] = {}
    for summary in scorecard.summary:
        if summary.system == system:
            gain = summary.gain
            found["gain"] = [GateValue("", gain.value, gain.ci95, gain.ci90)] if gain else []
            for other, more in _gains_over(scorecard, summary).items():
                found[f"{GAIN_OVER}{other}"] = [_of_delta("", more)]
            mean, least = summary.retention_mean, summary.retention_min
            mean_ends = summary.retention_mean_ci95, summary.retention_mean_ci90
            found["retention_mean"] = [GateValue("", mean, *mean_ends)]
            found["retention_min"] = [GateValue("", least, summary.retention_min_ci95, summary.retention_min_ci90)]
            for name in _COUNTED:
                found[name] = [GateValue("", getattr(summary, name))]

    def add(places: Iterable[str], metric: str, what: str, reading: GateValue) -> None:
        for place in places:
            for suffix in (f".{what}", *([""] if what == "score" else [])):
                found.setdefault(f"{place}{metric}{suffix}", []).append(reading)

    for row in scorecard.translation:
        if row.system == system:
            where = f"{row.test_set} {row.direction}"
            # A test set may be called as its direction is: each row counts once.
            places = dict.fromkeys(["", f"{row.test_set}.", f"{row.direction}.", f"{row.test_set}.{row.direction}."])
            add(places, row.metric, "score", GateValue(where, row.score, row.ci95, row.ci90))
            better = improvement(row.delta, row) if row.delta else None
            add(places, row.metric, "gain", _of_delta(where, better))
    # Diagnostics last: they say nothing about the retention of a metric that other suites retain.
    for score in sorted(scorecard.general, key=lambda score: score.diagnostic):
        if score.system == system:
            places = dict.fromkeys(["", f"{score.suite}."])
            kept = score.retention
            add(places, score.metric, "score", GateValue(score.suite, score.score, score.ci95, score.ci90))
            unmeasured = GateValue(score.suite, None)
            reading = GateValue(score.suite, kept.percent, kept.ci95, kept.ci90) if kept else unmeasured
            of = [place for place in places if not (score.diagnostic and f"{place}{score.metric}.retention" in found)]
            add(of, score.metric, "retention", reading)
            add(places, score.metric, "delta", _of_delta(score.suite, score.delta))
            if score.changed:
                lost = score.changed.forgotten
                where = f"{score.suite} {score.metric}"
                reading = GateValue(where, lost.percent, lost.ci95, lost.ci90) if lost else GateValue(where, None)
                of = [
                    place
                    for place in places
                    if not (score.diagnostic and f"{place}{score.metric}.{FORGOTTEN}" in found)
                ]
                add(of, score.metric, FORGOTTEN, reading)
                if not (score.diagnostic and f"{score.suite}.{FORGOTTEN}" in found):
                    found.setdefault(f"{score.suite}.{FORGOTTEN}", []).append(reading)
                if lost and not score.diagnostic:  # as the lowest retention is of what has one
                    found.setdefault(FORGOTTEN, []).append(reading)
    found.setdefault(FORGOTTEN, [])
    return found


def _gains_over(scorecard: Scorecard, summary: SummaryRow) -> dict[str, Delta]:
    """Return by how much more than each other system one gains: the mean over test sets, as the gain is.

    Where a test set was not translated by both, there is none.
    """
    if summary.gain is None:
        return {}
    task = headline_task(row.task for row in scorecard.translation)
    wanted = (summary.system, summary.gain.metric, task)
    rows = [row for row in scorecard.translation if (row.system, row.metric, row.task) == wanted]
    found = {}
    for other in dict.fromkeys(name for row in rows for name in row.versus):
        deltas = [row.versus[other] for row in rows if other in row.versus]
        if len(deltas) == len(rows):
            found[other] = improvement(mean_of_deltas(deltas), rows[0])
    return found


def _of_delta(where: str, delta: Delta | None) -> GateValue:
    return GateValue(where, delta.value, delta.ci95, delta.ci90) if delta else GateValue(where, None)


def enforce(verdicts: Sequence[Verdict]) -> None:
    """Raise GateMissedError if one of the gates does not hold."""
    missed = list(dict.fromkeys(verdict.gate.text for verdict in verdicts if not verdict.holds))
    if missed:
        total = len({verdict.gate.text for verdict in verdicts})
        raise GateMissedError(f"{len(missed)} of {total} gates missed: {', '.join(missed)}; see the lines above")
