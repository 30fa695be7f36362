"""Retention rows, the summary and the verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lingraft.core.errors import DataError
from lingraft.evaluation.retention import general_scores
from lingraft.evaluation.scorecard import Delta, GeneralScore, Retention, TranslationScore
from lingraft.evaluation.summary import mean_of_deltas, summarise
from lingraft.evaluation.verdict import verdict
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.suites.base import ItemScores

LESS_IS_BETTER, DIAGNOSTIC = MetricFacts(better="lower"), MetricFacts(retains=False)


def _items(values: np.ndarray, metric: str = "accuracy", **options: object) -> ItemScores:
    return ItemScores(metric, {f"i{index}": float(value) for index, value in enumerate(values)}, **options)  # type: ignore[arg-type]


def _row(system: str, base: ItemScores, own: ItemScores) -> GeneralScore:
    return general_scores(system, "quiz", [own], [base], seed=3, n_bootstrap=400)[0]


def test_score_and_interval_of_a_share() -> None:
    hits = np.r_[np.ones(300), np.zeros(100)]
    row = _row("radis", _items(hits, scale=100.0), _items(hits, scale=100.0))
    assert row.score == pytest.approx(75.0)
    half = 100 * 1.959964 * math.sqrt(0.75 * 0.25 / 400)
    assert row.ci95 == pytest.approx((75 - half, 75 + half), abs=0.6)
    assert row.retention == Retention(percent=100.0, ci95=(100.0, 100.0), ci90=(100.0, 100.0))
    assert (row.n, row.suite, row.metric) == (400, "quiz", "accuracy")


def test_retention_is_chance_corrected() -> None:
    base, own = np.r_[np.ones(300), np.zeros(100)], np.r_[np.ones(200), np.zeros(200)]
    plain = _row("x", _items(base), _items(own)).retention
    corrected = _row("x", _items(base, chance=0.25), _items(own, chance=0.25))
    assert plain is not None
    assert plain.percent == pytest.approx(100 * 0.5 / 0.75)
    assert corrected.retention is not None
    assert corrected.retention.percent == pytest.approx(100 * 0.25 / 0.5)
    assert "chance:0.25" in corrected.signature


def test_retention_of_errors_is_inverted_and_of_diagnostics_absent() -> None:
    base, own = np.full(30, 2.0), np.full(30, 5.0)
    inverted = _row("x", _items(base, facts=LESS_IS_BETTER), _items(own, facts=LESS_IS_BETTER))
    assert inverted.retention is not None
    assert inverted.retention.percent == pytest.approx(40.0)
    assert "retention:inverted" in inverted.signature
    assert _row("x", _items(base, facts=DIAGNOSTIC), _items(own, facts=DIAGNOSTIC)).retention is None


def test_no_retention_where_the_base_is_at_chance() -> None:
    coin = np.tile([0.0, 1.0], 40)
    row = _row("x", _items(coin, chance=0.5), _items(np.ones(80), chance=0.5))
    assert row.retention is None
    assert "retention:none" in row.signature


def test_weights_make_a_weighted_mean() -> None:
    own = ItemScores("kl", {"a": 1.0, "b": 4.0}, weights={"a": 30.0, "b": 10.0}, facts=DIAGNOSTIC)
    assert general_scores("x", "self", [own], [], n_bootstrap=50)[0].score == pytest.approx(70 / 40)


def test_items_are_matched_by_id() -> None:
    generator = np.random.default_rng(1)
    base, own = generator.random(50), generator.random(50)
    forward = _row("x", _items(base), _items(own))
    backward = _row("x", _items(base), ItemScores("accuracy", dict(sorted(_items(own).values.items(), reverse=True))))
    assert forward == backward


def test_errors() -> None:
    with pytest.raises(DataError, match="no items"):
        general_scores("x", "quiz", [ItemScores("m", {})], [ItemScores("m", {})])
    with pytest.raises(DataError, match="not scored on the same items"):
        general_scores("x", "quiz", [ItemScores("m", {"a": 1.0})], [ItemScores("m", {"b": 1.0})])
    with pytest.raises(DataError, match="not scored on the same items"):
        general_scores("x", "quiz", [ItemScores("m", {"a": 1.0})], [])
    with pytest.raises(DataError, match="no weight"):
        general_scores("x", "quiz", [ItemScores("m", {"a": 1.0}, weights={"b": 1.0}, facts=DIAGNOSTIC)], [])


def test_mean_of_deltas_keeps_a_single_interval_and_adds_variances() -> None:
    one = Delta(value=5.0, ci95=(3.5, 7.0), p=0.001)
    assert mean_of_deltas([one]) == one
    generator = np.random.default_rng(2)
    first, second = generator.normal(2.0, 1.0, 200_000), generator.normal(4.0, 3.0, 200_000)
    deltas = [Delta(value=v, ci95=(v - 1.959964 * s, v + 1.959964 * s), p=0.5) for v, s in ((2.0, 1.0), (4.0, 3.0))]
    mean = mean_of_deltas(deltas)
    assert mean.value == pytest.approx(3.0)
    low, high = np.quantile((first + second) / 2, [0.025, 0.975])
    assert mean.ci95 == pytest.approx((low, high), abs=0.03)
    assert mean.p == pytest.approx(math.erfc(3.0 / (math.sqrt(10) / 2) / math.sqrt(2)))
    with pytest.raises(DataError):
        mean_of_deltas([])


def _translation(
    system: str,
    metric: str,
    score: float,
    delta: tuple[float, float, float] | None = None,
    versus: dict[str, tuple[float, float, float]] | None = None,
    direction: str = "de-en",
) -> TranslationScore:
    def made(value: tuple[float, float, float]) -> Delta:
        return Delta(value=value[0], ci95=value[1:], p=0.5)

    return TranslationScore(
        system=system,
        test_set="test",
        direction=direction,
        metric=metric,
        better="lower" if metric == "off_target" else "higher",
        signature="s",
        n=10,
        score=score,
        ci95=(score - 1, score + 1),
        delta=made(delta) if delta else None,
        versus={name: made(value) for name, value in (versus or {}).items()},
    )


def _general(system: str, metric: str, percent: float | None, half: float = 3.0, score: float = 1.0) -> GeneralScore:
    retention = Retention(percent=percent, ci95=(percent - half, percent + half)) if percent is not None else None
    return GeneralScore(
        system=system, suite="self", metric=metric, n=60, score=score, ci95=(0.0, 2.0), retention=retention
    )


TRANSLATION = [
    _translation("base", "chrf++", 40.0),
    _translation("vanilla", "chrf++", 46.6, (6.6, 4.8, 8.4), {"radis": (0.7, -0.4, 1.8)}),
    _translation("radis", "chrf++", 45.9, (5.9, 4.1, 7.7), {"vanilla": (-0.7, -1.8, 0.4)}),
    _translation("base", "off_target", 12.0),
    _translation("radis", "off_target", 2.0, (-10.0, -12.0, -8.0)),
]
GENERAL = [
    _general("base", "agreement", 100.0, 0.0),
    _general("vanilla", "agreement", 23.0),
    _general("vanilla", "stays_answer", 60.0),
    _general("radis", "agreement", 41.0),
    _general("radis", "stays_answer", 97.0),
    _general("radis", "kl_from_base", None, score=0.4),
]
SYSTEMS = ["base", "vanilla", "radis"]


def test_summary() -> None:
    rows = {
        row.system: row
        for row in summarise(
            SYSTEMS,
            TRANSLATION,
            GENERAL,
            extraction_failure_percent={"radis": 1.5},
            output_tokens_per_translation={"radis": 31.0},
        )
    }
    assert list(rows) == SYSTEMS
    assert rows["base"].gain is None
    radis = rows["radis"]
    assert radis.gain is not None
    assert (radis.gain.metric, radis.gain.value, radis.gain.ci95) == ("chrf++", 5.9, (4.1, 7.7))
    assert (radis.retention_mean, radis.retention_min) == (69.0, 41.0)
    assert (radis.kl_from_base, radis.off_target_percent) == (0.4, 2.0)
    assert (radis.extraction_failure_percent, radis.output_tokens_per_translation) == (1.5, 31.0)
    assert rows["vanilla"].extraction_failure_percent is None


def test_gain_in_an_error_metric_is_an_improvement() -> None:
    gain = summarise(["radis"], TRANSLATION, [], metric="off_target")[0].gain
    assert gain is not None
    assert (gain.value, gain.ci95) == (10.0, (8.0, 12.0))


def test_verdict_claims_what_the_intervals_show() -> None:
    sentence = verdict("radis", summarise(SYSTEMS, TRANSLATION, GENERAL), TRANSLATION, GENERAL)
    assert sentence == (
        "radis gains 5.9 chrF++ [4.1, 7.7] and keeps 69 % of the base's general scores on average, "
        "least of self/agreement: 41 % [38, 44]; vanilla gains 6.6 chrF++ [4.8, 8.4], "
        "the difference in gain is not significant (−0.7 [−1.8, 0.4]), "
        "it keeps 23 % [20, 26] of self/agreement (radis keeps more)."
    )


@pytest.mark.parametrize(
    ("delta", "words"),
    [
        ((0.4, -0.3, 1.1), "radis has no significant gain in chrF++ (+0.4 [−0.3, 1.1])"),
        ((-2.0, -3.1, -0.9), "radis loses 2.0 chrF++ [0.9, 3.1]"),
        ((0.4, 0.1, 0.7), "radis gains 0.4 chrF++ [0.1, 0.7]"),
    ],
)
def test_verdict_on_the_gain(delta: tuple[float, float, float], words: str) -> None:
    rows = [_translation("radis", "chrf++", 40.0, delta)]
    assert verdict("radis", summarise(["base", "radis"], rows, []), rows, []) == (
        f"{words} and its general ability was not measured."
    )


@pytest.mark.parametrize(
    ("versus", "kept", "expected"),
    [
        ((1.2, 0.3, 2.1), 37.0, ["radis gains significantly more (+1.2 [0.3, 2.1])", "the intervals overlap"]),
        ((-1.2, -2.1, -0.3), 60.0, ["vanilla gains significantly more (−1.2", "vanilla keeps more"]),
    ],
)
def test_verdict_on_the_comparison(versus: tuple[float, float, float], kept: float, expected: list[str]) -> None:
    rows = [*TRANSLATION[:2], _translation("radis", "chrf++", 45.9, (5.9, 4.1, 7.7), {"vanilla": versus})]
    general = [_general("vanilla", "agreement", kept), _general("radis", "agreement", 41.0)]
    sentence = verdict("radis", summarise(SYSTEMS, rows, general), rows, general)
    assert "keeps 41 % [38, 44] of the base's self/agreement" in sentence
    for part in expected:
        assert part in sentence


def test_verdict_of_an_unknown_system() -> None:
    with pytest.raises(DataError, match="'nobody'"):
        verdict("nobody", summarise(SYSTEMS, TRANSLATION, GENERAL), TRANSLATION, GENERAL)
