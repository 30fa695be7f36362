"""The translation chain of thought step by step: which step of it loses quality, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence

from lingraft.evaluation.scorecard import GeneralScore, Scorecard
from lingraft.reporting.numbers import MISSING, decimals_for, interval, number
from lingraft.reporting.tables import Cell, Group, Names, Table, grouped


def chain_tables(scorecard: Scorecard, names: Names) -> list[Table]:
    """Return a table for each suite that has measured steps and their tokens; one row a system, 95 % intervals below
    the values."""
    tables = []
    for suite, scores in grouped(scorecard.answered, lambda score: score.suite):
        facts = {score.metric: score.facts for score in scores}
        shown = [metric for metric, own in facts.items() if own.role == "step"]
        tokens = [metric for metric, own in facts.items() if own.role == "step_tokens"]
        if not shown or not tokens:
            continue
        columns = ["System", *(facts[metric].title for metric in shown), "Tokens of each step"]
        rows = []
        for system, own in grouped(scores, lambda score: score.system):
            found = {score.metric: score for score in own}
            cells = [_score(found.get(metric)) for metric in shown]
            rows.append([names.cell(system), *cells, _tokens([found[metric] for metric in tokens if metric in found])])
        table = Table(
            f"The chain step by step, with 95 % intervals: {suite}", columns, [Group(rows)], frozenset(columns[1:])
        )
        tables.append(table)
    return tables


def _score(score: GeneralScore | None) -> Cell:
    if score is None:
        return Cell(MISSING)
    places = decimals_for(score.facts, [score.score])
    return Cell(number(score.score, places), detail=interval(score.ci95, places))


def _tokens(parts: Sequence[GeneralScore]) -> Cell:
    return Cell(" + ".join(number(part.score, 0) for part in parts) if parts else MISSING)
