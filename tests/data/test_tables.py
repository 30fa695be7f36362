"""Tables: which column is what, separators and quoting, against what the writer meant and Python's csv module."""

from __future__ import annotations

import csv
import io
import random
import re
from pathlib import Path

import pytest

from lingraft.core.errors import DataError
from lingraft.data.files import Row
from lingraft.data.readers import read_pairs
from reading import bad, good, pairs, prompts, sides, source, texts

NIGHT = ("Good night.", "Buenas noches.")
SOON = ("See you soon.", "Hasta pronto.")


def english_spanish(path: Path, content: str, **options: object) -> list[tuple[str, str]]:
    path.write_text(content, "utf-8", newline="")
    return sides(pairs(path, **{"source": "en", "target": "es", **options}))


@pytest.mark.parametrize(
    "header",
    [
        "source,target",
        "Source,Target",
        "SRC,TGT",
        "Source text,Target text",
        "source_text,target_text",
        "English,Spanish",
        "english,SPANISH",
        "English,Español",
        "Englisch,Spanisch",
        "inglés,español",
        "en,es",
        "EN,ES",
        "en-GB,es-419",
        "en_US,es_MX",
        "eng,spa",
        "eng_Latn,spa_Latn",
        "sentence_eng_Latn,sentence_spa_Latn",
        "Source (en),Target (es)",
        "source_en,target_es",
        "text_en,text_es",
        "English (US),Spanish (Mexico)",
        "original,translation",
        "English,translation",
        "source,Spanish",
        "Quelle,Übersetzung",
        "Origen,Traducción",
        "原文,译文",
        '"Source","Target"',
        "\ufeffSource,Target",
    ],
)
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_headers_are_recognised_and_read_by_name(tmp_path: Path, header: str, kind: str) -> None:
    mark = "," if kind == "csv" else "\t"
    first, second = header.split(",")
    path = tmp_path / f"a.{kind}"
    straight = mark.join((first, second)) + "\n" + mark.join(NIGHT)
    assert english_spanish(path, straight) == [NIGHT]
    with_others = mark.join(("ID", "score", first.removeprefix("\ufeff"), "No.", second, "URL"))
    row = mark.join(("7", "1.25", NIGHT[0], "3", NIGHT[1], "x"))
    assert english_spanish(path, f"{with_others}\n{row}") == [NIGHT]
    assert good(pairs(path, source="en", target="es"))[0].id == "7"
    turned = mark.join((second, first.removeprefix("\ufeff"))) + "\n" + mark.join(NIGHT[::-1])
    assert english_spanish(path, turned) == [NIGHT]


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("a.tsv", "1276\tLet's try!\t2481\t¡Intentemos!\n", "'1276', \"Let's try!\", '2481', '¡Intentemos!'"),
        ("a.tsv", "1.25\tGood night.\tBuenas noches.\n", "3 cells .*'1.25', 'Good night.', 'Buenas noches.'"),
        ("a.csv", "key,left,right\n1,Good night.,Buenas noches.\n", "'key', 'left', 'right'"),
        ("a.csv", "Good morning, Anna.,Buenos días, Ana.\nEnd.,Fin.\n", "4 cells"),
        ("a.csv", "Good night.\nSee you.\n", "one cell"),
        ("a.tsv", "source,target\nGood night.,Buenas noches.\n", r"separated by commas\? then set `format: csv`"),
        ("a.csv", "source,Deutung\nGood night.,Buenas noches.\n", "fields 'source', 'Deutung'"),
        ("a.csv", "English,Sinn\nGood night.,Buenas noches.\n", "fields 'source', 'Sinn'"),
        ("a.csv", "source,target,target\na,b,c\n", "'target' twice"),
        ("a.csv", "source,target,score,Score\na,b,1,2\n", "'Score' twice"),
        ("a.csv", "English,Inglés,Spanish\na,b,c\n", "'English' and 'Inglés' for one side"),
    ],
)
def test_columns_that_nobody_named_are_refused_with_the_first_row(
    tmp_path: Path, name: str, content: str, shown: str
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=rf"^a\.[ct]sv: .*{shown}") as caught:
        list(read_pairs(source(name, source="en", target="es"), tmp_path))
    assert "\n" not in str(caught.value)


LONG = [("Where is the station?", "¿Dónde está la estación?"), ("It rains.", "Llueve."), NIGHT, SOON] * 3


@pytest.mark.parametrize(
    "header",
    [
        *("input,output", "text1,text2", "q,a", "question,answer", "sentence_1,sentence_2", "Sentence A,Sentence B"),
        *("col_a,col_b", "inputText,outputText", "Frage,Antwort", "pregunta,respuesta", "вопрос,ответ", "输入,输出"),
        *("French,German", "English,sentence2", "left,right", "Text 1,Text 2"),
    ],
)
@pytest.mark.parametrize("mark", [",", "\t"])
@pytest.mark.parametrize("rows", [1, 12])
def test_names_that_are_not_known_are_no_pair(tmp_path: Path, header: str, mark: str, rows: int) -> None:
    names = header.split(",")
    path = tmp_path / ("a.csv" if mark == "," else "a.tsv")
    content = "".join(mark.join(row) + "\n" for row in (names, *LONG[:rows]))
    if names[0] == "English":  # a known name of one side
        with pytest.raises(DataError, match="'source', 'sentence2'"):
            english_spanish(path, content)
        return
    plain = " " not in header
    remedy = f"source: {names[0]}, target: {names[1]}" if plain else "source: 1, target: 2"
    shown = re.escape(f"{names[0]!r}, {names[1]!r}; say which column holds what: `fields: {{{remedy}}}`")
    with pytest.raises(DataError, match=rf"a\.[ct]sv: the first row looks like a header .*: {shown}$"):
        english_spanish(path, content)
    for fields in ({"source": names[0], "target": names[1]}, {"source": 1, "target": 2}):
        assert english_spanish(path, content, fields=fields) == LONG[:rows]


def test_words_above_sentences_are_no_pair_unless_it_is_said_so(tmp_path: Path) -> None:
    rows = ["gabbo\tmumbo", *map("\t".join, LONG)]
    with pytest.raises(
        DataError, match=r"`fields: \{source: gabbo, target: mumbo\}`, or, if .* row.*: 1, target: 2\}`$"
    ):
        english_spanish(tmp_path / "a.tsv", "\n".join(rows))
    by_number = english_spanish(tmp_path / "a.tsv", "\n".join(rows), fields={"source": 1, "target": 2})
    assert by_number == [("gabbo", "mumbo"), *LONG]


@pytest.mark.parametrize(
    "rows",
    [
        [("Hello", "Hola"), *LONG],
        [("Hi.", "¡Hola!"), *LONG],
        [("hello", "hola"), *LONG, ("thanks", "gracias")],  # there are more such rows
        [("hello", "hola"), *[(a.lower(), b.lower()) for a, b in LONG]],  # all is written small
        [("hello", "hola"), *LONG[:9]],  # too few to say
        [("question", "pregunta"), ("answer", "respuesta"), ("dog", "perro"), ("left", "izquierda")],
        [("text", "text"), *LONG],
        [("input", "output"), ("left", "right"), ("from", "to")],
        [("a", "b"), ("c", "d"), ("Good night.", "Buenas noches.")],
        [("good night", "buenas noches"), *LONG],
        [("input", "output")],
    ],
)
def test_a_first_row_of_text_is_a_row(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    assert english_spanish(tmp_path / "a.tsv", "".join(f"{a}\t{b}\n" for a, b in rows)) == rows


def test_a_name_that_is_not_known_is_no_prompt(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("query\nWhy do cats purr?\n", "utf-8")
    with pytest.raises(DataError, match=r"looks like a header .*'query'; .*`fields: \{prompt: query\}`$"):
        prompts(path)
    for fields in ({"prompt": "query"}, {"prompt": 1}):
        [row] = prompts(path, fields=fields)
        assert isinstance(row, Row)
        assert row.record.messages[-1].content == "Why do cats purr?"
    path.write_text("Why?\nquery\n", "utf-8")
    assert len(prompts(path)) == 2


def test_a_table_of_two_columns_needs_no_header(tmp_path: Path) -> None:
    rows = "Good night.\tBuenas noches.\n\nSee you soon.\tHasta pronto.\n"
    assert english_spanish(tmp_path / "a.tsv", rows) == [NIGHT, SOON]
    assert english_spanish(tmp_path / "a.csv", rows) == [NIGHT, SOON]
    # Rows of a glossary that name one language in two languages, and words that are codes, are no header.
    assert english_spanish(tmp_path / "b.tsv", "Spanish\tespañol\nEnglish\tinglés\n") == [
        ("Spanish", "español"),
        ("English", "inglés"),
    ]
    (tmp_path / "c.tsv").write_text("No\tNei\nIs\tEr\n")
    assert sides(pairs(tmp_path / "c.tsv", source="no", target="is")) == [("No", "Nei"), ("Is", "Er")]


def test_columns_by_number_and_by_name(tmp_path: Path) -> None:
    content = "1276\tGood night.\t2481\tBuenas noches.\n1277\tSee you soon.\t2482\tHasta pronto.\n"
    fields = {"source": 2, "target": 4, "id": 1}
    assert english_spanish(tmp_path / "a.tsv", content, fields=fields) == [NIGHT, SOON]
    assert [pair.id for pair in good(pairs(tmp_path / "a.tsv", source="en", target="es", fields=fields))] == [
        "1276",
        "1277",
    ]
    with pytest.raises(DataError, match="there is no column 5: rows have 4 cells; the first row is '1276', 'Good"):
        english_spanish(tmp_path / "a.tsv", content, fields={"source": 2, "target": 5})
    with pytest.raises(DataError, match="there is no column 0: columns are counted from 1; the first row is '1276'"):
        english_spanish(tmp_path / "a.tsv", content, fields={"source": 0, "target": 2})
    headed = "Nr\tFrom\tId\tInto\n" + content  # names that are not known, above numbers
    assert english_spanish(tmp_path / "b.tsv", headed, fields=fields) == [NIGHT, SOON]
    named = "Key;Left;Right\n1;Good night.;Buenas noches.\n"
    assert english_spanish(tmp_path / "a.csv", named, fields={"source": "left", "target": "Right"}) == [NIGHT]
    with pytest.raises(DataError, match="'Key', 'Left', 'Right'"):
        english_spanish(tmp_path / "a.csv", named, fields={"source": "Lft", "target": "Rght"})


def test_rows_keep_all_their_cells_or_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "source,target\nGuten Morgen, Anna.,Good morning, Anna.\nEnde.,The end.\nA,B,C\nJa,Yes,,\nNein\n", "utf-8"
    )
    rows = pairs(path)
    assert sides(rows) == [("Ende.", "The end."), ("Ja", "Yes")]
    assert bad(rows) == [(2, "malformed"), (4, "malformed"), (6, "missing_field")]
    path.write_text("source,target,\nGuten Morgen, Anna.,Good morning.\n,a,b\n", "utf-8")  # an empty name names nothing
    assert bad(pairs(path))[0] == (2, "malformed")
    path.write_text(",source,target\n0,Ja,Yes\n", "utf-8")  # as pandas writes its index
    assert sides(pairs(path)) == [("Ja", "Yes")]


@pytest.mark.parametrize("mark", ["\t", ",", ";"])
@pytest.mark.parametrize("header", ["source{0}target", "", "English{0}Spanish", "id{0}source{0}target", "numbers"])
def test_a_short_first_row_is_one_rejected_row(tmp_path: Path, mark: str, header: str) -> None:
    ids, fields = ("7" + mark, {}) if header.startswith("id") else ("", {})
    if header == "numbers":
        ids, fields, header = "7" + mark, {"source": 2, "target": 3}, ""
    head = header.format(mark) + "\n" if header else ""
    rows = [f"{ids}Alone.", *(ids + mark.join(row) for row in (NIGHT, SOON) * 3), f"{ids}Alone."]
    (tmp_path / "a.csv").write_text(head + "\n".join(rows) + "\n", "utf-8")
    found = pairs(tmp_path / "a.csv", source="en", target="es", fields=fields)
    first = 2 if header else 1
    assert sides(found) == [NIGHT, SOON] * 3
    assert bad(found) == [(first, "missing_field"), (first + 7, "missing_field")]
    if mark == "\t":
        (tmp_path / "a.csv").rename(tmp_path / "a.tsv")
        assert sides(pairs(tmp_path / "a.tsv", source="en", target="es", fields=fields)) == [NIGHT, SOON] * 3


def test_a_short_first_row_hides_no_header_that_names_too_little(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("source\tDeutung\nAlone.\nGood night.\tBuenas noches.\n", "utf-8")
    with pytest.raises(DataError, match="row 3 has the fields 'source', 'Deutung'"):
        pairs(path, source="en", target="es")
    path.write_text("Alone.\nAlone again.\nGood night.\tBuenas noches.\n", "utf-8")  # most rows have one cell
    with pytest.raises(DataError, match=r"the first row has one cell .*'Alone\.'"):
        pairs(path, source="en", target="es")


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["source{0}target\n", "sep={0}\nsource{0}target\n", "sep={0}\r\n", ""])
def test_the_separator_is_told_from_header_or_rows(tmp_path: Path, mark: str, header: str) -> None:
    rows = [("Ja, gern; und | dann", "Yes, gladly; and | then"), ("Ende", "The end"), ("Danke, gut", "Fine; thanks")]
    stream = io.StringIO()
    csv.writer(stream, delimiter=mark).writerows(rows)
    (tmp_path / "a.csv").write_text(header.format(mark) + stream.getvalue(), "utf-8", newline="")
    assert sides(pairs(tmp_path / "a.csv")) == rows


def test_semicolons_between_sentences_with_commas(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Guten Morgen, Anna;Good morning, Anna\nBis bald, Peter;See you soon, Peter\n", "utf-8")
    assert sides(pairs(path)) == [
        ("Guten Morgen, Anna", "Good morning, Anna"),
        ("Bis bald, Peter", "See you soon, Peter"),
    ]
    path.write_text("a;b,c\n", "utf-8")
    with pytest.raises(DataError, match=r"separated by commas or by semicolons.*'a;b,c'.*sep="):
        pairs(path)


def test_spaces_behind_separators_belong_to_the_header_s_way_of_writing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('source, target\nGuten Morgen., "Good morning, Anna."\n', "utf-8")
    assert sides(pairs(path)) == [("Guten Morgen.", "Good morning, Anna.")]
    path.write_text('source,target\nGuten Morgen., "Good morning."\n" ""Ja""",x\n', "utf-8")
    rows = pairs(path)
    assert (bad(rows), sides(rows)) == ([(2, "malformed")], [(' "Ja"', "x")])


@pytest.mark.parametrize(
    ("torn", "rest", "lost"),
    [
        ('"Guten Morgen.,Good morning.', "Bis bald.,See you soon.\nDanke.,Thanks.\n", [2]),
        ('"Guten Morgen.,Good morning.', 'Bis bald.,See you soon.\n"Danke.","Thanks."\n', [2]),
        ('Guten Morgen.,"Good morning.', 'Bis bald.,See you soon.\n"Danke.",Thanks.\n', [2]),
        ('"Er sagte "ja".",He said yes.', "Bis bald.,See you soon.\nDanke.,Thanks.\n", [2]),
        ('"Er sagte "ja"\nund ging.","He left."', "Bis bald.,See you soon.\nDanke.,Thanks.\n", [2, 3]),
        ('"Zeile eins\nZeile zwei","Line one, so\nline two",x', "Bis bald.,See you soon.\nDanke.,Thanks.\n", [2, 3, 4]),
    ],
)
def test_a_quotation_mark_that_is_not_closed_costs_its_row(
    tmp_path: Path, torn: str, rest: str, lost: list[int]
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"source,target\n{torn}\n{rest}", "utf-8")
    rows = pairs(path)
    assert bad(rows)[0] == (2, "malformed")
    assert {line for line, _ in bad(rows)} <= set(lost)
    assert sides(rows) == [("Bis bald.", "See you soon."), ("Danke.", "Thanks.")]


def test_cells_over_several_lines_and_places(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('source,target\n"Zeile eins\nZeile zwei","Line one\nline two"\n\nEnde.,The end.\n', "utf-8")
    rows = pairs(path)
    assert sides(rows) == [("Zeile eins\nZeile zwei", "Line one\nline two"), ("Ende.", "The end.")]
    assert [row.line for row in rows] == [2, 6]


def test_tsv_with_the_quoting_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('source\ttarget\n"Er sagte ""ja""."\t"He said ""yes""."\n"Ja"\t"Yes"\n"offen\tHe left.\n', "utf-8")
    assert sides(pairs(path)) == [('Er sagte "ja".', 'He said "yes".'), ('"Ja"', '"Yes"'), ('"offen', "He left.")]
    path.write_text('"source"\t"target"\n"Ja"\t"Yes,\nso"\n', "utf-8")
    assert sides(pairs(path)) == [("Ja", "Yes,\nso")]


PIECES = ["Ja", "ä", " ", ",", ";", "\t", "|", '"', '""', "\n", "'", "sep=", "source", "en", "5"]


@pytest.mark.parametrize("seed", range(8))
def test_tables_are_read_as_the_csv_module_reads_them(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(25):
        mark = chance.choice(",;\t|")
        quoting = chance.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        extra = chance.randrange(3)
        rows = [
            ["".join(chance.choices(PIECES, k=chance.randint(1, 6))) for _ in range(2 + extra)]
            for _ in range(chance.randint(1, 9))
        ]
        path = tmp_path / f"{number}.csv"
        with path.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter=mark, quoting=quoting, lineterminator=chance.choice(["\n", "\r\n"]))
            writer.writerows([["source", "target", "x", "y"][: 2 + extra], *rows])
        with path.open(encoding="utf-8", newline="") as stream:
            again = [(row[0], row[1]) for row in csv.reader(stream, delimiter=mark)][1:]
        assert [(a, b) for a, b, *_ in rows] == again == sides(pairs(path)), (seed, number)


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.json"])
def test_carriage_returns_alone_are_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    lines = ['{"source": "a", "target": "b"}'] * 3 if ".js" in name else ["source,target", "a,b", "c,d"]
    content = "\r".join(lines) + "\r"
    (tmp_path / name).write_text(content.replace(",", "\t") if name == "a.tsv" else content, newline="")
    with pytest.raises(DataError, match=r"old Mac line ends.*LF"):
        pairs(tmp_path / name)
    (tmp_path / "b.txt").write_text("x\ny\n")
    (tmp_path / "a.txt").write_text("x\ry\r", newline="")
    for left, right in (("a.txt", "b.txt"), ("b.txt", "a.txt")):
        with pytest.raises(DataError, match=r"a\.txt: .*old Mac line ends"):
            list(read_pairs(source(left, target_path=right), tmp_path))
    with pytest.raises(DataError, match="old Mac line ends"):
        prompts(tmp_path / "a.txt")


def test_a_name_twice_in_a_json_object_is_malformed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"source": "a", "target": "b"}\n{"source": "a", "target": "b", "target": "c"}\n')
    rows = pairs(path)
    assert bad(rows) == [(2, "malformed")]
    assert "'target' twice" in str(rows[1])


def test_a_table_that_is_named_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("Name three rivers.\tRhine\n\nWhat is a poem?\tVerse\nWhy do cats purr?\tJoy\nHow?\tSo\n")
    for read in (prompts, texts):
        with pytest.raises(DataError, match=r"each line has 2 cells with tabs between: 'Why do cats purr\?"):
            read(path)
    path.write_text("\tName three rivers.\nWhat is a poem?\nWhy do\tcats purr?\nHow?\n")
    assert len(prompts(path)) == 4
