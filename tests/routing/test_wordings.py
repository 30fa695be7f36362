"""Which texts are a wording, filled in."""

from __future__ import annotations

import time

import pytest

from lingraft.routing.wordings import filled_in
from lingraft.translation.wording import DEFAULT, VARIANTS, ask

ALMA = "Translate this from {source_name} to {target_name}:\n{source_name}: {source}\n{target_name}:"


@pytest.mark.parametrize("wording", [*VARIANTS, ALMA])
@pytest.mark.parametrize("source", ["Guten Tag.", "Zwei\n\nAbsätze: einer {und} noch einer.", "from into to"])
def test_every_wording_is_known_again_whatever_is_in_it(wording: str, source: str) -> None:
    asked = ask(wording, source, "de", "en")[0].content
    assert filled_in(asked, [wording])
    assert filled_in(f"  {asked.upper()}\n", [wording])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Translate the following text from German into English.",
        "Translate the following text from German into English.\n\n",
        "Translate the following text from German into .\n\nGuten Tag.",
        "Translate the following text from the 3rd chapter, which nobody has read, into English.\n\nGuten Tag.",
        f"Translate the following text from {'x' * 80} into English.\n\nGuten Tag.",
        "Please Translate the following text from German into English.\n\nGuten Tag.",
    ],
)
def test_other_texts_are_not(text: str) -> None:
    assert not filled_in(text, [DEFAULT])


def test_a_wording_without_words_fits_nothing() -> None:
    assert not filled_in("Guten Tag.", ["{source}", "{source_name}: {source}"[13:], " {source}. "])


def test_braces_of_a_wording_stand_for_themselves() -> None:
    assert filled_in('Translate {"text": "Guten Tag"}', ['Translate {{"text": "{source}"}}'])


def test_a_hostile_text_takes_no_longer_than_others() -> None:
    wording = "a{source}a" * 1 + " " + " to ".join(["{source_name}", "{target_name}"] * 4)
    begin = time.perf_counter()
    filled_in("a" * 200_000 + " to " * 50_000, [wording, *VARIANTS])
    assert time.perf_counter() - begin < 2
