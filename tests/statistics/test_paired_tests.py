"""Paired tests against sacreBLEU's own class, SciPy and published worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest, Result
from scipy.stats import binomtest

from lingraft.core.errors import DataError
from lingraft.statistics.bootstrap import bootstrap, score, weighted_mean
from lingraft.statistics.items import aggregation, sacrebleu_aggregation
from lingraft.statistics.paired_tests import approximate_randomisation, by_cluster, exact_mcnemar, holm

REFERENCES = [
    "The train to the coast leaves at seven in the morning.",
    "She asked her neighbour to water the plants while she was away.",
    "Prices rose by three per cent in the second quarter.",
    "Nobody knew why the lights in the library had gone out.",
] * 8


def _damaged(rate: float, seed: int) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(word for word in line.split() if generator.random() > rate) for line in REFERENCES]


@pytest.mark.parametrize("metric", [BLEU(), CHRF(word_order=2), TER()], ids=["bleu", "chrf++", "ter"])
def test_randomisation_is_sacrebleus(metric: BLEU | CHRF | TER, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal trials; ours counts ties, sacreBLEU does not, and continuous scores have none."""
    monkeypatch.setenv("SACREBLEU_SEED", "321")
    base, new = _damaged(0.3, 1), _damaged(0.27, 2)
    test = PairedTest([("base", base), ("new", new)], {"m": metric}, [REFERENCES], test_type="ar", n_samples=300)
    theirs = [result for row in test()[1].values() for result in row if isinstance(result, Result)][1]
    statistics = [np.array(metric._extract_corpus_statistics(lines, [REFERENCES]), float) for lines in (new, base)]
    ours = approximate_randomisation(*statistics, aggregation(sacrebleu_aggregation(metric)), 300, 321)
    assert theirs.p_value is not None
    assert 0.01 < theirs.p_value < 0.99
    if isinstance(metric, TER):  # whole numbers of edits tie
        assert theirs.p_value <= ours <= theirs.p_value + 0.1
    else:
        assert ours == pytest.approx(theirs.p_value, abs=1e-12)


def test_randomisation_of_two_values_is_the_exact_permutation_test() -> None:
    """Means of differences 1, 2, 3: of the 8 assignments of signs, 2 reach the observed sum of 6."""
    own = np.stack([np.array([1.0, 2.0, 3.0]), np.ones(3)], axis=1)
    other = np.stack([np.zeros(3), np.ones(3)], axis=1)
    p = approximate_randomisation(own, other, weighted_mean, 20_000, 4)
    assert p == pytest.approx(2 / 8, abs=0.01)


def test_equal_systems_do_not_differ() -> None:
    rows = np.stack([np.arange(9.0), np.ones(9)], axis=1)
    assert approximate_randomisation(rows, rows, weighted_mean, 50) == 1.0
    assert exact_mcnemar([1, 0, 1], [1, 0, 1]) == 1.0


@pytest.mark.parametrize(("better", "worse"), [(0, 1), (3, 9), (10, 2), (40, 25), (7, 7), (1500, 1400)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_items(better: int, worse: int) -> None:
    own = np.r_[np.ones(better), np.zeros(worse), np.ones(11), np.zeros(5)]
    other = np.r_[np.zeros(better), np.ones(worse), np.ones(11), np.zeros(5)]
    assert exact_mcnemar(own, other) == pytest.approx(binomtest(better, better + worse).pvalue, rel=1e-9)


def test_mcnemar_is_for_right_or_wrong() -> None:
    with pytest.raises(DataError, match="right \\(1\\) or wrong \\(0\\)"):
        exact_mcnemar([0.5], [1.0])
    with pytest.raises(DataError, match="1 and 2"):
        exact_mcnemar([1.0], [1.0, 0.0])


def test_holm_by_hand() -> None:
    """Holm's sequence: 4 x 0.005, 3 x 0.01, 2 x 0.03, 1 x 0.04; the last may not fall below the one before it."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_keeps_the_family_error_below_five_per_cent() -> None:
    generator = np.random.default_rng(3)
    families = generator.random((4000, 10))
    plain, corrected = (
        np.mean([min(family) < 0.05 for family in families]),
        np.mean([min(holm(family.tolist())) < 0.05 for family in families]),
    )
    assert plain > 0.35
    assert corrected == pytest.approx(0.05, abs=0.011)


def test_clustered_interval_is_that_of_independent_clusters() -> None:
    """40 documents of 10 sentences that agree completely: as wide as 40 items, sqrt(10) times the naive interval."""
    generator = np.random.default_rng(8)
    values = np.repeat(generator.normal(10.0, 2.0, 40), 10)
    rows = np.stack([values, np.ones(400)], axis=1)
    clusters = [str(i // 10) for i in range(400)]
    summed = by_cluster(rows, clusters)
    assert summed.shape == (40, 2)
    assert score(summed, weighted_mean) == pytest.approx(values.mean())
    naive, clustered = (np.diff(bootstrap(one, weighted_mean, 4000, 1))[0] for one in (rows, summed))
    assert clustered == pytest.approx(2 * 1.96 * values.std() / np.sqrt(40), rel=0.06)
    assert clustered / naive == pytest.approx(np.sqrt(10), rel=0.1)
