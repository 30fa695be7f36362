"""Suite "retrieval": how well a system ranks passages for a query, by the likelihood that it gives them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from lingraft.core.errors import DataError, UsageError
from lingraft.core.hashing import text_hash
from lingraft.core.validation import IS_PATH
from lingraft.data.candidates import QueryCandidates, read_candidates
from lingraft.data.records import Continuation, Example, Request, Span
from lingraft.data.sampling import draw
from lingraft.language.codes import language_name
from lingraft.methods.relevance import NO, YES, By, ask_relevance
from lingraft.statistics.metric_facts import MetricFacts
from lingraft.statistics.ranking import (
    average_precision,
    chance_average_precision,
    chance_ndcg,
    chance_reciprocal_rank,
    ndcg,
    ranked,
    reciprocal_rank,
)
from lingraft.suites.base import Answers, AtHand, ItemScores, Suite, SuiteInputs, Workload

DEPTH = 10
TOKENS_PER_CHARACTER = 0.4
"""For estimates."""
_CITE = ("litschko-2022-parameter",)
_LABELS = {"map": "MAP", f"ndcg_{DEPTH}": f"nDCG@{DEPTH}", f"mrr_{DEPTH}": f"MRR@{DEPTH}"}


class RetrievalSuite(Suite):
    """Reranking: MAP, nDCG@10 and MRR@10 of each language of the queries, in %; an item is a query.

    Each candidate passage is scored by the system's log-likelihood: with `by: answer` the difference between "Yes" and
    "No" after being asked whether the passage answers the query (Nogueira et al. 2020, arXiv 2003.06713), with `by:
    query` that of the query itself after being asked to write a question which the passage answers, for each of its
    tokens (Sachan et al. 2022, arXiv 2204.07496). The measures are trec_eval's `map`, `ndcg_cut_10` and `recip_rank`
    (cut at 10), over the candidates given. What guessing gives is known in closed form, and retention counts from
    there.

    Source: the task and its measures are those of Litschko et al. 2022 (arXiv 2204.02292), whose rankers are
    encoders; a chat model ranks by likelihood.
    """

    name: ClassVar[str] = "retrieval"
    paper: ClassVar[str] = "arXiv 2204.02292, by likelihood (2204.07496)"

    class Params(Suite.Params):
        """Parameters of the suite."""

        queries: Annotated[str, IS_PATH] = Field(
            default="starter:retrieval.en-th.jsonl",
            description="file of queries, one a row: `query`, `positive`, `negative` (texts or lists of texts), `lang`",
        )
        by: By = Field(
            default="query", description="answer: whether the passage answers the query; query: how likely the query is"
        )
        max_queries: int = Field(default=100, ge=1, description="of each language, drawn by seed")
        max_candidates: int = Field(default=20, ge=2, description="passages of a query, those that answer it first")
        max_characters: int = Field(default=1500, ge=20, description="of each passage, from its beginning")

    params: Params

    @classmethod
    def declared(cls, metric: str, signature: str = "") -> MetricFacts | None:
        """Return what a measure of one language says about itself."""
        kind, _, lang = metric.rpartition("_")
        if kind not in _LABELS:
            return None
        label = f"{_LABELS[kind]}, {language_name(lang)} queries"
        return MetricFacts(label=label, decimals=1, unit="%", cite=_CITE, retains=kind == "map")

    def check(self) -> None:
        """Refuse what cannot be read or ranked.

        Raises:
            DataError: the file cannot be read, a row is no query with passages, or a query has one passage alone.
        """
        _ = self._queries

    @cached_property
    def _queries(self) -> dict[str, QueryCandidates]:
        found = {one.id: one for one in read_candidates(self.params.queries, Path())}
        for one in found.values():
            if len(one.positives) >= self.params.max_candidates or not one.negatives:
                raise DataError(
                    f"suite 'retrieval': query {one.id!r} has no passage that does not answer it among its "
                    f"{self.params.max_candidates} candidates; give it one under 'negative', or raise max_candidates"
                )
        return found

    def _asked(self, inputs: SuiteInputs) -> Iterator[QueryCandidates]:
        """Yield the queries that are ranked, language by language."""
        for lang in sorted({one.lang for one in self._queries.values()}):
            of_language = (id_ for id_, one in self._queries.items() if one.lang == lang)
            for id_ in draw(of_language, self.params.max_queries, inputs.seed):
                yield self._queries[id_]

    def _candidates(self, query: QueryCandidates) -> tuple[str, ...]:
        return query.passages[: self.params.max_candidates]

    def requests(self, inputs: SuiteInputs) -> list[Request]:
        """Ask nothing in writing."""
        return []

    def continuations(self, inputs: SuiteInputs) -> list[Continuation]:
        """Return query or verdict after each passage.

        Raises:
            UsageError: there is no tokenizer.
            DataError: a query alone is longer than the model's context.
        """
        return [one for query in self._asked(inputs) for one in self._of_query(query, inputs)]

    def _of_query(self, query: QueryCandidates, inputs: SuiteInputs) -> Iterator[Continuation]:
        written = (query.query,) if self.params.by == "query" else (YES, NO)
        for number, passage in enumerate(self._candidates(query)):
            for text in written:
                yield self._continuation(f"{query.id}#{number}#{text[:3]}", query, passage, text, inputs)

    def _continuation(
        self, id_: str, query: QueryCandidates, passage: str, text: str, inputs: SuiteInputs
    ) -> Continuation:
        """Return a text after what is asked about a passage, of which as much is shown as the context holds."""
        if inputs.renderer is None:
            raise UsageError("suite 'retrieval' needs the system's tokenizer; give SuiteInputs a renderer")
        shown = passage[: self.params.max_characters]
        while True:
            messages = ask_relevance(query.query, shown, self.params.by)
            row = inputs.renderer.render(Example(id_, messages, (Span(text, "reply"),), end_turn=False))
            size = len(row.input_ids)
            if size <= inputs.context_tokens:
                ids = row.input_ids
                return Continuation(id_, ids[: row.prompt_length], ids[row.prompt_length :])
            if not shown:
                raise DataError(
                    f"suite 'retrieval': query {query.id!r} is longer than the {inputs.context_tokens:,} tokens of the "
                    f"model's context; shorten or drop it"
                )
            shown = shown[: int(len(shown) * inputs.context_tokens / size * 0.9)]

    def _scores(self, query: QueryCandidates, inputs: SuiteInputs, system: Answers) -> dict[str, float]:
        """Return the score of each candidate, by its number."""
        sums: dict[str, float] = {}
        for one in self._of_query(query, inputs):
            if one.id not in system.likelihoods:
                raise DataError(
                    f"suite 'retrieval' has no log-likelihood of {one.id!r}; measure every system on all continuations"
                )
            number, text = one.id.rsplit("#", 2)[1:]
            logprob = system.likelihoods[one.id].logprob
            sign = -1 if self.params.by == "answer" and text == NO[:3] else 1
            length = len(one.continuation) if self.params.by == "query" else 1
            sums[number] = sums.get(number, 0.0) + sign * logprob / length
        return sums

    def score(self, inputs: SuiteInputs, base: Answers, system: Answers) -> list[ItemScores]:
        """Return the measures of each query.

        Raises:
            DataError: a log-likelihood is missing.
        """
        values: dict[str, dict[str, float]] = {}
        chances: dict[str, list[float]] = {}
        for query in self._asked(inputs):
            scores = self._scores(query, inputs, system)
            # Equal scores are ordered by name, as in trec_eval: numbers would always put the right passages last.
            names = {number: f"{text_hash(query.id, number):016x}" for number in scores}
            ranking = ranked({names[number]: value for number, value in scores.items()})
            count, right = len(scores), len(query.positives)
            relevant = {names[str(number)] for number in range(right)}
            measured = {
                "map": (average_precision(ranking, relevant), chance_average_precision(count, right)),
                f"ndcg_{DEPTH}": (ndcg(ranking, relevant, DEPTH), chance_ndcg(count, right, DEPTH)),
                f"mrr_{DEPTH}": (
                    reciprocal_rank(ranking, relevant, DEPTH),
                    chance_reciprocal_rank(count, right, DEPTH),
                ),
            }
            for kind, (value, chance) in measured.items():
                values.setdefault(f"{kind}_{query.lang}", {})[query.id] = value
                chances.setdefault(f"{kind}_{query.lang}", []).append(chance)
        signature = (
            f"{Path(self.params.queries.removeprefix('starter:')).stem}|by:{self.params.by}"
            f"|candidates:{self.params.max_candidates}|first:{self.params.max_characters}-characters"
        )
        return [
            self.item_scores(metric, of, chance=math.fsum(chances[metric]) / len(of), scale=100.0, signature=signature)
            for metric, of in values.items()
        ]

    def workload(self, at_hand: AtHand) -> Workload:
        """Count the passages.

        Raises:
            DataError: the file cannot be read.
        """
        by_language: dict[str, list[int]] = {}
        for query in self._queries.values():
            shown = (min(len(passage), self.params.max_characters) for passage in self._candidates(query))
            by_language.setdefault(query.lang, []).append(sum(size + len(query.query) for size in shown))
        asked = sum(
            sum(sizes) / len(sizes) * min(len(sizes), self.params.max_queries) for sizes in by_language.values()
        )
        each = 1 if self.params.by == "query" else 2
        return Workload(0.0, likelihood_tokens=TOKENS_PER_CHARACTER * asked * each)

    def unseen_texts(self, inputs: SuiteInputs) -> Mapping[str, tuple[str, ...]]:
        """Return the queries, which nothing should have been trained on."""
        return {query.id: (query.query,) for query in self._asked(inputs)}
