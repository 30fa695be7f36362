"""Translations of training text: asked for, put together, judged, or read from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lingraft.data.files import locate
from lingraft.data.records import Generation, Message
from lingraft.errors import DataError
from lingraft.markers import Markers
from lingraft.methods.translations import GivenTranslations, fault, from_engine, from_graft
from lingraft.translating import engine_requests, graft_requests

MARKERS = Markers.for_languages(["th", "zh"])
EN = "The weather is nice today, so we walk to the old harbour and eat fish."
TH = "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่าและกินปลา"
DE = "Das Wetter ist heute schön, deshalb gehen wir zum alten Hafen und essen Fisch."


def answers(*texts: str, reason: str = "stop") -> dict[str, Generation]:
    return {f"x:{i}": Generation(f"x:{i}", text, (1,), reason) for i, text in enumerate(texts)}


def test_the_graft_is_asked_sentence_by_sentence() -> None:
    requests = list(graft_requests("x", "- Good. Bad.\n\n42\nEnd", "th", MARKERS, 3))
    assert [request.id for request in requests] == ["x:0", "x:1", "x:2"]
    assert [[span.text for span in request.turn] for request in requests] == [
        ["<EN>", "Good.", "<TH>"],
        ["<EN>", "Bad.", "<TH>"],
        ["<EN>", "End", "<TH>"],
    ]
    assert all(not request.messages and request.sampling.temperature == 0 for request in requests)
    assert {request.sampling.seed for request in requests} == {3}


def test_a_translation_has_room_where_the_tokenizer_has_no_pieces_for_the_language() -> None:
    place = locate("starter:train.th-en.jsonl", "jsonl", Path())
    rows = [json.loads(line) for line in place.path.read_text("utf-8").splitlines()]
    assert len(rows) > 50
    for row in rows:
        asked = graft_requests("x", row["target"], "th", MARKERS, 3)
        room = sum(request.sampling.max_new_tokens for request in asked)
        assert 1.83 * len(row["source"]) <= room  # SmolLM2's tokens a character of Thai


def test_answers_of_the_graft_take_their_places() -> None:
    text = "- Good. Bad.\n\n42\nEnd"
    assert from_graft("x", text, "th", answers(" ดี ", "ไม่\nดี", "จบ")) == ("- ดี ไม่ ดี\n\n42\nจบ", "")
    assert from_graft("x", text, "zh", answers("好。", "坏。", "完")) == ("- 好。坏。\n\n42\n完", "")
    assert from_graft("x", text, "th", answers("ดี", " ", "จบ")) == ("", "empty")
    assert from_graft("x", text, "th", answers("ดี", "ดี", "จบ", reason="length")) == ("", "unfinished")
    assert from_graft("x", "42", "th", {}) == ("42", "")
    long = f"{EN} {EN}"
    assert from_graft("x", long, "th", answers(TH, EN)) == ("", "echo")
    assert from_graft("x", long, "th", answers(TH, DE)) == ("", "wrong_language")
    assert from_graft("x", f"{EN} Jim Smith.", "th", answers(TH, "Jim Smith."))[1] == ""


def test_an_engine_is_asked_for_the_whole_text() -> None:
    (request,) = engine_requests("x", "Good. Bad.", "th", "{source_name} to {target_name}: {source}", 3)
    assert (request.id, request.messages) == ("x:0", (Message("user", "English to Thai: Good. Bad."),))
    assert from_engine("x", "Good. Bad.", answers(" ดี ไม่ดี ")) == ("ดี ไม่ดี", "")
    assert from_engine("x", "Good. Bad.", answers("ดี", reason="length")) == ("", "unfinished")
    assert not list(engine_requests("x", "1 + 1", "th", "{source}", 3))
    assert from_engine("x", "1 + 1", {}) == ("1 + 1", "")
    assert from_engine("x", "Good.", answers("<think>Good: ดี</think>\nดี")) == ("ดี", "")
    assert from_engine("x", "Good.", answers("<think>Good: ดี")) == ("", "thinking")


@pytest.mark.parametrize(
    ("source", "target", "lang", "reason"),
    [
        (EN, TH, "th", ""),
        (EN, DE, "de", ""),
        (EN, " ", "th", "empty"),
        (EN, "เดิน " * 60, "th", "looping"),
        (EN, EN, "th", "echo"),
        (EN, EN + " Yes.", "de", "echo"),
        (EN, "ใช่", "th", ""),  # under 20 columns counts as 20: 70 to 20
        (EN + EN, "ใช่", "th", "length_ratio"),
        ("Yes.", DE + EN, "de", "length_ratio"),
        (EN, DE, "th", "wrong_language"),
        (EN, TH, "de", "wrong_language"),
        ("It was 1,250 in 1969.", "ในปี 1969 มี 1250", "th", ""),
        ("It was 1,250 in 1969.", "ในปี ๑๙๖๙ มี ๑.๒๕๐", "th", ""),
        ("It was 1,250 in 1969.", "ในปีนั้นมี 1,250", "th", "numbers_lost"),
        ("We have 3 dogs at home.", "ที่บ้านเรามีหมาสามตัว", "th", ""),
        ("1 + 1 = 2", "1 + 1 = 2", "th", ""),
    ],
)
def test_faults(source: str, target: str, lang: str, reason: str) -> None:
    assert fault(source, target, lang, 4.0) == reason


def written(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_a_file_of_translations_is_looked_up_by_the_text(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl",
        {"source": " Good. ", "target": "ดี"},
        {"text": "Bad.", "translation": "ไม่ดี", "target_lang": "th-TH"},
        {"instruction": "Say it.", "instruction_th": "พูด"},
        {"en": "End", "th": "จบ", "de": "Ende"},
        {"source": "Good.", "target": "another"},
        {"source": "Nothing."},
        ["no row"],
    )
    given = GivenTranslations(path, ["th", "de-AT"])
    assert [given.get(text, "th") for text in ("Good.", "Bad.", "Say it. ", "End", "Nothing.", "good.")] == [
        "ดี", "ไม่ดี", "พูด", "จบ", None, None,
    ]  # fmt: skip
    assert given.get("End", "de") == "Ende"
    assert given.get("Bad.", "de") is None


def test_a_file_without_translations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row has a text as 'source'.*rename the fields"):
        GivenTranslations(written(tmp_path / "a.jsonl", {"a": "b"}), ["th"])
    with pytest.raises(DataError, match=r"none\.jsonl"):
        GivenTranslations(str(tmp_path / "none.jsonl"), ["th"])
