"""Translations of training text: asked for, put together, judged, or read from a file."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lingraft.core.errors import DataError
from lingraft.data.files import Row, locate
from lingraft.data.readers import PromptSource, read_prompts
from lingraft.data.records import Generation, Message
from lingraft.data.row_shapes import prompt_parts
from lingraft.methods.base import MethodInputs, Tally
from lingraft.methods.carried_text import GivenTranslations, fault, from_engine, from_graft
from lingraft.methods.native_sft import NativeSFT
from lingraft.translation.by_sentence import engine_requests, graft_requests
from lingraft.translation.markers import Markers

MARKERS = Markers.for_languages(["th", "zh"])
EN = "The weather is nice today, so we walk to the old harbour and eat fish."
TH = "วันนี้อากาศดี เราจึงเดินไปท่าเรือเก่าและกินปลา"
DE = "Das Wetter ist heute schön, deshalb gehen wir zum alten Hafen und essen Fisch."


def answers(*texts: str, reason: str = "stop") -> dict[str, Generation]:
    return {f"x:{i}": Generation(f"x:{i}", text, (1,), reason) for i, text in enumerate(texts)}


def test_the_graft_is_asked_sentence_by_sentence() -> None:
    requests = list(graft_requests("x", "- Good. Bad.\n\n42\nEnd", "th", MARKERS, seed=3))
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
        asked = graft_requests("x", row["target"], "th", MARKERS, seed=3)
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
    (request,) = engine_requests("x", "Good. Bad.", "th", "{source_name} to {target_name}: {source}", seed=3)
    assert (request.id, request.messages) == ("x:0", (Message("user", "English to Thai: Good. Bad."),))
    assert from_engine("x", "Good. Bad.", answers(" ดี ไม่ดี ")) == ("ดี ไม่ดี", "")
    assert from_engine("x", "Good. Bad.", answers("ดี", reason="length")) == ("", "unfinished")
    assert not list(engine_requests("x", "1 + 1", "th", "{source}", seed=3))
    assert from_engine("x", "1 + 1", {}) == ("1 + 1", "")
    assert from_engine("x", "Good.", answers("<think>Good: ดี</think>\nดี")) == ("ดี", "")
    assert from_engine("x", "Good.", answers("<think>Good: ดี")) == ("", "thinking")
    assert from_engine("x", "Good.", answers("<think>Good: ดี</think>\n\u200b")) == ("", "thinking")


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
    """Write rows as JSON Lines, or one list of them as JSON."""
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


THAI = {"Name a fish.": "บอกชื่อปลา", "Tuna is a fish.": "ทูน่าเป็นปลา", "Fix it:": "แก้ไข:", "She go home.": "เขาไป บ้าน."}


def human(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("row", "found"),
    [
        # Alpaca: the input is joined to the instruction as in a prompt.
        (
            {"instruction": "Fix it:", "input": "She go home.", "instruction_th": "แก้ไข:", "input_th": "เขาไป บ้าน."},
            {"Fix it:\n\nShe go home.": "แก้ไข:\n\nเขาไป บ้าน.", "Fix it:": "แก้ไข:"},
        ),
        ({"instruction": "Add:", "input": "2 + 2", "instruction_th": "บวก:"}, {"Add:\n\n2 + 2": "บวก:\n\n2 + 2"}),
        ({"instruction": "Fix it:", "input": "She go.", "instruction_th": "แก้ไข:"}, {"Fix it:\n\nShe go.": None}),
        ({"instruction": "Fix it:", "input": "She.", "target": "แก้ไข: เธอ"}, {"Fix it:\n\nShe.": "แก้ไข: เธอ"}),
        ({"instruction": "Sing.", "input": "", "instruction_th": "ร้องเพลง"}, {"Sing.": "ร้องเพลง"}),
        # Conversations with their translations, and TransLLM's own chains.
        (
            {"conversations": human(*list(THAI)[:2]), "conversations_th": human(*list(THAI.values())[:2])},
            dict(list(THAI.items())[:2]),
        ),
        (
            {"messages": [{"role": "user", "content": "Name a fish."}], "messages_th": human("บอกชื่อปลา")},
            {"Name a fish.": "บอกชื่อปลา"},
        ),
        (
            {"conversations": human("บอกชื่อปลา", "<EN> Name a fish. <RESPONSE> Tuna is a fish. <TH> ทูน่าเป็นปลา")},
            dict(list(THAI.items())[:2]),
        ),
        (
            {"conversations": human("Name a fish.", "No."), "conversations_th": human("บอกชื่อปลา")},
            {"Name a fish.": None},
        ),
    ],
)
@pytest.mark.parametrize("as_array", [False, True])
def test_alpaca_and_conversations_are_looked_up_as_prompts_have_them(
    tmp_path: Path, row: dict[str, Any], found: dict[str, str | None], as_array: bool
) -> None:
    prompt = prompt_parts(row).messages[-1].content
    assert prompt in found or "<EN>" in str(row)
    rows = [{"source": "x", "target": "y"}, row]
    path = written(tmp_path / "a.json", rows) if as_array else written(tmp_path / "a.jsonl", *rows)
    given = GivenTranslations(path, ["th"])
    assert {text: given.get(text, "th") for text in found} == found


def test_a_conversation_in_the_other_language_alone_is_found_by_its_id(tmp_path: Path) -> None:
    rows = [
        {"id": 7, "conversations": human("บอกชื่อปลา", "ทูน่าเป็นปลา")},
        {"id": 8, "conversations": human("Name a fish.", "Tuna.")},  # is not in Thai
        {"conversations": human("บอกชื่อปลา", "ทูน่าเป็นปลา")},
    ]
    given = GivenTranslations(written(tmp_path / "a.json", rows), ["th"])
    assert given.of_prompt("7", "th-TH") == ("บอกชื่อปลา", "ทูน่าเป็นปลา")
    assert (given.of_prompt("8", "th"), given.of_prompt("7", "de")) == (None, None)
    with pytest.raises(DataError, match="no row has a text"):  # which of the two it is in is not said
        GivenTranslations(written(tmp_path / "a.json", rows), ["th", "lo"])


def test_prompts_and_their_translations_in_two_files_of_conversations(tmp_path: Path) -> None:
    english = [{"id": n, "conversations": human(f"Name {n} fish.", f"Here are {n} fish.")} for n in range(10, 13)]
    thai = [{"id": n, "conversations": human(f"บอกชื่อปลา {n} ชนิด", f"นี่คือปลา {n} ชนิด")} for n in (10, 12)]
    written(tmp_path / "en.json", english)
    rows = read_prompts(PromptSource(path=str(tmp_path / "en.json")))
    prompts = [row.record for row in rows if isinstance(row, Row)]
    params = {"answers": "reference", "languages": ["th"], "translations": written(tmp_path / "th.json", thai)}
    method = NativeSFT(NativeSFT.Params.model_validate(params))
    inputs = MethodInputs([], prompts)
    inputs = replace(inputs, prepared=method.prepare(inputs))
    tally = Tally()
    made = [(each.messages[-1].content, each.spans[-1].text) for each in method.examples(inputs, {}, tally)]
    assert made == [(row["conversations"][0]["value"], row["conversations"][1]["value"]) for row in thai]
    assert tally.filters == {"kept": 2, "query_not_given": 1}
    # The base's own answers are others: their translation is not that of the answers that came with the prompts.
    method = NativeSFT(NativeSFT.Params.model_validate(params | {"answers": "base"}))
    answers = {one.id: Generation(one.id, "Some other answer.", (1,), "stop") for one in method.requests(inputs)}
    tally = Tally()
    assert list(method.examples(inputs, answers, tally)) == []
    assert tally.filters == {"reply_not_given": 2, "query_not_given": 1}


def test_a_file_without_translations_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row has a text as 'source'.*rename the fields"):
        GivenTranslations(written(tmp_path / "a.jsonl", {"a": "b"}), ["th"])
    with pytest.raises(DataError, match=r"none\.jsonl"):
        GivenTranslations(str(tmp_path / "none.jsonl"), ["th"])
