"""Which way round a file is, told from its rows together; the truth is how the sentences were written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.core.errors import DataError, options
from lingraft.data.file_checks import check_files, check_test_rows
from lingraft.data.files import Row
from lingraft.data.overview import Overview
from lingraft.data.pair_checks import CheckLimits, CheckTally, check_pairs, enforce_limit
from lingraft.data.readers import read_pairs
from lingraft.data.records import Pair
from lingraft.language.identification import log_odds
from reading import source, write_jsonl

SHORT = {
    ("en", "es"): [
        ("Good night.", "Buenas noches."),
        ("See you soon.", "Hasta pronto."),
        ("Thank you.", "Gracias."),
        ("I have to go to sleep.", "Tengo que irme a dormir."),
        ("Today is June 18th.", "Hoy es 18 de junio."),
        ("She is asking him.", "Ella le pregunta."),
    ],
    ("de", "en"): [
        ("Guten Morgen.", "Good morning."),
        ("Bis bald.", "See you soon."),
        ("Danke schön.", "Thank you."),
        ("Der Hund bellt.", "The dog barks."),
        ("Ich heiße Anna.", "My name is Anna."),
    ],
    ("no", "sv"): [
        ("Jeg heter Anna.", "Jag heter Anna."),
        ("Hva heter du?", "Vad heter du?"),
        ("Jeg vet ikke.", "Jag vet inte."),
        ("Hva gjør dere?", "Vad gör ni?"),
    ],
    ("zh", "en"): [("你好。", "Hello."), ("谢谢你。", "Thank you."), ("再见。", "Bye.")],
    ("shn", "en"): [("မႂ်ႇသုင်ၶႃႈ", "Hello."), ("ၶွပ်ႈၸႂ်ယူႇၶႃႈ", "Thank you."), ("ဢွၼ်ၵၼ်", "Together.")],
}


def overview(rows: list[tuple[str, str]], languages: tuple[str, str]) -> Overview:
    found = Overview()
    for start in range(0, len(rows), 3):
        part = enumerate(rows[start : start + 3], start=start + 1)
        found.add([Row(n, Pair(f"p:{n}", one, other, *languages)) for n, (one, other) in part])
    return found


@pytest.mark.parametrize("languages", SHORT)
def test_short_sentences_tell_together_which_way_round_they_are(languages: tuple[str, str]) -> None:
    rows = SHORT[languages]
    assert overview(rows, languages).problem() == ""
    swapped = overview([(target, source) for source, target in rows], languages).problem()
    assert f"of {len(rows)} rows look swapped" in swapped
    assert "`source:` and `target:` the other way round" in swapped
    with options({"source": "--from", "target": "--to"}):
        assert "--from and --to the other way round" in overview([row[::-1] for row in rows], languages).problem()


def test_a_part_that_is_swapped_is_told_and_single_rows_are_not() -> None:
    rows = SHORT["en", "es"] * 4
    assert overview([*rows, rows[0][::-1]], ("en", "es")).problem() == ""
    mixed = overview([*rows, *(row[::-1] for row in rows[:12])], ("en", "es")).problem()
    assert mixed.startswith("12 of 36 rows look swapped (es first, then en); give a file")


def test_what_tells_nothing_is_no_problem() -> None:
    assert overview([("Berlin", "Berlin!"), ("OK", "OK."), ("Anna", "Anna")], ("de", "en")).problem() == ""
    for languages in (("zh-CN", "zh-TW"), ("pt-BR", "pt-PT"), ("sr", "sr-Latn"), ("qaa-x-one", "qaa-x-two")):
        assert overview([("Bom dia.", "Bom dia!")] * 9, languages).problem() == ""
    assert Overview().problem() == ""
    assert log_odds(["", "x"], "de", "de-AT") == [0.0, 0.0]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([(str(n), text) for n, (text, _) in enumerate(SHORT["en", "es"])], "6 of 6 sources have no letter"),
        ([(one, "1.25") for one, _ in SHORT["en", "es"]], "6 of 6 targets have no letter"),
        ([(one, one.upper().lower() + " Yes!") for one, _ in SHORT["en", "es"]], "look like English on both sides"),
    ],
)
def test_columns_that_are_not_the_pair(rows: list[tuple[str, str]], problem: str) -> None:
    assert problem in overview(rows, ("en", "es")).problem()


def test_a_swapped_file_is_refused_by_its_checks(tmp_path: Path) -> None:
    rows = [{"source": target, "target": source} for source, target in SHORT["en", "es"]]
    path = write_jsonl(tmp_path / "a.jsonl", *rows)
    declared = source(path, source="en", target="es")
    limits = CheckLimits()
    [report] = check_files([declared], limits).files
    assert (report.tally.accepted, [row.line for row in report.tally.overview.rows]) == (6, [1, 2])
    with pytest.raises(DataError, match=r"a\.jsonl: 6 of 6 rows look swapped"):
        enforce_limit(report.tally, limits, str(path))
    tally = CheckTally()
    lenient = CheckLimits(language_check=False)
    list(check_pairs(read_pairs(declared), lenient, file="a", overview=tally.overview))
    enforce_limit(tally, lenient, "a")
    assert [row.record.source for row in tally.overview.rows] == [row["source"] for row in rows[:2]]


GERMAN = "Die Gemeinde hat gestern beschlossen, die alte Brücke über den Fluss zu erneuern."
ENGLISH = "The council decided yesterday to renew the old bridge over the river."
FRENCH = "Le conseil a décidé hier de rénover le vieux pont qui traverse la rivière."


@pytest.mark.parametrize(
    ("rows", "refused", "remark"),
    [
        ([(GERMAN, ENGLISH)] * 30, "", False),
        ([(GERMAN, ENGLISH)] * 30 + [(FRENCH, ENGLISH)], "", True),
        ([(GERMAN, ENGLISH)] * 9 + [(FRENCH, ENGLISH)] * 3, "3 of 12 test rows look like other languages", False),
        ([(GERMAN, ENGLISH)] * 3 + [(ENGLISH, GERMAN)] * 9, "9 of 12 rows look swapped", False),
    ],
)
def test_test_sets_are_judged_like_training_files_and_stay_whole(
    rows: list[tuple[str, str]], refused: str, remark: bool
) -> None:
    items = [Pair(f"t:{n}", one, other, "de", "en") for n, (one, other) in enumerate(rows)]
    remarks: list[str] = []
    passed = check_test_rows(items, CheckLimits(), file="t.tsv", remark=remarks.append)
    if refused:
        with pytest.raises(DataError, match=rf"^t\.tsv: {refused}"):
            list(passed)
    else:
        assert list(passed) == items
    assert bool(remarks) == remark
    assert list(check_test_rows(items, CheckLimits(language_check=False), file="t.tsv")) == items
    assert all("t:30 looks like fr" in json.dumps(text) for text in remarks)
