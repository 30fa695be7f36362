"""Documents in every format, and what is no document."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from datasets import Dataset

from lingraft.core.errors import DataError, LingraftError, UsageError, options
from lingraft.data.files import Row
from lingraft.data.readers import PromptFile, PromptSource, TextSource, read_prompts, read_texts
from lingraft.data.records import Text
from reading import bad, texts, write_jsonl

DOCUMENTS = ["บรรทัดแรก\n\nบรรทัดที่สอง", "One line", 'With "quotes", and a comma']


def contents(path: Path, **options: object) -> list[str]:
    return [row.record.text for row in texts(path, **options) if isinstance(row, Row)]


@pytest.mark.parametrize("field", ["text", "content", "body"])
@pytest.mark.parametrize("kind", ["jsonl", "json", "jsonl.gz", "arrow"])
def test_documents_of_several_lines(tmp_path: Path, kind: str, field: str) -> None:
    path = tmp_path / f"docs.{kind}"
    rows = [{field: document, "url": "x"} for document in DOCUMENTS]
    if kind == "arrow":
        Dataset.from_list(rows).save_to_disk(str(path))
    elif kind == "json":
        path.write_text(json.dumps(rows), "utf-8")
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if kind.endswith("gz") else data)
    fields = {"text": "body"} if field == "body" else {}
    assert contents(path, fields=fields) == DOCUMENTS


def test_tables_and_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,text\nk1,"Zwei\nZeilen"\nk2,Eine\n', "utf-8")
    assert [(row.record.id, row.record.text) for row in texts(tmp_path / "a.csv") if isinstance(row, Row)] == [
        ("k1", "Zwei\nZeilen"),
        ("k2", "Eine"),
    ]
    (tmp_path / "a.tsv").write_text("Eine\nZwei\n", "utf-8")
    assert contents(tmp_path / "a.tsv") == ["Eine", "Zwei"]
    (tmp_path / "a.txt").write_text("Eine\n\nZwei\n", "utf-8")
    rows = texts(tmp_path / "a.txt", lang="de-AT")
    assert rows[0] == Row(1, Text("a:1", "Eine", "de-AT"))
    assert contents(tmp_path / "a.txt")[-1] == "Zwei"


def test_rows_that_are_no_documents_are_rejected_with_their_place(tmp_path: Path) -> None:
    rows = [{"text": "x"}, {"text": " \n"}, {"text": ["x"]}, {"texts": "x"}, {"text": "\ud800"}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert bad(texts(path)) == [
        (2, "empty_text"),
        (3, "malformed"),
        (4, "missing_field"),
        (5, "control_characters"),
    ]


def test_ids_are_unique(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "x", "id": "k"}, {"text": "y", "id": "k"}, {"text": "z"})
    assert [row.record.id for row in texts(path, name="n") if isinstance(row, Row)] == ["k", "k@2", "n:3"]


def test_what_holds_no_documents_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"source": "Ja", "target": "Yes"})
    with pytest.raises(DataError, match=r"fields 'source', 'target', but expected are 'text' or 'content'; name the"):
        texts(path)
    udhr = write_jsonl(tmp_path / "b.jsonl", {"article": 1, "en": ["All"], "th": ["x"]})
    with pytest.raises(DataError, match="expected are 'text' or 'content'"):
        texts(udhr)
    (tmp_path / "a.tmx").write_text("<tmx/>")
    with pytest.raises(UsageError, match="a TMX file holds pairs, not texts"):
        texts(tmp_path / "a.tmx")
    with pytest.raises(DataError, match=r"none\.jsonl"):
        texts(tmp_path / "none.jsonl")


def test_a_source_that_is_not_right_is_told() -> None:
    with pytest.raises(ValueError, match="unknown language code"):
        TextSource(path="a.jsonl", lang="klingonese")
    with pytest.raises(ValueError, match="unknown field 'source'; known: content, id, text"):
        TextSource(path="a.jsonl", lang="th", fields={"source": "x"})
    with pytest.raises(ValueError, match="lang"):
        TextSource.model_validate({"path": "a.jsonl"})


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": "x"}) + "\n" + "{" * 10, "utf-8")
    assert isinstance(next(read_texts(TextSource(path=str(path), lang="th"))), Row)


@pytest.mark.parametrize(
    ("name", "held", "by_recipe", "by_name"),
    [
        ("a.dat", "Why?\n", "set `format:` to one of jsonl", "let it end in one of .jsonl, "),
        ("a.json", "[{]", "or set `format: jsonl` if", "or let its name end in .jsonl if"),
        ("a.txt", "Why?\tSo.\n" * 3, "then set `format: tsv`, with a header", "then let its name end in .tsv, with"),
        (
            "a.jsonl",
            "PAR1",
            "is a Parquet file; set `format: parquet`",
            "is a Parquet file; let its name end in .parquet",
        ),
        ("b.jsonl", '{"ask": "Why?"}\n', "name the columns: `fields: {prompt: ...}`", "; name the columns so"),
        ("a.tsv", "Why?\tSo.\n", "or number: `fields: {prompt: 1}`; without", "in a header (prompt); without names"),
        (
            "b.tsv",
            "ask_text\nWhy?\n",
            "which column holds what: `fields: {prompt: ",
            "name the columns so: prompt",
        ),
    ],
)
def test_a_message_advises_a_key_only_where_there_is_one(
    tmp_path: Path, name: str, held: str, by_recipe: str, by_name: str
) -> None:
    (tmp_path / name).write_text(held)
    said = []
    for kind in (PromptSource, PromptFile):
        with pytest.raises(LingraftError) as caught:
            list(read_prompts(kind(path=str(tmp_path / name))))
        said.append(str(caught.value))
    assert by_recipe in said[0]
    assert by_name in said[1]
    assert not any(key in said[1] for key in ("fields:", "format:", "target_path"))


def test_the_format_of_prompts_is_no_option_for_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.dat").write_text("Why?\n")
    with (
        options({"format": "--format", "prompts.format": "--set prompts.format="}),
        pytest.raises(UsageError, match=r"; set --set prompts\.format=\.\.\. to one of [a-z, ]*$"),
    ):
        list(read_prompts(PromptSource(path=str(tmp_path / "a.dat"))))
