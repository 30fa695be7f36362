"""What was kept: suite values -> scorecard rows, one summary row a system, and the verdict in a sentence.

Retention is the score kept in percent of the base's: 100 x (score - chance) / (base - chance), or 100 x base / score
for error-like metrics. Its interval resamples the items of both systems jointly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lingraft.errors import DataError
from lingraft.evaluation.scorecard import Delta, Gain, GeneralScore, Retention, SummaryRow, TranslationScore
from lingraft.evaluation.significance import bootstrap, bootstrap_ratio, score, weighted_mean
from lingraft.evaluation.suite import ItemScores
from lingraft.evaluation.translation import BASE, metric_kind

HEADLINE_METRIC = "chrf++"
_DISPLAY = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER"}


def general_scores(
    system: str,
    suite: str,
    scores: Sequence[ItemScores],
    base_scores: Sequence[ItemScores],
    *,
    seed: int = 0,
    n_bootstrap: int = 1000,
) -> list[GeneralScore]:
    """Turn one suite's values of one system into scorecard rows.

    `retention` is absent for diagnostics (`retains` False) and where the base has nothing to lose: its score is not
    above chance in at least 39 of 40 resamples; the signature then says `retention:none`.

    Args:
        system: name of the system, "base" for the base itself.
        suite: name of the suite.
        scores: what the suite's `score` returned for the system. base_scores: the same for the base.
        seed: of the resamples. n_bootstrap: how many.

    Raises:
        DataError: a metric without items, or items that differ between the system and the base.
    """
    by_metric = {item.metric: item for item in base_scores}
    rows = []
    for item in scores:
        place = f"suite {suite!r}, metric {item.metric!r}, system {system!r}"
        if not item.values:
            raise DataError(f"{place}: no items were scored; give the suite at least one prompt")
        ids = sorted(item.values)
        own = _statistics(item, ids)
        low, high = bootstrap(own, weighted_mean, n_bootstrap, seed)
        signature = [item.signature, f"bs:{n_bootstrap}", f"seed:{seed}"]
        if item.chance:
            signature.append(f"chance:{item.scale * item.chance:g}")
        retention = None
        if item.retains:
            base = by_metric.get(item.metric)
            if base is None or base.values.keys() != item.values.keys():
                raise DataError(f"{place}: the base was not scored on the same items; run the suite for both")
            inverted = item.better == "lower"
            ratio = bootstrap_ratio(
                own,
                _statistics(base, ids),
                chance=item.chance,
                invert=inverted,
                n=n_bootstrap,
                seed=seed,
            )
            if ratio is not None:
                retention = Retention(percent=ratio.percent, ci95=ratio.ci95)
            signature.append(f"retention:{'none' if ratio is None else 'inverted' if inverted else 'ratio'}")
        rows.append(
            GeneralScore(
                system=system,
                suite=suite,
                metric=item.metric,
                n=len(ids),
                score=item.scale * score(own, weighted_mean),
                ci95=(item.scale * low, item.scale * high),
                retention=retention,
                signature="|".join(part for part in signature if part),
            )
        )
    return rows


def _statistics(item: ItemScores, ids: Sequence[str]) -> np.ndarray:
    weights = item.weights or dict.fromkeys(ids, 1.0)
    missing = [id_ for id_ in ids if id_ not in weights]
    if missing:
        raise DataError(f"metric {item.metric!r}: item {missing[0]!r} has a value but no weight; weigh every item")
    return np.array([(weights[id_] * item.values[id_], weights[id_]) for id_ in ids])


def mean_of_deltas(deltas: Sequence[Delta]) -> Delta:
    """Return the mean of paired differences measured on different test sets, with its interval.

    The sets are taken as independent: the lower and the upper half-widths each add in squares, so that one set keeps
    its own interval. Sets that share segments (both directions of one file) are positively correlated; their
    interval is then somewhat too narrow. `p` is the one of a single set, else from the normal approximation.

    Raises:
        DataError: no differences.
    """
    if not deltas:
        raise DataError("there is no difference to average; score at least one test set")
    if len(deltas) == 1:
        return deltas[0]
    count = len(deltas)
    value = sum(delta.value for delta in deltas) / count
    below = math.hypot(*(delta.value - delta.ci95[0] for delta in deltas)) / count
    above = math.hypot(*(delta.ci95[1] - delta.value for delta in deltas)) / count
    error = (below + above) / (2 * 1.959964)
    p = math.erfc(abs(value) / error / math.sqrt(2)) if error else float(value == 0)
    return Delta(value=value, ci95=(value - below, value + above), p=p)


def _improvement(delta: Delta, metric: str) -> Delta:
    """Return the difference with the sign that makes more better."""
    if metric_kind(metric).better != "lower":
        return delta
    return Delta(value=-delta.value, ci95=(-delta.ci95[1], -delta.ci95[0]), p=delta.p)


def summarise(
    systems: Sequence[str],
    translation: Sequence[TranslationScore],
    general: Sequence[GeneralScore],
    *,
    metric: str = HEADLINE_METRIC,
    extraction_failure_percent: Mapping[str, float] | None = None,
    output_tokens_per_translation: Mapping[str, float] | None = None,
) -> list[SummaryRow]:
    """Return one summary row a system, in the order given.

    `gain` is the mean over test sets and directions of the difference from base in `metric` (negated for error-like
    metrics: a gain is an improvement), see `mean_of_deltas`. `retention_mean` and `retention_min` are over all rows
    that have a retention, `off_target_percent` is the mean over test sets, `kl_from_base` that of the suite "self".

    Args:
        systems: names; "base" has no gain.
        translation: all translation rows of the run. general: all general rows of the run.
        metric: the headline metric.
        extraction_failure_percent: system -> share of outputs from which no translation could be taken.
        output_tokens_per_translation: system -> mean number of tokens generated for a translation.
    """
    rows = []
    for system in systems:
        deltas = [row.delta for row in translation if row.system == system and row.metric == metric and row.delta]
        gain = None
        if deltas:
            mean = _improvement(mean_of_deltas(deltas), metric)
            gain = Gain(metric=metric, value=mean.value, ci95=mean.ci95)
        own = [row for row in general if row.system == system]
        kept = [row.retention.percent for row in own if row.retention]
        divergence = [row.score for row in own if row.metric == "kl_from_base"]
        off = [row.score for row in translation if row.system == system and row.metric == "off_target"]
        rows.append(
            SummaryRow(
                system=system,
                gain=gain,
                retention_mean=sum(kept) / len(kept) if kept else None,
                retention_min=min(kept) if kept else None,
                kl_from_base=divergence[0] if divergence else None,
                off_target_percent=sum(off) / len(off) if off else None,
                extraction_failure_percent=(extraction_failure_percent or {}).get(system),
                output_tokens_per_translation=(output_tokens_per_translation or {}).get(system),
            )
        )
    return rows


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
        translation: all translation rows. general: all general rows.

    Raises:
        DataError: `system` is not in the summary.
    """
    rows = {row.system: row for row in summary}
    if system not in rows:
        raise DataError(f"there is no summary of system {system!r}; measured: {', '.join(rows)}")
    weakest = _weakest(system, general)
    sentence = f"{_gain_words(rows[system])} and {_kept_words(rows[system], weakest, general)}"
    for other in summary:
        if other.system not in (BASE, system):
            sentence += f"; {_comparison(rows[system], other, weakest, translation, general)}"
    return sentence + "."


def _interval(bounds: tuple[float, float], digits: int) -> str:
    return f"[{bounds[0]:.{digits}f}, {bounds[1]:.{digits}f}]"


def _gain_words(row: SummaryRow) -> str:
    gain = row.gain
    if gain is None:
        return f"{row.system} was not measured on translation against the base"
    name = _DISPLAY.get(gain.metric, gain.metric)
    interval = _interval(gain.ci95, 1)
    if gain.ci95[0] > 0:
        return f"{row.system} gains {gain.value:.1f} {name} {interval}"
    if gain.ci95[1] < 0:
        return f"{row.system} loses {-gain.value:.1f} {name} {_interval((-gain.ci95[1], -gain.ci95[0]), 1)}"
    return f"{row.system} has no significant gain in {name} ({gain.value:+.1f} {interval})"


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
    least = f"{kept.percent:.0f} % {_interval(kept.ci95, 0)}"
    measured = sum(1 for other in general if other.system == row.system and other.retention)
    if measured == 1:
        return f"keeps {least} of the base's {weakest[0]}/{weakest[1]}"
    return (
        f"keeps {row.retention_mean:.0f} % of the base's general scores on average, "
        f"least of {weakest[0]}/{weakest[1]}: {least}"
    )


def _comparison(
    own: SummaryRow,
    other: SummaryRow,
    weakest: tuple[str, str] | None,
    translation: Sequence[TranslationScore],
    general: Sequence[GeneralScore],
) -> str:
    parts = [_gain_words(other)]
    if own.gain and other.gain:
        metric = own.gain.metric
        rows = [row for row in translation if row.system == own.system and row.metric == metric]
        deltas = [row.versus[other.system] for row in rows if other.system in row.versus]
        if rows and len(deltas) == len(rows):
            difference = _improvement(mean_of_deltas(deltas), metric)
            interval = _interval(difference.ci95, 1)
            if difference.ci95[0] <= 0 <= difference.ci95[1]:
                parts.append(f"the difference in gain is not significant ({difference.value:+.1f} {interval})")
            else:
                more = own.system if difference.value > 0 else other.system
                parts.append(f"{more} gains significantly more ({difference.value:+.1f} {interval})")
    if weakest:
        mine, theirs = (_retention(row.system, weakest, general) for row in (own, other))
        if mine and theirs:
            if mine.ci95[0] > theirs.ci95[1]:
                claim = f"{own.system} keeps more"
            elif theirs.ci95[0] > mine.ci95[1]:
                claim = f"{other.system} keeps more"
            else:
                claim = "the intervals overlap"
            share = f"{theirs.percent:.0f} % {_interval(theirs.ci95, 0)}"
            parts.append(f"it keeps {share} of {weakest[0]}/{weakest[1]} ({claim})")
    return ", ".join(parts)
