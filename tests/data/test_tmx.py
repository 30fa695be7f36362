"""Content of translation memories: inline codes, white space, encodings, and units that are broken."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest

from lingraft.core.errors import DataError
from lingraft.data.files import Row
from lingraft.data.readers import read_pairs
from lingraft.data.remarks import Remarks
from reading import bad, pairs, sides, source

GOOD = '<tu><tuv xml:lang="de"><seg>Gut.</seg></tuv><tuv xml:lang="en"><seg>Good.</seg></tuv></tu>'


def unit(source: str, target: str = "x", attributes: str = "") -> str:
    return (
        f'<tu{attributes}><tuv xml:lang="de"><seg>{source}</seg></tuv><tuv xml:lang="en"><seg>{target}</seg></tuv></tu>'
    )


def write(path: Path, *units: str, encoding: str = "utf-8", declared: str = "utf-8", root: str = "<tmx>") -> Path:
    text = f'<?xml version="1.0" encoding="{declared}"?>\n{root}<header/><body>\n{"".join(units)}</body></tmx>'
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path, *units: str, **options: Any) -> list[str]:
    return [one for one, _ in sides(pairs(write(path, *units), **options))]


BR, BOLD, UNBOLD, IMAGE = (escape(code) for code in ("<br/>", "<b>", "</b>", '<img src="x"/>'))


@pytest.mark.parametrize(
    ("segment", "dropped", "kept", "numbered"),
    [
        (f'One<ph x="1">{BR}</ph>two', "One two", "One<br/>two", "One<1/>two"),
        (f"One.<ph>{BR}</ph>Two", "One. Two", "One.<br/>Two", "One.<1/>Two"),
        (f"一<ph>{BR}</ph>二", "一二", "一<br/>二", "一<1/>二"),
        ("one<ph/>two", "one two", "one two", "one<1/>two"),
        ("one<it pos='begin'>x</it>two", "one two", "onextwo", "one<1/>two"),
        ("one<ut>x</ut>two", "one two", "onextwo", "one<1/>two"),
        (
            "Hi <ph>%s</ph>, <ph>{0}</ph> of <it>%1$d</it>!",
            "Hi %s, {0} of %1$d!",
            "Hi %s, {0} of %1$d!",
            "Hi %s, {0} of %1$d!",
        ),
        ("100<ph>%</ph> of it", "100 of it", "100% of it", "100<1/> of it"),
        (
            f'A <bpt i="1" x="4">{BOLD}</bpt>big<ept i="1">{UNBOLD}</ept> one',
            "A big one",
            "A <b>big</b> one",
            "A <4>big</4> one",
        ),
        (
            f'<bpt i="1">{BOLD}</bpt>F<ept i="1">{UNBOLD}</ept>ile',
            "File",
            "<b>F</b>ile",
            "<1>F</1>ile",
        ),
        ('a<bpt i="1">x</bpt>b<ept i="1">y</ept>c', "a b c", "axbyc", "a<1>b</1>c"),
        (f"See <ph>{IMAGE}</ph>, then", "See, then", 'See <img src="x"/>, then', "See <1/>, then"),
        (f"See <ph>{IMAGE}</ph> and", "See and", 'See <img src="x"/> and', "See <1/> and"),
        (f"<ph>{IMAGE}</ph> See <ph>{IMAGE}</ph>", "See", '<img src="x"/> See <img src="x"/>', "<1/> See <2/>"),
        ("a <hi>marked</hi> word", "a marked word", "a marked word", "a <1>marked</1> word"),
        ("an <ph>[<sub>other text</sub>]</ph> b", "an b", "an [other text] b", "an <1/> b"),
        (
            'Press <g id="7">Start</g><bx id="2"/> now',
            "Press Start now",
            "Press Start now",
            "Press <7>Start</7><2> now",
        ),
    ],
)
def test_inline_codes(tmp_path: Path, segment: str, dropped: str, kept: str, numbered: str) -> None:
    for codes, text in (("drop", dropped), ("keep", kept), ("placeholder", numbered)):
        assert read(tmp_path / "a.tmx", unit(segment), inline_codes=codes) == [text], codes
    assert read(tmp_path / "a.tmx", unit(segment)) == [dropped]


def test_inline_codes_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tmx", unit("a<ph/>b<ph>%s</ph>", "<bpt i='1'/>c<ept i='1'/> <hi>d</hi>"), GOOD)
    remarks = Remarks()
    assert len(list(read_pairs(source(path), remarks=remarks))) == 2
    assert +remarks.codes == Counter(ph=2, bpt=1, ept=1, hi=1)


def test_a_second_text_in_a_language_of_a_unit_is_counted(tmp_path: Path) -> None:
    twice = unit("Eins", "One").replace("<tu>", '<tu><tuv xml:lang="de-AT"><seg>Ans</seg></tuv>')
    twice = twice.replace("</tu>", '<tuv xml:lang="de"><seg>Einz</seg></tuv></tu>')
    path = write(tmp_path / "a.tmx", GOOD, twice, twice)
    for german, read, left in (
        ("de", ["Gut.", "Eins", "Eins"], {("source", "de-AT", "de"): 2, ("source", "de", "de"): 2}),
        ("de-AT", ["Gut.", "Ans", "Ans"], {("source", "de", "de-AT"): 2}),
    ):
        remarks = Remarks()
        rows = list(read_pairs(source(path, source=german), remarks=remarks))
        assert [one for one, _ in sides(rows)] == read
        assert remarks.variants == left
    assert Remarks(variants=Counter({("source", "de", "de"): 2})).sentences("drop") == [
        "2 texts are left out, the second and later ones in de of a row or unit"
    ]


@pytest.mark.parametrize(
    ("segment", "attributes", "text"),
    [
        ("\n     Die Lampe\n     steht.\n   ", "", "Die Lampe steht."),
        ("\nDie Lampe\nsteht.\n", "", "Die Lampe steht."),
        ("Die Lampe\n\t steht.", "", "Die Lampe steht."),
        ("\n 这盏\n 灯。\n", "", "这盏灯。"),
        ("Zeile eins\nZeile zwei", "", "Zeile eins\nZeile zwei"),
        ("  Die  Lampe ", "", "  Die  Lampe "),
        ("\n  Die Lampe\n", ' xml:space="preserve"', "\n  Die Lampe\n"),
    ],
)
def test_white_space_of_pretty_printed_segments(tmp_path: Path, segment: str, attributes: str, text: str) -> None:
    assert read(tmp_path / "a.tmx", unit(segment, attributes=attributes)) == [text]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (unit("Steuer&#x1F;zeichen"), "reference to invalid character number in line 5"),
        (unit("A&nbsp;B"), "undefined entity in line 5"),
        (unit("A & B"), "not well-formed"),
        (unit("<b>A</i>"), "mismatched tag"),
        (unit("x" * 70_000 + "<b>"), "mismatched tag"),
        ('<tu><tuv xml:lang="de"><seg>A</seg></tuv>', "does not end before the next one begins"),
        ('<tuv xml:lang="de"><seg>A</seg></tuv></tu>', "no beginning"),
        (unit("<!DOCTYPE a>"), "line 5"),
        (unit("<hi>" * 30_000), "more than 20,000 tags"),
    ],
)
def test_a_broken_unit_costs_itself_alone(tmp_path: Path, broken: str, reason: str) -> None:
    path = write(tmp_path / "a.tmx", GOOD, "\n", "<!-- <tu> \n", "x" * 300, " --><tu/>", broken, GOOD, GOOD)
    rows = pairs(path)
    assert sides(rows) == [("Gut.", "Good.")] * 3
    assert bad(rows) == [(2, "missing_field"), (3, "malformed")]
    assert reason in str(rows[2])
    assert "line 5" in str(rows[2])


@pytest.mark.parametrize("cut", [1, 9, 20, 60, 90])
def test_a_file_that_is_cut_off_is_told(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "a.tmx", GOOD, GOOD)
    path.write_bytes(path.read_bytes()[:-cut])
    rows = pairs(path)
    assert [row for row in rows if isinstance(row, Row)]
    assert [reason for _, reason in bad(rows)] == ["malformed"]
    assert "cut off" in str(rows[-1]) or "the file ends within it" in str(rows[-1])


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("gb18030", "GB18030"),
        ("cp1252", "windows-1252"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", "utf-16"),
        ("utf-16-be", "utf-16"),
        ("utf-8-sig", "utf-8"),
        ("utf-8", "utf-16"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, declared: str) -> None:
    text = "这盏灯“in”" if encoding != "cp1252" else "Café “in”"
    path = write(tmp_path / "a.tmx", unit(text), encoding=encoding, declared=declared)
    assert sides(pairs(path)) == [(text, "x")]


def test_bytes_that_are_not_in_the_encoding_cost_their_unit(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tmx", unit("Caf\xe9", "q"), GOOD.replace("Gut", "Schon"), encoding="latin-1")
    rows = pairs(path)
    assert (bad(rows), sides(rows)) == ([(1, "not_utf8")], [("Schon.", "Good.")])
    for declared in ("utf-7", "klingon", "rot13", "unicode_escape"):
        with pytest.raises(DataError, match="encoding that XML readers do not know"):
            pairs(write(tmp_path / "a.tmx", GOOD, declared=declared))


def test_name_spaces_of_the_root_hold_in_its_units(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tmx", unit("A", "B", ' m:x="1"'), root='<tmx xmlns="http://x" xmlns:m="http://m">')
    assert sides(pairs(path)) == [("A", "B")]
    prefixed = unit("A", "B").replace("<", "<t:").replace("<t:/", "</t:")
    path.write_text(f'<t:tmx xmlns:t="http://x"><t:body>{prefixed}</t:body></t:tmx>')
    assert sides(pairs(path)) == [("A", "B")]


def test_languages_that_a_file_has_not_are_told_with_those_that_it_has(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tmx", GOOD, GOOD)
    with pytest.raises(DataError, match=r"no unit has both fr and en; the languages of this TMX file are de, en"):
        pairs(path, source="fr")
