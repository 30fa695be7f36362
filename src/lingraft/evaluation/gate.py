"""Gates: conditions on a scorecard that hold only where the interval says so, for use in continuous integration.

`NAME>=NUMBER` holds where the lower end of the 95 % interval is at least the number, `NAME<=NUMBER` where the upper end
is at most the number (`>` and `<` likewise). NAME is one of

- `gain`, `retention_mean`, `retention_min`, `extraction_failure_percent`, `output_tokens_per_translation` (the summary;
  the last two have no interval),
- `METRIC`, `SUITE.METRIC`, `TEST_SET.METRIC`, `DIRECTION.METRIC` or `TEST_SET.DIRECTION.METRIC`, alone for the score,
  or followed by `.score`, `.gain` (translation: the improvement on base), `.retention` or `.delta` (suites).

Where a name stands for several rows, each has to hold; a diagnostic has no retention that could. `SYSTEM:` in front
says which system; by default it is the run's own. What was not measured does not hold.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from lingraft.core.errors import LingraftError, UsageError, suggestion
from lingraft.evaluation.scorecard import Delta, Interval, Scorecard
from lingraft.evaluation.summary import improvement

_FORM = re.compile(
    r"\s*(?P<subject>[^<>=]+?)\s*(?P<sign>>=|<=|>|<)"
    r"\s*(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,2})?)\s*%?\s*",
    re.ASCII,
)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


class GateMissedError(LingraftError):
    """A gate does not hold."""


@dataclass(frozen=True)
class Gate:
    """One condition; `subject` is NAME or SYSTEM:NAME."""

    text: str
    subject: str
    sign: str
    number: float


@dataclass(frozen=True)
class GateValue:
    """A value with its interval, and where it stands; None where it was not measured."""

    where: str
    value: float | None
    ci95: Interval | None = None


@dataclass(frozen=True)
class Verdict:
    """Whether one gate holds for one system and row."""

    gate: Gate
    system: str
    reading: GateValue
    holds: bool

    @property
    def bound(self) -> float | None:
        """The number that is compared: the end of the interval against which the gate is."""
        if self.reading.ci95 is None:
            return self.reading.value
        return self.reading.ci95[0 if self.gate.sign.startswith(">") else 1]

    def line(self) -> str:
        """Return the verdict in one line."""
        found = "not measured"
        if self.reading.value is not None:
            found = f"{self.reading.value:.4g}"
            if self.reading.ci95 is not None:
                low, high = self.reading.ci95
                end = "lower" if self.gate.sign.startswith(">") else "upper"
                found += f" [{low:.4g}, {high:.4g}], {end} bound {self.bound:.4g}"
            else:
                found += ", no interval"
        where = f" ({self.reading.where})" if self.reading.where else ""
        return f"{'holds ' if self.holds else 'MISSED'}  {self.gate.text}  {self.system}{where}: {found}"


def parse_gate(text: str) -> Gate:
    """Return the condition.

    Raises:
        UsageError: it is not of the form NAME>=NUMBER.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UsageError(
            f"gate {text[:80]!r} is not of the form NAME>=NUMBER or NAME<=NUMBER, such as retention_min>=97"
        )
    return Gate(text.strip(), match["subject"], match["sign"], float(match["number"]))


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
            for reading in readings(scorecard, measured).get(name) or [GateValue("", None)]:
                out.append(Verdict(gate, measured, reading, _holds(gate, reading)))
    return out


def _near(name: str, known: Iterable[str]) -> str:
    # All names would not make a sentence; those of the summary do.
    near = suggestion(name, known)
    return near if near.startswith("; did") else "; try gain, retention_mean, retention_min or SUITE.METRIC.retention"


def _holds(gate: Gate, reading: GateValue) -> bool:
    bound = Verdict(gate, "", reading, False).bound
    return bound is not None and _SIGNS[gate.sign](bound, gate.number)


def readings(scorecard: Scorecard, system: str) -> dict[str, list[GateValue]]:
    """Return everything a gate may name, with its values for one system."""
    found: dict[str, list[GateValue]] = {}
    for summary in scorecard.summary:
        if summary.system == system:
            gain = summary.gain
            found["gain"] = [GateValue("", gain.value, gain.ci95)] if gain else []
            found["retention_mean"] = [GateValue("", summary.retention_mean, summary.retention_mean_ci95)]
            found["retention_min"] = [GateValue("", summary.retention_min, summary.retention_min_ci95)]
            for name in ("extraction_failure_percent", "output_tokens_per_translation"):
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
            add(places, row.metric, "score", GateValue(where, row.score, row.ci95))
            better = improvement(row.delta, row) if row.delta else None
            add(places, row.metric, "gain", _of_delta(where, better))
    # Diagnostics last: they say nothing about the retention of a metric that other suites retain.
    for score in sorted(scorecard.general, key=lambda score: score.diagnostic):
        if score.system == system:
            places = dict.fromkeys(["", f"{score.suite}."])
            kept = score.retention
            add(places, score.metric, "score", GateValue(score.suite, score.score, score.ci95))
            reading = GateValue(score.suite, kept.percent, kept.ci95) if kept else GateValue(score.suite, None)
            of = [place for place in places if not (score.diagnostic and f"{place}{score.metric}.retention" in found)]
            add(of, score.metric, "retention", reading)
            add(places, score.metric, "delta", _of_delta(score.suite, score.delta))
    return found


def _of_delta(where: str, delta: Delta | None) -> GateValue:
    return GateValue(where, delta.value, delta.ci95) if delta else GateValue(where, None)


def enforce(verdicts: Sequence[Verdict]) -> None:
    """Raise GateMissedError if one of the gates does not hold."""
    missed = list(dict.fromkeys(verdict.gate.text for verdict in verdicts if not verdict.holds))
    if missed:
        total = len({verdict.gate.text for verdict in verdicts})
        raise GateMissedError(f"{len(missed)} of {total} gates missed: {', '.join(missed)}; see the lines above")
