"""The translation chain of thought step by step: which step of it loses quality, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lingraft.evaluation.scorecard import GeneralScore, Scorecard
from lingraft.reporting.numbers import MISSING, interval, metric_style, number
from lingraft.reporting.tables import Cell, Group, Names, Table, grouped

STEPS = (
    ("query_chrf", "1: question to English, chrF"),
    ("step2_chrf", "2: English answer like the base's, chrF"),
    ("english_chrf", "2 alone: asked in English, chrF"),
    ("forced_response_english", "Asked in English, marker put %"),
    ("reply_chrf", "3 alone: answer from English, chrF"),
    ("native_language", "In the user's language %"),
    ("format_failure", "Format failures %"),
)
TOKENS = ("tokens_query", "tokens_english", "tokens_native")


def chain_tables(scorecard: Scorecard, names: Names) -> list[Table]:
    """Return a table for each suite that has measured the chain; one row a system, 95 % intervals below the values."""
    tables = []
    for suite, scores in grouped(scorecard.general, lambda score: score.suite):
        metrics = {score.metric for score in scores}
        if "format_failure" not in metrics:
            continue
        shown = [(metric, title) for metric, title in STEPS if metric in metrics]
        columns = ["System", *(title for _, title in shown), "Tokens: question, answer, native"]
        rows = []
        for system, own in grouped(scores, lambda score: score.system):
            found = {score.metric: score for score in own}
            cells = [_score(found.get(metric)) for metric, _ in shown]
            rows.append([names.cell(system), *cells, _tokens(found)])
        table = Table(
            f"The chain step by step, with 95 % intervals: {suite}", columns, [Group(rows)], frozenset(columns[1:])
        )
        tables.append(table)
    return tables


def _score(score: GeneralScore | None) -> Cell:
    if score is None:
        return Cell(MISSING)
    places = metric_style(score.metric).decimals or 1
    return Cell(number(score.score, places), detail=interval(score.ci95, places))


def _tokens(found: Mapping[str, GeneralScore]) -> Cell:
    parts: Sequence[GeneralScore] = [found[name] for name in TOKENS if name in found]
    return Cell(" + ".join(number(part.score, 0) for part in parts) if parts else MISSING)
