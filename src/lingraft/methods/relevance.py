"""Query-passage relevance by likelihood: how a model is asked for it, which a task delta and its suite share."""

from __future__ import annotations

from typing import Literal

from lingraft.data.records import Message

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
