"""Metric `esa`: what a judge is asked, asking again, and which answers are scores."""

from __future__ import annotations

import pytest

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Generation, Pair, Request
from lingraft.evaluation.translation import score_all
from lingraft.metrics.base import OpenMetric
from lingraft.metrics.esa import Esa, read_score

PAIRS = [Pair(str(n), f"Satz {n}.", f"Sentence {n}.", "de", "en") for n in range(3)]
TEXTS = {pair.id: f"Phrase {pair.id}." for pair in PAIRS}


def esa(**params: object) -> Esa:
    return Esa(Esa.Params.model_validate({"judge": {"kind": "openai", "model": "big"}, **params}))


def said(request: Request, text: str) -> dict[str, Generation]:
    return {request.id: Generation(request.id, text, (), "stop")}


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("85", 85.0),
        (" 0 ", 0.0),
        ("100.", 100.0),
        ("**72**", 72.0),
        ("Score: 40/100", 40.0),
        ("66 %", 66.0),
        ("85.0", 85.0),
        ("101", None),
        ("-5", None),
        ("85.5", None),
        ("85 or 90", None),
        ("I give it 85", None),
        ("", None),
        ("good", None),
    ],
)
def test_a_score_is_one_number_from_0_to_100_however_dressed(answer: str, score: float | None) -> None:
    assert read_score(answer) == score


def test_errors_are_marked_first_and_the_score_is_asked_for_in_the_same_conversation() -> None:
    metric = esa()
    (first,) = metric.questions([(PAIRS[0], TEXTS["0"])], {})
    assert "Satz 0." in first.messages[0].content
    assert "Phrase 0." in first.messages[0].content
    assert "German" in first.messages[0].content
    assert first.sampling.temperature == 0
    marked = said(first, 'major: "Phrase" is not a sentence')
    (second,) = metric.questions([(PAIRS[0], TEXTS["0"])], marked)
    assert [one.role for one in second.messages] == ["user", "assistant", "user"]
    assert second.messages[0] == first.messages[0]
    assert second.messages[1].content == 'major: "Phrase" is not a sentence'
    assert metric.questions([(PAIRS[0], TEXTS["0"])], {**marked, **said(second, "70")}) == []


def test_a_score_that_cannot_be_read_is_asked_for_again_sampled_and_no_oftener_than_said() -> None:
    metric, rows = esa(retries=2), [(PAIRS[0], TEXTS["0"])]
    known: dict[str, Generation] = {}
    temperatures, seeds = [], set()
    while asked := metric.questions(rows, known):
        (request,) = asked
        known |= said(request, "well")
        temperatures.append(request.sampling.temperature)
        seeds.add(request.sampling.seed)
    assert temperatures == [0, 0, 0.7, 0.7]
    assert len(seeds) >= 3


def test_equal_translations_are_judged_once_and_empty_ones_not_at_all() -> None:
    rows = [(PAIRS[0], "A."), (PAIRS[0], "A."), (PAIRS[1], "A."), (PAIRS[2], " ")]
    assert len(esa().questions(rows, {})) == 2


def judged(metric: Esa, scores: dict[str, str]) -> Esa:
    known: dict[str, Generation] = {}
    rows = [(pair, TEXTS[pair.id]) for pair in PAIRS]
    while asked := metric.questions(rows, known):
        for one in asked:
            number = next(pair.id for pair in PAIRS if pair.source in one.messages[0].content)
            known |= said(one, "no errors" if one.id.endswith("spans") else scores[number])
    metric.verdicts = known
    return metric


def test_the_score_is_the_mean_of_what_could_be_read() -> None:
    metric = judged(esa(), {"0": "80", "1": "60", "2": "no idea"})
    row = score_all({"x": TEXTS}, PAIRS, "demo", [OpenMetric("esa", metric)], n_bootstrap=100)[0]
    assert row.score == pytest.approx(70)
    assert row.signature.startswith("esa|judge:big|prompts:own-")
    shown = list(metric.verdict_rows([(pair, TEXTS[pair.id]) for pair in PAIRS]))
    assert [one["score"] for one in shown] == [80, 60, None]
    assert shown[0]["verdict"] == "no errors\n\n80"


def test_an_empty_translation_has_0() -> None:
    metric = judged(esa(), {"0": "80", "1": "60", "2": "70"})
    row = score_all({"x": {**TEXTS, "2": " "}}, PAIRS, "demo", [OpenMetric("esa", metric)], n_bootstrap=100)[0]
    assert row.score == pytest.approx((80 + 60 + 0) / 3)


def test_nothing_wrong_looks_like_a_score() -> None:
    with pytest.raises(UsageError, match="needs a judge"):
        Esa(Esa.Params())
    with pytest.raises(DataError, match="no verdict on '0'"):
        score_all({"x": TEXTS}, PAIRS, "demo", [OpenMetric("esa", esa())], n_bootstrap=100)
    metric = judged(esa(), dict.fromkeys(TEXTS, "no idea"))
    with pytest.raises(DataError, match="of 3 verdicts of big none could be read"):
        score_all({"x": TEXTS}, PAIRS, "demo", [OpenMetric("esa", metric)], n_bootstrap=100)
