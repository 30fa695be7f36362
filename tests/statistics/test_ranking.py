"""Measures of a ranking against trec_eval's own, and what guessing gives against all orders."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import pytrec_eval

from lingraft.statistics.ranking import (
    average_precision,
    chance_average_precision,
    chance_ndcg,
    chance_reciprocal_rank,
    ndcg,
    ranked,
    reciprocal_rank,
)


@pytest.mark.parametrize("seed", range(30))
def test_the_measures_are_those_of_trec_eval(seed: int) -> None:
    draws = np.random.default_rng(seed)
    names = [str(number) for number in range(int(draws.integers(2, 30)))]
    scores = {name: float(draws.integers(0, 6)) for name in names}  # with ties
    relevant = {name for name in names if draws.random() < 0.3} or {names[0]}
    judged = {"q": {name: int(name in relevant) for name in names}}
    measured = pytrec_eval.RelevanceEvaluator(judged, {"map", "ndcg_cut_10", "recip_rank"}).evaluate({"q": scores})["q"]
    ranking = ranked(scores)
    assert average_precision(ranking, relevant) == pytest.approx(measured["map"], abs=1e-9)
    assert ndcg(ranking, relevant, 10) == pytest.approx(measured["ndcg_cut_10"], abs=1e-9)
    assert reciprocal_rank(ranking, relevant, len(names)) == pytest.approx(measured["recip_rank"], abs=1e-9)


@pytest.mark.parametrize(("documents", "relevant", "depth"), [(1, 1, 10), (5, 1, 3), (6, 2, 4), (5, 4, 2), (4, 4, 9)])
def test_chance_is_the_mean_over_all_orders(documents: int, relevant: int, depth: int) -> None:
    names = [str(number) for number in range(documents)]
    right = set(names[:relevant])
    orders = list(permutations(names))

    def mean(values: list[float]) -> float:
        return math.fsum(values) / len(values)

    assert chance_average_precision(documents, relevant) == pytest.approx(
        mean([average_precision(order, right) for order in orders])
    )
    assert chance_ndcg(documents, relevant, depth) == pytest.approx(
        mean([ndcg(order, right, depth) for order in orders])
    )
    assert chance_reciprocal_rank(documents, relevant, depth) == pytest.approx(
        mean([reciprocal_rank(order, right, depth) for order in orders])
    )


def test_a_score_that_is_no_number_ranks_last() -> None:
    assert ranked({"a": math.nan, "b": -1e9, "c": 2.0}) == ["c", "b", "a"]
