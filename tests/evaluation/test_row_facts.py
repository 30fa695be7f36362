"""What rows of the scorecard say of their metrics, and what is known of those of earlier versions."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.evaluation.row_facts import facts_of
from lingraft.evaluation.scorecard import GeneralScore, Scorecard, TranslationScore
from lingraft.evaluation.summary import headline_metric
from lingraft.evaluation.summary_facts import gain_facts, role_facts
from lingraft.statistics.metric_facts import MetricFacts

SCORE: dict[str, Any] = {"system": "radis", "n": 9, "score": 1.0, "ci95": (0.5, 1.5)}


def translated(metric: str, signature: str = "", **fields: Any) -> TranslationScore:
    return TranslationScore(test_set="t", direction="de-en", metric=metric, signature=signature, **(SCORE | fields))


def answered(suite: str, metric: str, signature: str = "", **fields: Any) -> GeneralScore:
    return GeneralScore(suite=suite, metric=metric, signature=signature, **(SCORE | fields))


def test_a_row_that_says_what_it_is_is_believed() -> None:
    row = translated("bleu", label="Mine", better="lower", unit="points", decimals=3, cite=["x"], role="a later one")
    assert row.facts == MetricFacts(label="Mine", better="lower", unit="points", decimals=3, cite=("x",))
    assert facts_of(translated("bleu", label="Mine")).better is None


@pytest.mark.parametrize(
    ("row", "title", "better", "decimals"),
    [
        (translated("ter", better="lower"), "TER", "lower", 1),
        (translated("off_target"), "Off-target %", "lower", 1),
        (translated("kiwi", "comet|model:Unbabel/wmt22-cometkiwi-da", better="higher"), "kiwi", "higher", 4),
        (translated("mine", "command|score.py", better="lower"), "mine", "lower", None),
        (translated("nobody's", "x"), "nobody's", None, None),
        (answered("self", "words"), "Words per answer", None, 1),
        (answered("mine", "kl_from_base"), "KL from base (nats per token)", "lower", 3),
        (answered("held-out", "bits_per_character_th"), "Bits per character, Thai", "lower", 3),
        (answered("self", "thinking"), "Answers with thoughts %", "lower", 1),
        (answered("hella", "acc_norm", "lm-eval:0.4|task:hellaswag|retention:ratio"), "acc_norm %", "higher", 1),
        (answered("own", "errors", "x|retention:inverted"), "errors", "lower", None),
        (answered("own", "right", "x|retention:ratio"), "right", "higher", None),
        (answered("own", "odd"), "odd", None, None),
    ],
)
def test_rows_of_earlier_versions_are_known_by_what_is_declared_today(
    row: TranslationScore | GeneralScore, title: str, better: str | None, decimals: int | None
) -> None:
    facts = row.facts
    assert (facts.title, facts.better, facts.decimals) == (title, better, decimals)


def test_the_gain_is_in_the_headline_else_in_what_has_a_better_end() -> None:
    described, error = MetricFacts(better=None), MetricFacts(better="lower")
    assert headline_metric([("length", described), ("ter", error), ("x", MetricFacts(role="headline"))]) == "x"
    assert headline_metric([("length", described), ("ter", error)]) == "ter"
    assert headline_metric([("length", described)]) == "length"
    assert headline_metric([]) == ""
    assert gain_facts("chrf++", []).title == "chrF++"


def test_what_the_summary_shows_is_called_as_its_metric() -> None:
    own = answered("mine", "drift", label="Drift", better="lower", decimals=2, role="divergence")

    def title(*general: GeneralScore) -> str:
        card = Scorecard.model_construct(translation=[], general=[answered("self", "words"), *general])
        return role_facts(card, "divergence", "kl_from_base").title

    assert title(own) == "Drift"
    assert title(answered("self", "kl_from_base"), own) == title() == "KL from base (nats per token)"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"role": "headlne"}, "no role 'headlne'"),
        ({"decimals": -1}, "decimals: -1"),
        ({"cite": ("a b",)}, "'a b' is no"),
    ],
)
def test_facts_that_cannot_be_are_refused(wrong: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        MetricFacts(**wrong)
