"""Which examples a file of queries gives, and that what is taught is what the suite measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders import tiny_tokenizer
from lingraft.core.errors import DataError
from lingraft.data.records import Example, Span
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.relevance import Relevance, RelevanceParams, ask_relevance
from lingraft.rendering.renderer import Renderer
from lingraft.suites.base import SuiteInputs
from lingraft.suites.retrieval import RetrievalSuite


def made(folder: Path, **params: Any) -> Relevance:
    rows = [
        {"id": "boat", "query": "When?", "positive": ["At eight.", "At 8."], "negative": ["Bread.", "Owls.", "Mice."]},
        {"id": "owl", "query": "นกอะไร", "lang": "th", "positive": "An owl.", "negative": "A loaf."},
    ]
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return Relevance(RelevanceParams.model_validate({"queries": str(path), **params}))


def examples(method: Relevance, seed: int = 1) -> list[Example]:
    return list(method.examples(MethodInputs((), seed=seed), {}, Tally()))


def test_the_query_is_taught_after_each_passage_that_answers_it(tmp_path: Path) -> None:
    found = examples(made(tmp_path))
    asked = [("boat", "When?", "At eight."), ("boat", "When?", "At 8."), ("owl", "นกอะไร", "An owl.")]
    assert [(one.messages, one.spans) for one in found] == [
        (ask_relevance("", passage, "query"), (Span(query, "given_reply"),)) for _, query, passage in asked
    ]
    assert len({one.id for one in found}) == 3


def test_verdicts_are_taught_in_equal_numbers(tmp_path: Path) -> None:
    found = examples(made(tmp_path, by="answer"))
    assert [one.spans[0].text for one in found] == ["Yes", "Yes", "No", "No", "Yes", "No"]
    assert len({one.messages for one in found}) == 6
    assert examples(made(tmp_path, by="answer")) == found
    drawn = {one.messages for seed in range(9) for one in examples(made(tmp_path, by="answer"), seed)}
    assert len(drawn) == 3 + 4  # all wrong passages have their turn
    assert [one.spans[0].text for one in examples(made(tmp_path, by="answer", negatives=0))] == ["Yes"] * 3
    assert len(examples(made(tmp_path, by="answer", languages=["th"]))) == 2
    assert len(examples(made(tmp_path, max_queries=1))) == 2


@pytest.mark.parametrize("by", ["query", "answer"])
def test_what_is_taught_is_what_the_suite_measures(tmp_path: Path, by: str) -> None:
    renderer = Renderer(tiny_tokenizer())
    method = made(tmp_path, by=by, negatives=3)
    suite = RetrievalSuite(RetrievalSuite.Params.model_validate({"queries": method.params.queries, "by": by}))
    measured = {(*one.context, *one.continuation) for one in suite.continuations(SuiteInputs([], ["en"], 1, renderer))}
    for example in examples(method):
        row = renderer.render(Example(example.id, example.messages, example.spans, end_turn=False))
        assert row.input_ids in measured


def test_files_that_teach_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no query in fr"):
        made(tmp_path, languages=["fr"]).check(())
    (tmp_path / "p.jsonl").write_text('{"query": "q", "positive": "p"}\n', "utf-8")
    given = {"queries": str(tmp_path / "p.jsonl"), "by": "answer"}
    with pytest.raises(DataError, match="no passage under 'negative'"):
        Relevance(RelevanceParams.model_validate(given)).check(())
    Relevance(RelevanceParams.model_validate({**given, "negatives": 0})).check(())
