"""Documents with summaries as CrossSum and WikiLingua publish them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from lingraft.core.errors import DataError
from lingraft.data.files import Row
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Pair, Rejected

THAI = {
    "url": "https://th.wikihow.com/ดูแลต้นไม้",
    "article": {
        "วิธีรดน้ำ": {
            "document": "รดน้ำตอนเช้า อย่าให้ดินแฉะ",
            "summary": "รดน้ำตอนเช้า",
            "english_url": "https://www.wikihow.com/Care-for-Plants",
            "english_section_name": "Watering",
        },
        "วิธีใส่ปุ๋ย": {
            "document": "ใส่ปุ๋ยเดือนละครั้ง",
            "summary": "ใส่ปุ๋ย",
            "english_url": "https://www.wikihow.com/Care-for-Plants",
            "english_section_name": "Feeding",
        },
    },
}
ENGLISH = {
    "url": "https://www.wikihow.com/Care-for-Plants",
    "article": {
        "Potting": {"document": "Take a pot.", "summary": "Pot them."},
        "Feeding": {"document": "Feed them once a month.", "summary": "Feed them."},
    },
}


def as_columns(row: dict[str, Any]) -> dict[str, Any]:
    """Return an article as the hub has it: its sections as columns."""
    sections = [{"section_name": name, **values} for name, values in row["article"].items()]
    return {"url": row["url"], "article": {key: [one[key] for one in sections] for key in sections[0]}}


def as_list(row: dict[str, Any]) -> dict[str, Any]:
    return {"url": row["url"], "article": [{"section_name": n, **values} for n, values in row["article"].items()]}


def write(path: Path, *rows: Any) -> str:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def read(**source: Any) -> list[Row[Pair] | Rejected]:
    return list(read_pairs(PairSource(**source)))


def records(rows: list[Row[Pair] | Rejected]) -> list[tuple[str, str, str, str | None]]:
    pairs = [row.record for row in rows if isinstance(row, Row)]
    return [(pair.id, pair.source, pair.target, pair.document) for pair in pairs]


def test_crosssum_is_an_article_and_a_summary_in_the_other_language(tmp_path: Path) -> None:
    row = {
        "source_url": "https://www.bbc.com/news/world-1",
        "target_url": "https://www.bbc.com/thai/thailand-2",
        "summary": "เรือหยุดวิ่ง",
        "text": "The ferry has stopped.",
    }
    path = write(tmp_path / "english-thai_test.jsonl", row, {**row, "text": "  "}, {"text": 3, "summary": "x"})
    rows = read(path=path, source="en", target="th", format="crosssum")
    assert records(rows)[0] == ("english-thai_test:1", "The ferry has stopped.", "เรือหยุดวิ่ง", None)
    assert isinstance(rows[2], Rejected)
    odd = write(tmp_path / "odd.jsonl", {"article": "x"})
    with pytest.raises(DataError, match="the first row has the fields 'article', but expected are"):
        read(path=odd, source="en", target="th", format="crosssum")


@pytest.mark.parametrize("shape", [dict, as_columns, as_list])
@pytest.mark.parametrize("name", ["thai.jsonl", "thai.jsonl.gz", "thai.parquet"])
def test_wikilingua_is_joined_by_the_english_section(shape: Any, name: str, tmp_path: Path) -> None:
    thai, english = tmp_path / name, write(tmp_path / "english.jsonl", shape(ENGLISH))
    if name.endswith("parquet"):
        parquet.write_table(pyarrow.Table.from_pylist([shape(THAI)]), thai)
    else:
        write(thai, shape(THAI))
    forth = read(path=str(thai), target_path=english, source="th", target="en", format="wikilingua")
    assert records(forth) == [("ดูแลต้นไม้#2", "ใส่ปุ๋ยเดือนละครั้ง", "Feed them.", THAI["url"])]
    back = read(path=english, target_path=str(thai), source="en", target="th", format="wikilingua")
    assert records(back) == [("Care-for-Plants#2", "Feed them once a month.", "ใส่ปุ๋ย", ENGLISH["url"])]


def test_other_languages_meet_in_english(tmp_path: Path) -> None:
    german = json.loads(json.dumps(THAI).replace("th.wikihow", "de.wikihow"))
    paths = [write(tmp_path / f"{name}.jsonl", row) for name, row in (("th", THAI), ("de", german))]
    rows = read(path=paths[0], target_path=paths[1], source="th", target="de", format="wikilingua")
    assert len(records(rows)) == 2


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    english, thai = write(tmp_path / "en.jsonl", ENGLISH, {"url": 3}, {"url": "x"}), write(tmp_path / "th.jsonl", THAI)
    with pytest.raises(DataError, match=r"none of its sections is in .*en.jsonl as well; give the files of both"):
        read(path=thai, target_path=english, source="en", target="th", format="wikilingua")
    rows = read(path=english, target_path=thai, source="en", target="th", format="wikilingua")
    assert [row.reason for row in rows if isinstance(row, Rejected)] == ["malformed", "malformed"]
    with pytest.raises(ValidationError, match="give that of the summaries as `target_path`"):
        PairSource(path=english, source="en", target="th", format="wikilingua")
    with pytest.raises(ValidationError, match="belongs to two aligned text files"):
        PairSource(path=english, target_path=thai, source="en", target="th", format="crosssum")
