"""How numbers are written in the report and the model card: decimals, signs, intervals and significance marks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lingraft.evaluation.scorecard import Interval

MISSING = "-"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class MetricStyle:
    """How a metric is shown: its label, which way is better, and its decimals (None: by magnitude)."""

    label: str
    better: Literal["higher", "lower", "neither"] = "neither"
    decimals: int | None = None


METRICS = {
    "bleu": MetricStyle("BLEU", "higher", 1),
    "chrf": MetricStyle("chrF", "higher", 1),
    "chrf++": MetricStyle("chrF++", "higher", 1),
    "ter": MetricStyle("TER", "lower", 1),
    "off_target": MetricStyle("Off-target %", "lower", 1),
    "length_ratio": MetricStyle("Length ratio", "neither", 3),
    "spbleu": MetricStyle("spBLEU", "higher", 1),
    "comet": MetricStyle("COMET", "higher", 4),
    "copied_source": MetricStyle("Copied source %", "lower", 1),
    "numbers": MetricStyle("Numbers kept %", "higher", 1),
    "urls": MetricStyle("Addresses kept %", "higher", 1),
    "placeholders": MetricStyle("Placeholders kept %", "higher", 1),
    "completeness": MetricStyle("Sentences kept %", "higher", 1),
    "agreement": MetricStyle("Agreement with base (chrF)", "higher", 1),
    "stays_answer": MetricStyle("Answers that stay answers %", "higher", 1),
    "kl_from_base": MetricStyle("KL from base (nats per token)", "lower", 3),
    "length_drift": MetricStyle("Length drift |ln ratio|", "lower", 3),
    "words": MetricStyle("Words per answer", "neither", 1),
    "thinking": MetricStyle("Answers with thoughts %", "lower", 1),
    "loops": MetricStyle("Answers that loop %", "lower", 1),
    "kl_from_base_translation": MetricStyle("KL from base on translation requests", "lower", 3),
    "wrong_task": MetricStyle("Answers of the wrong task %", "lower", 1),
    "wrong_task_translation": MetricStyle("Translations of the wrong task %", "lower", 1),
    "refusal_rate": MetricStyle("Refused %", "higher", 1),
    "refusal_rate_guard": MetricStyle("Refused % (guard)", "higher", 1),
    "safe_rate_guard": MetricStyle("Safe answers % (guard)", "higher", 1),
    "guard_disagreement": MetricStyle("Guard against keywords %", "lower", 1),
    "guard_kappa": MetricStyle("Guard and keywords, kappa", "higher", 2),
    "score": MetricStyle("Grade (1-10)", "higher", 2),
    "score_turn1": MetricStyle("Grade, turn 1", "higher", 2),
    "score_turn2": MetricStyle("Grade, turn 2", "higher", 2),
    "win_rate": MetricStyle("Win rate %", "higher", 1),
    "win_rate_lc": MetricStyle("Win rate %, length-controlled", "higher", 1),
    "consistent": MetricStyle("Same verdict in both orders %", "higher", 1),
    "unreadable": MetricStyle("Unreadable verdicts %", "lower", 1),
    "native_language": MetricStyle("Answers in the language asked for %", "higher", 1),
    "answered": MetricStyle("Answers that say something %", "higher", 1),
    "format_failure": MetricStyle("Chains with a missing part %", "lower", 1),
    "unfinished": MetricStyle("Chains cut off %", "lower", 1),
    "english_cut": MetricStyle("English answer at its limit %", "lower", 1),
    "forced_english": MetricStyle("Chains begun by force %", "lower", 1),
    "forced_response": MetricStyle("English answer opened by force %", "lower", 1),
    "forced_native": MetricStyle("Native answer opened by force %", "lower", 1),
    "forced_response_english": MetricStyle("Asked in English, answer opened by force %", "lower", 1),
    "query_chrf": MetricStyle("Question to English (chrF)", "higher", 1),
    "english_chrf": MetricStyle("Asked in English, answers like the base's (chrF)", "higher", 1),
    "step2_chrf": MetricStyle("English answer like the base's (chrF)", "higher", 1),
    "reply_chrf": MetricStyle("Answer from English (chrF)", "higher", 1),
    "tokens_query": MetricStyle("Tokens of the English question", "neither", 1),
    "tokens_english": MetricStyle("Tokens of the English answer", "neither", 1),
    "tokens_native": MetricStyle("Tokens of the native answer", "neither", 1),
    "gain": MetricStyle("Gain", "higher", 1),
    "retention_mean": MetricStyle("Mean retention %", "higher", 1),
    "retention_min": MetricStyle("Lowest retention %", "higher", 1),
}


def metric_style(metric: str) -> MetricStyle:
    """Return how `metric` is shown; an unknown one keeps its name and is never called better or worse."""
    return METRICS.get(metric, MetricStyle(metric))


def decimals_for(metric: str, values: Iterable[float]) -> int:
    """Return the decimals for all `values` of one metric: its own, else fewer the larger the largest value is."""
    own = metric_style(metric).decimals
    if own is not None:
        return own
    largest = max((abs(value) for value in values), default=0.0)
    return 1 if largest >= 10 else 2 if largest >= 1 else 3


def number(value: float | None, decimals: int = 1, *, signed: bool = False) -> str:
    """Return `value` with fixed decimals and thousands separators; "-" when missing, no sign on a rounded zero."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{abs(value):,.{decimals}f}"
    if not text.strip("0.,"):
        return text
    return f"{MINUS if value < 0 else '+' if signed else ''}{text}"


def interval(bounds: Interval | None, decimals: int = 1, *, signed: bool = False) -> str:
    """Return `[low, high]`, or "-" when missing."""
    if bounds is None:
        return MISSING
    return f"[{number(bounds[0], decimals, signed=signed)}, {number(bounds[1], decimals, signed=signed)}]"


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


def change_mark(metric: str, bounds: Interval, p_holm: float | None = None) -> str:
    """Return "better", "worse", "differs" (no direction is better) or "n.s." for an interval of a difference.

    A difference counts when its interval leaves out zero and its p-value, where it was corrected for the number of
    comparisons, is still below 0.05.
    """
    if not excludes(bounds, 0.0) or (p_holm is not None and p_holm >= 0.05):
        return "n.s."
    better = metric_style(metric).better
    if better == "neither":
        return "differs"
    return "better" if (bounds[0] > 0) == (better == "higher") else "worse"


def retention_mark(bounds: Interval, p_holm: float | None = None) -> str:
    """Return "above base", "below base" or "n.s." for an interval of a retention in percent.

    As in `change_mark`, a corrected p-value of the difference from base counts as well where there is one.
    """
    if not excludes(bounds, 100.0) or (p_holm is not None and p_holm >= 0.05):
        return "n.s."
    return "above base" if bounds[0] > 100 else "below base"
