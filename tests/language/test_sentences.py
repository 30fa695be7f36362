"""Pieces to translate: whole sentences where they can be told, and nothing of the text's form is lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.language.sentences import TextPiece, join_text, split_text


def translated(text: str, longest: int = 300, lang: str = "en") -> list[str]:
    return [piece.text for piece in split_text(text, longest, lang=lang) if piece.translate]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One is here. Two is there!  Is it three?", ["One is here.", "Two is there!", "Is it three?"]),
        ("Dr. Smith met J. Doe at 5 p.m. on Friday. Yes.", ["Dr. Smith met J. Doe at 5 p.m. on Friday.", "Yes."]),
        ("It costs 3.5 dollars, e.g. at Joe's. Fine.", ["It costs 3.5 dollars, e.g. at Joe's.", "Fine."]),
        ("J. R. R. Tolkien wrote it. We read it.", ["J. R. R. Tolkien wrote it.", "We read it."]),
        ("M. Dupont est là.", ["M. Dupont est là."]),
        ("- A. Merkel kam. Er ging.", ["A. Merkel kam.", "Er ging."]),
        ("a) One.\nB) Two.\n(c) Three.\nd. Four.", ["One.", "Two.", "Three.", "Four."]),
        ('He said: "No." Then he left.', ['He said: "No."', "Then he left."]),
        ("Wait... what? yes.", ["Wait... what? yes."]),
        ("今天很好。我们走吧！好", ["今天很好。", "我们走吧！", "好"]),
        ("วันนี้อากาศดี เราไปเดินเล่น", ["วันนี้อากาศดี เราไปเดินเล่น"]),
        ("- a point\n  * another.\n1. First. Last.\n\n## Title", ["a point", "another.", "First.", "Last.", "Title"]),
        ("Use this:\n```python\nprint('Hello. You.')\n```\nDone.", ["Use this:", "Done."]),
        ("```print(1)```\nIt says: one.\n~~~\nx. y.\n~~~\nDone.", ["It says: one.", "Done."]),
        ("यह पहला है। यह दूसरा है? हाँ॥ बस।", ["यह पहला है।", "यह दूसरा है?", "हाँ॥", "बस।"]),
        ("کیا یہ ہے؟ جی ہاں۔ بس۔", ["کیا یہ ہے؟", "جی ہاں۔", "بس۔"]),
        ("12 + 30 = 42\n---\n👍🏽", []),
        ("", []),
        (" \n\n", []),
    ],
)  # fmt: skip
def test_sentences(text: str, pieces: list[str]) -> None:
    assert translated(text) == pieces


# A bar stands where a sentence ends.
HARD = {
    "en": (
        "Dr. Smith met J. R. R. Tolkien at 3 p.m. on Jan. 5.|He paid $3.50.|“Really?” she asked.|Yes!",
        "See Fig. 3 and Sec. 2.1 for details.|The U.S. Army left.|It ended in the U.S.|They left.",
        "Visit www.example.com.|Version 2.0.1 is out.|Node.js is fun.|What?!|No...|Maybe... yes.",
        "It is in Vol. 2, pp. 3-5.|Mr. and Mrs. Ng came, i.e. both of them.",
        "He said so.[2]|Nobody (vs. 3 before) did.",
    ),
    "de": (
        "Am 3. Mai war z. B. Herr Dr. Groß da, d. h. nicht Hr. Klein.|Er ging.",
        "Der 2. Weltkrieg endete am 8. Mai 1945.|Er sagte: „Ich komme.“|Dann ging er.",
        "Siehe Abb. 3 bzw. Tab. 4 unten.|Kosten inkl. Versand, ggf. mehr.|Es ist ca. 5 km weit, vgl. Nr. 7 usw.",
        "Das gilt seit 1990.|Im 21. Jh. nicht mehr.",
    ),
    "fr": ("M. Dupont est arrivé.|Il dit : « Bonjour ! » et partit.|Voir p. 5, etc.",),
    "es": ("¿Qué hora es?|¡Vaya!|El Sr. García llegó a las 5 p. m. del día.|EE. UU. es grande.",),
    "it": ("Il sig. Rossi abita qui.|Perché?|Non lo so.",),
    "pt-BR": ("O Sr. Silva chegou.|Ele foi embora.",),
    "cs": ("Narodil se 5. května 1920 v Praze.|Byl to dr. Novák.",),
    "pl": ("Urodził się 3. maja.|Mieszka przy ul. Długiej.",),
    "is": ("Hann er t.d. hér.|Þetta er 3. dagur.",),
    "ru": ("Он живёт в г. Москве, ул. Ленина, д. 5.|Это т. е. там.|В 1990 г. он уехал.",),
    "zh": ("今天很好。|我们走吧！|“你去吗？”|他问。",),
    "ja": ("こんにちは。|行きますか？|はい",),
    "hi": ("यह पहला है।|यह दूसरा है?|हाँ॥|बस।",),
    "ur": ("کیا یہ ہے؟|جی ہاں۔|بس۔",),
    "ar": ("هل أنت هنا؟|نعم.|شكرا!",),
    "bo": ("བཀྲ་ཤིས།|བདེ་ལེགས།",),
    "my": ("မင်္ဂလာပါ။|နေကောင်းလား။",),
    "am": ("ሰላም።|እንዴት ነህ።",),
    "km": ("សួស្តី។|តើអ្នក។",),
    "hy": ("Բարև։|Ինչպես ես։",),
    "th": ("นี่คือประโยค 3.5 บาท อีกประโยคหนึ่ง",),
    "tlh": ("nuqneH.|Qapla'.",),  # unknown to the library: by the rules of English
}


@pytest.mark.parametrize(("lang", "marked"), [(lang, text) for lang, texts in HARD.items() for text in texts])
def test_hard_cases_of_a_language(lang: str, marked: str) -> None:
    space = "" if lang in ("zh", "ja") else " "
    assert translated(marked.replace("|", space), lang=lang) == marked.split("|")


def test_no_sentence_is_lost_where_a_long_line_is_read_in_windows() -> None:
    sentence = "Dr. Ng met Mr. " + "VERY " * 30 + "LONG."  # cut anywhere, it does not look as if it went on
    assert translated(" ".join([sentence] * 400), 1000) == [sentence] * 400


def test_thai_is_cut_at_its_spaces_and_only_there() -> None:
    clause = "วันนี้อากาศดีเราจึงเดินไปท่าเรือเก่าและกินปลา"
    text = " ".join([clause] * 9)
    parts = translated(text, 120)
    assert " ".join(parts) == text
    assert max(map(len, parts)) <= 120
    assert {part.count(clause) for part in parts} <= {1, 2}
    assert translated(clause * 9, 120) == [clause * 9]


def test_long_sentences_are_cut_at_white_space() -> None:
    parts = translated("word " * 200 + "end.", 100)
    assert max(map(len, parts)) <= 100
    assert min(map(len, parts[:-1])) > 50
    assert " ".join(parts) == "word " * 200 + "end."


@given(
    st.lists(
        st.sampled_from(["A b. ", "x", ". ", "\n", "  - ", "```\n", "1) ", "วันนี้ ", "好。", "e.g. ", "\r\n", "\u2028"])
        | st.text(max_size=8) | st.sampled_from(["\ud800", "\udfff. A", "e\u0301. "]),
        max_size=30,
    ).map("".join),
    st.integers(1, 40),
    st.sampled_from(["en", "de", "th", "zh", "ar", "xx"]),
)  # fmt: skip
def test_the_pieces_are_the_text(text: str, longest: int, lang: str) -> None:
    pieces = split_text(text, longest, lang=lang)
    assert "".join(piece.text for piece in pieces) == text
    wanted = [piece.text for piece in pieces if piece.translate]
    assert join_text(pieces, wanted) == text
    assert all(piece.text == piece.text.strip() and piece.text for piece in pieces if piece.translate)


def test_translations_take_the_places_of_their_pieces() -> None:
    pieces = split_text("- Yes. No.\n\n  Maybe", lang="en")
    assert join_text(pieces, ["ใช่", "ไม่", "อาจจะ"]) == "- ใช่ ไม่\n\n  อาจจะ"
    with pytest.raises(ValueError, match="2 translations for 3 pieces"):
        join_text(pieces, ["a", "b"])
    assert split_text("42", lang="en") == [TextPiece("42", False)]


def test_time_grows_with_the_text() -> None:
    start = time.process_time()
    for text in (
        "a. " * 100_000,
        "a " * 150_000,
        "." * 300_000,
        "ก" * 300_000,
        "- " * 150_000,
        "1) " * 100_000,
        "“" * 300_000,
    ):
        split_text(text, lang="en")
    assert time.process_time() - start < 120  # a square would take hours
