"""What shows and what does not, against the Unicode standard; letters of scripts against the characters' names."""

from __future__ import annotations

import unicodedata

import pytest

from lingraft.language.characters import columns, is_blank, letters_of

UNSEEN = {
    "space": " ", "no-break space": "\u00a0", "ideographic space": "\u3000", "line separator": "\u2028",
    "zero width space": "\u200b", "joiners": "\u200c\u200d\u2060", "byte order mark": "\ufeff", "soft hyphen": "\u00ad",
    "marks of direction": "\u200e\u200f\u061c", "embeddings": "\u202a\u202b\u202c\u202d\u202e",
    "isolates": "\u2066\u2067\u2068\u2069", "Mongolian vowel separator": "\u180e",
    "Hangul fillers": "\u115f\u1160\u3164\uffa0", "blank Braille": "\u2800",
    "grapheme joiner": "\u034f", "variation selectors": "\ufe0f\U000e0100",
    "tags": "\U000e0001\U000e0041", "annotations": "\ufff9\ufffa\ufffb", "controls": "\x00\x07\x1b\x7f\x85",
}  # fmt: skip


@pytest.mark.parametrize("text", UNSEEN.values(), ids=UNSEEN)
def test_what_shows_nothing_is_blank(text: str) -> None:
    assert is_blank(text)
    assert is_blank(f" {text}\n{text}\t")
    assert not is_blank(f"{text}x")
    assert not is_blank(f"-{text}")


def test_the_empty_text_is_blank() -> None:
    assert is_blank("")


def test_every_letter_number_mark_of_punctuation_and_symbol_shows() -> None:
    shown = [chr(code) for code in range(0x30000) if unicodedata.category(chr(code))[0] in "LNPS"]
    blank = {unicodedata.name(character) for character in shown if is_blank(character)}
    fillers = {"HANGUL CHOSEONG FILLER", "HANGUL JUNGSEONG FILLER", "HANGUL FILLER", "HALFWIDTH HANGUL FILLER"}
    assert blank == {*fillers, "BRAILLE PATTERN BLANK"}


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("Latn", ["LATIN"]),
        ("Cyrl", ["CYRILLIC"]),
        ("Mtei", ["MEETEI"]),
        ("Cans", ["CANADIAN"]),
        ("Nkoo", ["NKO"]),
        ("Lisu", ["LISU"]),
        ("Beng", ["BENGALI"]),
        ("Orya", ["ORIYA"]),
        ("Hant", ["CJK UNIFIED"]),
        ("Jpan", ["CJK UNIFIED", "HIRAGANA LETTER", "KATAKANA LETTER"]),
        ("Kore", ["HANGUL SYLLABLE", "CJK UNIFIED"]),
    ],
)
def test_letters_of_a_script_are_those_named_after_it(script: str, names: list[str]) -> None:
    text = "".join(map(chr, range(0xD800)))
    expected = [c for c in text if c.isalpha() and unicodedata.name(c, "").startswith(tuple(names))]
    assert len(expected) > 20
    assert letters_of("".join(expected), script) == len(expected)
    assert letters_of("ᏣᎳᎩ, 12", script) == 0


def test_of_what_is_no_script_nothing_is_known() -> None:
    assert [letters_of("abc", script) for script in ("", "Zsye", "Qaaa")] == [None] * 3


def test_columns_are_those_of_unicode() -> None:
    """Against `unicodedata`: letters and marks of all scripts up to CJK's second plane, every seventh."""
    for code in range(0x20, 0x30000, 7):
        char = chr(code)
        if unicodedata.category(char)[0] in "LM":
            wide = unicodedata.east_asian_width(char) in "WF"
            assert columns(char) == 1 + wide - (unicodedata.category(char) == "Mn"), hex(code)
    widths = [columns(text) for text in ("abc", "你好", "ＡＢ", "ที่นี่", "e\u0301", "한국", "")]
    assert widths == [3, 4, 4, 2, 1, 4, 0]
