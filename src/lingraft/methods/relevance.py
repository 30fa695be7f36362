"""Query-passage relevance by likelihood: how a model is asked for it, and a method that teaches it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from lingraft.core.errors import DataError
from lingraft.core.hashing import file_hash, seed_of
from lingraft.core.validation import IS_PATH, as_value_error
from lingraft.data.candidates import QueryCandidates, read_candidates
from lingraft.data.files import locate
from lingraft.data.records import Example, Generation, Message, Request, Span
from lingraft.language.codes import language
from lingraft.methods.base import Consumed, Method, MethodInputs, MethodParams, Tally

By = Literal["answer", "query"]
YES, NO = "Yes", "No"


def ask_relevance(query: str, passage: str, by: By) -> tuple[Message, ...]:
    """Return what a model is asked about a query and a passage.

    Args:
        query: as it was typed; of `by: query` it is no part of what is asked, but what is to be written.
        passage: that may answer it.
        by: answer: whether the passage answers the query, with yes or no (Nogueira et al. 2020, arXiv 2003.06713);
            query: to write a question that the passage answers (Sachan et al. 2022, arXiv 2204.07496).
    """
    if by == "query":
        asked = f"Passage: {passage}\n\nWrite a question that this passage answers."
    else:
        asked = f"Passage: {passage}\n\nQuery: {query}\n\nDoes the passage answer the query? Answer {YES} or {NO}."
    return (Message("user", asked),)


class RelevanceParams(MethodParams):
    """Parameters of relevance."""

    queries: Annotated[str, IS_PATH] = Field(
        "starter:retrieval.en-th.jsonl",
        min_length=1,
        description="file of queries, one a row: `query`, `positive`, `negative` (texts or lists of texts), `lang`",
    )
    by: By = Field("query", description="as the suite `retrieval` shall ask: for a verdict, or for the query itself")
    negatives: int = Field(
        1, ge=0, description="with `by: answer`: passages that do not answer, for each one that does, drawn by seed"
    )
    languages: list[str] = Field(default_factory=list, description="of the queries that are used; default: all")
    max_queries: int | None = Field(None, ge=1, description="from the first on; default: all")
    max_characters: int = Field(1500, ge=20, description="of each passage, from its beginning")

    @field_validator("languages")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        with as_value_error():
            return [language(code) for code in value]


class Relevance(Method):
    """The task of Litschko et al. 2022 (arXiv 2204.02292), reranking, for a chat model: a task delta beside a language
    delta.

    With `by: query` it learns to write the query after a passage that answers it, -log P(query | passage), and ranks by
    the same likelihood; with `by: answer` it learns "Yes" after passages that answer and "No" after others.

    Departures: the paper's rankers are encoders with a score of their own, trained on pairs of passages; a chat model
    ranks by likelihood (arXiv 2204.07496, 2003.06713), and stays a chat model. The queries are a file of the method's
    own, of any language: the run needs neither pairs nor prompts for it.
    """

    name: ClassVar[str] = "relevance"
    summary: ClassVar[str] = "a task beside the language: which passage answers a query, by likelihood"
    paper: ClassVar[str] = "arXiv 2204.02292"
    cite: ClassVar[tuple[str, ...]] = ("litschko-2022-parameter",)
    version: ClassVar[int] = 2
    Params: ClassVar[type[MethodParams]] = RelevanceParams
    consumes: ClassVar[Consumed] = "files"
    params: RelevanceParams

    def check(self, languages: Any) -> None:
        """Refuse a file without queries to learn from.

        Raises:
            DataError: it cannot be read, has no query of `languages`, or lacks passages that do not answer.
        """
        used = False
        for query in self._queries():
            used = True
            if self.params.by == "answer" and self.params.negatives and not query.negatives:
                raise DataError(
                    f"method relevance: query {query.id!r} has no passage under 'negative', of which `by: answer` "
                    f"teaches a {NO}; add one, or set `negatives` to 0"
                )
        if not used:
            raise DataError(
                f"method relevance: {self.params.queries} has no query in {', '.join(self.params.languages)}; change "
                f"the parameter `languages`"
            )

    def prepare(self, inputs: MethodInputs) -> dict[str, Any]:
        """Return the hash of the file."""
        return {"queries": file_hash(locate(self.params.queries, "auto", Path()).path)}

    def _queries(self) -> Iterator[QueryCandidates]:
        left = self.params.max_queries
        for query in read_candidates(self.params.queries, Path()):
            if self.params.languages and query.lang not in self.params.languages:
                continue
            if left == 0:
                return
            left = None if left is None else left - 1
            yield query

    def requests(self, inputs: MethodInputs) -> Iterator[Request]:
        """Ask nothing."""
        return iter(())

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield one example for each passage that answers a query, and of `by: answer` for some that do not."""
        by = self.params.by
        for query in self._queries():
            for number, passage in enumerate(query.positives):
                yield self._example(f"{query.id}#{number}", query, passage, query.query if by == "query" else YES)
            if by == "query":
                continue
            draws = np.random.default_rng(seed_of([inputs.seed, query.id]))
            wanted = min(len(query.negatives), self.params.negatives * len(query.positives))
            for number in sorted(draws.choice(len(query.negatives), wanted, replace=False).tolist() if wanted else ()):
                yield self._example(f"{query.id}#-{number}", query, query.negatives[number], NO)

    def _example(self, id_: str, query: QueryCandidates, passage: str, answer: str) -> Example:
        shown = passage[: self.params.max_characters]
        return Example(
            f"relevance:{id_}", ask_relevance(query.query, shown, self.params.by), (Span(answer, "given_reply"),)
        )
