"""Readers are checked against what other programs write: json, csv, xml.etree, gzip and the datasets library."""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lingraft.data.files import Row, stem
from lingraft.data.readers import PairSource, PromptSource, read_pairs, read_prompts
from lingraft.data.records import Message, Pair, Prompt, Rejected
from lingraft.errors import DataError, UsageError

SENTENCES = [
    ("Guten Morgen!", "Good morning!"),
    ('Sie sagte: "Nein, danke."', 'She said: "No, thank you."'),
    ("Grüße aus Köln\u2028an alle", "Greetings from Cologne, to all"),
]


def source(path: Path | str, **options: Any) -> PairSource:
    return PairSource(**{"path": str(path), "source": "de", "target": "en", **options})


def pairs(path: Path | str, **options: Any) -> list[Row[Pair] | Rejected]:
    return list(read_pairs(source(path, **options)))


def good(rows: list[Row[Pair] | Rejected]) -> list[Pair]:
    return [row.record for row in rows if isinstance(row, Row)]


def sides(rows: list[Row[Pair] | Rejected]) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in good(rows)]


def bad(rows: list[Any]) -> list[tuple[int, str]]:
    return [(row.line, row.reason) for row in rows if isinstance(row, Rejected)]


def prompts(path: Path, **options: Any) -> list[Row[Prompt] | Rejected]:
    return list(read_prompts(PromptSource(path=str(path), **options)))


def write_jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


FORMS: dict[str, dict[str, Any]] = {
    "plain": {"source": "Hallo", "target": "Hello"},
    "translation": {"translation": {"en": "Hello", "de": "Hallo"}},
    "flat": {"line": 7, "en": "Hello", "cs": "Ahoj", "de": "Hallo"},
    "regional": {"translation": {"en-GB": "Hello", "de_AT": "Hallo"}},
    "three_letters": {"deu": "Hallo", "eng": "Hello"},
    "scripts": {"deu_Latn": "Hallo", "eng_Latn": "Hello"},
    "messages": {
        "messages": [
            {"role": "system", "content": "Translate."},
            {"role": "user", "content": "Hallo"},
            {"role": "assistant", "content": "Hello"},
        ]
    },
    "wmt": {"source": "Hallo", "references": {"A": "Hello"}},
    "by_language": {"source": "Hallo", "references": {"cs": "Ahoj", "en": "Hello"}},
    "named": {"source": "Hallo", "target": "Hello", "source_lang": "deu", "target_lang": "en-US"},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_pair_gives_the_same_pair(tmp_path: Path, form: str) -> None:
    rows = pairs(write_jsonl(tmp_path / "a.jsonl", FORMS[form]))
    assert rows == [Row(1, Pair("a:1", "Hallo", "Hello", "de", "en"))]


@pytest.mark.parametrize(
    ("row", "target", "others"),
    [
        ({"references": {"A": "x", "B": "y"}}, "x", ("y",)),
        ({"references": ["x", None, "", "y", "x"]}, "x", ("y",)),
        ({"references": ["x", "y"], "target": "y"}, "y", ("x",)),
        ({"references": {"en": ["x", "y"], "cs": "z"}}, "x", ("y",)),
    ],
)
def test_further_references(tmp_path: Path, row: dict[str, Any], target: str, others: tuple[str, ...]) -> None:
    [pair] = good(pairs(write_jsonl(tmp_path / "a.jsonl", {"source": "s", **row})))
    assert (pair.target, pair.references) == (target, others)


def test_indonesian_id_is_a_text_and_not_an_identifier(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"id": "Selamat pagi", "en": "Good morning"})
    [pair] = good(pairs(path, source="id", target="en"))
    assert (pair.id, pair.source) == ("a:1", "Selamat pagi")


def test_ids_are_kept_and_made_unique(tmp_path: Path) -> None:
    row = {"source": "a", "target": "b"}
    ids = ["x", "x", None, 7, "a:6", None, "x@8", "x", True, ""]
    path = write_jsonl(tmp_path / "a.jsonl", *({**row, "id": one} for one in ids))
    found = [pair.id for pair in good(pairs(path))]
    assert len(set(found)) == len(ids)
    assert found == ["x", "x@2", "a:3", "7", "a:6", "a:6@6", "x@8", "x@8@8", "a:9", "a:10"]


def test_document_and_fields(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"src": "Hallo", "tgt": "Hello", "key": 5, "doc": "news.1"})
    fields = {"source": "src", "target": "tgt", "id": "key", "document": "doc"}
    assert good(pairs(path, fields=fields)) == [Pair("5", "Hallo", "Hello", "de", "en", "news.1")]


def test_bad_lines_are_rejected_with_their_number_and_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ok = b'{"source": "a", "target": "b"}'
    lines = [
        codecs.BOM_UTF8 + ok,
        b'{"source": "Gr\xfc\xdfe", "target": "b"}',
        b"",
        b'{"source": "a"',
        b'["a", "b"]',
        b'{"source": "a", "target": null}',
        b'{"source": 1, "target": "b"}',
        b'{"source": "a"}',
        b"[" * 100_000,
        b'{"source": "a", "target": "b", "source_lang": "en", "target_lang": "de"}',
        b'{"source": "a", "references": []}',
        b'{"messages": [{"role": "user", "content": "a"}]}',
        b'{"messages": [{"role": "user", "content": [{"type": "text"}]}]}',
        b'{"translation": "x"}',
        ok + b"\r",
        ok,
    ]
    path.write_bytes(b"\n".join(lines))
    rows = pairs(path)
    assert [row.line for row in rows if isinstance(row, Row)] == [1, 15, 16]
    assert bad(rows) == [
        (2, "not_utf8"),
        (4, "malformed"),
        (5, "malformed"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "missing_field"),
        (9, "malformed"),
        (10, "language_mismatch"),
        (11, "malformed"),
        (12, "malformed"),
        (13, "malformed"),
        (14, "malformed"),
    ]
    assert {row.file for row in rows if isinstance(row, Rejected)} == {str(path)}


@pytest.mark.parametrize(
    ("declared", "given", "accepted"),
    [("zh", "zh-CN", True), ("zh-CN", "zh", True), ("zh-CN", "zh-TW", False), ("zh", "ja", False), ("zh", 3, False)],
)
def test_named_languages_must_agree(tmp_path: Path, declared: str, given: object, accepted: bool) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"source": "a", "target": "b", "target_lang": given})
    rows = pairs(path, target=declared)
    assert bad(rows) == ([] if accepted else [(1, "language_mismatch")])


def test_first_row_without_the_fields_names_found_and_expected(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"src": "a", "tgt": "b", "translation": {"fr": "c"}})
    with pytest.raises(DataError, match=r"'src', 'tgt', 'translation' \(with 'fr'\).*'source'.*'messages'.*fields:"):
        pairs(path)
    with pytest.raises(DataError, match="fields"):
        pairs(path, fields={"source": "sorce", "target": "tgt"})


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
    assert sides(rows) == [('"Ja', 'Yes"'), ('"Nein"', "No")]
    assert bad(rows) == [(4, "missing_field")]
    assert good(rows)[1].id == "a:3"


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
        (b"<tmx><body><tu>", "not well-formed"),
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
    monkeypatch.setattr("lingraft.data.tmx.MAX_UNIT_BYTES", 100_000)
    path.write_bytes(tmx("<tu><tuv><seg>" + "a" * 200_000))
    with pytest.raises(DataError, match="without the end of a translation unit"):
        pairs(path)


def test_a_huge_line_in_a_small_gzip_file_is_rejected_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    ok = b'{"source": "a", "target": "b"}\n'
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(ok)
        block = random.Random(1).randbytes(500_000).hex().encode()  # of which gzip makes half, as of text
        for _ in range(20):
            stream.write(block)
        stream.write(b"\n" + ok)
    tracemalloc.start()
    rows = pairs(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert bad(rows) == [(2, "line_too_long")]
    assert [row.line for row in rows] == [1, 2, 3]
    assert peak < 20_000_000


@pytest.mark.parametrize("character", ["x", "ä", "語", "😀"])
@pytest.mark.parametrize("extra", [0, 1])
def test_the_limit_counts_characters_not_bytes(tmp_path: Path, character: str, extra: int) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("ja\tyes\n" + character * (1_000_000 - 4 + extra) + "\tyes\nja\tyes", encoding="utf-8")
    rows = pairs(path)
    assert bad(rows) == ([(2, "line_too_long")] if extra else [])
    assert [row.line for row in rows] == [1, 2, 3]


def test_reading_streams(tmp_path: Path) -> None:
    row = json.dumps({"source": "a" * 500, "target": "b" * 500}) + "\n"
    path = tmp_path / "a.jsonl"
    path.write_text(row * 20_000)
    tracemalloc.start()
    count = sum(1 for _ in read_pairs(source(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < path.stat().st_size / 10


def test_arrow_folders(tmp_path: Path) -> None:
    import datasets

    rows = [{"translation": {"de": a, "en": b}} for a, b in SENTENCES]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "one")
    assert sides(pairs(tmp_path / "one")) == SENTENCES
    both = datasets.DatasetDict(train=datasets.Dataset.from_list(rows), test=datasets.Dataset.from_list(rows[:1]))
    both.save_to_disk(tmp_path / "both")
    assert sides(pairs(tmp_path / "both", split="test", format="arrow")) == SENTENCES[:1]
    with pytest.raises(DataError, match=r"no split 'dev'.*train, test"):
        pairs(tmp_path / "both", split="dev")
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="not a readable data set"):
        pairs(tmp_path / "one")


def test_hub_data_sets_are_streamed_and_offline_is_a_clear_error(tmp_path: Path) -> None:
    # `load_dataset` treats a folder of data files like a data set repository: the same path without a network.
    write_jsonl(tmp_path / "train.jsonl", *({"de": a, "en": b} for a, b in SENTENCES))
    code = (
        "import sys; from lingraft.data.readers import PairSource, read_pairs; from lingraft.errors import DataError\n"
        "for path in sys.argv[1:]:\n"
        "    try: print([row.record.source for row in read_pairs(PairSource(path=path, source='de', target='en'))])\n"
        "    except DataError as error: print(error)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", code, f"hub:{tmp_path}", "hub:no-such/data-set"],
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    read, refused = done.stdout.splitlines()
    assert read == str([one for one, _ in SENTENCES])
    assert refused.startswith("hub:no-such/data-set: cannot be read from the Hugging Face hub")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", None, "no such file"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b"\n \n", "no rows"),
        ("a.jsonl", codecs.BOM_UTF16_LE + "{}".encode("utf-16-le"), "UTF-16"),
        ("a.jsonl.gz", b"not gzip", "gzip"),
        ("a.jsonl.gz", gzip.compress(b'{"source": "a", "target": "b"}\n' * 999)[:-9], "gzip"),
        ("a" * 300 + ".jsonl", None, "cannot be read"),
        ("a\0.jsonl", None, "cannot be read"),
    ],
)
def test_unusable_files(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_pairs(source(name), tmp_path))
    assert "\n" not in str(caught.value)


def test_the_unreadable_one_of_two_aligned_files_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(b"no gzip\n")
    (tmp_path / "b.txt").write_text("x\n")
    with pytest.raises(DataError, match=r"^a\.txt\.gz: is not a whole gzip file"):
        list(read_pairs(source("a.txt.gz", target_path="b.txt"), tmp_path))


def test_folders_and_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(DataError, match="folder without a saved data set"):
        read_pairs(source(tmp_path / "folder.jsonl"))
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_pairs(source(tmp_path / "loop.jsonl"))


def test_formats_that_cannot_be_told(tmp_path: Path) -> None:
    for name in ("a.dat", "a.txt", "a.tmx"):
        (tmp_path / name).write_text("x")
    with pytest.raises(UsageError, match="format:"):
        read_pairs(source(tmp_path / "a.dat"))
    with pytest.raises(UsageError, match="target_path"):
        read_pairs(source(tmp_path / "a.txt"))
    with pytest.raises(UsageError, match="TMX"):
        read_prompts(PromptSource(path=str(tmp_path / "a.tmx")))
    with pytest.raises(DataError, match="arrow"):
        read_pairs(source(tmp_path / "a.dat", format="arrow"))


def test_pipes_are_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["sh", "-c", f"printf 'ja\\tyes\\n' > '{pipe}'"]):
        assert sides(pairs(pipe, format="tsv")) == [("ja", "yes")]


def test_starter_files() -> None:
    row = next(read_pairs(source("starter:train.de-en.jsonl")))
    assert isinstance(row, Row)
    assert row.record.source_lang == "de"
    for path in ("starter:nothing.jsonl", "starter:../starter.yaml"):
        with pytest.raises(DataError, match=r"known: .*train\.de-en\.jsonl"):
            read_pairs(source(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "german"}, "did you mean 'de'"),
        ({"target": "deu"}, "two languages"),
        ({"format": "tsv", "target_path": "b"}, "target_path"),
        ({"fields": {"sorce": "x"}}, "unknown field 'sorce'"),
        ({"weight": 0}, "greater than 0"),
        ({"weight": float("inf")}, "finite"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"pth": "x"}, "pth"),
    ],
)
def test_bad_sources(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source("a.jsonl", **options)


def test_sources_are_normalised_described_and_dump_to_themselves() -> None:
    made = source("data/train.de-en.jsonl.gz", source="deu", target="zh_cn")
    assert (made.source, made.target, made.name) == ("de", "zh-CN", "train.de-en")
    assert PairSource(**made.model_dump()) == made
    for model in (PairSource, PromptSource):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("hub:org/name", "name"),
        ("starter:a.b.jsonl", "a.b"),
        ("dir/", "dir"),
        ("x/train.de", "train.de"),
        ("/", "data"),
    ],
)
def test_names(path: str, name: str) -> None:
    assert stem(path) == name


USER = (Message("user", "Why?"),)


@pytest.mark.parametrize(
    ("row", "messages", "reference"),
    [
        ({"prompt": "Why?"}, USER, None),
        ({"goal": "Why?", "target": "Sure, here is"}, USER, None),
        ({"question": "Why?", "reference": "Because."}, USER, "Because."),
        ({"text": "Why?"}, USER, None),
        ({"turns": ["Why?", "And now?"], "reference": ["Because.", "No."]}, USER, "Because."),
        ({"instruction": "Why?", "input": "", "output": "Because."}, USER, "Because."),
        ({"instruction": "Sum.", "input": "1 2"}, (Message("user", "Sum.\n\n1 2"),), None),
        ({"messages": [{"role": "user", "content": "Why?"}]}, USER, None),
        (
            {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]},
            USER,
            "Because.",
        ),
    ],
)
def test_every_form_of_a_prompt(
    tmp_path: Path, row: dict[str, Any], messages: tuple[Message, ...], reference: str | None
) -> None:
    rows = prompts(write_jsonl(tmp_path / "p.jsonl", row), lang="deu")
    assert rows == [Row(1, Prompt("p:1", messages, "de", reference))]


def test_earlier_turns_are_kept(tmp_path: Path) -> None:
    turns = [("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = {"id": "k", "messages": [{"role": role, "content": text} for role, text in turns]}
    [found] = prompts(write_jsonl(tmp_path / "p.jsonl", row))
    assert isinstance(found, Row)
    assert found.record == Prompt("k", tuple(Message(*turn) for turn in turns[:4]), "en", "d")


def test_bad_prompts(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "p.jsonl",
        {"prompt": "ok"},
        {"prompt": " "},
        {"prompt": 3},
        {"other": "x"},
        {"messages": [{"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "judge", "content": "x"}]},
        {"turns": []},
    )
    with path.open("a") as stream:
        stream.write('{"prompt": "\\ud800"}\n')
    assert bad(prompts(path)) == [
        (2, "empty_prompt"),
        (3, "malformed"),
        (4, "missing_field"),
        (5, "malformed"),
        (6, "malformed"),
        (7, "malformed"),
        (8, "control_characters"),
    ]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "Why?\n\nHow?\n"),
        ("p.csv", "n,goal\n1,Why?\n2,How?\n"),
        ("p.csv", "Why?\nHow?\n"),
        ("p.tsv", "Why?\nHow?"),
    ],
)
def test_prompts_from_text_and_tables(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    rows = prompts(tmp_path / name)
    assert [row.record.messages[0].content for row in rows if isinstance(row, Row)] == ["Why?", "How?"]


def test_prompts_with_other_column_names(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "p.jsonl", {"Question": "Why?", "Best Answer": "Because."})
    fields = {"prompt": "Question", "reference": "Best Answer"}
    assert prompts(path, fields=fields) == [Row(1, Prompt("p:1", USER, "en", "Because."))]
    with pytest.raises(DataError, match=r"'Question', 'Best Answer', but expected .*'instruction'.*fields: \{prompt"):
        prompts(path)
