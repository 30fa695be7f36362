"""Gates hold where the interval says so, and only there."""

from __future__ import annotations

import pytest

from lingraft.core.errors import UsageError
from lingraft.evaluation.gate import GateMissedError, Verdict, check_gates, enforce, parse_gate
from lingraft.evaluation.scorecard import (
    Changed,
    Delta,
    Forgotten,
    Gain,
    GeneralScore,
    ModelIdentity,
    Retention,
    Scorecard,
    SummaryRow,
    System,
    TranslationScore,
)


def _score(metric: str, better: str, score: float, delta: float, test_set: str = "news") -> TranslationScore:
    return TranslationScore(
        system="radis",
        test_set=test_set,
        direction="de-en",
        metric=metric,
        better=better,  # type: ignore[arg-type]
        signature="s",
        n=9,
        score=score,
        ci95=(score - 1, score + 1),
        delta=Delta(value=delta, ci95=(delta - 0.5, delta + 0.5), p=0.01),
        versus={"vanilla": Delta(value=-0.1, ci95=(-0.6, 0.4), ci90=(-0.5, 0.3), p=0.7)},
    )


def _changed(percent: float, high: float, one_sided: float) -> Changed:
    lost = Forgotten(percent=percent, ci95=(0, high), ci90=(0.1, one_sided))
    return Changed(base_right=7, right_to_wrong=2, wrong_to_right=1, by_chance=0.5, forgotten=lost)


CARD = Scorecard(
    schema="lingraft.scorecard/1",
    run="r",
    created="2026-01-01T00:00:00+00:00",
    base=ModelIdentity(id="m", sha256="0"),
    seed=1,
    versions={},
    systems=[System(name="base"), System(name="vanilla"), System(name="radis")],
    translation=[
        _score("chrf++", "higher", 40, 2.0),
        _score("chrf++", "higher", 30, 1.0, "sacrebleu:wmt22"),
        _score("off_target", "lower", 2, -5.0),
    ],
    general=[
        GeneralScore(
            system="radis",
            suite="hellaswag",
            metric="acc",
            n=9,
            score=0.4,
            ci95=(0.35, 0.45),
            retention=Retention(percent=98, ci95=(94, 101), ci90=(95, 100.5)),
            delta=Delta(value=-0.01, ci95=(-0.03, 0.01), p=0.4),
            changed=_changed(1.0, 2.0, 1.75),
        ),
        GeneralScore(
            system="radis",
            suite="gsm8k",
            metric="exact",
            n=9,
            score=1,
            ci95=(0, 2),
            retention=Retention(percent=99, ci95=(98, 100)),
            changed=_changed(0.5, 3.0, 2.5),
        ),
        GeneralScore(
            system="radis", suite="ifeval", metric="loose", n=9, score=1, ci95=(0, 2), changed=_changed(90, 95, 94)
        ),
        GeneralScore(system="radis", suite="refusal", metric="refusal_rate", n=9, score=3, ci95=(0, 6)),
        GeneralScore(system="radis", suite="xcopa_th", metric="acc", n=9, score=0.5, ci95=(0.4, 0.6), signature="s"),
        GeneralScore(
            system="radis", suite="quiz", metric="right", n=9, score=1, ci95=(0, 2), signature="s|retention:none"
        ),
        GeneralScore(system="radis", suite="shown", metric="right", n=9, score=1, ci95=(0, 2), signature="s|bs:100"),
    ],
    summary=[
        SummaryRow(system="base", retention_min=100, retention_min_ci95=(100, 100)),
        SummaryRow(system="vanilla", retention_min=60, retention_min_ci95=(55, 65)),
        SummaryRow(
            system="radis",
            gain=Gain(metric="chrf++", value=1.5, ci95=(0.2, 2.8)),
            retention_mean=98,
            retention_min=98,
            retention_min_ci95=(94, 101),
            extraction_failure_percent=1.0,
        ),
    ],
    cost=[],
)


def check(*texts: str) -> list[Verdict]:
    return check_gates([parse_gate(text) for text in texts], CARD, ["radis"])


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("gain>=0", True),
        ("gain>=0.2", True),
        ("gain>0.2", False),
        ("gain >= 0.5", False),  # the value is above, the interval is not
        ("gain<=3", True),
        ("gain<=2", False),
        ("retention_min>=94", True),
        ("retention_min>=97 %", False),
        ("retention_mean>=97", True),  # a value without an interval is taken as it is
        ("vanilla:retention_min>=56", False),
        ("vanilla: retention_min<=65", True),
        ("hellaswag.acc.retention>=94", True),
        ("hellaswag.acc.retention>=95", False),
        ("hellaswag.acc>=.35", True),
        ("hellaswag.acc.delta>=-3e-2", True),
        ("off_target<=3", True),
        ("off_target<=2", False),
        ("off_target.gain>=4.5", True),  # less is better: an improvement of 5
        ("news.chrf++>=39", True),
        ("sacrebleu:wmt22.chrf++>=39", False),
        ("news.de-en.chrf++.gain>=1.5", True),
        ("extraction_failure_percent<=1", True),
        ("refusal_rate.retention>=90", False),  # not measured
        ("acc.retention>=94", True),  # of hellaswag; xcopa_th is a diagnostic
        ("xcopa_th.acc.retention>=0", False),
        ("gain_vs_vanilla>=-0.6", True),  # two test sets, so that the half-widths add in squares: -0.1 - 0.354
        ("gain_vs_vanilla>=-0.45", False),
        ("gain_vs_vanilla>=-0.39@one-sided", True),  # -0.1 - 0.283
        ("gain_vs_vanilla>=-0.38@one-sided", False),
        ("hellaswag.acc.retention>=95@one-sided", True),
        ("hellaswag.acc.retention>=95.5 % @one-sided", False),
        ("gain>=0.2@one-sided", False),  # an earlier version wrote no such bound
        ("hellaswag.forgotten<=2", True),
        ("hellaswag.acc.forgotten<=1.9", False),
        ("hellaswag.forgotten<=1.8@one-sided", True),
        ("exact.forgotten<=3", True),
        ("forgotten<=3", True),  # of gsm8k, whose bound is the worst; ifeval is a diagnostic here
        ("forgotten<=2.9", False),
        ("forgotten<=2.5@one-sided", True),
        ("ifeval.forgotten<=50", False),
        ("vanilla:forgotten<=99", False),  # not measured
        ("right.retention>=0", False),  # of quiz, where the base has nothing to lose
    ],
)
def test_a_gate_is_against_the_end_of_the_interval(text: str, holds: bool) -> None:
    (verdict,) = check(text)
    assert verdict.holds is holds
    assert verdict.line().startswith("holds " if holds else "MISSED")


def test_every_row_that_a_name_stands_for_has_to_hold() -> None:
    assert [verdict.holds for verdict in check("chrf++>=35")] == [True, False]
    assert [verdict.holds for verdict in check("de-en.chrf++.gain>=0.5")] == [True, True]


def test_a_diagnostic_is_gated_by_its_score_alone() -> None:
    assert [verdict.reading.where for verdict in check("acc>=0.3")] == ["hellaswag", "xcopa_th"]
    assert [verdict.reading.where for verdict in check("acc.retention>=94")] == ["hellaswag"]
    assert [verdict.reading.where for verdict in check("right.retention>=0")] == ["quiz"]


def test_a_line_says_value_interval_and_bound() -> None:
    (verdict,) = check("hellaswag.acc.retention>=95")
    said = "MISSED  hellaswag.acc.retention>=95  radis (hellaswag): 98 [94, 101], lower bound 94, two-sided 95 %"
    assert verdict.line() == said
    (verdict,) = check("hellaswag.acc.retention>=94@one-sided")
    assert verdict.line().endswith("radis (hellaswag): 98, lower bound 95, one-sided 95 %")
    (verdict,) = check("forgotten<=2")
    assert verdict.line() == "MISSED  forgotten<=2  radis (gsm8k exact): 0.5 [0, 3], upper bound 3, two-sided 95 %"
    (verdict,) = check("gain>=0@one-sided")
    assert "1.5, without a one-sided bound" in verdict.line()
    (verdict,) = check("refusal.refusal_rate.retention>=95")
    assert verdict.line().endswith("radis (refusal): not measured")


def test_missed_gates_end_with_exit_code_1() -> None:
    enforce(check("gain>=0", "off_target<=3"))
    with pytest.raises(GateMissedError, match=r"2 of 3 gates missed: gain>=1, chrf\+\+>=99") as caught:
        enforce(check("gain>=1", "chrf++>=99", "off_target<=3"))
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("retention_mim>=97", "there is no 'retention_mim' in the scorecard; did you mean 'retention_min'?"),
        ("zzz>=97", "there is no 'zzz' in the scorecard; try gain, retention_mean, retention_min"),
        ("vanila:gain>=0", "there is no system 'vanila'; did you mean 'vanilla'?"),
        ("gain", "is not of the form NAME>=NUMBER"),
        ("gain>=0 and more", "is not of the form NAME>=NUMBER"),
        ("gain>=0@one-side", "there is no @one-side; write @one-sided for the one-sided bound of 95 %, or nothing"),
        ("gain>=0@", "there is no @; write @one-sided"),
        ("gain@one-sided>=0", "@one-sided stands behind the number, as in gain>=0@one-sided"),
        ("gain_vs_vanila>=0", "there is no 'gain_vs_vanila' in the scorecard; did you mean 'gain_vs_vanilla'?"),
        ("gain==0", "is not of the form NAME>=NUMBER"),
        ("", "is not of the form NAME>=NUMBER"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_nearest_name(text: str, sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        check(text)
    assert sentence in str(caught.value)
