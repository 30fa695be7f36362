"""Agreement is checked against published examples, win rates against plain counting."""

from __future__ import annotations

import numpy as np
import pytest

from lingraft.core.errors import DataError
from lingraft.evaluation.raters import cohen_kappa, findings, krippendorff_alpha
from lingraft.evaluation.sheet import Filled, Key

NONE = None
# Krippendorff 2011, section C: four observers, twelve units, values missing.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, NONE, NONE, NONE],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NONE, 3],
    [NONE, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NONE],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NONE],
]
UNITS = [[value for value in column if value is not None] for column in zip(*OBSERVERS, strict=True)]


def test_alpha_is_that_of_the_published_example() -> None:
    assert krippendorff_alpha(UNITS, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(UNITS, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_of_perfect_random_and_undefined_ratings() -> None:
    assert krippendorff_alpha([[1, 1], [2, 2], [3, 3]], "ordinal") == pytest.approx(1)
    rng = np.random.default_rng(5)
    assert krippendorff_alpha(rng.integers(0, 3, (4000, 2)).tolist(), "nominal") == pytest.approx(0, abs=0.04)
    assert krippendorff_alpha([[1], [2]], "nominal") is None
    assert krippendorff_alpha([[2, 2], [2, 2]], "ordinal") is None
    # Only the order of the values matters to the ordinal form.
    assert krippendorff_alpha([[10 * v for v in unit] for unit in UNITS], "ordinal") == pytest.approx(
        krippendorff_alpha(UNITS, "ordinal")
    )


def test_kappa_of_a_textbook_table() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, by chance 0.5.
    one = ["yes"] * 25 + ["no"] * 25
    other = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert cohen_kappa(["a"], ["a"]) is None
    assert cohen_kappa([], []) is None
    with pytest.raises(ValueError, match="2 ratings against 1"):
        cohen_kappa([1, 2], [1])


def key(items: int, same: int = 0) -> Key:
    """Even items have the base on the left."""
    sides = {f"s-{n}": ("base", "radis") if n % 2 == 0 else ("radis", "base") for n in range(items)}
    return Key("s", ("base", "radis"), sides, {("base", "radis"): same})


def test_win_rates_are_counted_for_the_right_side() -> None:
    # radis is better on items 0 (on the right) and 1 (on the left), worse on 2, as good on 3; 4 is not rated.
    ratings = {"s-0": 2, "s-1": -1, "s-2": -2, "s-3": 0}
    found = findings(key(5, same=2), [Filled("anna", "a.csv", ratings)])
    (one,) = found.comparisons
    assert (one.system, one.against, one.rated, one.same) == ("radis", "base", 4, 2)
    assert one.wins.percent == pytest.approx(100 * 2 / 6)
    assert one.losses.percent == pytest.approx(100 * 1 / 6)
    assert one.ties.percent == pytest.approx(100 * 3 / 6)
    assert one.win.percent == pytest.approx(100 * (2 + 3 / 2) / 6)
    assert one.win.ci95[0] < one.win.percent < one.win.ci95[1]
    assert found.raters == {"anna": 4}
    assert found.agreement.items == 0
    assert found.agreement.kappa is None


def test_an_item_weighs_the_same_however_many_rated_it_and_intervals_hold_the_truth() -> None:
    many = {f"s-{n}": (1 if n % 2 == 0 else -1) for n in range(100)}  # radis wins everywhere
    once = {"s-0": -1}  # one more opinion, for the base
    found = findings(key(100), [Filled("a", "a", many), Filled("b", "b", once)])
    assert found.comparisons[0].wins.percent == pytest.approx(100 * 99.5 / 100)
    assert found.agreement.items == 1
    rng = np.random.default_rng(11)
    inside = 0
    for trial in range(60):
        wins = rng.random(80) < 0.65
        side = {f"s-{n}": (1 if n % 2 == 0 else -1) * (1 if won else -1) for n, won in enumerate(wins)}
        low, high = findings(key(80), [Filled("a", "a", side)], seed=trial, n=400).comparisons[0].win.ci95
        inside += low <= 65 <= high
    assert inside >= 51  # of 60 at 95 %: fewer happen once in ten thousand


def test_two_raters_agree_as_a_plain_count_says() -> None:
    one = {"s-0": 2, "s-1": 1, "s-2": 0, "s-3": -1}
    other = {"s-0": 1, "s-1": 1, "s-2": -1, "s-3": -2, "s-4": 0}
    found = findings(key(6), [Filled("a", "a.csv", one), Filled("b", "b.csv", other)])
    # Outcomes + + 0 - and + + - -: three of four agree; by chance (2*2 + 1*0 + 1*2) / 16.
    assert found.agreement.kappa == pytest.approx((0.75 - 6 / 16) / (1 - 6 / 16))
    assert found.agreement.items == 4
    assert found.agreement.alpha_ordinal is not None
    with pytest.raises(DataError, match=r"a\.csv and b\.csv are both by the rater 'x'"):
        findings(key(6), [Filled("x", "a.csv", one), Filled("x", "b.csv", other)])
