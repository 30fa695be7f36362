"""Checks of instructions: right and wrong answers of every kind, made by hand."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from lingraft.language.constraints import CHECKS, KINDS, Asked, texts_in
from lingraft.language.registers import REGISTERED, in_register


def obeyed(check: dict[str, Any], source: str, answer: str, target: str = "de") -> bool:
    (one,) = CHECKS.validate_python([check])
    return one.obeyed(answer, Asked(source=source, source_lang="en" if target != "en" else "de", target_lang=target))


RAIN = "It has been raining since the morning."
ONLY = [
    ("Es regnet seit dem Morgen.", True),
    ("Here is the translation: Es regnet seit dem Morgen.", False),
    ("**Translation:** Es regnet seit dem Morgen.", False),
    ("Übersetzung: Es regnet seit dem Morgen.", False),
    ('"Es regnet seit dem Morgen."', False),
    ("„Es regnet seit dem Morgen.“", False),
    ("```\nEs regnet seit dem Morgen.\n```", False),
    ('Es regnet seit dem Morgen. (Note: literally "since the morning")', False),
    ("Es regnet seit dem Morgen.\n\nIch habe das Präsens gewählt.", False),
    (f"{RAIN} – Es regnet seit dem Morgen.", False),
    ("Hier steht es: Es regnet seit dem Morgen.", True),  # no preface that is known
]


@pytest.mark.parametrize(("answer", "right"), ONLY)
def test_only_the_translation(answer: str, right: bool) -> None:
    assert obeyed({"kind": "only"}, RAIN, answer) is right


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("fr", "Voici la traduction : Il pleut depuis ce matin."),
        ("es", "Traducción: Llueve desde la mañana."),
        ("zh", "译文：从早上开始一直在下雨。"),
        ("th", "คำแปล: ฝนตกตั้งแต่เช้า"),
        ("en", "Sure! Here's the translation: It has been raining."),
    ],
)
def test_prefaces_of_every_language(target: str, answer: str) -> None:
    assert not obeyed({"kind": "only"}, RAIN, answer, target)
    assert obeyed({"kind": "only"}, RAIN, answer.partition(":" if ":" in answer else "：")[2].strip(), target)


def test_what_the_source_has_may_be_there() -> None:
    assert obeyed({"kind": "only"}, '"Stop!"', '"Halt!"')
    assert obeyed({"kind": "only"}, "Sure: we will come.", "Gerne: wir kommen.")
    assert obeyed({"kind": "only"}, "Dear parents,\nplease come.", "亲爱的家长：\n请来。", "zh")


FORMAL = {
    "de": ["Haben Sie Ihre Karte dabei?", "Ich danke Ihnen."],
    "fr": ["Avez-vous votre billet ?", "Je vous remercie."],
    "es": ["¿Tiene usted su billete?", "Su habitación está lista."],
    "zh": ["您好，您的票呢？"],
    "th": ["ขอบคุณมากครับ", "คุณมีตั๋วไหมคะ", "ได้คะแนนดีค่ะ"],
}
INFORMAL = {
    "de": ["Hast du deine Karte dabei?", "Sie sagt, dass du kommst.", "Gib mir dein Buch."],
    "fr": ["Tu as ton billet ?", "Je t'attends au rendez-vous."],
    "es": ["¿Tienes tu billete?", "¿Puedes venir?", "Te espero."],
    "zh": ["你的票呢？"],
    "th": ["เธอมีตั๋วไหม", "ได้คะแนนดีไหม"],
}
NEITHER = {
    "de": ["Es regnet.", "Hast du Ihre Karte dabei?"],
    "fr": ["Il pleut.", "Tu as votre billet ?"],
    "es": ["Llueve.", "¿Usted quiere que te espere?"],
    "zh": ["下雨了。", "你好，您的票呢？"],
}


@pytest.mark.parametrize("code", sorted(REGISTERED))
def test_formality(code: str) -> None:
    for text in FORMAL[code]:
        assert in_register(text, code, "formal"), text
        assert not in_register(text, code, "informal"), text
    for text in INFORMAL[code]:
        assert in_register(text, code, "informal"), text
        assert not in_register(text, code, "formal"), text
    for text in NEITHER.get(code, []):
        assert not in_register(text, code, "formal"), text
        assert not in_register(text, code, "informal"), text


def test_phrases_may_stand_for_the_words_of_a_register() -> None:
    check = {"kind": "register", "level": "formal", "has": ["gehen Sie", "Ihrer"], "lacks": ["gehst du", "deiner"]}
    assert obeyed(check, "Go!", "Bitte gehen Sie!")
    assert not obeyed(check, "Go!", "Bitte gehen!")
    assert not obeyed(check, "Go!", "Bitte gehen Sie mit deiner Tasche!")


def test_gender_by_whole_words() -> None:
    check = {"kind": "gender", "of": "feminine", "has": ["Lehrerin"], "lacks": ["Lehrer"]}
    assert obeyed(check, "x", "Sie ist Lehrerin.")
    assert not obeyed(check, "x", "Er ist Lehrer.")
    assert not obeyed(check, "x", "Sie unterrichtet.")
    thai = {"kind": "gender", "of": "masculine", "has": ["ครับ", "ผม"], "lacks": ["ค่ะ", "ดิฉัน"]}
    assert obeyed(thai, "x", "ผมหิวครับ", "th")
    assert not obeyed(thai, "x", "ดิฉันหิวค่ะ", "th")


def test_length_counts_composed_characters_or_words() -> None:
    assert obeyed({"kind": "length", "most": 4}, "x", "über")
    assert obeyed({"kind": "length", "most": 4}, "x", "u\u0308ber")
    assert not obeyed({"kind": "length", "most": 4}, "x", "übern")
    assert not obeyed({"kind": "length", "most": 2, "unit": "words"}, "x", "ein, zwei, drei")


def test_terms_are_found_inflected() -> None:
    check = {"kind": "terms", "terms": {"lease": "Mietvertrag", "deposit": ["Kaution", "Sicherheit"]}}
    assert obeyed(check, "x", "Die Kaution steht in allen Mietverträgen.")
    assert obeyed(check, "x", "Die Sicherheit nennt der Mietvertrag.")
    assert not obeyed(check, "x", "Die Kaution steht im Vertrag.")
    assert obeyed({"kind": "terms", "terms": {"budget": "งบประมาณ"}}, "x", "หารือเรื่องงบประมาณวันนี้", "th")
    assert not obeyed({"kind": "terms", "terms": {"contract": "合约"}}, "x", "签署合同。", "zh")


def test_names_as_often_as_in_the_source() -> None:
    check = {"kind": "names", "names": ["Blue Bell"]}
    assert obeyed(check, "Blue Bell is Blue Bell.", "Blue Bell ist Blue Bell.")
    assert not obeyed(check, "Blue Bell is Blue Bell.", "Blue Bell ist Blaue Glocke.")


@pytest.mark.parametrize(
    ("source", "right", "wrong"),
    [
        ("{a} of {b}", "{a} von {b}", "{b} von {a}"),
        ("<b>Save</b> it", "<b>Sichern</b>", "<b>Sichern"),
        ("Run `make` now", "Jetzt `make`", "Jetzt make"),
        ("%d seats at %s", "仅剩%d个座位，%s。", "仅剩 个座位，%s。"),
        ("no tags", "keine", "<i>keine</i>"),
    ],
)
def test_markup(source: str, right: str, wrong: str) -> None:
    assert obeyed({"kind": "markup"}, source, right)
    assert not obeyed({"kind": "markup"}, source, wrong)


def test_lines_and_parts() -> None:
    assert obeyed({"kind": "lines"}, "a\n\nb\nc", "x\n\ny\nz")
    assert not obeyed({"kind": "lines"}, "a\n\nb\nc", "x\ny\nz")
    assert not obeyed({"kind": "lines"}, "a\nb", "x y")
    assert obeyed({"kind": "parts", "by": "###"}, "a###b", "x###y")
    assert not obeyed({"kind": "parts", "by": "###"}, "a###b", "x y")


LAYOUTS = [
    ("json", '{"a": "one", "n": 1, "x": [true, null]}', '{"a": "eins", "n": 1, "x": [true, null]}', True),
    ("json", '{"a": "one", "n": 1}', '```json\n{"a": "eins", "n": 1}\n```', True),
    ("json", '{"a": "one", "n": 1}', '{"b": "eins", "n": 1}', False),
    ("json", '{"a": "one", "n": 1}', '{"a": "eins", "n": true}', False),
    ("json", '{"a": "one", "n": 1}', '{"a": "eins", "n": "1"}', False),
    ("json", '{"a": "one"}', 'Hier: {"a": "eins"}', False),
    ("json", '{"a": "one"}', "[" * 100000, False),
    ("table", "| a | b |\n|---|---|\n| c | d |", "| x | y |\n| --- | --- |\n| z | w |", True),
    ("table", "| a | b |\n|---|---|\n| c | d |", "| x | y |\n| z | w |", False),
    ("table", "| a | b |\n|---|---|\n| c | d |", "| x |\n|---|\n| z |", False),
    ("table", "| a | b |\n|---|---|\n| c | d |", "Tabelle\n| x | y |\n|---|---|\n| z | w |", False),
    ("csv", 'a,b\nc,"d, e"', 'x,y\nz,"v, w"', True),
    ("csv", "a,b\nc,d", "x,y", False),
    ("list", "1. a\n2. b", "1. x\n2. y", True),
    ("list", "1. a\n2. b", "- x\n- y", False),
    ("list", "- a\n  - b", "- x\n- y", False),
    ("html", '<p class="a">x <b>y</b></p>', '<p class="a">u <b>v</b></p>', True),
    ("html", "<p>x <b>y</b></p>", "<p>u v</p>", False),
]


@pytest.mark.parametrize(("of", "source", "answer", "right"), LAYOUTS)
def test_layout(of: str, source: str, answer: str, right: bool) -> None:
    assert obeyed({"kind": "layout", "of": of}, source, answer) is right


@pytest.mark.parametrize("check", [{}, {"kind": "rhyme"}, {"kind": "length"}, {"kind": "length", "most": 0, "x": 1}])
def test_what_is_no_check_is_refused(check: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CHECKS.validate_python([check])
    with pytest.raises(ValidationError):
        CHECKS.validate_python([])


@pytest.mark.parametrize("kind", KINDS)
def test_odd_answers_are_checked(kind: str) -> None:
    given: dict[str, dict[str, Any]] = {
        "register": {"level": "formal"},
        "gender": {"of": "feminine", "has": ["a"]},
        "length": {"most": 3},
        "terms": {"terms": {"a": "b"}},
        "names": {"names": ["A"]},
        "parts": {"by": "|"},
        "layout": {"of": "json"},
    }
    for answer in ("", "\ud800 \u202e", "👩‍👩‍👧"):
        assert obeyed({"kind": kind, **given.get(kind, {})}, "A|b", answer) in (True, False)


def test_language_of_json_is_that_of_its_values() -> None:
    assert texts_in('{"ชื่อ": "curry", "n": [1, "hot"]}') == "curry\nhot"
    assert texts_in("plain") == "plain"
    assert texts_in("{}") == "{}"
