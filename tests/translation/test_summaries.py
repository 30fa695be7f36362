"""Summaries in another language: what is asked, and what is taken out of the answers."""

from __future__ import annotations

import pytest

from lingraft.data.records import Generation, Sampling
from lingraft.translation.direct import Source
from lingraft.translation.summaries import extract, requests
from lingraft.translation.wording import SUMMARY

DOCUMENT = Source("t/1", "The ferry stops at noon.\n\nIt is old.\n\nNote:\nIt will be sold.", "en", "de")


def written(text: str, reason: str = "stop") -> Generation:
    return Generation("t/1", text, (1, 2, 3), reason)  # type: ignore[arg-type]


def test_a_document_is_asked_for_in_the_target_language() -> None:
    (request,) = requests([DOCUMENT], SUMMARY, Sampling(9, seed=4), ("\nNote:", "\n###"))
    assert request.messages[0].content == (
        "Summarise the following English text in German. Write two to four sentences, in German only.\n\n"
        + DOCUMENT.text
    )
    assert request.direct
    assert (request.sampling.max_new_tokens, request.sampling.seed) == (9, 4)
    assert request.sampling.stop == ("\n###",)  # the document has the other one itself


@pytest.mark.parametrize(
    ("text", "reason", "summary", "failure"),
    [
        ("Die Fähre hält.\n\nSie ist alt.", "stop", "Die Fähre hält.\n\nSie ist alt.", ""),
        ("Die Fähre hält.\n### Why", "length", "Die Fähre hält.", ""),
        ("Die Fähre", "length", "Die Fähre", "unfinished"),
        (" \n", "stop", "", "empty"),
        ("<think>It is about", "length", "", "thinking"),
        ("<think>A ferry.</think>Die Fähre hält.", "stop", "Die Fähre hält.", ""),
        ("**Summary:**\nDie Fähre hält.", "stop", "Die Fähre hält.", "preamble"),
        ("Here is the summary in German:\n\nDie Fähre hält.", "stop", "Die Fähre hält.", "preamble"),
        ("Die Fähre hält an drei Orten:\nA, B und C.", "stop", "Die Fähre hält an drei Orten:\nA, B und C.", ""),
    ],
)
def test_the_summary_is_what_was_written_without_its_announcement(
    text: str, reason: str, summary: str, failure: str
) -> None:
    found = extract(DOCUMENT, written(text, reason), ("\n###",))
    assert (found.text, found.failure, found.tokens) == (summary, failure, 3)
    assert found.thought == text.startswith("<think>")
