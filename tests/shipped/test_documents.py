"""The documents with summaries in another language: thirty, of the length, language and kind that the README says."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import pytest

from lingraft.language.identification import identify
from lingraft.language.measures import words
from lingraft.language.sentences import split_text
from lingraft.metrics.rouge import rouge_n, tokens

STARTER = files("lingraft.shipped") / "starter"
COUNTS = {"en-th": 10, "en-de": 6, "de-en": 5, "en-zh": 3, "en-es": 3, "fr-en": 3}
DIRECTIONS = list(COUNTS)


def rows(direction: str) -> list[dict[str, Any]]:
    text = (STARTER / f"documents.{direction}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_there_are_thirty_of_many_kinds_as_the_readme_says() -> None:
    found = [row for direction in DIRECTIONS for row in rows(direction)]
    assert [row["id"] for row in found] == [f"sum-{number:03d}" for number in range(1, 31)]
    assert len({row["topic"] for row in found}) >= 20
    readme = (STARTER / "README.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `documents\.([a-z-]+)\.jsonl` \| (\d+) \|", readme, flags=re.MULTILINE))
    assert {name: int(count) for name, count in stated.items()} == COUNTS
    assert {direction: len(rows(direction)) for direction in DIRECTIONS} == COUNTS


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_documents_have_150_to_300_words_in_paragraphs(direction: str) -> None:
    for row in rows(direction):
        assert set(row) == {"id", "topic", "source", "target"}
        assert 150 <= len(row["source"].split()) <= 300, row["id"]
        assert len(row["source"].split("\n\n")) >= 3, row["id"]
        assert "  " not in row["source"] + row["target"], row["id"]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_summaries_are_short_and_in_the_other_language(direction: str) -> None:
    source, target = direction.split("-")
    for row in rows(direction):
        summary = row["target"]
        assert identify(summary, [source, target])[0] == target, row["id"]
        assert identify(row["source"], [source, target])[0] == source, row["id"]
        if target != "th":  # which marks no sentences
            found = [piece for piece in split_text(summary, longest=2000, lang=target) if piece.translate]
            assert 2 <= len(found) <= 4, (row["id"], found)
        longest = {"th": 480, "zh": 200}.get(target, 110)
        assert 0.25 * longest <= len(words(summary)) <= longest, (row["id"], len(words(summary)))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_numbers_of_a_summary_stand_in_the_document(direction: str) -> None:
    """Digits only, of four and more: smaller ones are written in words on one side or the other."""
    for row in rows(direction):
        plain = re.sub(r"(?<=\d)[.,   ](?=\d{3}\b)", "", row["source"])
        found = re.findall(r"\d{4,}", re.sub(r"(?<=\d)[.,   ](?=\d{3}\b)", "", row["target"]))
        assert [number for number in found if number not in plain] == [], row["id"]


def test_no_two_documents_share_much() -> None:
    found = [tokens(row["source"], "words") for direction in DIRECTIONS for row in rows(direction)]
    assert max(rouge_n(one, other, 3) for i, one in enumerate(found) for other in found[:i]) < 0.05
