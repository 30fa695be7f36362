"""Overlap with test sets: normalisation against the Unicode standard's own rules, matching against a plain search."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lingraft.core.errors import DataError
from lingraft.data.overlap import OverlapIndex, refuse_test_set
from lingraft.data.records import Pair
from lingraft.language.measures import normalise

LONG_DE = "Der Zug nach Lindau hat heute Verspätung."
LONG_EN = "The train to Lindau is late today."


def pair(source: str, target: str, source_lang: str = "de", target_lang: str = "en", id: str = "train") -> Pair:
    return Pair(id, source, target, source_lang, target_lang)


TEST = Pair("t:1", LONG_DE, LONG_EN, "de", "en", references=("Today the Lindau train is delayed.",))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Straße 5!", "STRASSE 5"),
        ("ﬁne  print", "Fine-print"),
        ("café", "cafe\u0301"),
        ("ｶﾞ 12", "ガ12"),
        ("it\u2019s", "it's"),
        ("co\u00adoperate\u200b", "cooperate"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ],
)
def test_equal_after_normalisation(left: str, right: str) -> None:
    assert normalise(left) == normalise(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("ที่", "ทอ"), ("ที่", "ที"), ("कि", "की"), ("schon", "schön"), ("5 km", "6 km"), ("👍", "👎"), ("?", "!")],
)
def test_different_after_normalisation(left: str, right: str) -> None:
    assert normalise(left) != normalise(right)


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("U\u00af")  # NFKC turns the macron into a space and a combining macron
def test_normalise_is_idempotent_and_ignores_case_width_and_form(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert normalise(unicodedata.normalize("NFD", text)) == once
    assert normalise(f" {text}\n") == once


@pytest.mark.parametrize(
    ("train", "found"),
    [
        (pair(LONG_DE.upper(), LONG_EN.rstrip(".")), "both sides of 't:1'"),
        (pair(LONG_EN, LONG_DE, "en", "de"), "both sides of 't:1'"),
        (pair(LONG_DE, TEST.references[0], "de-AT", "en-GB"), "both sides of 't:1'"),
        (pair(LONG_DE, "Something else"), "source, as in 't:1'"),
        (pair("etwas anderes", LONG_EN), "target, as in 't:1'"),
        (pair("něco jiného", LONG_EN, "cs", "en"), "target, as in 't:1'"),
        (pair(LONG_EN, "něco jiného", "en", "cs"), "source, as in 't:1'"),
        (pair("anders", TEST.references[0]), "target, as in 't:1'"),
        (pair(LONG_EN, "x", "fr", "de"), None),
        (pair(LONG_DE[1:], LONG_EN[1:]), None),
    ],
)
def test_match(train: Pair, found: str | None) -> None:
    assert OverlapIndex([TEST]).match(train) == found


@pytest.mark.parametrize(("length", "found"), [(19, False), (20, True)])
def test_one_side_counts_from_twenty_normalised_characters(length: int, found: bool) -> None:
    text = " ".join("a" * length) + "..."
    index = OverlapIndex([pair(text, "b", id="t")])
    assert (index.match(pair(text, "c")) is not None) == found
    assert index.match(pair(text, "b")) is not None


WORDS = st.sampled_from(["Ja", "ja!", "Nein", "a" * 19, "A" * 20, "a" * 20 + "?"])
PAIRS = st.builds(
    pair, WORDS, WORDS, st.just("de"), st.sampled_from(["en", "cs"]), st.integers(0, 99).map(str)
) | st.builds(pair, WORDS, WORDS, st.just("en"), st.just("de"), st.integers(0, 99).map(str))


@given(st.lists(PAIRS, max_size=4), PAIRS)
def test_the_index_finds_what_a_plain_search_finds(tests: list[Pair], train: Pair) -> None:
    def plain(text: str) -> str:
        return "".join(character for character in text.lower() if character.isalpha())

    def both(one: Pair) -> set[tuple[str, str]]:
        return {(one.source_lang, plain(one.source)), (one.target_lang, plain(one.target))}

    def overlaps(test: Pair) -> bool:
        return both(test) == both(train) or any(len(text) >= 20 for _, text in both(test) & both(train))

    assert (OverlapIndex(tests).match(train) is not None) == any(map(overlaps, tests))


def test_a_training_set_that_is_the_test_set_is_refused() -> None:
    refuse_test_set(50, 100, "train.tsv", "test.tsv")
    refuse_test_set(0, 0, "train.tsv", "test.tsv")
    with pytest.raises(DataError, match=r"test\.tsv seems to be the training set: 51 of 100 rows of train\.tsv"):
        refuse_test_set(51, 100, "train.tsv", "test.tsv")
