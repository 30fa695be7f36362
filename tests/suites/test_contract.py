"""What every suite promises, over all entries of the registry."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness_files import task_file, write_rows
from judges import converse, judge
from lingraft.core.errors import DataError
from lingraft.core.sandbox import refusal
from lingraft.data.code_problems import read_code_problems
from lingraft.data.records import KL, Generation, Message, Pair, Prompt, Request, Sampling, Text
from lingraft.engines.likelihood import log_likelihoods
from lingraft.models.loading import LoadedModel
from lingraft.pipeline.suites import OpenSuite
from lingraft.reporting.citations import bibliography
from lingraft.suites.base import SUITES, Answers, AtHand, ItemScores, Suite, SuiteInputs, WithoutThoughts
from lingraft.translation.markers import Markers
from models_support import tiny_loaded

every_suite = pytest.mark.parametrize("name", SUITES)


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_loaded(scale=3.0)


@pytest.fixture
def inputs(loaded: LoadedModel) -> SuiteInputs:
    prompts = [Prompt(f"q{n}", (Message("user", f"What is {n} and {n}?"),)) for n in range(3)]
    pairs = [Pair("p1", "Das Wetter ist schön.", "The weather is nice.", "de", "en")]
    texts = [Text("t1", "The harbour is old, and the ships wait.", "en")]
    return SuiteInputs(prompts, ("de", "en"), 1, loaded.renderer, pairs, texts=texts)


def made(name: str, folder: Path) -> Suite:
    """Return a suite, with what those take that do not work by their defaults."""
    given: dict[str, dict[str, Any]] = {
        "harness": {"tasks": ["local:hellaswag"], "path": task_file(folder, "hellaswag")},
        "mt_bench": {"judge": "scripted"},
        "alpaca_eval": {"judge": "scripted"},
        "humaneval": {"run_code": True},
        "tcot": {"pairs": write_rows(folder / "pairs.jsonl", [{"id": "a", "en": "Good day.", "th": "สวัสดี"}])},
    }
    if name == "humaneval" and (why := refusal()):
        pytest.skip(why)
    entry: Any = SUITES.get(name)
    return entry(entry.Params.model_validate(given.get(name, {})))


def of_base(suite: Suite, inputs: SuiteInputs, loaded: LoadedModel) -> Answers:
    """Return all that a suite wants to know of the base, without verdicts."""
    sampled = [request.id for request in suite.base_only_requests(inputs)]
    likelihoods = {one.id: one for one in log_likelihoods(loaded, suite.continuations(inputs))}
    found = converse(suite, inputs, lambda request: f"Answer to {request.id}.")
    written = {id_: Generation(id_, "Sampled.", (1,), "stop") for id_ in sampled}
    return replace(
        found,
        generations={**found.generations, **written},
        kl={id_: KL(0.0, 1) for id_ in sampled},
        likelihoods=likelihoods,
    )


GOOD = {
    "alpaca_eval": "A better answer.",
    "refusal": "I'm sorry, but I cannot help with that.",
    "humaneval": "\n\n".join(
        one.prompt + one.solution for one in read_code_problems("starter:humaneval.jsonl").values()
    ),
    "mt_if": "Könnten Sie mir bitte bis Freitag Ihre neue Adresse schicken?",
    "tcot": "คำตอบของคำถามนี้คือสองและสามครับ",
}
"""What is a good answer to a suite's questions, where it is not the base's own."""
TELLING = ("kl_from_base", "native_language", "answered")
"""Diagnostics that tell a good system from one that writes nothing."""


def extremes(suite: Suite, inputs: SuiteInputs, loaded: LoadedModel) -> tuple[Answers, Answers, Answers]:
    """Return the answers of the base, of a system that does well, and of one that writes nothing and knows nothing."""
    base = of_base(suite, inputs, loaded)
    base, _ = judge(suite, inputs, base, base, lambda request: "[[5]]")

    def system(good: bool) -> Answers:
        texts = {id_: GOOD.get(suite.name, one.text) if good else "" for id_, one in base.generations.items()}
        answers = Answers(
            {id_: replace(base.generations[id_], text=text) for id_, text in texts.items()},
            {id_: KL(0.0 if good else 9.0, 1) for id_ in base.kl},
            {
                id_: replace(one, logprob=-1.0 if good == _right(suite, id_, place) else -99.0)
                for place, (id_, one) in enumerate(base.likelihoods.items())
            },
        )
        return judge(suite, inputs, base, answers, lambda request: _verdict(suite, request, good))[0]

    return base, system(good=True), system(good=False)


def _right(suite: Suite, id_: str, place: int) -> bool:
    """Whether a continuation is the right one: of four endings in turn the next each time, of passages the first, or a
    text of its own."""
    if suite.name == "retrieval":
        return id_.split("#")[1] == "0"
    return suite.name != "harness" or place % 4 == (place // 4 + 1) % 4


def _verdict(suite: Suite, request: Request, good: bool) -> str:
    if suite.name == "alpaca_eval":  # in its second order the system's answer comes second
        return "m" if good != request.id.endswith("/2") else "M"
    return "[[9]]" if good else "[[2]]"


@every_suite
def test_what_is_asked_has_ids_of_its_own_and_is_the_same_each_time(
    name: str, inputs: SuiteInputs, tmp_path: Path
) -> None:
    chained = replace(inputs, markers=Markers.for_languages(["th"]))

    def all_ids(suite: Suite) -> list[str]:
        suite.check()
        requests = [*suite.requests(chained), *suite.base_only_requests(chained), *suite.chain_requests(chained)]
        assert all(request.messages or request.prompt_ids for request in requests)
        return [*(one.id for one in requests), *(one.id for one in suite.continuations(chained))]

    ids = all_ids(made(name, tmp_path))
    assert ids
    assert max(Counter(ids).values()) == 1
    assert all_ids(made(name, tmp_path)) == ids


@every_suite
def test_texts_to_look_for_are_not_named_as_the_questions_are(name: str, inputs: SuiteInputs, tmp_path: Path) -> None:
    suite = made(name, tmp_path)
    unseen = suite.unseen_texts(inputs)
    assert not unseen.keys() & {request.id for request in suite.requests(inputs)}
    assert all(text.strip() for texts in unseen.values() for text in texts)


@every_suite
def test_the_base_is_scored_against_itself(name: str, inputs: SuiteInputs, loaded: LoadedModel, tmp_path: Path) -> None:
    suite = made(name, tmp_path)
    base = of_base(suite, inputs, loaded)
    base, _ = judge(suite, inputs, base, base, lambda request: "[[5]]")
    rows = suite.score(inputs, base, base)
    assert rows
    assert max(Counter(row.metric for row in rows).values()) == 1
    for row in rows:
        assert row.values, row.metric
        assert all(math.isfinite(value) for value in row.values.values()), row.metric
        assert row.signature, row.metric
        assert not row.weights or row.weights.keys() == row.values.keys()
        assert not row.clusters or row.clusters.keys() == row.values.keys()


@every_suite
def test_a_missing_answer_is_an_error_and_no_zero(
    name: str, inputs: SuiteInputs, loaded: LoadedModel, tmp_path: Path
) -> None:
    suite = made(name, tmp_path)
    base = of_base(suite, inputs, loaded)
    judged, _ = judge(suite, inputs, base, base, lambda request: "[[5]]")
    asked = [one.id for one in suite.requests(inputs)] or [one.id for one in suite.continuations(inputs)]
    first = asked[0]
    lacking = replace(
        judged,
        generations={id_: one for id_, one in judged.generations.items() if id_ != first},
        likelihoods={id_: one for id_, one in judged.likelihoods.items() if id_ != first},
    )
    with pytest.raises(DataError):
        suite.score(inputs, judged, lacking)


@every_suite
def test_the_work_is_foreseen(name: str, tmp_path: Path) -> None:
    work = made(name, tmp_path).workload(AtHand(20, 10, [(5, 200.0)]))
    assert work is None or work.answer_tokens + work.likelihood_tokens > 0


@every_suite
def test_limits_above_what_there_is_add_no_work(name: str, tmp_path: Path) -> None:
    """A run asks what there is, so a dry run counts no more."""
    suite = made(name, tmp_path)
    limits = [
        key
        for key in ("max_prompts", "max_pairs", "max_texts", "max_queries", "limit")
        if key in type(suite.params).model_fields
    ]
    assert limits

    def work(limit: int) -> Any:
        values = {**suite.params.model_dump(), **dict.fromkeys(limits, limit)}
        return type(suite)(type(suite.params).model_validate(values)).workload(AtHand(20, 10, [(5, 200.0)]))

    assert work(10**15) == work(10**6)


@every_suite
def test_thoughts_before_an_answer_change_no_score_and_are_counted(
    name: str, inputs: SuiteInputs, loaded: LoadedModel, tmp_path: Path
) -> None:
    suite = made(name, tmp_path)
    base = of_base(suite, inputs, loaded)
    base, _ = judge(suite, inputs, base, base, lambda request: "[[5]]")
    thought = "<think>\nTranslate? 7. I cannot. [[3]]\n</think>\n\n"

    def thinking(written: Mapping[str, Generation]) -> dict[str, Generation]:
        return {id_: replace(one, text=thought + one.text) for id_, one in written.items()}

    system = Answers(thinking(base.generations), base.kl, base.likelihoods, thinking(base.verdicts))
    assert suite.score(inputs, base, system) == suite.score(inputs, base, base)
    shown = OpenSuite("s", suite, inputs)

    def under(answers: Answers) -> Answers:
        parts = (answers.generations, answers.kl, answers.likelihoods, answers.verdicts)
        return Answers(*({f"s/{id_}": each[id_] for id_ in each} for each in parts))

    plain = shown.score(under(base), under(base))
    raw = Answers(
        *(
            {f"s/{id_}": one for id_, one in each.items()}
            for each in (thinking(base.generations), base.kl, base.likelihoods, thinking(base.verdicts))
        )
    )
    rows = shown.score(under(base), raw)
    assert rows[: len(plain)] == plain
    if base.generations:
        assert [(row.metric, row.retains) for row in rows[len(plain) :]] == [("thinking", False)]
        assert set(rows[-1].values.values()) == {1.0}


@every_suite
def test_each_metric_says_how_it_is_shown(name: str, inputs: SuiteInputs, loaded: LoadedModel, tmp_path: Path) -> None:
    suite = made(name, tmp_path)
    _, good, poor = extremes(suite, inputs, loaded)
    rows = [*suite.score(inputs, good, good), *suite.score(inputs, good, poor)]
    for row in rows:
        declared = suite.declared(row.metric, row.signature)
        assert declared is not None, row.metric
        # lm-eval alone knows of its metrics which end is better and which one counts.
        open_ends = {"better": row.better, "retains": row.retains} if name == "harness" else {}
        assert row.facts == replace(declared, **open_ends)
        assert row.facts.label
        assert row.facts.label != row.metric or name == "harness"
        assert row.facts.decimals is not None
        assert set(row.facts.cite) <= set(bibliography())
        assert row.facts.better or not row.retains
        if row.facts.unit == "%":
            assert all(0 <= row.scale * value <= 100 for value in row.values.values()), row.metric
    for metric, facts in suite.metrics.items():
        assert suite.declared(metric) == facts


@every_suite
def test_a_good_system_scores_better_than_a_poor_one(
    name: str, inputs: SuiteInputs, loaded: LoadedModel, tmp_path: Path
) -> None:
    suite = made(name, tmp_path)
    base, *systems = extremes(suite, inputs, loaded)
    good, poor = ({row.metric: row for row in suite.score(inputs, base, system)} for system in systems)

    def mean(row: ItemScores) -> float:
        weights = row.weights or dict.fromkeys(row.values, 1.0)
        return sum(row.values[id_] * weights[id_] for id_ in row.values) / sum(weights.values())

    told = [metric for metric, row in good.items() if row.retains or metric in TELLING]
    assert told
    for metric in told:
        better, worse = mean(good[metric]), mean(poor[metric])
        assert better > worse if good[metric].better == "higher" else better < worse, metric


@every_suite
def test_texts_in_any_script_and_none_are_scored(
    name: str, inputs: SuiteInputs, loaded: LoadedModel, tmp_path: Path
) -> None:
    suite = made(name, tmp_path)
    base = of_base(suite, inputs, loaded)
    for text in ("", " \n", "\u0000 \ud800 \u202e", "👩‍👩‍👧 สวัสดี مرحبا"):
        odd = replace(base, generations={id_: replace(one, text=text) for id_, one in base.generations.items()})
        odd, _ = judge(suite, inputs, base, odd, lambda request: text)  # noqa: B023  # called at once
        for row in suite.score(inputs, odd, odd):
            assert all(math.isfinite(value) for value in row.values.values()), (row.metric, text)


def test_tags_of_which_the_question_speaks_are_no_thoughts() -> None:
    text = "<think>Hm.</think>Tags."
    asked = {"s/a": Request("s/a", (Message("user", "Write <think> and </think>."),), Sampling(9))}
    written = {id_: Generation(id_, text, (1,), "stop") for id_ in ("s/a", "s/b")}
    found = Answers(WithoutThoughts(written, asked)).of("s").generations
    assert {id_: found[id_].text for id_ in found} == {"a": text, "b": "Tags."}
    assert isinstance(found, WithoutThoughts)
    assert found.thinking() == {"a": 0.0, "b": 1.0}
