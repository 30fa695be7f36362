"""What the figures of a summary say about themselves: gain and distance from the base are those of some metric."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lingraft.evaluation.row_facts import facts_of, of_metric
from lingraft.evaluation.scorecard import GeneralScore, Scorecard, SeedSpread, TranslationScore
from lingraft.statistics.metric_facts import MetricFacts

SUMMARY = {
    "gain": MetricFacts(label="Gain", decimals=1),
    "retention_mean": MetricFacts(label="Mean retention", decimals=1, unit="%"),
    "retention_min": MetricFacts(label="Lowest retention", decimals=1, unit="%"),
    "kl_from_base": MetricFacts(label="KL from base", better="lower", decimals=3, unit="nats per token"),
    "off_target_percent": MetricFacts(label="Off-target", better="lower", decimals=1, unit="%"),
}
"""Fields of a summary row, for reports that show them; some are those of a metric, see `role_facts`."""


def gain_facts(metric: str, translation: Iterable[TranslationScore]) -> MetricFacts:
    """Return what the metric of a gain says about itself."""
    row = next((row for row in translation if row.metric == metric), None)
    return facts_of(row) if row else of_metric(metric, "") or MetricFacts(label=metric, better=None)


def spread_facts(scorecard: Scorecard, spread: SeedSpread) -> MetricFacts:
    """Return what the score says about itself that several seeds were trained for."""
    if spread.where == "summary" and spread.metric in SUMMARY:
        gain = next((row.gain for row in scorecard.summary if row.gain), None)
        own = SUMMARY[spread.metric]
        if spread.metric != "gain" or gain is None:
            return own
        return replace(own, decimals=gain_facts(gain.metric, scorecard.translation).decimals)
    for row in scorecard.general:
        if (row.suite, row.metric) == (spread.where, spread.metric):
            return facts_of(row)
    return gain_facts(spread.metric, scorecard.translation)


def role_facts(scorecard: Scorecard, role: str, field: str) -> MetricFacts:
    """Return what the metric with a role says about itself; without one, what the field of the summary is called."""
    rows: Iterable[TranslationScore | GeneralScore] = (*scorecard.translation, *scorecard.general)
    return next((facts for facts in map(facts_of, rows) if facts.role == role), SUMMARY[field])
