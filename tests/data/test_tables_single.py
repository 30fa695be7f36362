"""Tables of prompts and of documents: which column is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lingraft.core.errors import DataError
from lingraft.data.files import Row
from reading import prompts, texts


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("Question", ""),
        ("No.,Question", ""),
        ("QUESTIONS,Topic", ""),
        ("id;Prompt", ""),
        ("No.,Frage", "No.', 'Frage'"),
    ],
)
def test_columns_of_prompts_and_documents(tmp_path: Path, header: str, problem: str) -> None:
    names = header.replace(";", ",").split(",")
    row = ["1"] * len(names)
    row[0 if len(names) == 1 or "QUESTIONS" in names else 1] = "Why?"
    mark = ";" if ";" in header else ","
    path = tmp_path / "a.csv"
    path.write_text(f"{header}\n{mark.join(row)}\n", "utf-8")
    if problem:
        with pytest.raises(DataError, match=problem):
            prompts(path)
        return
    assert [item.record.messages[-1].content for item in prompts(path) if isinstance(item, Row)] == ["Why?"]


def test_tables_of_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("Nr\tText des Dokuments\n1\tEin langer Text.\n", "utf-8")
    with pytest.raises(DataError, match=r"'Nr', 'Text des Dokuments'; .*`fields: \{text: 1\}`"):
        texts(path)
    assert [row.record.text for row in texts(path, fields={"text": 2})[1:] if isinstance(row, Row)] == [
        "Ein langer Text."
    ]
    path.write_text("ID\tText\n1\tEin langer Text.\n", "utf-8")
    [row] = texts(path)
    assert isinstance(row, Row)
    assert (row.record.id, row.record.text) == ("1", "Ein langer Text.")
