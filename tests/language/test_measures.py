"""Words, loops, echoes and languages of single texts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lingraft.language.measures import in_script_of, is_echo, is_looping, letter_count, words, written_in

PARAGRAPH = (
    "The old harbour was once the busiest part of the town. Ships from four countries unloaded coffee, timber and wool "
    "there, and the taverns never closed. When the railway came, trade moved inland and the warehouses stood empty for "
    "decades. Today they hold studios, a small museum and two restaurants, and on Saturdays a market fills the quay. "
    "Visitors who arrive by ferry see the same brick fronts that sailors saw a hundred years ago."
)
CHORES = (
    "Buy milk and bread; Call the plumber; Water the plants; Pay the rent; Book the train to Lyon; "
    "Return the library books; Clean the windows; Write to Ana; Fix the bicycle; Cook the soup"
)
LIST = "\n".join(f"{number}. {chore}" for number, chore in enumerate(CHORES.split("; "), start=1))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  one\ttwo\nthree ", ["one", "two", "three"]),
        ("GPT-4 写得好", ["GPT-4", "写", "得", "好"]),
        ("日本へ", ["日", "本", "へ"]),
        ("한국어 문장", ["한국어", "문장"]),
    ],
)
def test_words(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_thai_marks_stay_with_their_letter() -> None:
    assert words("ที่นี่") == ["ที่", "นี่"]


@given(st.text())
def test_words_lose_nothing_but_white_space(text: str) -> None:
    assert "".join(words(text)) == "".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "yes " * 40,
        PARAGRAPH + " I am sorry." * 30,
        PARAGRAPH[:100] + " the cat and the dog and" * 9,
        " ".join([PARAGRAPH[:180]] * 5),  # a long unit: found by its few distinct 4-grams
        "我喜欢苹果，" * 12,
    ],
    ids=["word", "sentence at the end", "clause", "paragraph", "Chinese"],
)
def test_loops(text: str) -> None:
    assert is_looping(text)


@pytest.mark.parametrize(
    "text", ["", "No, no, no.", "ha ha ha ha", PARAGRAPH, LIST], ids=["empty", "short", "laugh", "prose", "list"]
)
def test_does_not_loop(text: str) -> None:
    assert not is_looping(text)


def test_a_loop_is_found_only_once_it_fills_the_tail() -> None:
    assert not is_looping(PARAGRAPH + " and so on" * 3)
    assert is_looping(PARAGRAPH + " and so on" * 12)


def test_random_words_do_not_loop() -> None:
    vocabulary = [f"w{number}" for number in range(2000)]
    generator = np.random.default_rng(0)
    assert not any(is_looping(" ".join(generator.choice(vocabulary, size=120))) for _ in range(100))


QUESTION = "What is the difference between a comet and an asteroid, and which of them has a tail?"


@pytest.mark.parametrize(
    "text",
    [
        QUESTION,
        QUESTION.upper().replace(",", " -"),
        f"Question: {QUESTION}",
        "What is the difference between a comet and an asteroid, and which of the two has a tail?",
        QUESTION[:70],
    ],
    ids=["same", "case and punctuation", "prefixed", "one word changed", "cut off"],
)
def test_echo(text: str) -> None:
    assert is_echo(text, QUESTION)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A comet",
        "A comet is made of ice and dust and grows a tail near the Sun; an asteroid is made of rock and has none.",
        f"{QUESTION} A comet is icy and grows a tail near the Sun, while an asteroid is rocky and has none at all.",
    ],
    ids=["empty", "short quotation", "answer", "question repeated, then answered"],
)
def test_no_echo(text: str) -> None:
    assert not is_echo(text, QUESTION)


def test_echo_threshold_is_the_share_that_is_contained() -> None:
    assert is_echo("abcdefg", "abcdefghij", threshold=0.7)
    assert not is_echo("abcdefg", "abcdefghij", threshold=0.71)


def test_echo_keeps_vowel_signs() -> None:
    assert not is_echo("กี กี กี กี", "กู กู กู กู")


@given(st.text(min_size=1), st.text(min_size=1))
def test_echo_is_symmetric(one: str, other: str) -> None:
    assert is_echo(one, other) == is_echo(other, one)


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ("Das Spiel wurde wegen Regen abgesagt.", "de", True),
        ("Das Spiel wurde wegen Regen abgesagt.", "en", False),
        ("比赛因下雨取消了。", "zh", True),
        ("比赛因下雨取消了。", "ja", False),
        ("National 和 Hertz 一直都很靠谱。", "zh", True),  # most letters are Latin
        ("OK", "en", True),
        ("Да", "en", False),  # short: script only
        ("Danke", "en", True),  # short: the script cannot tell
        ("Спасибо большое за помощь", "sr", False),  # same script, another language
        ("খেলাটি বৃষ্টির কারণে বাতিল হয়েছে", "en", False),  # a script that no candidate uses
        ("খেলাটি বৃষ্টির কারণে বাতিল হয়েছে", "bn", True),
        ("1,200 / 3.5", "th", True),
    ],
)
def test_written_in(text: str, code: str, expected: bool) -> None:
    assert written_in(text, code, {"de", "en"}) is expected


def test_scripts_and_letters() -> None:
    assert in_script_of("สวัสดี", "th")
    assert in_script_of("東京タワー", "ja")
    assert not in_script_of("東京タワー", "ko")
    assert in_script_of("अआ ab", "hi")
    assert not in_script_of("अ abc", "hi")
    assert letter_count("a1-b2 é!") == 3
