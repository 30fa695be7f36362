"""`tear`: which draft is refined, what is read of error lists, and when the draft stays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from decoding import Asked, decoder_inputs, made
from lingraft.core.errors import UsageError
from lingraft.data.records import Pair, Sampling
from lingraft.decoders import tear
from lingraft.decoders.base import Surroundings, decoded
from lingraft.decoders.error_lists import WORKED, ErrorList, estimate_messages, read_errors
from lingraft.engines.scripted import Rule
from lingraft.translation.direct import Source, Translation
from lingraft.translation.wording import TranslationSystem

SOURCE = Source("t/1", "Das Wetter ist heute schön.", "de", "en")
SYSTEM = TranslationSystem("Into {target_name}: {source}", stop=("\nNote:",))
DRAFT = Rule(pattern="^Into English", answer="The whether is nice today.\nNote: x")
REFINED = "The weather is nice today."
REFINE = Rule(pattern="^Here is a German text", answer=REFINED)


def errors(**lists: Sequence[str]) -> str:
    return json.dumps({"critical": [], "major": [], "minor": [], **lists})


def estimate(answer: str, of: str = "") -> Rule:
    """The list of errors of a text that holds some words."""
    return Rule(pattern=f"(?s)^You check a translation.*translation:\n[^\n]*{of}", answer=answer.replace("\\", r"\\"))


def run(rules: Sequence[Rule], source: Source = SOURCE, **params: Any) -> tuple[Translation, Asked]:
    asked = Asked([DRAFT, REFINE, *rules])
    score = params.pop("score", None)
    inputs = decoder_inputs(asked, sampling=Sampling(40, seed=1), score=score)
    (found,) = decoded(made("tear", **params), [source], SYSTEM, inputs).values()
    return found, asked


def steps(asked: Asked) -> list[str]:
    return [name for name, _, _ in asked.steps]


BAD = errors(major=["whether: wrong word"])


def test_a_draft_with_errors_is_refined_where_fewer_are_left() -> None:
    found, asked = run([estimate(errors(minor=["nice: too plain"]), "weather"), estimate(BAD)])
    assert (found.text, found.outcome, found.failure) == (REFINED, tear.REFINED, "")
    assert steps(asked) == ["drafts", "estimate", "refine", "check"]
    assert (found.calls, found.tokens) == (4, asked.written)
    assert list(found.steps) == ["drafts", "estimate", "refine", "check", "outcome"]
    refine = asked.steps[2][2][0].messages[0].content
    assert "- major: whether: wrong word" in refine
    assert "The whether is nice today." in refine
    assert asked.steps[2][2][0].sampling.stop == SYSTEM.stop


@pytest.mark.parametrize(
    ("rules", "outcome", "asked_steps"),
    [
        ([estimate(errors())], tear.NO_ERROR, ["drafts", "estimate"]),
        ([estimate(errors(major=["no-error"], minor=["None"]))], tear.NO_ERROR, ["drafts", "estimate"]),
        ([Rule(answer="I see none.")], tear.UNREAD, ["drafts", "estimate", "estimate-again"]),
        ([estimate(BAD)], tear.NO_BETTER, ["drafts", "estimate", "refine", "check"]),
        (
            [estimate("?", "weather"), estimate(BAD), Rule(answer="??")],
            tear.UNREAD_AGAIN,
            ["drafts", "estimate", "refine", "check", "check-again"],
        ),
        (
            [estimate(errors(critical=["x"]), "weather"), estimate(BAD)],
            tear.NO_BETTER,
            ["drafts", "estimate", "refine", "check"],
        ),
    ],
)
def test_the_draft_stays_unless_the_gate_says_better(rules: list[Rule], outcome: str, asked_steps: list[str]) -> None:
    found, asked = run(rules)
    assert (found.text, found.outcome) == ("The whether is nice today.", outcome)
    assert steps(asked) == asked_steps
    assert found.calls == asked.calls


def test_what_cannot_be_read_is_asked_for_once_more() -> None:
    found, asked = run([estimate(errors(), "weather"), estimate("Errors: whether"), Rule(answer=BAD)])
    assert found.outcome == tear.REFINED
    again = asked.steps[2][2][0].messages
    assert [one.role for one in again] == ["user", "assistant", "user"]
    assert again[1].content == "Errors: whether"


@pytest.mark.parametrize("answer", ["", "The whether is nice today.", "<think>hm"])
def test_what_refining_leaves_unusable_or_unchanged_is_no_translation(answer: str) -> None:
    asked = Asked([DRAFT, Rule(pattern="^Here is a German", answer=answer), estimate(BAD)])
    (kept,) = decoded(made("tear"), [SOURCE], SYSTEM, decoder_inputs(asked, sampling=Sampling(40))).values()
    assert kept.text == "The whether is nice today."
    assert kept.outcome in (tear.UNUSED, tear.SAME)
    assert "check" not in steps(asked)


def test_a_metric_judges_without_seeing_a_reference() -> None:
    seen: list[Pair] = []

    def score(metric: str | Mapping[str, Any], pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
        seen.extend(pairs)
        return [float("weather" in text) for text in texts]

    quality = {"kind": "command", "command": "x", "references": False}
    found, asked = run([estimate(BAD)], accept="metric", metric=quality, score=score)
    assert (found.text, found.outcome) == (REFINED, tear.REFINED)
    assert steps(asked) == ["drafts", "estimate", "refine"]
    assert {pair.target for pair in seen} == {""}
    worse, _ = run([estimate(BAD)], accept="metric", metric=quality, score=lambda m, p, t: [float("nan")] * len(t))
    assert worse.outcome == tear.NO_BETTER


def test_the_paper_takes_whatever_was_refined_and_others_may_list_and_correct() -> None:
    found, asked = run([estimate(BAD)], accept="always", estimator="base", refiner={"kind": "openai", "model": "m"})
    assert found.text == REFINED
    assert [of for _, of, _ in asked.steps] == ["system", "base", {"kind": "openai", "model": "m"}]


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (errors(major=["a: b"], minor=["c"]), ErrorList(major=("a: b",), minor=("c",))),
        ("```json\n" + errors(critical=["a"]) + "\n```", ErrorList(critical=("a",))),
        ("<think>hm</think>" + errors(), ErrorList()),
        ('{"critical": "no-error", "major": "x: y", "minor": []}', ErrorList(major=("x: y",))),
        ("", None),
        ("none", None),
        ("[]", None),
        ('{"critical": [], "major": []}', None),
        ('{"critical": [], "major": [], "minor": [], "neutral": []}', None),
        ('{"critical": [], "major": [3], "minor": []}', None),
        ('{"critical": [], "major": {"a": 1}, "minor": []}', None),
        ("Here you are: " + errors(), None),
        (errors() + " I hope that helps.", None),
        ("[" * 5000, None),
    ],
)
def test_error_lists_are_read_strictly(answer: str, found: ErrorList | None) -> None:
    assert read_errors(answer) == found


def test_errors_weigh_by_their_severity() -> None:
    assert ErrorList(("a",), ("b", "c"), ("d",)).weight == 25 + 2 * 5 + 1
    assert str(ErrorList(("a",), (), ("d",))) == "- critical: a\n- minor: d"


KIWI = {"kind": "comet", "model": "Unbabel/wmt22-cometkiwi-da"}


@pytest.mark.parametrize(
    ("params", "reported", "words"),
    [
        ({}, ["bleu"], ""),
        ({"accept": "metric", "metric": KIWI}, ["bleu", "comet"], ""),
        (
            {"accept": "metric", "metric": KIWI},
            ["bleu", KIWI],
            "comet is reported, too, and would judge its own choice",
        ),
        ({"accept": "metric", "metric": "chrf"}, ["bleu"], "chrf compares with references"),
    ],
)
def test_the_gate_is_no_reported_metric_and_needs_no_reference(
    params: dict[str, Any], reported: list[Any], words: str
) -> None:
    lacking = made("tear", **params).lacks(Surroundings(reported=reported))
    assert (words in lacking) if words else lacking == ""


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"accept": "metric"}, "`accept: metric` needs a `metric`; name one"),
        ({"metric": KIWI}, "`metric` is for `accept: metric`, and `accept` is errors"),
        ({"estimator": {"model": "m"}}, "an engine needs a `kind`"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(params: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as told:
        made("tear", **params)
    assert words in str(told.value)


BEST = "The weather is lovely today."


def in_rounds(**params: Any) -> tuple[Translation, Asked]:
    """A draft that is refined, and refined once more."""
    again = Rule(pattern="(?s)^Here is a German text.*weather is nice", answer=BEST)
    some = errors(minor=["nice: too plain"])
    rules = [again, estimate(errors(), "lovely"), estimate(some, "weather"), estimate(BAD), DRAFT, REFINE]
    asked = Asked(rules)
    decoder = made("tear", **params)
    (found,) = decoded(decoder, [SOURCE], SYSTEM, decoder_inputs(asked, sampling=Sampling(40))).values()
    assert set(steps(asked)) <= {step.name for step in decoder.expected_steps()}
    assert (found.calls, found.tokens) == (asked.calls, asked.written)
    return found, asked


def test_more_rounds_go_on_from_what_took_the_drafts_place() -> None:
    found, asked = in_rounds(rounds=3)
    assert (found.text, found.outcome) == (BEST, "refined 2 times")
    # The second round has its list from the check of the first; the third finds no error, and nothing is asked.
    assert steps(asked) == ["drafts", "estimate", "refine", "check", "refine-2", "check-2"]
    assert "- minor: nice: too plain" in asked.steps[4][2][0].messages[0].content
    once, _ = in_rounds(rounds=1)
    assert (once.text, once.outcome) == (REFINED, tear.REFINED)


def test_where_all_is_accepted_each_round_lists_anew() -> None:
    found, asked = in_rounds(rounds=3, accept="always")
    assert (found.text, found.outcome) == (BEST, "refined 2 times")
    assert steps(asked) == ["drafts", "estimate", "refine", "estimate-2", "refine-2", "estimate-3"]


def test_worked_examples_stand_before_the_question_and_can_be_read() -> None:
    asked = Asked([DRAFT, Rule(answer=errors())])
    decoded(made("tear", examples=3), [SOURCE], SYSTEM, decoder_inputs(asked, sampling=Sampling(40)))
    messages = asked.steps[1][2][0].messages
    assert [one.role for one in messages] == ["user", "assistant"] * 3 + ["user"]
    assert messages[-1] == estimate_messages(SOURCE, "The whether is nice today.")[0]
    weights = [read_errors(one.content) for one in messages[1::2]]
    assert [one.weight if one else None for one in weights] == [6, 25, 0]
    for source, faulty, listed in WORKED:  # what is said to be wrong stands in the translation
        for text in [error for errors in json.loads(listed).values() for error in errors]:
            assert text.partition(":")[0] in faulty
            assert source.source_lang != source.target_lang
