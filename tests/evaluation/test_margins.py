"""Gates with a margin in words."""

from __future__ import annotations

import pytest

from lingraft.evaluation.gate import GateValue, Verdict, parse_gate
from lingraft.evaluation.margins import margin_of, margin_sentences


@pytest.mark.parametrize(
    ("text", "margin"),
    [
        ("gain_vs_vanilla>=-0.5", 0.5),
        ("gain>=-1", 1),
        ("de-en.chrf++.gain>-0.2", 0.2),
        ("radis:retention_min>=99", 1),
        ("gsm8k.acc.retention>=97.5", 2.5),
        ("gsm8k.forgotten<=2", 2),
        ("forgotten<=5@one-sided", 5),
        ("quiz.acc.delta>=-1", 1),
        ("gain>=0", None),
        ("gain_vs_vanilla>=0.5", None),
        ("retention_min>=100", None),
        ("forgotten<=0", None),
        ("chrf++>=20", None),
        ("extraction_failure_percent<=1", None),
    ],
)
def test_a_margin_is_what_may_be_lost(text: str, margin: float | None) -> None:
    assert margin_of(parse_gate(text), "radis") == (margin if margin is None else pytest.approx(margin))


def verdict(text: str, value: float | None, holds: bool, where: str = "", system: str = "radis") -> Verdict:
    ends = None if value is None else (value - 1, value + 1)
    inner = None if value is None else (value - 0.8, value + 0.8)
    return Verdict(parse_gate(text), system, GateValue(where, value, ends, inner), holds)


def test_the_sentence_says_margin_bound_and_side() -> None:
    found = margin_sentences(
        [
            verdict("gain_vs_vanilla>=-0.5", 0.75, True),
            verdict("gain_vs_vanilla>=-0.5@one-sided", 0.2, False),
            verdict("gain>=0", 2, True),
            verdict("radis:retention_min>=99", None, False),
        ]
    )
    assert found == [
        "Non-inferiority of radis in gain against vanilla with a margin of 0.5 is shown: the lower end of the "
        "two-sided 95 % interval is −0.25, and −0.5 was asked for.",
        "Non-inferiority of radis in gain against vanilla with a margin of 0.5 is not shown: the lower one-sided 95 % "
        "bound is −0.6, and −0.5 was asked for.",
        "Non-inferiority of radis in retention min with a margin of 1 % is not shown: it was not measured.",
    ]


def test_of_several_rows_the_worst_is_named() -> None:
    rows = [verdict("acc.forgotten<=4", value, value < 3, where) for value, where in ((1, "a acc"), (6, "b acc"))]
    (found,) = margin_sentences(rows)
    assert found == (
        "Non-inferiority of radis in acc.forgotten (b acc) with a margin of 4 % is not shown: the upper end of the "
        "two-sided 95 % interval is 7, and 4 was asked for."
    )
    without = Verdict(parse_gate("gain>=-1@one-sided"), "radis", GateValue("", 1.0, (0.0, 2.0)), False)
    assert margin_sentences([without])[0].endswith("is not shown: it is without a one-sided bound.")
