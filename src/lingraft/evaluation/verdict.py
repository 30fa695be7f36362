"""The headline of a run in one sentence, claiming no more than the intervals allow."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.core.errors import DataError
from lingraft.core.figures import interval, number
from lingraft.evaluation.scorecard import GeneralScore, Retention, SummaryRow, TranslationScore
from lingraft.evaluation.scoring import BASE
from lingraft.evaluation.summary import improvement, mean_of_deltas
from lingraft.evaluation.summary_facts import gain_facts
from lingraft.statistics.metric_facts import MetricFacts


def verdict(
    system: str,
    summary: Sequence[SummaryRow],
    translation: Sequence[TranslationScore],
    general: Sequence[GeneralScore],
) -> str:
    """Return the headline in one sentence, claiming no more than the intervals allow.

    A gain or a difference in gain is claimed where its interval excludes zero. "Keeps more" is claimed where the
    retention intervals of the two systems do not overlap, which is stricter than a test of their difference; the
    score compared is the one of which `system` keeps least.

    Args:
        system: the system the sentence is about.
        summary: rows of `summarise`; every system but "base" and `system` is compared with it.
        translation: all translation rows.
        general: all general rows.

    Raises:
        DataError: `system` is not in the summary.
    """
    rows = {row.system: row for row in summary}
    if system not in rows:
        raise DataError(f"there is no summary of system {system!r}; measured: {', '.join(rows)}")
    weakest = _weakest(system, general)
    sentence = f"{_gain_words(rows[system], translation)} and {_kept_words(rows[system], weakest, general)}"
    for other in summary:
        if other.system not in (BASE, system):
            sentence += f"; {_comparison(rows[system], other, weakest, translation, general)}"
    return sentence + "."


def _gain_words(row: SummaryRow, translation: Sequence[TranslationScore]) -> str:
    gain = row.gain
    if gain is None:
        return f"{row.system} was not measured on translation against the base"
    facts = gain_facts(gain.metric, translation)
    name, digits = facts.title, _digits(facts)
    bounds = interval(gain.ci95, digits)
    if gain.ci95[0] > 0:
        return f"{row.system} gains {number(gain.value, digits)} {name} {bounds}"
    if gain.ci95[1] < 0:
        lost = interval((-gain.ci95[1], -gain.ci95[0]), digits)
        return f"{row.system} loses {number(-gain.value, digits)} {name} {lost}"
    return f"{row.system} has no significant gain in {name} ({number(gain.value, digits, signed=True)} {bounds})"


def _digits(facts: MetricFacts) -> int:
    return 1 if facts.decimals is None else facts.decimals


def _weakest(system: str, general: Sequence[GeneralScore]) -> tuple[str, str] | None:
    """Return suite and metric of the score of which the system keeps least."""
    kept = [(row.retention.percent, row.suite, row.metric) for row in general if row.system == system and row.retention]
    return min(kept)[1:] if kept else None


def _retention(system: str, which: tuple[str, str], general: Sequence[GeneralScore]) -> Retention | None:
    for row in general:
        if row.system == system and (row.suite, row.metric) == which:
            return row.retention
    return None


def _kept_words(row: SummaryRow, weakest: tuple[str, str] | None, general: Sequence[GeneralScore]) -> str:
    kept = _retention(row.system, weakest, general) if weakest else None
    if weakest is None or kept is None or row.retention_mean is None:
        return "its general ability was not measured"
    least = f"{number(kept.percent, 0)} % {interval(kept.ci95, 0)}"
    measured = sum(1 for other in general if other.system == row.system and other.retention)
    if measured == 1:
        return f"keeps {least} of the base's {weakest[0]}/{weakest[1]}"
    return (
        f"keeps {number(row.retention_mean, 0)} % of the base's general scores on average, "
        f"least of {weakest[0]}/{weakest[1]}: {least}"
    )


def _comparison(
    own: SummaryRow,
    other: SummaryRow,
    weakest: tuple[str, str] | None,
    translation: Sequence[TranslationScore],
    general: Sequence[GeneralScore],
) -> str:
    parts = [_gain_words(other, translation)]
    if own.gain and other.gain:
        metric = own.gain.metric
        rows = [row for row in translation if row.system == own.system and row.metric == metric]
        deltas = [row.versus[other.system] for row in rows if other.system in row.versus]
        if rows and len(deltas) == len(rows):
            difference = improvement(mean_of_deltas(deltas), rows[0])
            digits = _digits(rows[0].facts)
            found = f"({number(difference.value, digits, signed=True)} {interval(difference.ci95, digits)})"
            if difference.ci95 == (0, 0):
                parts.append("just as much")
            elif difference.ci95[0] <= 0 <= difference.ci95[1]:
                parts.append(f"the difference in gain is not significant {found}")
            else:
                more = own.system if difference.value > 0 else other.system
                parts.append(f"{more} gains significantly more {found}")
    if weakest:
        mine, theirs = (_retention(row.system, weakest, general) for row in (own, other))
        if mine and theirs:
            if mine.ci95[0] > theirs.ci95[1]:
                claim = f"{own.system} keeps more"
            elif theirs.ci95[0] > mine.ci95[1]:
                claim = f"{other.system} keeps more"
            else:
                claim = "the intervals overlap"
            share = f"{number(theirs.percent, 0)} % {interval(theirs.ci95, 0)}"
            parts.append(f"it keeps {share} of {weakest[0]}/{weakest[1]} ({claim})")
    return ", ".join(parts)
