"""Pairs in XLIFF, PO, test sets of WMT and files of Arrow's: inline codes, languages, broken files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow
import pytest

from lingraft.core.errors import LingraftError
from lingraft.data.files import Row
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Pair

XLIFF = """<?xml version="1.0"?>
<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
<file original="a" source-language="de-DE" target-language="en-GB"><body>
<trans-unit id="1"><source>Ein <g id="1">fetter</g><x id="2"/>
 <bpt id="3">&lt;i></bpt>Satz<ept id="3">&lt;/i></ept>.</source>
<target>A <g id="1">bold</g><x id="2"/> <bpt id="3">&lt;i></bpt>sentence<ept id="3">&lt;/i></ept>.</target></trans-unit>
<trans-unit id="2"><source>Offen</source></trans-unit>
</body></file></xliff>
"""
XLIFF2 = """<xliff version="2.0" srcLang="de" trgLang="en" xmlns="urn:oasis:names:tc:xliff:document:2.0"><file id="f">
<unit id="u"><segment id="s"><source>Neu <sc id="3"/>hier<ec startRef="3"/><pc id="4">da</pc><ph id="5"/></source>
<target>New <sc id="3"/>here<ec startRef="3"/><pc id="4">there</pc><ph id="5"/></target></segment></unit></file></xliff>
"""
PO = """msgid ""
msgstr "Language: en\\n"

msgid "Ein \\"Satz\\""
msgstr "A \\"sentence\\""

#, fuzzy
msgid "Geraten"
msgstr "guess"

msgid "%d Datei"
msgid_plural "%d Dateien"
msgstr[0] "%d file"
msgstr[1] "%d files"

#~ msgid "alt"
#~ msgstr "old"
"""
WMT = """<?xml version='1.0' encoding='utf-8'?>
<dataset id="wmt22"><collection id="general">
<doc id="d1" origlang="de"><src lang="de"><p><seg id="1">Eins.</seg></p><p><seg id="2">Zwei.</seg></p></src>
<ref lang="en" translator="A"><p><seg id="1">One.</seg></p><p><seg id="2">Two.</seg></p></ref>
<ref lang="en" translator="B"><p><seg id="1">One!</seg></p></ref>
<hyp system="x" lang="en"><p><seg id="1">Nine.</seg></p></hyp></doc>
<doc id="d2" origlang="fr"><src lang="fr"><p><seg id="1">Un.</seg></p></src></doc>
</collection></dataset>
"""


def read(folder: Path, name: str, data: str | bytes, source: str = "de", target: str = "en", **more: Any) -> list[Any]:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    found = read_pairs(PairSource(path=str(path), source=source, target=target, **more))
    return [row.record if isinstance(row, Row) else row for row in found]


@pytest.mark.parametrize(
    ("codes", "source", "target"),
    [
        ("drop", "Ein fetter Satz.", "A bold sentence."),
        ("keep", "Ein fetter <i>Satz</i>.", "A bold <i>sentence</i>."),
        ("placeholder", "Ein <1>fetter</1><2/> <3>Satz</3>.", "A <1>bold</1><2/> <3>sentence</3>."),
    ],
)
def test_units_of_xliff(tmp_path: Path, codes: str, source: str, target: str) -> None:
    first, empty = read(tmp_path, "a.xlf", XLIFF, inline_codes=codes)
    assert (first.id, first.source, first.target, first.source_lang) == ("1", source, target, "de")
    assert (empty.source, empty.target) == ("Offen", "")  # the checks of pairs reject it
    turned, _ = read(tmp_path, "a.xliff", XLIFF, "en", "de", inline_codes=codes)
    assert (turned.source, turned.target) == (target, source)


def test_segments_of_xliff_2(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, "a.xliff", XLIFF2, inline_codes="placeholder")
    assert (pair.id, pair.source) == ("u/s", "Neu <3>hier</3><4>da</4><5/>")
    assert pair.target == "New <3>here</3><4>there</4><5/>"
    (pair,) = read(tmp_path, "a.xliff", XLIFF2)
    assert pair.source == "Neu hier da"


def test_entries_of_catalogues(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.po", PO)
    assert [(one.source, one.target) for one in rows] == [
        ('Ein "Satz"', 'A "sentence"'),
        ("%d Datei", "%d file"),
        ("%d Dateien", "%d files"),
    ]
    assert rows[0].id == "line 4"


def test_sets_of_wmt(tmp_path: Path) -> None:
    rows = read(tmp_path, "wmt.xml", WMT)
    assert rows[0] == Pair("d1:1", "Eins.", "One.", "de", "en", "d1", ("One!",))
    assert rows[1] == Pair("d1:2", "Zwei.", "Two.", "de", "en", "d1")
    assert len(rows) == 2


@pytest.mark.parametrize("kind", ["file", "stream"])
def test_files_of_arrow(tmp_path: Path, kind: str) -> None:
    table = pyarrow.table({"source": ["Eins", "Zwei"], "target": ["One", "Two"]})
    path = tmp_path / "a.arrow"
    opener = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with opener(str(path), table.schema) as writer:
        writer.write_table(table)
    found = list(read_pairs(PairSource(path=str(path), source="de", target="en")))
    assert [(row.record.source, row.record.target) for row in found if isinstance(row, Row)] == [
        ("Eins", "One"),
        ("Zwei", "Two"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.xlf", XLIFF.replace("de-DE", "fr"), "nothing in it is in both de and en; its languages are fr, en-GB"),
        ("a.xlf", XLIFF[:400], r"not well-formed XML \(line \d"),
        ("a.xlf", "<!DOCTYPE a [<!ENTITY b 'c'>]><xliff>&b;</xliff>", "has a DOCTYPE"),
        ("a.xlf", "<tmx/>", "begins with <tmx>, not <xliff>"),
        ("a.xml", "<html/>", "begins with <html>, not <dataset>"),
        ("a.xml", WMT.replace('"en"', '"cs"'), "nothing in it is in both de and en; its languages are de, cs, fr"),
        ("a.po", b"msgid \xff", r"is not UTF-8 \(line 1\)"),
        ("a.po", "nonsense", "line 1 is of no entry"),
        ("a.arrow", b"ARROW1 nonsense", "is not a readable Arrow file"),
    ],
)
def test_what_is_broken_is_refused_with_its_place(tmp_path: Path, name: str, data: str | bytes, words: str) -> None:
    with pytest.raises(LingraftError, match=words) as caught:
        read(tmp_path, name, data)
    assert "\n" not in str(caught.value)
