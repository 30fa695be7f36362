"""What every registered method must do."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from builders import tiny_tokenizer, with_markers
from lingraft.data.records import Example, Generation, Message, Pair, Prompt, Request, Teacher, Text
from lingraft.engines.scripted import Rule, ScriptedEngine
from lingraft.methods.base import METHODS, Method, MethodInputs, MethodParams, Tally
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.translation.markers import Markers
from lingraft.translation.wording import VARIANTS

PAIRS = [
    Pair("train:1", "Das Wetter ist heute schön.", "The weather is nice today.", "de", "en"),
    Pair(
        "train:2", "Sie wissen nicht alles, und sie sagen es.", "They do not know everything, and say so.", "de", "en"
    ),
    Pair("train:3:rev", "It's only 12 minutes away.", "Es sind nur 12 Minuten.", "en", "de"),
    Pair(
        "train:4", "Erster Absatz.\n\nZweiter Absatz:\n\n- ein Punkt", "First one.\n\nSecond:\n\n- a point", "de", "en"
    ),
    Pair("train:5", "今天天气很好。", "The weather is nice today. 🎉", "zh", "en"),
    *(
        Pair(f"more:{i}", f"Zeile {i}: wir gehen zum Hafen.", f"Line {i}: we walk to the harbour.", "de", "en")
        for i in range(90)  # so that a small share of them is some
    ),
]
PROMPTS = [Prompt(f"p{i}", (Message("user", f"What is {i} and {i}?"),)) for i in range(4)]
ANSWER = " The word order changes, because the verb takes another position in the sentence."
TEXTS = [
    Text(f"t{i}", f"Zeile {i}: wir gehen zum Hafen, und essen Fisch.", ("de", "en", "zh")[i % 3]) for i in range(9)
]
MARKERS = Markers.for_languages(["de", "zh"])
RULES = [  # what the scripted engine answers: translations behind a marker, else the answer
    Rule(pattern="<DE>$", answer="Die Wortstellung ändert sich, weil das Verb anders steht."),
    Rule(pattern="<ZH>$", answer="词序会改变,因为动词在别处。"),
    Rule(pattern="Answer with one whole number", answer="7"),
    Rule(answer=ANSWER),
]
RENDERER = Renderer(with_markers(tiny_tokenizer(), *MARKERS.tokens))
every_method = pytest.mark.parametrize("name", METHODS)


def _made_of(rows: str) -> list[str]:
    return [name for name in METHODS if METHODS.get(name).consumes == rows]


# Methods of pairs without markers ask for translations as they are asked for when decoding.
every_pair_method = pytest.mark.parametrize(
    "name", [name for name in _made_of("pairs") if not METHODS.get(name).needs_markers]
)
every_prompt_method = pytest.mark.parametrize("name", _made_of("prompts"))
every_text_method = pytest.mark.parametrize("name", _made_of("texts"))
FILES = {"preferences": {"path": str(Path(__file__).with_name("preferences.jsonl"))}}
"""Of methods made of files of their own: parameters that name one."""
every_file_method = pytest.mark.parametrize("name", FILES)


def rows(example: Example) -> list[Rendered]:
    """Return the rows of an example, whatever its kind."""
    return [RENDERER.render(example)] if example.messages else RENDERER.render_text(example)


def _by_id(examples: Sequence[Example]) -> list[Example]:
    return sorted(examples, key=lambda example: example.id)


def made(name: str, **params: Any) -> Method:
    entry: Any = METHODS.get(name)
    method = entry(entry.Params.model_validate({**FILES.get(name, {}), **params}))
    assert isinstance(method, Method)
    return method


def flow(
    method: Method, pairs: Sequence[Pair] = PAIRS, seed: int = 1
) -> tuple[list[Request], list[Example], Tally, MethodInputs]:
    """Run a method as a run does, the scripted engine in place of the base."""
    inputs = MethodInputs(pairs, PROMPTS, seed, texts=TEXTS, markers=MARKERS)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    requests, answers = asked_and_answered(method, inputs)
    tally = Tally()
    examples = list(method.examples(inputs, answers, tally))
    return requests, examples, tally, inputs


def asked_and_answered(
    method: Method,
    inputs: MethodInputs,
    answer: Callable[[Sequence[Request]], dict[str, Generation]] | None = None,
) -> tuple[list[Request], dict[str, Generation]]:
    """Return what all rounds of a method ask, and the answers; each round is asked for twice, as an interrupted run
    does."""
    requests: list[Request] = []
    answers: dict[str, Generation] = {}
    for number in itertools.count():
        this, again = (method.round(number, inputs, answers) for _ in range(2))
        assert number < 20, "it asks for ever"
        assert (this is None) == (again is None)
        if this is None or again is None:
            return requests, answers
        asked = list(this.requests())
        assert asked == list(this.requests()) == list(again.requests())
        assert (this.of, this.name, this.kind) == (again.of, again.name, again.kind)
        assert not answers.keys() & {request.id for request in asked}
        requests += asked
        answers = answers | (answer or answered)(asked)
    raise AssertionError


def answered(requests: Sequence[Request]) -> dict[str, Generation]:
    return {answer.id: answer for answer in ScriptedEngine(RULES).generate(requests)}


@every_method
def test_a_method_says_what_it_is(name: str) -> None:
    entry: Any = METHODS.get(name)
    assert entry.name == name
    assert entry.summary
    assert "\n" not in entry.summary
    assert re.search(r"arXiv \d{4}\.\d{4,5}", entry.paper)
    assert len(entry.__doc__) > 40
    assert issubclass(entry.Params, MethodParams)


@every_method
def test_parameters_round_trip_through_json(name: str) -> None:
    entry: Any = METHODS.get(name)
    params = entry.Params(instructions="varied")
    assert params.instructions == list(VARIANTS)
    assert entry.Params.model_validate(json.loads(params.model_dump_json())) == params
    with pytest.raises(ValueError, match="no_such_parameter"):
        entry.Params.model_validate({"no_such_parameter": 1})
    with pytest.raises(ValueError, match="instructions"):
        entry.Params.model_validate({"instructions": []})


@every_method
def test_requests_have_distinct_ids_and_can_be_rendered(name: str) -> None:
    requests = flow(made(name))[0]
    assert len({request.id for request in requests}) == len(requests)
    for request in requests:
        assert Request.from_json(request.to_json()) == request
        assert RENDERER.prompt_ids(request.messages, request.prefill, request.turn).ids


@every_pair_method
def test_each_pair_becomes_one_example_that_teaches_its_reference(name: str) -> None:
    _, examples, tally, _ = flow(made(name))
    assert len({example.id for example in examples}) == len(examples)
    by_id = {example.id: example for example in examples}
    own = {pair.id for pair in PAIRS}
    lacking = own - set(by_id)  # where what takes a reference's place is not fit, and nothing else is taken
    assert not lacking or not METHODS.get(name).keeps_references
    assert len(lacking) in (0, sum(count for reason, count in tally.filters.items() if reason != "kept"))
    # What stands beside them teaches what a translation is not, or is an answer to something else.
    beside = [span for id_ in set(by_id) - own for span in by_id[id_].spans]
    assert all(span.loss == "unlikelihood" or span.role == "reply" for span in beside)
    for pair in (pair for pair in PAIRS if pair.id not in lacking):
        example = by_id[pair.id]
        translations = [span for span in example.spans if span.role == "translation"]
        learnt = [span.text for span in translations]
        assert learnt == [pair.target] or (
            not METHODS.get(name).keeps_references and [text.strip() for text in learnt] == [ANSWER.strip()]
        )
        assert example.spans[0] is translations[0]  # the translation comes first: decoding reads it from there
        assert pair.source in example.messages[-1].content
        assert Example.from_json(example.to_json()) == example
        rendered = RENDERER.render(example)
        assert rendered.supervised > 0
        roles = {rendered.roles[s] for s, w in zip(rendered.span_of, rendered.weights, strict=True) if w > 0}
        assert "translation" in roles


@every_pair_method
def test_the_same_inputs_give_the_same_examples_in_any_order_of_rows(name: str) -> None:
    method = made(name, instructions="varied")
    requests, examples, tally, inputs = flow(method)
    again = flow(made(name, instructions="varied"))
    assert (again[0], again[1], again[2], again[3].prepared) == (requests, examples, tally, inputs.prepared)
    backwards = flow(method, PAIRS[::-1])
    assert sorted(backwards[0], key=lambda one: one.id) == sorted(requests, key=lambda one: one.id)
    assert _by_id(backwards[1]) == _by_id(examples)
    assert flow(method, seed=2)[1] != examples  # other wordings are drawn


@every_prompt_method
def test_a_method_of_prompts_uses_prompts_alone(name: str) -> None:
    requests, examples, tally, _ = flow(made(name))
    assert len({example.id for example in examples}) == len(examples) == len(PROMPTS)
    assert flow(made(name), pairs=[])[:2] == (requests, examples)
    assert sum(tally.filters.values()) == len(PROMPTS)
    for example in examples:
        assert Example.from_json(example.to_json()) == example
        assert rows(example)[0].supervised > 0


@every_text_method
def test_a_method_of_texts_uses_texts_alone(name: str) -> None:
    requests, examples, tally, _ = flow(made(name))
    assert not requests
    assert {example.id for example in examples} <= {text.id for text in TEXTS}
    assert flow(made(name), pairs=[])[:3] == (requests, examples, tally)
    for example in examples:
        assert not example.messages
        assert Example.from_json(example.to_json()) == example
        assert all(row.supervised > 0 for row in rows(example))


@every_file_method
def test_a_method_of_a_file_uses_its_rows_alone(name: str) -> None:
    requests, examples, tally, _ = flow(made(name))
    assert not requests
    assert len({example.id for example in examples}) == len(examples) > 0
    assert flow(made(name), pairs=[])[:3] == (requests, examples, tally)
    for example in examples:
        assert Example.from_json(example.to_json()) == example
        assert rows(example)[0].supervised > 0
        assert bool(example.sign) == made(name).paired


@every_method
def test_markers_are_used_where_the_method_needs_them(name: str) -> None:
    for example in flow(made(name))[1]:
        for span in example.spans:
            assert span.role != "marker" or span.text in MARKERS.tokens
    if METHODS.get(name).needs_markers:
        assert any(span.role == "marker" for example in flow(made(name))[1] for span in example.spans)


@every_method
def test_soft_targets_are_asked_for_and_kept(name: str) -> None:
    entry: Any = METHODS.get(name)
    field = entry.Params.model_fields.get("targets")
    if field is None or "soft" not in get_args(field.annotation):
        pytest.skip("nothing is written by the base")
    method = made(name, targets="soft", top_k=3)
    inputs = MethodInputs(PAIRS, PROMPTS, markers=MARKERS)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    best = ((7, -0.1), (8, -3.0), (9, -4.0))

    def recorded(requests: Sequence[Request]) -> dict[str, Generation]:
        with_them = {request.id for request in requests if request.top_logprobs}
        return {
            id_: replace(answer, token_ids=(5,) * 12, logprobs=(best,) * 12) if id_ in with_them else answer
            for id_, answer in answered(requests).items()
        }

    requests, answers = asked_and_answered(method, inputs, recorded)
    taught = [request for request in requests if request.top_logprobs]
    assert {request.top_logprobs for request in taught} == {3}
    tally = Tally()
    spans = [span for example in method.examples(inputs, answers, tally) for span in example.spans]
    soft = [span for span in spans if span.loss == "kl"]
    kept = sum(count for reason, count in tally.filters.items() if reason.startswith("kept"))
    assert len(soft) == kept > 0
    assert tally.filters.total() == len(taught)
    assert all(span.teacher == Teacher((5,) * 12, (best,) * 12) for span in soft)
    assert all(span.teacher is None for span in spans if span.loss != "kl")
    hard, _ = asked_and_answered(made(name, targets="hard"), inputs)
    assert {request.top_logprobs for request in hard} == {0}


@every_method
def test_a_recipe_is_told_whom_the_rounds_ask(name: str) -> None:
    method = made(name)
    inputs = MethodInputs(PAIRS, PROMPTS, 1, texts=TEXTS, markers=MARKERS)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    answers: dict[str, Generation] = {}
    expected = [(one.of, one.kind, one.name) for one in method.expected_rounds()]
    for number in itertools.count():
        this = method.round(number, inputs, answers)
        if this is None:
            break
        if asked := list(this.requests()):
            assert (this.of, this.kind, this.name) in expected
            answers = answers | answered(asked)
    assert all(one.tokens is None or one.tokens > 0 for one in method.expected_rounds())


@every_method
def test_what_is_prepared_is_plain_json(name: str) -> None:
    prepared = flow(made(name))[3].prepared
    assert json.loads(json.dumps(prepared)) == dict(prepared)


@every_method
def test_no_stop_string_occurs_in_a_translation(name: str) -> None:
    method = made(name)
    inputs = flow(method)[3]
    for stop in method.stop(inputs):
        assert stop.strip()
        assert not any(stop in pair.target for pair in PAIRS)


@pytest.mark.parametrize("name", [name for name in _made_of("pairs") if name != "vanilla"])
def test_a_method_of_pairs_is_not_vanilla_at_its_defaults(name: str) -> None:
    assert _by_id(flow(made(name))[1]) != _by_id(flow(made("vanilla"))[1])
