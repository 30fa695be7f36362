"""Self-critique: samples, their grades, and what is learnt of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from builders import tiny_tokenizer
from lingraft.data.records import Generation, Message, Pair, Prompt
from lingraft.methods.base import METHODS, MethodInputs, Tally
from lingraft.methods.critique import expected_grade, written_grade
from lingraft.rendering.renderer import Renderer

PAIRS = [
    Pair("p0", "Der Hafen ist alt.", "The harbour is old.", "de", "en"),
    Pair("p1", "Wir essen Fisch.", "We eat fish.", "de", "en"),
]
SAMPLES = {
    "p0": [
        "The port is old and small.",
        "The harbour is very old.",
        "the port is old, and small",
        "Der Hafen ist sehr alt.",
    ],
    "p1": ["We are eating fish today.", "They ate the fish.", "", "We eat and we eat and"],
}
GRADES = {"grade-0:p0": "8", "grade-1:p0": "Score: 3", "grade-0:p1": "5/10", "grade-1:p1": "no idea"}
NUMBERS = {n: n for n in range(10)}  # token ids that are digits; 10 is two tokens


def made(name: str = "self_critique", **params: Any) -> Any:
    entry: Any = METHODS.get(name)
    given = params if "metric" in params else {"grade": "written", **params}
    return entry(entry.Params.model_validate(given))


def inputs(**changes: Any) -> MethodInputs:
    return MethodInputs(PAIRS, seed=3, numbers=NUMBERS, **changes)


def sampled() -> dict[str, Generation]:
    found = {}
    for item, texts in SAMPLES.items():
        for number, text in enumerate(texts):
            reason = "length" if text.endswith("and") else "stop"
            id_ = f"sample-{number}:{item}"
            found[id_] = Generation(id_, text, (1,), reason)
    return found


def answers(grades: Mapping[str, str] = GRADES) -> dict[str, Generation]:
    return sampled() | {id_: Generation(id_, text, (1,), "stop") for id_, text in grades.items()}


def learnt(
    method: Any, given: Mapping[str, Generation], **changes: Any
) -> tuple[list[tuple[str, str]], dict[str, int]]:
    tally = Tally()
    found = list(method.examples(inputs(**changes), given, tally))
    return [(one.id, one.spans[0].text) for one in found], dict(tally.filters)


def test_each_item_is_answered_several_times_and_what_is_fit_is_graded_once() -> None:
    method = made(temperature=0.6, top_p=0.8, max_answer_tokens=50)
    first = method.round(0, inputs(), {})
    requests = list(first.requests())
    assert (first.of, len(requests)) == ("base", 8)
    assert requests[0].messages == requests[3].messages
    how = requests[0].sampling
    assert (how.temperature, how.top_p, how.max_new_tokens, how.seed) == (0.6, 0.8, 50, 3)
    second = method.round(1, inputs(), sampled())
    asked = list(second.requests())
    # The third of p0 says the same as the first; its last is German; p1 has an empty and a cut one.
    assert [request.id for request in asked] == list(GRADES)
    text = asked[0].messages[-1].content
    for part in ("German into English", PAIRS[0].source, PAIRS[0].target, SAMPLES["p0"][0], "from 1 (useless) to 10"):
        assert part in text
    hidden = next(made(show_reference=False).round(1, inputs(), sampled()).requests()).messages[-1].content
    assert PAIRS[0].target not in hidden
    assert method.round(2, inputs(), answers()) is None


def test_the_best_sample_is_learnt_if_it_is_good_enough() -> None:
    found, tally = learnt(made(threshold=6), answers())
    assert found == [("p0", "The port is old and small."), ("p1", "We eat fish.")]  # of p1 the reference
    assert tally == {"kept": 1, "below_threshold": 1}
    found, tally = learnt(made(threshold=5), answers())
    assert found == [("p0", "The port is old and small."), ("p1", "We are eating fish today.")]
    found, tally = learnt(made(otherwise="drop"), answers())
    assert found == [("p0", "The port is old and small.")]


def test_of_an_item_without_a_fit_or_graded_sample_the_reason_is_counted() -> None:
    silent = dict.fromkeys(GRADES, "Hm.")
    assert learnt(made(), answers(silent))[1] == {"ungraded": 2}
    given = answers() | {f"sample-{n}:p0": Generation(f"sample-{n}:p0", "", (), "stop") for n in range(4)}
    found, tally = learnt(made(), given)
    assert found[0] == ("p0", "The harbour is old.")
    assert tally == {"empty": 1, "below_threshold": 1}


def test_preferences_are_the_best_against_the_worst_by_a_margin() -> None:
    method, tally = made(teach="preferences", margin=5), Tally()
    best, worst = method.examples(inputs(), answers(), tally)
    assert (best.spans[0].text, best.sign, worst.spans[0].text, worst.sign) == (
        "The port is old and small.",
        1,
        "The harbour is very old.",
        -1,
    )
    assert best.group == worst.group != ""
    assert method.paired
    assert not made(teach="best").paired
    assert best.messages == worst.messages
    assert best.id != worst.id
    assert tally.filters == {"kept": 1, "no_margin": 1}
    assert [dict(one) for one in method.objective()] == [{"kind": "dpo"}]
    assert not made().objective()
    assert (method.paired, made().paired) == (True, False)
    assert learnt(made(teach="preferences", margin=5.5), answers()) == ([], {"no_margin": 2})
    assert learnt(made(teach="preferences", margin=0), answers())[1] == {"kept": 1, "no_margin": 1}  # equal is none


def test_a_metric_grades_all_samples_at_once() -> None:
    asked: list[tuple[Any, list[str], list[str]]] = []

    def score(metric: Any, pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
        asked.append((metric, [pair.id for pair in pairs], list(texts)))
        return [float(len(text)) if "They" not in text else math.nan for text in texts]

    method = made(metric="chrf")
    assert method.round(1, inputs(), sampled()) is None
    assert list(method.selects_by) == ["chrf"]
    found, tally = learnt(method, sampled(), score=score)
    assert found == [("p0", "The port is old and small."), ("p1", "We are eating fish today.")]
    assert asked == [
        ("chrf", ["p0", "p0", "p1", "p1"], [*SAMPLES["p0"][:2], *SAMPLES["p1"][:2]]),
    ]
    assert tally == {"kept": 2}
    assert not made().selects_by


def test_of_a_metric_of_which_less_is_better_less_is_chosen() -> None:
    def score(metric: Any, pairs: Sequence[Pair], texts: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    found, _ = learnt(made(metric="ter"), sampled(), score=score)
    assert found == [("p0", "The harbour is very old."), ("p1", "They ate the fish.")]


def test_an_engine_grades_and_the_graft_before_answers() -> None:
    method = made(critic={"kind": "scripted"}, sampler="before", grade="expected")
    assert method.round(0, inputs(), {}).of == "before"
    second = method.round(1, inputs(), sampled())
    assert second.of == {"kind": "scripted"}
    assert {request.top_logprobs for request in second.requests()} == {0}  # token ids of another model mean nothing
    assert [one.of for one in method.expected_rounds()] == ["before", {"kind": "scripted"}]
    own = made(grade="expected")
    assert {request.top_logprobs for request in own.round(1, inputs(), sampled()).requests()} == {20}
    assert [one.logprobs for one in own.expected_rounds()] == [False, True]


def test_the_mean_grade_is_learnt_by() -> None:
    """Both samples of p0 are graded 7 in words; the second has more probability above it."""

    def graded(id_: str, more: float) -> Generation:
        best = ((7, math.log(0.6)), (9, math.log(more)), (2, math.log(0.4 - more)))
        return Generation(id_, "7", (7,), "stop", (best,))

    given = sampled() | {id_: graded(id_, 0.05 + 0.1 * number) for number, id_ in enumerate(GRADES)}
    assert learnt(made(grade="expected"), given)[0][0] == ("p0", "The harbour is very old.")
    assert learnt(made(grade="written"), given)[0][0] == ("p0", "The port is old and small.")


@pytest.mark.parametrize(
    ("text", "grade"),
    [
        ("8", 8),
        ("Score: 10/10", 10),
        (" 10.", 10),
        ("I give it a 7.0", 7),
        ("3 out of 10", 3),
        ("<think>9?</think>4", 4),
        ("0", None),
        ("11", None),
        ("2.5", None),
        ("good", None),
        ("", None),
    ],
)
def test_the_first_whole_number_from_1_to_10_is_the_grade(text: str, grade: float | None) -> None:
    assert written_grade(Generation("g", text, (), "stop")) == grade


def _graded(*steps: Mapping[int, float]) -> Generation:
    """A grade whose most probable tokens were written."""
    best = tuple(tuple((token, math.log(share)) for token, share in step.items()) for step in steps)
    return Generation("g", "", tuple(next(iter(step)) for step in steps), "stop", best)


def test_the_expected_grade_is_the_mean_under_the_numbers_tokens() -> None:
    # Token 50 is no number. By hand: (0.5 * 8 + 0.3 * 6) / 0.8.
    assert expected_grade(_graded({8: 0.5, 6: 0.3, 50: 0.2}), NUMBERS) == pytest.approx(7.25)
    # What was written first is no number: the next token counts.
    assert expected_grade(_graded({50: 0.9, 3: 0.1}, {4: 1.0}), NUMBERS) == pytest.approx(4.0)
    # "1" was written, and "0" had 0.75 then: 0.8 * 0.75 is 10, 0.8 * 0.25 is 1, and 0.2 is 5.
    assert expected_grade(_graded({1: 0.8, 5: 0.2}, {0: 0.75, 50: 0.25}), NUMBERS) == pytest.approx(7.2)
    # "1" was not written: it may begin a 10, and is left out. (0.6 * 8 + 0.2 * 4) / 0.8.
    assert expected_grade(_graded({8: 0.6, 1: 0.2, 4: 0.2}), NUMBERS) == pytest.approx(7.0)
    # 10 is a token of its own (60): 1 is 1.
    assert expected_grade(_graded({8: 0.5, 1: 0.25, 60: 0.25}), {**NUMBERS, 60: 10}) == pytest.approx(6.75)
    assert expected_grade(_graded({50: 1.0}), NUMBERS) is None
    assert expected_grade(Generation("g", "8", (8,), "stop"), NUMBERS) is None


@pytest.mark.parametrize("family", ["smollm2", "llama3", "llama2", "gemma2"])
def test_the_tokens_that_are_numbers_are_found(family: str) -> None:
    renderer = Renderer(tiny_tokenizer(family))
    numbers = renderer.numbers(10)
    assert set(range(10)) <= set(numbers.values())
    assert all(renderer.decode([token]).strip() == str(number) for token, number in numbers.items())


def test_answers_to_general_prompts_are_graded_alike() -> None:
    prompts = [Prompt("q", (Message("user", "Name a fish."),), reference="A cod.")]
    given_inputs = MethodInputs((), prompts)
    method = made("self_critique_chat", samples=2)
    assert [request.id for request in method.round(0, given_inputs, {}).requests()] == ["sample-0:q", "sample-1:q"]
    given = {
        f"sample-{n}:q": Generation(f"sample-{n}:q", text, (1,), "stop") for n, text in enumerate(("Cod.", "Tuna."))
    }
    asked = list(method.round(1, given_inputs, given).requests())
    for part in ("Name a fish.", "A cod.", "Cod."):
        assert part in asked[0].messages[-1].content
    given |= {f"grade-{n}:q": Generation(f"grade-{n}:q", text, (1,), "stop") for n, text in enumerate(("6", "9"))}
    (found,) = method.examples(given_inputs, given, Tally())
    assert (found.spans[0].text, found.spans[0].role, found.messages) == ("Tuna.", "reply", prompts[0].messages)
    (found,) = made("self_critique_chat", samples=2, sampler="before").examples(given_inputs, given, Tally())
    assert found.spans[0].role == "given_reply"  # a graft's answer is not the base's own


def test_it_is_told_in_time_that_no_sample_is_fit() -> None:
    empty = {id_: Generation(id_, "", (), "stop") for id_ in sampled()}
    assert made().shortfall(inputs(), empty) == "none of 8 samples is fit (8 empty); change how they are sampled"
    assert made().shortfall(inputs(), sampled()) == ""


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("self_critique", {"temperature": 0}, "4 samples at temperature 0 are all the same"),
        ("self_critique", {"teach": "preferences", "samples": 1}, "there is one; raise `samples`"),
        ("self_critique", {"critic": {"api_key": "x"}}, "an engine with its `kind`"),
        ("self_critique", {"critic": {"kind": "openai"}, "metric": "chrf"}, "both are given"),
        ("self_critique_chat", {"metric": "chrf"}, "metric"),
    ],
)
def test_what_cannot_be_is_refused(name: str, params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(name, **params)
    assert made("self_critique", samples=1, temperature=0)
