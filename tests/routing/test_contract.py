"""What every decider promises, over all entries of the registry; and what the classifier learns from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lingraft.core.errors import DataError, ModelError, UsageError
from lingraft.data.labelled_requests import read_labelled
from lingraft.data.records import Message, Pair, Prompt, Request, Sampling
from lingraft.reporting.citations import bibliography
from lingraft.routing.base import DECIDERS, Decider, Lessons, RouteInputs
from lingraft.routing.stored import read_route, write_route
from lingraft.routing.training import contrasts, examples
from lingraft.translation.wording import DEFAULT, VARIANTS, ask

every_decider = pytest.mark.parametrize("name", DECIDERS)
BASE = "a" * 64
WORDS = ("translat", "German", "English", "weather", "cook")


def states(requests: Sequence[Request]) -> np.ndarray:
    """Stand for a base: counts of words in the last turn."""
    return np.array([[one.messages[-1].content.count(word) for word in WORDS] for one in requests], np.float32)


INPUTS = RouteInputs(wordings=(DEFAULT,), states=states)


def asked(text: str, *, direct: bool = False, id_: str = "a") -> Request:
    return Request(id_, (Message("user", text),), Sampling(), direct=direct)


def lessons(pairs: int = 40, prompts: int = 40) -> Lessons:
    return Lessons(
        pairs=[Pair(f"p{n}", f"Satz {n}.", f"Sentence {n}.", "de", "en") for n in range(pairs)],
        prompts=[Prompt(f"q{n}", (Message("user", f"How do I cook {n} eggs?"),)) for n in range(prompts)],
        seed=1,
    )


def ready(name: str) -> Decider:
    decider = DECIDERS.create({"kind": name})
    decider.learn(lessons(), INPUTS)
    return decider


@every_decider
def test_it_says_what_it_is(name: str) -> None:
    entry: Any = DECIDERS.get(name)
    assert entry.name == name
    assert 20 < len(entry.summary) < 100
    assert set(entry.cite) <= set(bibliography())
    assert all(field.description for field in entry.Params.model_fields.values())


@every_decider
def test_routes_come_in_order_whatever_is_asked_beside(name: str) -> None:
    decider = ready(name)
    requests = [
        Request("t", ask(DEFAULT, "Guten Tag.", "de", "en"), Sampling(), direct=True),
        asked("How do I cook rice?", id_="q"),
        Request("plain", (), Sampling(), prefill="Once upon a time"),
    ]
    found = decider.decide(requests, INPUTS)
    assert found == ["graft", "base", "base"]
    assert decider.decide(requests[::-1], INPUTS) == found[::-1]
    assert [decider.decide([one], INPUTS)[0] for one in requests] == found
    assert decider.decide([], INPUTS) == []


@every_decider
def test_it_is_stored_and_read_again(name: str, tmp_path: Path) -> None:
    decider, requests = ready(name), [asked(text) for text in ("cook", "Translate German English", "weather")]
    write_route(tmp_path, decider, [DEFAULT], BASE, {"figure": 1})
    again, stored = read_route(tmp_path, name, BASE)
    assert (stored.facts, stored.wordings) == ({"figure": 1}, [DEFAULT])
    assert again.decide(requests, INPUTS) == decider.decide(requests, INPUTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "lingraft.route/9"}, "another version"),
        ({"version": 9}, "another version"),
        ({"params": {"l2": -1}}, "damaged"),
        ({"params": {"unknown": 1}}, "damaged"),
        ({"base_sha256": "b" * 64}, "another hash"),
        ({"learnt_sha256": "b" * 64}, "damaged"),
        ({"by": 3}, "damaged"),
    ],
)
def test_a_strangers_file_is_refused_in_a_sentence(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_route(tmp_path, ready("classifier"), [DEFAULT], BASE, {})
    path = tmp_path / "route-classifier.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(ModelError, match=message):
        read_route(tmp_path, "classifier", BASE)


def test_the_classifier_tells_apart_what_it_was_taught_and_says_how_well() -> None:
    decider = DECIDERS.create({"kind": "classifier", "contrasts": False})
    facts = decider.learn(lessons(), INPUTS)
    assert (facts["translations"], facts["others"], facts["held_out"]) == (40, 40, 16)
    assert facts["held_out_error_percent"] == 0
    assert decider.decide([asked("Translate from German to English"), asked("cook")], INPUTS) == ["graft", "base"]


def test_prompts_that_ask_for_translations_are_learnt_as_translations() -> None:
    given = lessons()
    told = [replace(prompt, task="translation") if n % 4 == 0 else prompt for n, prompt in enumerate(given.prompts)]
    for contrast in (False, True):
        translations, others = examples(replace(given, prompts=told), [DEFAULT], 40, contrast=contrast)
        asking = {prompt.messages for prompt in told if prompt.task}
        assert len(asking) == 10
        assert asking <= {one.messages for one in translations}
        assert not {messages[-1] for messages in asking} & {one.messages[-1] for one in others}
    few = replace(given, prompts=[replace(prompt, task="translation") for prompt in given.prompts])
    with pytest.raises(DataError, match="fewer than 8 general prompts"):
        DECIDERS.create({"kind": "classifier"}).learn(few, INPUTS)


@pytest.mark.parametrize(("pairs", "prompts", "lacking"), [(3, 40, "training pairs"), (40, 7, "general prompts")])
def test_too_little_to_learn_from_is_said(pairs: int, prompts: int, lacking: str) -> None:
    with pytest.raises(DataError, match=f"fewer than 8 {lacking}"):
        DECIDERS.create({"kind": "classifier"}).learn(lessons(pairs, prompts), INPUTS)


def test_a_classifier_that_has_learnt_nothing_decides_nothing() -> None:
    with pytest.raises(UsageError, match="learnt nothing yet"):
        DECIDERS.create({"kind": "classifier"}).decide([asked("Hello")], INPUTS)


def test_form_takes_wordings_of_ones_own() -> None:
    own = DECIDERS.create({"kind": "form", "wordings": ["Übersetze: {source}"]})
    texts = ["Übersetze: The dog.", "übersetze:  the dog", "Übersetze:", "Why?"]
    assert own.decide([asked(text) for text in texts], INPUTS) == ["graft", "graft", "base", "base"]


def test_examples_are_the_same_each_time_have_ids_of_their_own_and_end_with_the_user() -> None:
    first, second = (examples(lessons(), [DEFAULT], 20) for _ in range(2))
    assert first == second
    for given in first:
        assert len({one.id for one in given}) == len(given)
        assert all(one.messages[-1].role == "user" for one in given)
    assert any(len(one.messages) > 1 for one in first[0])
    plain = examples(lessons(), [DEFAULT], 20, contrast=False)
    assert [len(given) for given in plain] == [20, 20]
    assert len({one.messages[0].content[:12] for one in plain[0]}) >= len(VARIANTS) - 1


def test_nothing_that_routing_is_measured_on_is_learnt_from() -> None:
    known = contrasts()
    taught = [one["wording"] for one in known["translations"]] + known["about_texts"] + known["others"]
    fixed = {_letters(part) for text in taught for part in text.replace("{source_name}", "{source}").split("{source}")}
    measured = [_letters(one.messages[-1].content) for one in read_labelled("starter:routing.jsonl")]
    assert not [text for text in fixed if len(text) > 24 and any(text in one for one in measured)]
    assert not {_letters(text) for text in known["others"]} & set(measured)
    assert files("lingraft.routing").joinpath("lessons.json").is_file()


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"route": "graft"}, "there is no conversation"),
        ({"route": "model", "messages": [{"role": "user", "content": "Hi"}]}, "'route' is 'model'; give graft or base"),
        ({"route": "base", "messages": [{"role": "assistant", "content": "Hi"}]}, "no conversation"),
        ({"route": "base", "messages": [{"role": "user", "content": " "}]}, "no role or no text"),
        ({"route": "base", "kind": "k" * 99, "messages": [{"role": "user", "content": "Hi"}]}, "no short text"),
        ({"route": "base", "messages": [{"role": "user", "content": "Hi"}]}, "no request is for the graft"),
    ],
)
def test_files_of_requests_that_cannot_be_used_are_refused(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps(row) + "\n", "utf-8")
    with pytest.raises(DataError, match=message):
        read_labelled(str(path))
