"""Ranking by likelihood against the model's own losses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from lingraft.core.errors import DataError
from lingraft.data.records import Likelihood
from lingraft.engines.likelihood import log_likelihoods
from lingraft.methods.relevance import ask_relevance
from lingraft.models.loading import LoadedModel
from lingraft.suites.base import Answers, SuiteInputs
from lingraft.suites.retrieval import RetrievalSuite
from models_support import tiny_loaded

PASSAGES = ["The boat leaves at eight.", "Bread is baked at night.", "Owls hear mice under the snow."]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return tiny_loaded(scale=3.0)


def suite_of(folder: Path, **params: object) -> RetrievalSuite:
    rows = [
        {"id": "boat", "query": "When does the boat leave?", "positive": PASSAGES[0], "negative": PASSAGES[1:]},
        {"id": "owls", "query": "นกฮูกได้ยินอะไร", "lang": "th", "positive": PASSAGES[2], "negative": PASSAGES[:2]},
    ]
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return RetrievalSuite(RetrievalSuite.Params.model_validate({"queries": str(path), **params}))


def loss(loaded: LoadedModel, query: str, passage: str, by: str, text: str) -> float:
    """Return -log p(text) for each of its tokens after what is asked, from the logits of one pass."""
    asked = loaded.renderer.prompt_ids(ask_relevance(query, passage, by)).ids  # type: ignore[arg-type]
    ids = torch.tensor([[*asked, *loaded.renderer.plain_ids(text)]])
    labels = ids.clone()
    labels[:, : len(asked)] = -100
    with torch.inference_mode():
        return float(loaded.model(input_ids=ids, labels=labels).loss)


def test_passages_are_ranked_by_the_loss_of_the_query(loaded: LoadedModel, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, by="query")
    inputs = SuiteInputs([], ["en", "th"], 1, loaded.renderer)
    known = {one.id: one for one in log_likelihoods(loaded, suite.continuations(inputs))}
    rows = {row.metric: row for row in suite.score(inputs, Answers({}), Answers({}, likelihoods=known))}
    assert set(rows) == {f"{kind}_{lang}" for kind in ("map", "ndcg_10", "mrr_10") for lang in ("en", "th")}
    for id_, query, order in (("boat", "When does the boat leave?", (0, 1, 2)), ("owls", "นกฮูกได้ยินอะไร", (2, 0, 1))):
        losses = [loss(loaded, query, PASSAGES[number], "query", query) for number in order]
        rank = 1 + sum(other < losses[0] for other in losses[1:])
        lang = "en" if id_ == "boat" else "th"
        assert rows[f"map_{lang}"].values == {id_: pytest.approx(1 / rank)}
        assert rows[f"map_{lang}"].chance == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_a_verdict_is_yes_against_no(loaded: LoadedModel, tmp_path: Path) -> None:
    suite = suite_of(tmp_path, by="answer")
    inputs = SuiteInputs([], ["en"], 1, loaded.renderer)
    asked = suite.continuations(inputs)
    assert len(asked) == 2 * 2 * 3
    assert {loaded.renderer.decode(one.continuation) for one in asked} == {"Yes", "No"}
    # The right passage is the least likely to get a yes, and by far the least likely to get a no.
    worth = {("0", "Yes"): -9.0, ("0", "No"): -20.0}
    known = {
        one.id: Likelihood(one.id, worth.get(tuple(one.id.rsplit("#", 2)[1:]), -1.0), False)  # type: ignore[call-overload]
        for one in asked
    }
    rows = suite.score(inputs, Answers({}), Answers({}, likelihoods=known))
    assert all(value == 1.0 for row in rows for value in row.values.values())


def test_passages_of_equal_score_are_in_no_order_that_favours_any(loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    rows = [{"query": f"Question {n}?", "positive": PASSAGES[0], "negative": PASSAGES[1:]} for n in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    suite = RetrievalSuite(RetrievalSuite.Params(queries=str(path), by="answer"))
    inputs = SuiteInputs([], ["en"], 1, loaded.renderer)
    known = {one.id: Likelihood(one.id, -1.0, False) for one in suite.continuations(inputs)}
    (found,) = (
        row for row in suite.score(inputs, Answers({}), Answers({}, likelihoods=known)) if row.metric == "map_en"
    )
    assert {round(value, 2) for value in found.values.values()} == {1.0, 0.5, 0.33}
    assert sum(found.values.values()) / 60 == pytest.approx(found.chance, abs=0.08)


def test_a_long_passage_is_cut_to_the_context_and_a_long_query_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text(json.dumps({"query": "Who?", "positive": "word " * 900, "negative": "no"}), "utf-8")
    suite = RetrievalSuite(RetrievalSuite.Params(queries=str(path), max_characters=9000))
    inputs = SuiteInputs([], ["en"], 1, loaded.renderer, context_tokens=128)
    lengths = [len(one.context) + len(one.continuation) for one in suite.continuations(inputs)]
    assert 100 < lengths[0] <= 128
    with pytest.raises(DataError, match="longer than the 8 tokens"):
        suite.continuations(SuiteInputs([], ["en"], 1, loaded.renderer, context_tokens=8))


def test_queries_without_a_wrong_passage_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "two.jsonl"
    path.write_text(json.dumps({"query": "q", "positive": ["a", "b"], "negative": "c"}), "utf-8")
    with pytest.raises(DataError, match="raise max_candidates"):
        RetrievalSuite(RetrievalSuite.Params(queries=str(path), max_candidates=2)).check()
    with pytest.raises(DataError, match="no such file"):
        RetrievalSuite(RetrievalSuite.Params(queries=str(tmp_path / "none.jsonl"))).check()
