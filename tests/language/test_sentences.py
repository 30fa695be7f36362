"""Pieces to translate: whole sentences where they can be told, and nothing of the text's form is lost."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.language.sentences import TextPiece, join_text, split_text


def translated(text: str, longest: int = 300) -> list[str]:
    return [piece.text for piece in split_text(text, longest) if piece.translate]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("One is here. Two is there!  Is it three?", ["One is here.", "Two is there!", "Is it three?"]),
        ("Dr. Smith met J. Doe at 5 p.m. on Friday. Yes.", ["Dr. Smith met J. Doe at 5 p.m. on Friday.", "Yes."]),
        ("It costs 3.5 dollars, e.g. at Joe's. Fine.", ["It costs 3.5 dollars, e.g. at Joe's.", "Fine."]),
        ("Am 3. Mai war z. B. Herr Dr. Groß da. Er ging.", ["Am 3. Mai war z. B. Herr Dr. Groß da.", "Er ging."]),
        ("J. R. R. Tolkien wrote it. We read it.", ["J. R. R. Tolkien wrote it.", "We read it."]),
        ("M. Dupont est là.", ["M. Dupont est là."]),
        ("- A. Merkel kam. Er ging.", ["A. Merkel kam.", "Er ging."]),
        ("z. B. ein Haus. Ein Hof.", ["z. B. ein Haus.", "Ein Hof."]),
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
        | st.text(max_size=8),
        max_size=30,
    ).map("".join),
    st.integers(1, 40),
)  # fmt: skip
def test_the_pieces_are_the_text(text: str, longest: int) -> None:
    pieces = split_text(text, longest)
    assert "".join(piece.text for piece in pieces) == text
    wanted = [piece.text for piece in pieces if piece.translate]
    assert join_text(pieces, wanted) == text
    assert all(piece.text == piece.text.strip() and piece.text for piece in pieces if piece.translate)


def test_translations_take_the_places_of_their_pieces() -> None:
    pieces = split_text("- Yes. No.\n\n  Maybe")
    assert join_text(pieces, ["ใช่", "ไม่", "อาจจะ"]) == "- ใช่ ไม่\n\n  อาจจะ"
    with pytest.raises(ValueError, match="2 translations for 3 pieces"):
        join_text(pieces, ["a", "b"])
    assert split_text("42") == [TextPiece("42", False)]


def test_time_grows_with_the_text() -> None:
    start = time.process_time()
    for text in ("a. " * 100_000, "a " * 150_000, "." * 300_000, "ก" * 300_000, "- " * 150_000, "1) " * 100_000):
        split_text(text)
    assert time.process_time() - start < 120  # a square would take hours
