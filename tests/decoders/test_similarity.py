"""BM25 as worked out by hand, chrF as sacreBLEU has it."""

from __future__ import annotations

from itertools import product
from math import log

import pytest
import sacrebleu

from lingraft.decoders.similarity import Bm25, chrf, profile

TEXTS = [
    "The cat sat on the mat.",
    "A cat and a dog",
    "Wie geht es dir?",
    "今天天气很好。",
    "สวัสดีชาวโลก",
    "a",
    "",
    "  \n ",
    "don't — “stop”, 5.0 %",
    "The the the the cat",
]


def test_bm25_is_what_it_is_by_hand() -> None:
    # Three texts of 4, 2 and 3 words: 3 on average. "cat" is in two of them, "red" in one, "sun" in none.
    index = Bm25(["the cat, the CAT", "red cat", "a dog barks"])
    cat, red = log(1 + 1.5 / 2.5), log(1 + 2.5 / 1.5)
    first = cat * 2 * 2.5 / (2 + 1.5 * (0.25 + 0.75 * 4 / 3))
    second = (cat + red) * 2.5 / (1 + 1.5 * (0.25 + 0.75 * 2 / 3))
    assert index.scores("Red cat sun") == pytest.approx({0: first, 1: second})
    assert index.scores("cat cat") == pytest.approx({0: 2 * first, 1: 2 * cat * 2.5 / (1 + 1.5 * 0.75)})


def test_bm25_knows_scripts_without_spaces_and_texts_without_words() -> None:
    index = Bm25(["今天天气很好", "他走了", "...", ""])
    assert list(index.scores("天气怎么样")) == [0]
    assert Bm25(["", "!"]).scores("a") == Bm25([]).scores("a") == index.scores("?") == {}


@pytest.mark.parametrize(("one", "other"), product(TEXTS, TEXTS))
def test_chrf_is_that_of_sacrebleu(one: str, other: str) -> None:
    wanted = sacrebleu.CHRF().sentence_score(one, [other]).score
    assert chrf(profile(one), profile(other)) == pytest.approx(wanted, abs=1e-9)
