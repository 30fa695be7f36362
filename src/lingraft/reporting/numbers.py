"""How numbers are written in the report and the model card: decimals, signs, intervals and significance marks."""

from __future__ import annotations

from collections.abc import Iterable

from lingraft.core.figures import MINUS as MINUS
from lingraft.core.figures import MISSING as MISSING
from lingraft.core.figures import interval as interval
from lingraft.core.figures import number as number
from lingraft.evaluation.scorecard import Interval
from lingraft.statistics.metric_facts import Better, MetricFacts


def decimals_for(facts: MetricFacts, values: Iterable[float]) -> int:
    """Return the decimals for all `values` of one metric: its own, else fewer the larger the largest value is."""
    if facts.decimals is not None:
        return facts.decimals
    largest = max((abs(value) for value in values), default=0.0)
    return 1 if largest >= 10 else 2 if largest >= 1 else 3


def count(value: int | None) -> str:
    """Return a whole number with thousands separators, or "-" when missing."""
    return MISSING if value is None else f"{value:,d}".replace("-", MINUS)


def share(part: int, whole: int) -> str:
    """Return `part` in percent of `whole` with one decimal, or "-" when there is no whole."""
    return MISSING if whole <= 0 else f"{100 * part / whole:.1f} %"


def p_value(p: float) -> str:
    """Return three decimals; below 0.001 the bound."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def excludes(bounds: Interval, value: float) -> bool:
    """Return whether the interval leaves out `value`: the difference from it is significant at that level."""
    return not bounds[0] <= value <= bounds[1]


def change_mark(better: Better, bounds: Interval, p_holm: float | None = None) -> str:
    """Return "better", "worse", "differs" (neither end is better) or "n.s." for an interval of a difference.

    A difference counts when its interval leaves out zero and its p-value, where it was corrected for the number of
    comparisons, is still below 0.05.

    Args:
        better: which end of the metric is.
        bounds: interval of the difference.
        p_holm: corrected p-value; None where nothing was corrected.
    """
    if not excludes(bounds, 0.0) or (p_holm is not None and p_holm >= 0.05):
        return "n.s."
    if better is None:
        return "differs"
    return "better" if (bounds[0] > 0) == (better == "higher") else "worse"


def retention_mark(bounds: Interval, p_holm: float | None = None) -> str:
    """Return "above base", "below base" or "n.s." for an interval of a retention in percent.

    As in `change_mark`, a corrected p-value of the difference from base counts as well where there is one.
    """
    if not excludes(bounds, 100.0) or (p_holm is not None and p_holm >= 0.05):
        return "n.s."
    return "above base" if bounds[0] > 100 else "below base"
