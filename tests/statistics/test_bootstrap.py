"""Bootstrap against closed forms and against sacreBLEU's own paired test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest, Result

from lingraft.core.errors import DataError
from lingraft.data.sampling import draw
from lingraft.statistics.bootstrap import (
    bootstrap,
    bootstrap_ratio,
    difference_of_draws,
    paired_bootstrap,
    resample_totals,
    score,
    weighted_mean,
    wilson_interval,
)

REFERENCES = [
    "The train to the coast leaves at seven in the morning.",
    "She asked her neighbour to water the plants while she was away.",
    "Prices rose by three per cent in the second quarter.",
    "Nobody knew why the lights in the library had gone out.",
    "The committee will decide on the new bridge next week.",
    "He poured the soup into two bowls and called the children.",
    "After the storm, volunteers cleared the paths in the park.",
    "The letter had been lying under the mat since Monday.",
]


def _corpus(copies: int = 6) -> tuple[list[str], list[str], list[str]]:
    """Return references and two systems that damage them differently."""
    generator = np.random.default_rng(5)
    references = REFERENCES * copies
    systems: list[list[str]] = []
    for rate in (0.35, 0.25):
        lines = []
        for reference in references:
            kept = [word for word in reference.split() if generator.random() > rate]
            lines.append(" ".join(kept))
        systems.append(lines)
    return references, systems[0], systems[1]


def _unweighted(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones_like(values)], axis=1)


def test_interval_of_a_mean_is_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(10, 3, size=900)
    low, high = bootstrap(_unweighted(values), weighted_mean, n=4000, seed=2)
    half = 1.959964 * values.std() / math.sqrt(len(values))
    assert low == pytest.approx(values.mean() - half, abs=0.03)
    assert high == pytest.approx(values.mean() + half, abs=0.03)


def test_interval_covers_the_truth_in_about_95_of_100_samples() -> None:
    generator = np.random.default_rng(3)
    hits = 0
    for seed in range(300):
        low, high = bootstrap(_unweighted(generator.exponential(2.0, size=80)), weighted_mean, n=400, seed=seed)
        hits += low <= 2.0 <= high
    assert 0.90 <= hits / 300 <= 0.98


def test_p_value_is_that_of_the_z_test_of_the_mean_difference() -> None:
    generator = np.random.default_rng(4)
    one = generator.normal(0, 1, size=600)
    other = one + generator.normal(0.03, 0.4, size=600)
    found = paired_bootstrap(_unweighted(other), _unweighted(one), weighted_mean, n=8000, seed=1)
    gaps = other - one
    z = abs(gaps.mean()) / (gaps.std() / math.sqrt(len(gaps)))
    assert found.value == pytest.approx(gaps.mean())
    assert found.p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)


def test_p_value_is_uniform_when_there_is_no_difference() -> None:
    generator = np.random.default_rng(6)
    p_values = []
    for seed in range(400):
        gaps = generator.normal(0, 1, size=60)
        p_values.append(paired_bootstrap(_unweighted(gaps), _unweighted(gaps * 0), weighted_mean, 300, seed).p)
    assert np.mean(np.array(p_values) <= 0.05) < 0.10
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.05)


def test_identical_systems_differ_by_nothing() -> None:
    values = _unweighted(np.random.default_rng(1).random(30))
    found = paired_bootstrap(values, values, weighted_mean, 200, 0)
    assert (found.value, found.ci95, found.p) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("metric", [BLEU(), CHRF(word_order=2)], ids=["bleu", "chrf++"])
def test_agrees_with_sacrebleu_paired_bootstrap(metric: BLEU | CHRF, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same seed, same draws: equal scores and intervals, and sacreBLEU's p follows from our resampled scores."""
    monkeypatch.setenv("SACREBLEU_SEED", "777")
    references, worse, better = _corpus()
    name = metric.corpus_score(worse, [references]).name
    test = PairedTest([("base", worse), ("new", better)], {"m": metric}, [references], test_type="bs", n_samples=500)
    base, new = (result for result in test()[1][name] if isinstance(result, Result))
    assert new.p_value is not None

    def aggregate(totals: np.ndarray) -> np.ndarray:
        return np.array([metric._compute_score_from_stats(row).score for row in totals.tolist()])

    statistics = {
        system: np.array(metric._extract_corpus_statistics(lines, [references]), dtype=float)
        for system, lines in (("base", worse), ("new", better))
    }
    for system, expected in (("base", base), ("new", new)):
        assert score(statistics[system], aggregate) == pytest.approx(expected.score, abs=1e-9)
        low, high = bootstrap(statistics[system], aggregate, 500, 777)
        assert (high - low) / 2 == pytest.approx(expected.ci, abs=1e-3)
    draws = {system: aggregate(resample_totals(rows, 500, 777)) for system, rows in statistics.items()}
    assert draws["new"].mean() == pytest.approx(new.mean, abs=1e-3)

    found = paired_bootstrap(statistics["new"], statistics["base"], aggregate, 500, 777)
    assert found.value == pytest.approx(new.score - base.score, abs=1e-9)
    gaps = np.abs(draws["new"] - draws["base"])
    one_sided = (np.sum(gaps - gaps.mean() > abs(found.value)) + 1) / 501
    assert one_sided == pytest.approx(new.p_value, abs=1e-9)
    assert found.p >= new.p_value


def test_two_sided_p_counts_both_tails() -> None:
    draws = np.array([-3.0, -1.0, 0.0, 1.0, 3.0]) + 2.0
    found = difference_of_draws(2.0, draws, np.zeros(5))
    assert found.p == pytest.approx((2 + 1) / (5 + 1))


def test_resamples_do_not_depend_on_how_they_are_chunked(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = np.random.default_rng(8).random((37, 3))
    whole = resample_totals(statistics, 101, 9)
    drawn = np.random.default_rng(9).choice(37, size=(101, 37), replace=True)
    np.testing.assert_allclose(whole, statistics[drawn].sum(axis=1))
    monkeypatch.setattr("lingraft.statistics.bootstrap._CELLS", 37 * 8 + 5)
    np.testing.assert_allclose(resample_totals(statistics, 101, 9), whole)


def test_ratio_interval_follows_fieller() -> None:
    generator = np.random.default_rng(10)
    base = generator.normal(0.8, 0.2, size=1500)
    system = 0.25 + 0.4 * (base - 0.25) + generator.normal(0, 0.1, size=1500)
    ratio = bootstrap_ratio(_unweighted(system), _unweighted(base), chance=0.25, n=4000, seed=1)
    assert ratio is not None
    top, bottom = system.mean() - 0.25, base.mean() - 0.25
    assert ratio.percent == pytest.approx(100 * top / bottom)
    residuals = system - 0.25 - (top / bottom) * (base - 0.25)
    half = 100 * 1.959964 * residuals.std() / math.sqrt(1500) / bottom
    assert ratio.ci95 == pytest.approx((ratio.percent - half, ratio.percent + half), abs=0.15)


def test_ratio_of_a_system_with_itself_is_exactly_100() -> None:
    values = _unweighted(np.random.default_rng(2).random(40))
    ratio = bootstrap_ratio(values, values, n=200, seed=3)
    assert ratio is not None
    assert (ratio.percent, ratio.ci95) == (100.0, (100.0, 100.0))


def test_ratio_of_errors_is_inverted() -> None:
    base, system = np.full(20, 2.0), np.full(20, 8.0)
    ratio = bootstrap_ratio(_unweighted(system), _unweighted(base), invert=True, n=50)
    assert ratio is not None
    assert ratio.percent == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("base", "chance"),
    [
        (np.zeros(50), 0.0),
        (np.tile([0.0, 1.0], 25), 0.5),  # exactly chance
        (np.r_[np.ones(26), np.zeros(24)], 0.5),  # 52 % of 50 items: not above chance
        (np.r_[np.ones(2), np.zeros(48)], 0.0),  # two hits: many resamples have none
    ],
)
def test_no_ratio_where_the_base_has_nothing_to_lose(base: np.ndarray, chance: float) -> None:
    assert bootstrap_ratio(_unweighted(np.ones(50)), _unweighted(base), chance=chance, n=400, seed=1) is None


def test_ratio_is_finite_when_a_few_resamples_have_no_denominator() -> None:
    base = np.r_[np.ones(5), np.zeros(45)]  # (45/50)^50: about 0.5 % of resamples are all zero
    totals = resample_totals(_unweighted(base), 1000, 4)
    assert 0 < np.sum(totals[:, 0] == 0) <= 25
    ratio = bootstrap_ratio(_unweighted(base[::-1].copy()), _unweighted(base), n=1000, seed=4)
    assert ratio is not None
    assert all(math.isfinite(end) for end in ratio.ci95)


def test_weights_are_those_of_the_mean() -> None:
    rows = np.array([[2.0 * 3, 3.0], [10.0 * 1, 1.0]])
    assert score(rows, weighted_mean) == pytest.approx(4.0)


def test_draw_is_seeded_and_independent_of_order() -> None:
    ids = [f"p{number}" for number in range(50)]
    chosen = draw(ids, 10, 3)
    assert chosen == draw(reversed(ids), 10, 3)
    assert len(set(chosen)) == 10
    assert chosen != draw(ids, 10, 4)
    assert draw(ids, 50, 3) == sorted(ids)


def test_errors() -> None:
    with pytest.raises(DataError, match="no items"):
        resample_totals(np.zeros((0, 2)), 10, 0)
    with pytest.raises(DataError, match="3 and 4"):
        paired_bootstrap(np.ones((3, 2)), np.ones((4, 2)), weighted_mean)


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for part, whole, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson_interval(part, whole) == pytest.approx((low, high), abs=6e-5)
    assert wilson_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=6e-5)
    assert wilson_interval(20, 20)[1] == 1.0
