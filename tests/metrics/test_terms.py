"""Metric `terms`, against a case worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Pair
from lingraft.metrics.base import open_metric

PAIRS = [
    Pair("1", "Lingraft mag neuronale Netze.", "x", "de", "en"),  # Lingraft, neuronales Netz
    Pair("2", "Guten Tag.", "x", "de", "en"),  # none
    Pair("3", "Das Netz im Mai, das Netz", "x", "de", "en"),  # Netz, Mai
]
TEXTS = ["lingraft likes Neural Networks.", "Networks in the net of April"]


def write(folder: Path, text: str) -> str:
    (folder / "terms.csv").write_text(text, "utf-8")
    return str(folder / "terms.csv")


def test_each_term_of_a_source_counts_once(tmp_path: Path) -> None:
    path = write(tmp_path, "Netz,network\nneuronales Netz,neural network\nLingraft,\nMai,May\nMai,mai,de,fr\n")
    opened = open_metric({"kind": "terms", "path": path})
    built = opened.metric.build("de", "en", ())
    measured = built.segments(PAIRS)
    assert [pair.id for pair in measured] == ["1", "3"]
    # Of Lingraft and the neural network only the latter is there as it should be; of network and May, the former.
    statistics = built.statistics(TEXTS, measured)
    assert statistics.tolist() == [[100.0, 2.0], [100.0, 2.0]]
    assert built.aggregate(statistics.sum(axis=0, keepdims=True)).tolist() == [50.0]
    assert built.statistics(["Lingraft: neural networks", ""], measured).tolist() == [[200.0, 2.0], [0.0, 2.0]]
    assert opened.facts.better == "higher"
    assert opened.metric.references is False


def test_other_terms_are_another_metric_and_other_bytes_are_not(tmp_path: Path) -> None:
    hashes = [
        open_metric({"kind": "terms", "path": write(tmp_path, text)}).metric.identity()
        for text in ("a,b\n", "source;target\na;b\n", "a,c\n")
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_glossary_that_is_missing_or_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="metric terms: give it a glossary, such as"):
        open_metric("terms")
    with pytest.raises(DataError, match=r"terms\.csv, line 1: 'Netz' has no translation"):
        open_metric({"kind": "terms", "path": write(tmp_path, "Netz\n")}).metric.build("de", "en", ())
