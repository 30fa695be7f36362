"""Items that changed, against closed forms, scipy's exact interval, and simulated systems that know or guess."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from lingraft.core.errors import DataError
from lingraft.statistics.changed import Flips, clustered_ends, exact_interval, pooled_forgotten
from lingraft.statistics.paired_tests import exact_mcnemar


def outcomes(lost: int, gained: int, both_wrong: int, both_right: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [lost, gained, both_wrong, both_right]
    return np.repeat([1.0, 0.0, 0.0, 1.0], counts), np.repeat([0.0, 1.0, 0.0, 1.0], counts)


def test_counts_are_those_of_the_items() -> None:
    flips = Flips.of(*outcomes(6, 4, 10, 30))
    assert (flips.lost, flips.gained, flips.both_wrong, flips.both_right) == (6, 4, 10, 30)
    assert flips.by_chance == 0
    assert flips.forgotten == pytest.approx(100 * 6 / 36)
    assert flips.learnt == pytest.approx(100 * 4 / 36)


@pytest.mark.parametrize(("lost", "right"), [(0, 30), (6, 36), (1, 40), (12, 12)])
@pytest.mark.parametrize("level", [95, 90])
def test_without_chance_the_interval_is_the_exact_one(lost: int, right: int, level: int) -> None:
    ends = Flips(lost, 3, 10, right - lost).ends((level,))
    assert ends is not None
    exact = binomtest(lost, right).proportion_ci(level / 100, "exact")
    assert ends[0] == pytest.approx((100 * exact.low, 100 * exact.high), abs=1e-5)


def test_an_end_of_the_90_percent_interval_is_the_one_sided_bound() -> None:
    assert exact_interval(3, 40, 90)[1] == pytest.approx(100 * beta.ppf(0.95, 4, 37), abs=1e-5)
    one_sided = binomtest(3, 40, alternative="less").proportion_ci(0.95, "exact")
    assert exact_interval(3, 40, 90)[1] == pytest.approx(100 * one_sided.high, abs=1e-5)


def test_hardly_any_chance_gives_hardly_another_interval() -> None:
    ends = Flips(6, 3, 10, 30, chance=1e-9).ends((95, 90))
    assert ends is not None
    for found, level in zip(ends, (95, 90), strict=True):
        assert found == pytest.approx(exact_interval(6, 36, level), abs=0.8)


def test_guesses_are_taken_off_and_retention_is_what_remains() -> None:
    flips = Flips(20, 15, 30, 35, chance=0.25)
    assert flips.by_chance == pytest.approx(30 * 0.25 / 0.75)
    assert flips.forgotten == pytest.approx(100 * (20 - 10) / (55 - 25))
    retention = 100 * (50 - 25) / (55 - 25)
    assert flips.forgotten is not None
    assert flips.learnt is not None
    assert 100 - flips.forgotten + flips.learnt == pytest.approx(retention)


def test_systems_that_guess_alike_do_not_hide_what_was_forgotten() -> None:
    # Two that agree on all but five items: independent guesses would have flipped 20 each way.
    flips = Flips(5, 0, 60, 55, chance=0.25)
    assert flips.by_chance == 0
    assert flips.forgotten == pytest.approx(100 * 5 / (60 - 30))
    assert Flips(0, 0, 60, 60, chance=0.25).forgotten == 0


@pytest.mark.parametrize(("forgotten", "learnt"), [(0.0, 0.0), (0.2, 0.0), (0.1, 0.1)])
def test_what_is_forgotten_is_found_in_simulated_answers(forgotten: float, learnt: float) -> None:
    rng, n, c = np.random.default_rng(3), 200_000, 0.25
    knew = rng.random(n) < 0.6
    knows = np.where(knew, rng.random(n) >= forgotten, rng.random(n) < learnt)
    base, system = ((known | (rng.random(n) < c)).astype(float) for known in (knew, knows))
    flips = Flips.of(base, system, c)
    assert flips.forgotten == pytest.approx(100 * forgotten, abs=0.8)
    assert flips.learnt == pytest.approx(100 * learnt * 0.4 / 0.6, abs=0.8)


def test_an_upper_bound_is_seldom_below_the_truth() -> None:
    rng, c, missed = np.random.default_rng(5), 0.25, 0
    for _ in range(60):
        knew = rng.random(120) < 0.6
        knows = knew & (rng.random(120) >= 0.1)
        base, system = ((known | (rng.random(120) < c)).astype(float) for known in (knew, knows))
        ends = Flips.of(base, system, c).ends((90,))
        assert ends is not None
        missed += ends[0][1] < 10
    assert missed <= 6  # 3 are expected at most


def test_a_base_that_guesses_has_nothing_to_forget() -> None:
    assert Flips(0, 4, 6, 0).forgotten is None
    assert Flips(5, 5, 30, 5, chance=0.25).ends() is None
    assert Flips(20, 15, 52, 13, chance=0.3).ends() is None  # above chance, by too little
    assert Flips(20, 0, 20, 0, chance=0.25).forgotten == 100.0  # below chance: not more than everything


def test_items_that_belong_together_widen_the_interval() -> None:
    base, system = outcomes(12, 0, 12, 36)
    together = tuple(str(position // 6) for position in range(60))
    apart, clustered = Flips.of(base, system).ends(), clustered_ends(base, system, together, n=1000, seed=1)
    assert apart is not None
    assert clustered is not None
    assert clustered[0][0] < apart[0][0] < apart[0][1] < clustered[0][1]
    unchanged = clustered_ends(base, base, together)
    assert unchanged is not None
    assert unchanged[0][1] > 5


def test_mcnemar_is_the_binomial_test_of_the_flips() -> None:
    base, system = outcomes(9, 2, 10, 30)
    assert exact_mcnemar(base, system) == pytest.approx(binomtest(2, 11, 0.5).pvalue)


def test_what_is_neither_right_nor_wrong_is_refused() -> None:
    with pytest.raises(DataError, match="right \\(1\\) or wrong \\(0\\)"):
        Flips.of(np.array([0.5]), np.array([1.0]))
    with pytest.raises(DataError, match="probability 1"):
        Flips.of(np.array([1.0]), np.array([1.0]), 1.0)


def test_trainings_are_no_further_items() -> None:
    base, system = outcomes(6, 4, 10, 30)
    alone = pooled_forgotten(base, system[None])
    assert alone is not None
    assert alone[0] == pytest.approx(100 * 6 / 36)
    assert alone[1][0] == pytest.approx(exact_interval(6, 36), abs=1e-5)
    # Three trainings that answer alike say no more than one: the interval is that of 36 items, not of 108.
    alike = pooled_forgotten(base, np.stack([system] * 3))
    assert alike is not None
    assert alike[0] == pytest.approx(alone[0])
    assert alike[1][0] == pytest.approx(exact_interval(6, 36), abs=0.8)
    narrow = exact_interval(18, 108)
    assert alike[1][0][1] - alike[1][0][0] > 1.5 * (narrow[1] - narrow[0])


def test_trainings_that_forget_other_items_say_more_than_one() -> None:
    base = np.ones(40)
    systems = np.ones((3, 40))
    for training in range(3):
        systems[training, 6 * training : 6 * training + 6] = 0
    found = pooled_forgotten(base, systems, levels=(95, 90))
    assert found is not None
    value, (wide, narrow) = found
    assert value == pytest.approx(15)
    low, high = exact_interval(6, 40)
    assert low < wide[0] < narrow[0] < 15 < narrow[1] < wide[1] < high
    # The middle one forgets nothing: a mean, however different the trainings.
    assert pooled_forgotten(base, np.stack([systems[0], base, systems[0]]))[0] == pytest.approx(10)  # type: ignore[index]


def test_where_no_training_forgets_the_interval_has_a_width() -> None:
    found = pooled_forgotten(np.ones(30), np.ones((2, 30)))
    assert found is not None
    assert found[0] == found[1][0][0] == 0
    assert found[1][0][1] == pytest.approx(exact_interval(0, 30)[1], abs=0.6)
    assert pooled_forgotten(np.zeros(30), np.ones((2, 30))) is None


def test_items_that_belong_together_stay_together_over_trainings() -> None:
    base = np.ones(60)
    system = np.ones(60)
    system[:15] = 0  # three whole clusters of twelve
    clusters = [f"c{n // 5}" for n in range(60)]
    apart, together = (pooled_forgotten(base, np.stack([system] * 2), of) for of in (None, clusters))
    assert apart is not None
    assert together is not None
    assert together[0] == apart[0] == pytest.approx(25)
    assert together[1][0][0] < apart[1][0][0] < apart[1][0][1] < together[1][0][1]
    one = pooled_forgotten(base, system[None], clusters, n=500, seed=2)
    assert one is not None
    assert one[1] == clustered_ends(base, system, clusters, n=500, seed=2)


def test_guesses_of_several_trainings_are_taken_off_each() -> None:
    flips = Flips(20, 15, 30, 35, chance=0.25)
    base, system = outcomes(20, 15, 30, 35)
    found = pooled_forgotten(base, np.stack([system] * 2), chance=0.25)
    ends = flips.ends()
    assert found is not None
    assert ends is not None
    assert found[0] == pytest.approx(flips.forgotten)
    assert found[1][0] == pytest.approx(ends[0], abs=1.5)
