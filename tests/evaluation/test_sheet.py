"""The sheet is blind, complete and reproducible, and a filled one is read back strictly."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from pathlib import Path

import pytest

from lingraft.core.errors import DataError
from lingraft.data.records import SideBySide
from lingraft.evaluation.sheet import (
    ANSWER,
    CRITERIA,
    Sheet,
    instructions,
    make_sheet,
    read_filled,
    read_key,
    sheet_csv,
    write_sheet,
)
from lingraft.reporting.rating_form import render_form

SYSTEMS = ["base", "radis"]


def rows(n: int = 40) -> list[SideBySide]:
    items = [
        SideBySide(
            f"test/{i}", "de-en", f"Quelle {i}", f"source {i}", {"base": f"b{i}", "radis": f"r{i}", "vanilla": "v"}
        )
        for i in range(n)
    ]
    items.append(SideBySide("test/same", "de-en", "Gleich", "same", {"base": "same ", "radis": "same", "vanilla": "v"}))
    return [*items, SideBySide("self/1", "self", "Say hello.", "", {"base": "Hello!", "radis": "Hi!"})]


def sheet(**changes: object) -> Sheet:
    values: dict[str, object] = {"n": 1000, "seed": 3, "run": "demo", "directions": ["de-en"], **changes}
    return make_sheet(rows(), SYSTEMS, **values)  # type: ignore[arg-type]


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def fill(path: Path, text: str, ratings: list[str], delimiter: str = ",") -> Path:
    """Fill the sheet as a spreadsheet program would, and save it."""
    filled = table(text)
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(filled[0]), delimiter=delimiter)
        writer.writeheader()
        for row, rating in zip(filled, ratings, strict=True):
            writer.writerow({**row, "rating": rating})
    return path


def test_every_item_shows_its_two_outputs_and_no_system_can_be_told() -> None:
    made = sheet()
    texts = {row.id: row for row in rows()}
    assert {item.source_id for item in made.items} == {f"test/{i}" for i in range(40)}
    for item in made.items:
        assert {item.left, item.right} == set(SYSTEMS)
        assert item.a == texts[item.source_id].outputs[item.left]
        assert item.b == texts[item.source_id].outputs[item.right]
    # Sides and order are shuffled: neither is that of the run.
    sides = Counter(item.left for item in made.items)
    assert min(sides.values()) > 8
    assert [item.source_id for item in made.items] != sorted(item.source_id for item in made.items)
    for public in (sheet_csv(made), render_form(made)):
        assert "radis" not in public
        assert "base" not in public.replace("base-uri", "").replace("baseline", "").replace("above base", "").replace(
            "below base", ""
        )
    assert made.same == {("base", "radis"): 1}


def test_the_seed_decides_and_a_smaller_draw_is_drawn_without_replacement() -> None:
    assert sheet() == sheet()
    assert [i.source_id for i in sheet().items] != [i.source_id for i in sheet(seed=4).items]
    drawn = [item.source_id for item in sheet(n=12, seed=5).items]
    assert len(set(drawn)) == len(drawn) in {11, 12}  # the item on which both agree may be among the twelve
    three = make_sheet(rows(), ["base", "radis", "vanilla"], n=5, directions=["de-en"])
    pairs = Counter(frozenset((item.left, item.right)) for item in three.items)
    assert len(pairs) == 3
    assert set(pairs.values()) <= {4, 5}


def test_groups_are_chosen_by_name() -> None:
    assert {item.group for item in sheet(groups=["self"]).items} == {"self"}
    assert {item.group for item in make_sheet(rows(), SYSTEMS, n=99).items} == {"de-en", "self"}
    with pytest.raises(DataError, match=r"'de-fr'; did you mean 'de-en'"):
        sheet(groups=["de-fr"])
    with pytest.raises(DataError, match=r"no outputs of a system 'raddis'; did you mean 'radis'"):
        make_sheet(rows(), ["base", "raddis"])
    with pytest.raises(DataError, match="two or more different systems"):
        make_sheet(rows(), ["base", "base"])
    with pytest.raises(DataError, match="nothing to rate"):
        make_sheet([row for row in rows() if row.id == "test/same"], SYSTEMS)


def test_formulas_are_defused_and_references_shown_on_request() -> None:
    hostile = [SideBySide("1", "de-en", "=cmd()", "-1+2", {"base": "@x", "radis": '+y\nz, "q"'})]
    made = make_sheet(hostile, SYSTEMS)
    (row,) = table(sheet_csv(made, reference=True))
    assert (row["source"], row["reference"]) == ("'=cmd()", "'-1+2")
    assert {row["A"], row["B"]} == {"'@x", '\'+y\nz, "q"'}
    assert "reference" not in table(sheet_csv(made))[0]


def test_raters_are_told_the_languages_and_by_what_to_judge() -> None:
    asked = [SideBySide("1", "de-en", "x", "", {"base": "a", "radis": "b"})]
    made = make_sheet(asked, SYSTEMS, directions=["de-en"])
    assert [row["task"] for row in table(sheet_csv(made))] == ["translation from German to English"]
    assert '"translation from German to English"' in render_form(made)
    for shown in (instructions(made), render_form(made)):
        assert CRITERIA["translation"] in shown
        assert CRITERIA[ANSWER] not in shown
    answers = make_sheet(
        [*asked, SideBySide("2", "self", "q", "", {"base": "a", "radis": "b"})], SYSTEMS, groups=["self"]
    )
    assert [item.task for item in answers.items] == [ANSWER]
    assert CRITERIA[ANSWER] in instructions(answers)
    assert CRITERIA["translation"] not in instructions(answers)
    region = make_sheet(
        [SideBySide("3", "zh-TW-en", "x", "", {"base": "a", "radis": "b"})], SYSTEMS, directions=["zh-TW-en"]
    )
    assert region.items[0].task == "translation, zh-TW-en"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_filled_sheet_is_read_back(tmp_path: Path, delimiter: str) -> None:
    made = sheet()
    write_sheet(tmp_path, made, render_form(made), False)
    key = read_key(tmp_path)
    assert key.sides == {item.item: (item.left, item.right) for item in made.items}
    words = ["AA", "a", "tie", "B", "bb", "", " Tie "] * 6
    path = fill(tmp_path / "anna.csv", (tmp_path / "raters/sheet.csv").read_text("utf-8"), words[:40], delimiter)
    filled = read_filled(path, key)
    assert filled.rater == "anna"
    scale = {"AA": -2, "A": -1, "TIE": 0, "B": 1, "BB": 2}
    expected = {
        item.item: scale[word.strip().upper()] for item, word in zip(made.items, words, strict=False) if word.strip()
    }
    assert filled.ratings == expected
    form = {"sheet": made.id, "rater": "Bo", "ratings": [{"item": made.items[0].item, "rating": "BB", "comment": "x"}]}
    (tmp_path / "form.json").write_text(json.dumps(form), "utf-8")
    saved = read_filled(tmp_path / "form.json", key)
    assert (saved.rater, saved.ratings) == ("Bo", {made.items[0].item: 2})


def test_each_fault_of_a_filled_sheet_is_one_sentence_with_its_line(tmp_path: Path) -> None:
    made = sheet()
    write_sheet(tmp_path, made, render_form(made), False)
    key = read_key(tmp_path)
    one, two = made.items[0].item, made.items[1].item
    faults = {
        f"item,rating\n{one},A\n{two},C\n": r"line 3: 'C' is no rating; write one of AA, A, tie, B, BB",
        f'item,source,rating\n{one},"two\nlines",A\n{one},x,B\n': rf"line 4: item '{one}' was rated before on line 2",
        "item,rating\nzzz-1,A\n": r"line 2: item 'zzz-1' is not of this sheet",
        f"item,source,rating\n{one}\n": r"line 2: the row has 1 of 3 columns",
        f"item,score\n{one},A\n": r"line 1: there is no column 'rating'",
        f"item,rating\n{one},\n": "holds no rating",
        f'item,rating\n{one},"A\n': "not CSV",
        '{"ratings": 3}': "is not what the form saves",
    }
    for text, message in faults.items():
        path = tmp_path / "bad.csv"
        path.write_text(text, "utf-8")
        with pytest.raises(DataError, match=message) as caught:
            read_filled(path, key)
        assert str(path) in str(caught.value)
    (tmp_path / "latin.csv").write_bytes(b"item,rating\n\xff,A\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_filled(tmp_path / "latin.csv", key)


def test_a_key_is_neither_lost_nor_taken_from_elsewhere(tmp_path: Path) -> None:
    made, other = sheet(), sheet(seed=9)
    write_sheet(tmp_path, made, "form", False)
    write_sheet(tmp_path, made, "form", False)
    with pytest.raises(DataError, match="holds another sheet"):
        write_sheet(tmp_path, other, "form", False)
    text = (tmp_path / "key.json").read_text("utf-8")
    (tmp_path / "key.json").write_text(text.replace('"A": "base"', '"A": "radis"', 1), "utf-8")
    with pytest.raises(DataError, match="not as it was written"):
        read_key(tmp_path)
    with pytest.raises(DataError, match="is missing"):
        read_key(tmp_path / "nowhere")
