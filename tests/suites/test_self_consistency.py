"""The suite "self" on scripted answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from pydantic import ValidationError
from sacrebleu.metrics import CHRF

from lingraft.core.errors import DataError
from lingraft.data.records import KL, Generation, Message, Pair, Prompt
from lingraft.evaluation.retention import general_scores
from lingraft.suites.base import SUITES, Answers, ItemScores, SuiteInputs
from lingraft.suites.self_consistency import SelfSuite, agreement, answers_instead, stays_answer, unrelated
from lingraft.translation.wording import TranslationSystem

QUESTIONS = {
    "p1": "How can I keep basil alive on a kitchen window sill during the winter?",
    "p2": "Name three reasons why a town might build a new bridge over its river.",
    "p3": "Write two sentences about the first snow of the year.",
    "p4": "Answer in French: what do you say when you meet someone in the morning?",
}
BASE = {
    "p1": "Give the plant as much light as you can, water it only when the soil is dry, and pinch off the flowers.",
    "p2": "A new bridge can shorten journeys, relieve an older bridge, and connect a new quarter with the centre.",
    "p3": "The first snow fell during the night. In the morning the whole street was silent and white.",
    "p4": "Bonjour, comment allez-vous ce matin ? C'est la formule la plus courante en France.",
}
GERMAN = "Wie kann ich Basilikum im Winter auf der Fensterbank in der Küche am Leben halten?"


def _prompts() -> list[Prompt]:
    return [Prompt(id_, (Message("user", text),)) for id_, text in QUESTIONS.items()]


def _answers(texts: dict[str, str], kl: dict[str, KL] | None = None) -> Answers:
    return Answers(
        {f"self:{id_}": Generation(f"self:{id_}", text, (1,), "stop") for id_, text in texts.items()},
        {f"self-kl:{id_}": value for id_, value in (kl or {}).items()},
    )


def _suite(**params: object) -> SelfSuite:
    return SelfSuite(SelfSuite.Params(**params))  # type: ignore[arg-type]


def _scores(texts: dict[str, str], kl: dict[str, KL] | None = None) -> dict[str, ItemScores]:
    inputs = SuiteInputs(_prompts(), ["de", "en"])
    return {item.metric: item for item in _suite().score(inputs, _answers(BASE), _answers(texts, kl))}


def test_is_registered() -> None:
    assert SUITES.get("self") is SelfSuite


def test_requests_are_greedy_for_all_and_sampled_for_the_base() -> None:
    inputs = SuiteInputs(_prompts(), ["de", "en"], seed=7)
    greedy, sampled = _suite().requests(inputs), _suite(temperature=0.8).base_only_requests(inputs)
    assert [request.id for request in greedy] == [f"self:{id_}" for id_ in QUESTIONS]
    assert {request.sampling.temperature for request in greedy} == {0.0}
    assert {(request.sampling.temperature, request.sampling.top_p, request.sampling.seed) for request in sampled} == {
        (0.8, 1.0, 7)
    }
    assert not {request.id for request in greedy} & {request.id for request in sampled}
    assert greedy[0].messages == _prompts()[0].messages


def test_the_draw_does_not_depend_on_the_order_of_prompts() -> None:
    prompts = [Prompt(f"p{number}", (Message("user", "Hi"),)) for number in range(40)]
    suite = _suite(max_prompts=9)
    one = suite.requests(SuiteInputs(prompts, ["en"], seed=5))
    assert len(one) == 9
    assert one == suite.requests(SuiteInputs(prompts[::-1], ["en"], seed=5))
    assert one != suite.requests(SuiteInputs(prompts, ["en"], seed=6))


def test_the_base_agrees_with_itself() -> None:
    scores = _scores(BASE)
    assert set(scores["agreement"].values.values()) == {100.0}
    assert set(scores["stays_answer"].values.values()) == {1.0}
    assert set(scores["length_drift"].values.values()) == {0.0}
    assert "kl_from_base" not in scores
    assert [name for name, item in scores.items() if item.retains] == ["agreement", "stays_answer"]


def test_agreement_is_sentence_chrf() -> None:
    other = "Put it in a bright place and do not water it too often."
    assert agreement(other, BASE["p1"]) == pytest.approx(CHRF().sentence_score(other, [BASE["p1"]]).score)
    assert agreement("", "") == 100.0
    assert agreement("", BASE["p1"]) == 0.0


@pytest.mark.parametrize(
    ("id_", "answer", "stays"),
    [
        ("p1", "Keep it warm and bright, and let the soil dry before you water it again.", True),
        ("p1", GERMAN, False),
        ("p1", QUESTIONS["p1"], False),
        ("p1", "Question: " + QUESTIONS["p1"], False),
        ("p1", " \n", False),
        ("p1", "...", False),
        ("p1", "Light.", True),
        ("p2", "A town might build a new bridge over its river because of noise, jobs and trade.", True),
        ("p2", "42", True),
        ("p4", "On dit bonjour, et l'on serre souvent la main de la personne.", True),  # as the base: in French
        ("p4", "You say good morning, and you shake hands with the person.", True),  # the prompt's language
        ("p4", "Man sagt guten Morgen und gibt der anderen Person die Hand.", False),
    ],
)
def test_stays_answer(id_: str, answer: str, stays: bool) -> None:
    prompt = next(prompt for prompt in _prompts() if prompt.id == id_)
    assert stays_answer(answer, BASE[id_], prompt, ["de", "en"]) is stays


def test_a_short_base_answer_does_not_excuse_another_language() -> None:
    prompt = Prompt("q", (Message("user", "What colour is the sky on a clear day?"),))
    assert not stays_answer("Der Himmel ist an einem klaren Tag blau.", "Blue.", prompt, ["de"])


def test_values_of_a_changed_system() -> None:
    texts = dict(BASE)
    texts["p1"] = GERMAN
    texts["p2"] = "bridge " * 60
    texts["p3"] = ""
    scores = _scores(texts)
    assert scores["stays_answer"].values == {"p1": 0.0, "p2": 1.0, "p3": 0.0, "p4": 1.0}
    assert scores["loops"].values == {"p1": 0.0, "p2": 1.0, "p3": 0.0, "p4": 0.0}
    assert scores["words"].values["p2"] == 60
    assert scores["length_drift"].values["p2"] == pytest.approx(math.log(60 / 18))
    assert scores["length_drift"].values["p3"] == pytest.approx(math.log(17))
    base = list(_scores(BASE).values())
    rows = {row.metric: row for row in general_scores("x", "self", list(scores.values()), base, n_bootstrap=100)}
    assert rows["stays_answer"].score == pytest.approx(50.0)
    assert rows["stays_answer"].retention is not None
    assert rows["stays_answer"].retention.percent == pytest.approx(50.0)
    assert rows["loops"].retention is None


def test_divergence_is_nats_over_tokens() -> None:
    kl = {"p1": KL(6.0, 10), "p2": KL(0.0, 30), "p3": KL(0.0, 0), "p4": KL(2.0, 40)}
    item = _scores(BASE, kl)["kl_from_base"]
    assert item.values == {"p1": 0.6, "p2": 0.0, "p4": 0.05}
    row = general_scores("x", "self", [item], [], n_bootstrap=50)[0]
    assert row.score == pytest.approx(8.0 / 80)
    assert row.retention is None


def test_the_signature_tells_what_unrelated_answers_score() -> None:
    ids = list(BASE)
    following = [*ids[1:], ids[0]]
    metric = CHRF()
    floor = sum(metric.sentence_score(BASE[a], [BASE[b]]).score for a, b in zip(ids, following, strict=True)) / 4
    found = _scores(BASE)["agreement"]
    assert f"unrelated:{floor:.1f}" in found.signature
    assert found.chance == pytest.approx(floor)


def test_agreement_is_kept_above_what_unrelated_answers_share() -> None:
    """By hand: a system whose answers are the base's to other prompts has kept nothing."""
    ids = list(BASE)
    shifted = {one: BASE[other] for one, other in zip(ids, [*ids[1:], ids[0]], strict=True)}
    half = {**BASE, "p1": shifted["p1"], "p3": shifted["p3"]}
    chrf = {id_: CHRF().sentence_score(shifted[id_], [BASE[id_]]).score for id_ in ids}
    floor = sum(CHRF().sentence_score(BASE[id_], [shifted[id_]]).score for id_ in ids) / 4
    base = list(_scores(BASE).values())
    for texts, mean in ((shifted, sum(chrf.values()) / 4), (half, (200 + chrf["p1"] + chrf["p3"]) / 4)):
        rows = general_scores("x", "self", list(_scores(texts).values()), base, n_bootstrap=200)
        row = next(row for row in rows if row.metric == "agreement")
        assert row.score == pytest.approx(mean)  # what is shown is chrF as it is
        assert row.retention is not None
        assert row.retention.percent == pytest.approx(100 * (mean - floor) / (100 - floor))
        assert f"chance:{floor:.3f}"[:-1] in row.signature
    assert abs(100 * (sum(chrf.values()) / 4 - floor) / (100 - floor)) < 3  # chrF is nearly the same in both orders


def test_unrelated_answers_are_those_of_the_same_language() -> None:
    answers = {
        "a": "Good day to you.",
        "b": "สวัสดีตอนเช้า",
        "c": "Good night to all.",
        "d": "ราตรีสวัสดิ์ทุกคน",
        "e": "Bonjour.",
    }
    langs = {"a": "en", "b": "th", "c": "en-GB", "d": "th", "e": "fr"}
    pairs = (("a", "c"), ("b", "d"), ("c", "a"), ("d", "b"), ("e", "a"))  # no other answer is French
    expected = sum(agreement(answers[one], answers[other]) for one, other in pairs) / 5
    assert unrelated(answers, langs) == pytest.approx(expected)
    assert unrelated({"a": "Good day."}, langs) == 0.0


def test_errors() -> None:
    inputs = SuiteInputs(_prompts(), ["en"])
    with pytest.raises(DataError, match="no general prompts"):
        _suite().requests(SuiteInputs([], ["en"]))
    with pytest.raises(DataError, match=r"^suite 'self' has no answer to request 'self:p4'"):
        _suite().score(inputs, _answers(BASE), _answers({id_: BASE[id_] for id_ in ("p1", "p2", "p3")}))
    with pytest.raises(DataError, match="no divergence for 3 of 4"):
        _scores(BASE, {"p1": KL(1.0, 2)})
    with pytest.raises(ValidationError):
        _suite(max_prompt=3)


PAIRS = [
    Pair("t1", "Wo ist der Bahnhof?", "Where is the railway station?", "de", "en"),
    Pair("t1", "Where is the station, please?", "Wo ist bitte der Bahnhof?", "en", "de"),  # same id, other direction
    Pair("t2", "Die Katze schläft auf dem alten Sofa.", "The cat is sleeping on the old sofa.", "de", "en"),
]


@pytest.mark.parametrize(
    ("number", "written", "instead"),
    [
        (0, "Where can I find the train station?", False),
        (0, "Wo ist der Bahnhof? Das ist eine gute Frage.", True),
        (0, "The station is " + "very far away from here, you know, " * 4, True),
        (1, "Wo ist denn bitte der Bahnhof?", False),
        (1, "The station is at the end of the street.", True),
        (2, "", False),
        (2, "It is.", False),
    ],
)
def test_a_translation_request_that_is_answered(number: int, written: str, instead: bool) -> None:
    assert answers_instead(written, PAIRS[number], ["de", "en"]) is instead


def test_a_translation_is_judged_beside_its_references() -> None:
    # The identifier takes both names for Chinese.
    pair = Pair("t1", "Tokyo University", "東京大学", "en", "ja")
    assert not answers_instead("東京大学", pair, ["en", "ja"])
    assert not answers_instead("東京的大学", pair, ["en", "ja"])
    assert answers_instead("That is a university in Tokyo.", pair, ["en", "ja"])


def test_translation_requests_are_asked_measured_and_checked() -> None:
    inputs = SuiteInputs(_prompts(), ["de", "en"], pairs=PAIRS)
    suite = _suite()
    asked = [request for request in suite.requests(inputs) if request.id.startswith("self-mt:")]
    assert [request.id for request in asked] == ["self-mt:de-en/t1", "self-mt:de-en/t2", "self-mt:en-de/t1"]
    assert asked[0].messages[0].content.startswith("Translate the following text from German into English.")
    sampled = [request.id for request in suite.base_only_requests(inputs)]
    assert len(sampled) == len(set(sampled)) == 7
    assert _suite(max_pairs=0).requests(inputs) == suite.requests(SuiteInputs(_prompts(), ["de", "en"]))
    written = {
        "self-mt:de-en/t1": "Where is the station?\n\nThis is a question a tourist asks, and so it is short and plain.",
        "self-mt:de-en/t2": "Katzen schlafen gern auf alten Sofas und anderen weichen Dingen.",
        "self-mt:en-de/t1": "Wo ist der Bahnhof, bitte?",
    }
    given = {id_: Generation(id_, text, (1,), "stop") for id_, text in written.items()}
    kl = {f"self-kl:{id_}": KL(1.0, 4) for id_ in QUESTIONS}
    kl |= dict(zip([id_ for id_ in sampled if "mt" in id_], [KL(3.0, 6), KL(0.0, 0), KL(5.0, 2)], strict=True))
    base = Answers({**_answers(BASE).generations, **given})
    rows = {item.metric: item for item in suite.score(inputs, base, Answers(base.generations, kl))}
    assert rows["wrong_task_translation"].values == {"de-en/t1": 0.0, "de-en/t2": 1.0, "en-de/t1": 0.0}
    translating = general_scores("x", "self", [rows["kl_from_base_translation"]], [], n_bootstrap=50)[0]
    assert (translating.n, translating.score) == (2, pytest.approx(1.0))
    assert general_scores("x", "self", [rows["kl_from_base"]], [], n_bootstrap=50)[0].score == pytest.approx(0.25)


def test_an_empty_answer_is_no_answer_but_no_other_task_either() -> None:
    texts = dict(BASE, p1=GERMAN, p2=QUESTIONS["p2"], p3="...")
    scores = _scores(texts)
    assert scores["stays_answer"].values == {"p1": 0.0, "p2": 0.0, "p3": 0.0, "p4": 1.0}
    assert scores["wrong_task"].values == {"p1": 1.0, "p2": 1.0, "p3": 0.0, "p4": 0.0}


def test_each_system_is_asked_for_translations_as_it_was_taught() -> None:
    inputs = SuiteInputs(_prompts(), ["de", "en"], pairs=PAIRS)
    own = replace(inputs, translating=TranslationSystem("Into {target_name}: {source}", ("\nNote:",)))
    asked = {request.id: request for request in _suite().requests(own)}
    one = asked["self-mt:de-en/t1"]
    assert one.messages == (Message("user", "Into English: Wo ist der Bahnhof?"),)
    assert one.sampling.stop == ("\nNote:",)
    assert {id_ for id_, request in asked.items() if request.direct} == {
        id_ for id_ in asked if id_.startswith("self-mt:")
    }
    assert asked["self:p1"].sampling.stop == ()
    general, taught = ({request.id: request for request in _suite().base_only_requests(each)} for each in (inputs, own))
    assert set(general) & set(taught) == {f"self-kl:{id_}" for id_ in QUESTIONS}  # the base answers each wording
    sampled = next(request for id_, request in taught.items() if id_.endswith("de-en/t1"))
    assert sampled.messages == one.messages
    assert (sampled.direct, sampled.sampling.stop) == (True, ())  # the base has no stop strings
    kl = {id_: KL(2.0, 4) for id_ in taught}
    given = {id_: Generation(id_, "Where is it?", (1,), "stop") for id_ in asked}
    rows = {row.metric: row for row in _suite().score(own, Answers(given), Answers(given, kl))}
    assert set(rows["kl_from_base_translation"].values.values()) == {0.5}
    with pytest.raises(DataError, match="no divergence"):
        _suite().score(inputs, Answers(given), Answers(given, kl))
