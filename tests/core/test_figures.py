"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from lingraft.core.figures import MINUS, duration, interval, number


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "written"),
    [
        (-0.04, 1, False, "0.0"),
        (-0.04, 1, True, "0.0"),
        (0.04, 1, True, "0.0"),
        (-0.05001, 1, True, f"{MINUS}0.1"),
        (-1234.5, 0, False, f"{MINUS}1,234"),
        (3.379, 1, True, "+3.4"),
        (math.nan, 1, False, "-"),
        (None, 1, False, "-"),
    ],
)
def test_signs_are_real_and_a_rounded_zero_has_none(
    value: float | None, decimals: int, signed: bool, written: str
) -> None:
    assert number(value, decimals, signed=signed) == written


def test_intervals_are_written_the_same_way() -> None:
    assert interval((-1.8, 0.8)) == f"[{MINUS}1.8, 0.8]"
    assert interval((-0.01, 0.8), signed=True) == "[0.0, +0.8]"
    assert interval(None) == "-"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0, "-"), (0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (1500, "25 min"), (3600, "1.0 h"), (9000, "2.5 h")],
)
def test_times_are_in_the_unit_that_people_would_take(seconds: float, written: str) -> None:
    assert duration(seconds) == written
