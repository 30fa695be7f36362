"""Each reason is provoked by a document written for it; what is left out of a document is counted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.core.errors import DataError
from lingraft.data import reasons
from lingraft.data.document_checks import CHUNK, Removed, SeenTexts, TextLimits, check_texts
from lingraft.data.files import Row
from lingraft.data.overlap import OverlapIndex
from lingraft.data.records import Pair, Rejected, Text

DE = "Die Gemeinde hat gestern beschlossen, die alte Brücke über den Fluss im Frühjahr zu erneuern."
EN = "The council decided yesterday to renew the old bridge over the river in the spring."
TH = "สภาเทศบาลมีมติเมื่อวานนี้ให้ปรับปรุงสะพานเก่าข้ามแม่น้ำในฤดูใบไม้ผลิ"
TH2 = "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่า และกินปลา"
LINE = "Startseite | Nachrichten | Wetter"


def rows(*contents: str, lang: str = "de") -> list[Row[Text] | Rejected]:
    return [Row(line, Text(f"t:{line}", content, lang)) for line, content in enumerate(contents, start=1)]


def check(
    items: Iterable[Row[Text] | Rejected],
    removed: Removed | None = None,
    seen: SeenTexts | None = None,
    **limits: object,
) -> list[Text | Rejected]:
    settings = TextLimits.model_validate(limits)
    return list(check_texts(items, settings, file="f", removed=removed, seen=seen))


def found(items: Iterable[Text | Rejected]) -> list[str]:
    return [item.reason if isinstance(item, Rejected) else item.text for item in items]


@pytest.mark.parametrize(
    ("text", "lang", "expected"),
    [
        (DE, "de", DE),
        (f"  {DE}\r\n\n\n\n{EN} ", "de", f"{DE}\n\n{EN}"),
        (" \u200b\n", "de", reasons.EMPTY_TEXT),
        (DE + "\x00", "de", reasons.CONTROL_CHARACTERS),
        (DE + "\ufffd", "de", reasons.CONTROL_CHARACTERS),
        ("Kurz.", "de", reasons.TOO_SHORT),
        (EN, "de", reasons.WRONG_LANGUAGE),
        (DE, "th", reasons.WRONG_LANGUAGE),
        (TH, "th", TH),
        (TH, "en", reasons.WRONG_LANGUAGE),
    ],
)
def test_a_document_by_itself(text: str, lang: str, expected: str) -> None:
    assert found(check(rows(text, lang=lang))) == [expected]


def test_the_language_check_can_be_left_out() -> None:
    assert found(check(rows(EN), language_check=False)) == [EN]


def test_lines_that_occurred_before_are_left_out_and_counted() -> None:
    removed = Removed()
    first, second = f"{LINE}\n{DE}\nJa", f"{LINE}\nJa\n{DE[:60]} und mehr.\n{LINE}"
    assert found(check(rows(first, second), removed)) == [first, f"Ja\n{DE[:60]} und mehr."]
    assert (removed.repeated, removed.overlap) == (2 * len(LINE), 0)
    assert removed.characters == sum(len(line) for text in (first, second) for line in text.split("\n"))
    assert found(check(rows(first, second), repeated_line=0)) == [first, second]
    assert found(check(rows(first, f"{LINE}\n{DE}\nJa, ja"))) == [first, reasons.TOO_SHORT]


def test_documents_and_lines_are_remembered_across_sources() -> None:
    seen = SeenTexts()
    assert found(check(rows(DE), seen=seen)) == [DE]
    assert found(check(rows(DE.upper() + " ", f"{DE}\n{LINE} und alles andere auf dieser Seite"), seen=seen)) == [
        reasons.DUPLICATE,
        f"{LINE} und alles andere auf dieser Seite",
    ]


def test_lines_and_sentences_of_a_test_set_are_left_out() -> None:
    overlap = OverlapIndex([Pair("wmt:1", DE, EN, "de", "en"), Pair("wmt:2", "Ja.", "Yes.", "de", "en")])
    removed = Removed()
    other = "Ein anderer Satz, der in keinem Testsatz steht und bleiben darf."
    text = f"{other}\n- {DE} Mehr davon.\n{DE.upper()}\nJa."
    (item,) = check_texts(rows(text), TextLimits(), file="f", overlap=overlap, removed=removed)
    assert found([item]) == [f"{other}\nJa."]
    assert removed.overlap == len(f"- {DE} Mehr davon.") + len(DE)
    (kept,) = check_texts(rows(EN + "\n" + DE, lang="th"), TextLimits(language_check=False), file="f", overlap=overlap)
    assert isinstance(kept, Text)  # the same words in another language are another text


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (f"เมื่อวานนี้ {TH} จบข่าว", False),
        (f"{TH} จบข่าว", False),
        (f"ข่าว: {TH}, ({TH2})", False),
        (f"ก่อน {TH2.replace(' ', '  ')} หลัง", False),
        (f"{TH}จบข่าว", True),
        (f"จบข่าว {TH[:40]} {TH[41:]}", True),
        (TH2.split()[0] + " จบข่าว", True),
        (f"ข่าว {DE} จบข่าว", True),
    ],
)
def test_a_thai_sentence_of_a_test_set_is_found_between_spaces(line: str, kept: bool) -> None:
    overlap = OverlapIndex([Pair("wmt:1", TH, EN, "th", "en"), Pair("wmt:2", EN + "!", TH2, "en", "th")])
    other = "บรรทัดนี้ไม่มีอยู่ในชุดทดสอบใดเลยจึงควรจะยังคงเหลืออยู่ในเอกสารนี้ต่อไป"
    items = check_texts(
        rows(f"{other}\n{line}", lang="th"), TextLimits(language_check=False), file="f", overlap=overlap
    )
    assert found(items) == [f"{other}\n{line}" if kept else other]


@given(st.lists(st.sampled_from([DE, EN, TH, LINE, "x", ""]), max_size=8).map("\n".join))
def test_what_is_left_out_is_counted_to_the_character(text: str) -> None:
    removed = Removed()
    (item,) = check(rows(text), removed, language_check=False, min_characters=1)
    if isinstance(item, Text):
        lines = [line for line in item.text.split("\n") if line]
        assert sum(map(len, lines)) + removed.repeated == removed.characters
        assert len({line for line in lines if len(line) >= 20}) == len([line for line in lines if len(line) >= 20])


def test_rows_are_read_as_they_are_needed_and_errors_come_after_them() -> None:
    drawn = 0

    def endless() -> Iterator[Row[Text] | Rejected]:
        nonlocal drawn
        while True:
            drawn += 1
            yield Row(drawn, Text(str(drawn), f"{DE} {drawn}", "de"))

    assert len(list(islice(check_texts(endless(), TextLimits(), file="f"), 3))) == 3
    assert drawn == CHUNK
    assert len(list(check_texts(endless(), TextLimits(), file="f", limit=3))) == 3
    assert drawn == CHUNK + 3

    def broken() -> Iterator[Row[Text] | Rejected]:
        yield Rejected("f", 1, "not_utf8")
        yield Row(2, Text("2", DE, "de"))
        raise DataError("broken")

    items = check_texts(broken(), TextLimits(), file="f")
    assert found([next(items), next(items)]) == ["not_utf8", DE]
    with pytest.raises(DataError, match="broken"):
        next(items)
