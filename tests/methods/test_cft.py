"""CFT: the base's own work on the English sides of some pairs, beside the references."""

from __future__ import annotations

from typing import Any

import pytest

from lingraft.data.records import Example, Generation, Pair
from lingraft.methods.base import Available, MethodInputs, Tally
from lingraft.methods.cft import CFT
from lingraft.methods.vanilla import Vanilla

PAIRS = [
    Pair("a", "Der Hafen ist alt.", "The harbour is old.", "de", "en"),
    Pair("b", "We eat fish.", "Wir essen Fisch.", "en-GB", "de"),
    Pair("c", "Nous mangeons.", "Wir essen.", "fr", "de"),
]
INPUTS = MethodInputs(PAIRS, seed=5)


def made(**params: Any) -> CFT:
    return CFT(CFT.Params.model_validate({"replay_share": 1, "tasks": ["Go on: {text}"], **params}))


def answered(texts: dict[str, tuple[str, str]]) -> dict[str, Generation]:
    return {f"cft:{id_}": Generation(f"cft:{id_}", text, (1,), end) for id_, (text, end) in texts.items()}


ANSWERS = answered({"a": ("It was built long ago.", "stop"), "b": ("And we like", "length")})


def test_the_base_works_on_the_english_side_of_the_chosen_pairs() -> None:
    requests = list(made(max_answer_tokens=30, temperature=0.5).requests(INPUTS))
    assert [(one.id, one.messages[-1].content) for one in requests] == [
        ("cft:a", "Go on: The harbour is old."),
        ("cft:b", "Go on: We eat fish."),
    ]
    assert (requests[0].sampling.max_new_tokens, requests[0].sampling.temperature) == (30, 0.5)
    many = [Pair(f"m{i}", "Zeile", f"Line {i}", "de", "en") for i in range(2000)]
    chosen = list(made(replay_share=0.05).requests(MethodInputs(many, seed=5)))
    assert 70 <= len(chosen) <= 130
    tasks = {one.messages[-1].content.split("{")[0] for one in CFT(CFT.Params(replay_share=1)).requests(INPUTS)}
    assert len(tasks) == 2


def test_own_answers_stand_behind_the_references() -> None:
    tally = Tally()
    found = list(made().examples(INPUTS, ANSWERS, tally))
    assert [one.id for one in found] == ["a", "cft:a", "b", "cft:b", "c"]
    plain = list(Vanilla(Vanilla.Params()).examples(INPUTS, {}, Tally()))
    assert [one for one in found if not one.id.startswith("cft")] == plain
    own = found[1]
    assert (own.messages[-1].content, own.spans[0].text) == ("Go on: The harbour is old.", "It was built long ago.")
    assert (own.spans[0].role, own.end_turn, found[3].end_turn) == ("reply", True, False)
    assert tally.filters == {"kept": 1, "kept_truncated": 1}


def test_answers_that_are_not_fit_are_dropped_and_counted() -> None:
    tally = Tally()
    bad = answered({"a": ("", "stop"), "b": ("and on " * 60, "stop")})
    assert [one.id for one in made().examples(INPUTS, bad, tally)] == ["a", "b", "c"]
    assert tally.filters == {"empty": 1, "looping": 1}
    tally = Tally()
    list(made(truncated="drop").examples(INPUTS, ANSWERS, tally))
    assert tally.filters == {"kept": 1, "truncated": 1}


def test_without_replay_it_is_vanilla() -> None:
    method = made(replay_share=0)
    assert not list(method.requests(INPUTS))
    plain: list[Example] = list(Vanilla(Vanilla.Params()).examples(INPUTS, {}, Tally()))
    assert list(method.examples(INPUTS, {}, Tally())) == plain
    assert method.likeness(INPUTS, {}) is None


def test_what_it_teaches_is_compared_with_what_the_base_writes() -> None:
    likeness = made(embedder="some/model").likeness(INPUTS, ANSWERS)
    assert likeness is not None
    assert likeness.embedder == "some/model"
    assert list(likeness.own()) == [
        "Go on: The harbour is old.\n\nIt was built long ago.",
        "Go on: We eat fish.\n\nAnd we like",
    ]
    taught = list(likeness.taught())
    assert len(taught) == 3
    assert taught[0].startswith("Translate")
    assert taught[0].endswith("Der Hafen ist alt.\n\nThe harbour is old.")


def test_pairs_without_english_have_no_replay_and_that_is_told() -> None:
    assert "no direction has English" in made().lacks(Available(directions=(("fr", "de"),)))
    assert made().lacks(Available(directions=(("fr", "de"), ("de", "en-US")))) == ""
    assert made(replay_share=0).lacks(Available(directions=(("fr", "de"),))) == ""


@pytest.mark.parametrize("task", ["Go on.", "{text} and {text}", "{text} {other}", "{text"])
def test_a_task_names_its_text_once(task: str) -> None:
    with pytest.raises(ValueError, match="tasks"):
        made(tasks=[task])
