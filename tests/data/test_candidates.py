"""Queries with candidate passages, in the forms in which sets for reranking are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError, UsageError
from lingraft.data.candidates import QueryCandidates, read_candidates


def written(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_both_published_forms_are_read(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        {"_id": "a", "query": "who?", "pos": ["she"], "neg": ["he", "it", "he"], "lang": "th"},
        {"query": "when?", "positive": "now", "negative": ["never"]},
    )
    assert list(read_candidates(path)) == [
        QueryCandidates("a", "who?", ("she",), ("he", "it"), "th"),
        QueryCandidates("q:2", "when?", ("now",), ("never",), "en"),
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"positive": "x"}, "no text under 'query'"),
        ({"query": " ", "positive": "x"}, "no text under 'query'"),
        ({"query": "q", "negative": "x"}, "no passage answers"),
        ({"query": "q", "positive": [1]}, "neither a text nor a list"),
        ({"query": "q", "positive": "x", "negative": ["y", ""]}, "neither a text nor a list"),
        ({"query": "q", "positive": ["x", "y"], "negative": ["y"]}, "both: 'y'"),
    ],
)
def test_a_row_that_cannot_be_ranked_is_refused_with_its_place(
    row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = written(tmp_path, {"query": "q", "positive": "x"}, row)
    with pytest.raises(DataError, match=reason) as caught:
        list(read_candidates(path))
    assert ":2:" in str(caught.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "q.tsv").write_text("a\tb\n", "utf-8")
    with pytest.raises(UsageError, match="jsonl, json, parquet"):
        list(read_candidates(str(tmp_path / "q.tsv")))
    (tmp_path / "q.jsonl").write_text("\n", "utf-8")
    with pytest.raises(DataError):
        list(read_candidates(str(tmp_path / "q.jsonl")))
    (tmp_path / "q.jsonl").write_text("{no json\n", "utf-8")
    with pytest.raises(DataError, match=r"q\.jsonl:1"):
        list(read_candidates(str(tmp_path / "q.jsonl")))
