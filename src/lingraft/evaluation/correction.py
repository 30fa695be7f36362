"""Correction of the p-values of a scorecard for the number of comparisons (Holm 1979).

A family is everything by which one system is compared with one other: all test sets, directions and metrics of
translation that have a better end, and all suite metrics that can be retained. Descriptions (length ratio, words per
answer, divergence) belong to no family and keep their plain p.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from lingraft.evaluation.scorecard import Delta, GeneralScore, TranslationScore
from lingraft.evaluation.scoring import BASE
from lingraft.statistics.items import Items
from lingraft.statistics.paired_tests import holm

R = TypeVar("R", TranslationScore, GeneralScore)


def corrected(
    translation: Sequence[TranslationScore],
    general: Sequence[GeneralScore],
    items: Sequence[Items],
    shared: Mapping[str, str] | None = None,
) -> tuple[list[TranslationScore], list[GeneralScore]]:
    """Return the rows with `p_holm` filled in.

    Args:
        translation: rows of test sets, with uncorrected p-values.
        general: rows of suites, likewise.
        items: those the rows were made from; they say which metrics are compared.
        shared: system -> the one whose answers to suites it has: where both have the same, there is nothing to compare,
            and no comparison is counted.
    """
    of = shared or {}
    compared = {(one.where, one.metric) for one in items if one.better is not None and one.retains}
    families: dict[tuple[str, str], list[tuple[str, int, Delta]]] = {}
    rows: list[tuple[str, int, TranslationScore | GeneralScore]] = []
    rows += [("translation", index, one) for index, one in enumerate(translation)]
    rows += [("general", index, one) for index, one in enumerate(general)]
    for kind, index, row in rows:
        if (_where(row), row.metric) in compared:
            for other, delta in _deltas(row).items():
                if kind == "general" and of.get(row.system, row.system) == of.get(other, other):
                    continue
                families.setdefault((row.system, other), []).append((kind, index, delta))
    found: dict[tuple[str, int, str], Delta] = {}
    for (_, other), members in families.items():
        for (kind, index, delta), p in zip(members, holm([delta.p for _, _, delta in members]), strict=True):
            found[kind, index, other] = delta.model_copy(update={"p_holm": p})
    return _filled("translation", translation, found), _filled("general", general, found)


def _where(row: TranslationScore | GeneralScore) -> str:
    return row.test_set if isinstance(row, TranslationScore) else row.suite


def _deltas(row: TranslationScore | GeneralScore) -> dict[str, Delta]:
    return {**({BASE: row.delta} if row.delta else {}), **row.versus}


def _filled(kind: str, rows: Sequence[R], found: dict[tuple[str, int, str], Delta]) -> list[R]:
    return [
        row.model_copy(
            update={
                "delta": found.get((kind, index, BASE), row.delta),
                "versus": {name: found.get((kind, index, name), delta) for name, delta in row.versus.items()},
            }
        )
        for index, row in enumerate(rows)
    ]
