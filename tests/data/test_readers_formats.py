"""File formats are checked against what other programs write: json, csv, xml.etree."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import tracemalloc
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lingraft.core.errors import DataError
from lingraft.data.files import Row
from lingraft.data.readers import read_pairs
from lingraft.data.records import Pair
from reading import SENTENCES, bad, good, pairs, sides, source, write_jsonl


def test_json_array_and_json_lines_in_a_json_file(tmp_path: Path) -> None:
    rows = [{"source": a, "target": b} for a, b in SENTENCES]
    array = tmp_path / "array.json"
    array.write_bytes(codecs.BOM_UTF8 + json.dumps([*rows, 3], indent=1).encode())
    found = pairs(array)
    assert sides(found) == SENTENCES
    assert bad(found) == [(4, "malformed")]
    assert sides(pairs(write_jsonl(tmp_path / "lines.json", *rows))) == SENTENCES
    (tmp_path / "broken.json").write_text('[{"source": "a"')
    with pytest.raises(DataError, match="not valid JSON"):
        pairs(tmp_path / "broken.json")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_is_read_element_by_element(tmp_path: Path, indent: int | None) -> None:
    rows = [{"source": f"Größe {i} " + "x" * (i % 997), "target": f"size {i}", "n": [i, {}]} for i in range(3000)]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=False), "utf-8")
    tracemalloc.start()
    count = 0
    for found, row in zip(read_pairs(source(path)), rows, strict=True):
        assert isinstance(found, Row)
        assert (found.line, found.record.source) == (count := count + 1, row["source"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 + path.stat().st_size / 10


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('[{"source": "a", "target": "b"} {}]', "row 1: there is no comma"),
        ('[{"source": "a", "target": "b"}] x', "something after the array"),
        ('[{"source": "a", "target": "b"}, ]', "row 2: Expecting value"),
        ('[{"source": "a", "target": "b"}, {"source": 1' + "0" * 5000 + "}]", "row 2: .*digits"),
        ("[" * 100_000, "nested too deeply"),
        ('[{"source": "' + "a" * 1_500_000, "no end of it within 1,000,000 characters"),
        (b'[{"source": "\xff"}]', "not UTF-8"),
        ("[", "row 1: Expecting value"),
    ],
)
def test_broken_json_arrays(tmp_path: Path, content: str | bytes, problem: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=rf"not valid JSON \(.*{problem}"):
        pairs(path)


def test_tsv_takes_quotation_marks_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('"Ja\tYes"\n\n"Nein"\tNo\textra\nallein\n', encoding="utf-8")
    rows = pairs(path)
    assert sides(rows) == [('"Ja', 'Yes"')]
    assert bad(rows) == [(3, "malformed"), (4, "missing_field")]
    assert good(rows)[0].id == "a:1"


@pytest.mark.parametrize("header", ["id\tsource\ttarget", "id\tde\ten", "id\tDE\ten-US", "id\tsrc\ttgt"])
def test_tsv_header(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.tsv"
    path.write_text(f"{header}\n9\tJa\tYes\n")
    fields = {"source": "src", "target": "tgt"} if "src" in header else {}
    assert good(pairs(path, fields=fields)) == [Pair("9", "Ja", "Yes", "de", "en")]


def test_one_word_that_is_also_a_code_is_no_header(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("No\tNei\nYes\tJa\n")
    assert len(pairs(path, source="no", target="is")) == 2


def test_first_table_row_with_too_few_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("one column\nonly\n")
    with pytest.raises(DataError, match="fields"):
        pairs(path)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=30)
FILES = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)


@FILES
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5), delimiter=st.sampled_from(",;\t"))
def test_csv_reads_what_the_csv_module_writes(tmp_path: Path, rows: list[tuple[str, str]], delimiter: str) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, delimiter=delimiter).writerows([("source", "target"), *rows])
    assert sides(pairs(path)) == rows


@FILES
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_jsonl_reads_what_the_json_module_writes(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    path = tmp_path / "a.jsonl.gz"
    with gzip.open(path, "wt", encoding="utf-8", newline="\r\n") as stream:
        stream.writelines(json.dumps({"de": a, "en": b}, ensure_ascii=False) + "\n" for a, b in rows)
    assert sides(pairs(path)) == rows


def test_csv_places_and_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    huge = b'"' + b"x" * 140_000 + b'",y\n'
    path.write_bytes(b'de,en\n"eins\nzwei",one two\n\xff,bad\n' + huge + b"drei,three\nvier\n")
    rows = pairs(path)
    assert [(row.line, row.record.source) for row in rows if isinstance(row, Row)] == [(2, "eins\nzwei"), (6, "drei")]
    assert bad(rows) == [(4, "not_utf8"), (5, "malformed"), (7, "missing_field")]


def test_csv_without_header(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"Hallo, Welt","Hello, world"\n')
    assert sides(pairs(path)) == [("Hallo, Welt", "Hello, world")]


def test_aligned_files(tmp_path: Path) -> None:
    (tmp_path / "train.de").write_bytes(b"eins\nzwei\r\n\n\xff\nvier\n")
    (tmp_path / "train.en").write_bytes(b"one\ntwo\nthree\nfour\nx\n")
    rows = list(read_pairs(source("train.de", target_path="train.en"), tmp_path))
    assert sides(rows) == [("eins", "one"), ("zwei", "two"), ("", "three"), ("vier", "x")]
    assert bad(rows) == [(4, "not_utf8")]


@pytest.mark.parametrize(("left", "right"), [(3, 5), (5, 3)])
def test_aligned_files_of_different_length_name_both_counts(tmp_path: Path, left: int, right: int) -> None:
    (tmp_path / "a.txt").write_text("x\n" * left)
    (tmp_path / "b.txt").write_text("y\n" * right)
    rows = read_pairs(source("a.txt", target_path="b.txt"), tmp_path)
    assert len([next(rows) for _ in range(3)]) == 3
    with pytest.raises(DataError, match=f"a.txt has {left} lines but b.txt has {right}"):
        next(rows)


def tmx(*units: str, doctype: str = '<!DOCTYPE tmx SYSTEM "tmx14.dtd">') -> bytes:
    header = '<header srclang="de" segtype="sentence"><note>n</note></header>'
    return f'<?xml version="1.0"?>{doctype}<tmx version="1.4">{header}<body>{"".join(units)}</body></tmx>'.encode()


def test_tmx(tmp_path: Path) -> None:
    path = tmp_path / "a.tmx"
    german = (
        '<tuv xml:lang="DE-AT"><seg>Klicken Sie <bpt i="1">&lt;b&gt;</bpt>hier<ept i="1">&lt;/b&gt;</ept>.</seg></tuv>'
    )
    english = '<tuv lang="en"><prop>p</prop><seg>Click <hi>here</hi><ph/>.</seg></tuv>'
    path.write_bytes(tmx(f'<tu tuid="u1">{german}{english}</tu>', f"<tu>{english}</tu>", f"<tu>{english}{german}</tu>"))
    rows = pairs(path)
    assert rows[0] == Row(1, Pair("u1", "Klicken Sie hier.", "Click here.", "de", "en"))
    assert rows[2] == Row(3, Pair("a:3", "Klicken Sie hier.", "Click here.", "de", "en"))
    assert bad(rows) == [(2, "missing_field")]


def test_tmx_prefers_the_exact_code(tmp_path: Path) -> None:
    codes = {"pt-PT": "autocarro", "pt-BR": "ônibus", "en": "bus"}
    variants = "".join(f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in codes.items())
    (tmp_path / "a.tmx").write_bytes(tmx(f"<tu>{variants}</tu>"))
    assert sides(pairs(tmp_path / "a.tmx", source="en", target="pt-BR")) == [("bus", "ônibus")]


XML_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Cn"]), min_size=1, max_size=20)


@FILES
@given(
    rows=st.lists(st.tuples(XML_TEXT, XML_TEXT), min_size=1, max_size=4), encoding=st.sampled_from(["utf-8", "utf-16"])
)
def test_tmx_reads_what_elementtree_writes(tmp_path: Path, rows: list[tuple[str, str]], encoding: str) -> None:
    root = ElementTree.Element("tmx", version="1.4")
    body = ElementTree.SubElement(root, "body")
    for row in rows:
        unit = ElementTree.SubElement(body, "tu")
        for code, text in zip(("de", "en"), row, strict=True):
            variant = ElementTree.SubElement(unit, "tuv", {"xml:lang": code})
            ElementTree.SubElement(variant, "seg").text = text
    path = tmp_path / "a.tmx"
    path.write_bytes(ElementTree.tostring(root, encoding))
    assert sides(pairs(path)) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tmx(doctype='<!DOCTYPE tmx [<!ENTITY a "b">]>'), "entities"),
        (b"<html><body><tu></tu>", "not a TMX file"),
        (tmx(), "no rows"),
    ],
)
def test_bad_tmx(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.tmx").write_bytes(content)
    with pytest.raises(DataError, match=message):
        pairs(tmp_path / "a.tmx")


def test_tmx_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = '<tu><tuv lang="de"><seg>' + "a" * 900 + '</seg></tuv><tuv lang="en"><seg>b</seg></tuv></tu>\n'
    path = tmp_path / "a.tmx"
    path.write_bytes(tmx(unit * 5000))
    tracemalloc.start()
    count = sum(1 for _ in read_pairs(source(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < 1_500_000 < path.stat().st_size
    monkeypatch.setattr("lingraft.data.tmx_units.MAX_UNIT_CHARACTERS", 100_000)
    path.write_bytes(tmx("<tu><tuv><seg>" + "a" * 200_000))
    with pytest.raises(DataError, match="without the end of a translation unit"):
        pairs(path)
