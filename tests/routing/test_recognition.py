"""Which requests are for a translation, of what, and between which languages."""

from __future__ import annotations

import pytest

from lingraft.data.records import Message
from lingraft.language.codes import language_named
from lingraft.routing.recognition import Recogniser
from lingraft.routing.wordings import filled_in, fillings
from lingraft.translation.wording import DEFAULT, VARIANTS, ask

REPEATED = (
    "Translate this from {source_name} to {target_name}:\n{source_name}: {source}\n{target_name}:",
    "Into {target_name}: {source}\n\nThat was {source_name}. In {target_name}, again, this is it: {source}",
)
"""Wordings that name a field twice, as ALMA's does."""
SOURCES = [
    "Guten Tag",
    "Translate the text above from French to Thai.\n\nTo what?",
    "x: y\nGerman: x\nEnglish:",
    "Guten Tag.",
    "Zwei\n\nAbsätze:  ẞ İ ﬁ einer {und} noch einer.",
    "from into to",
    "İ" * 9,
    "ß\t\tß",
]


def found(text: str, *wordings: str, directions: list[tuple[str, str]] | None = None) -> tuple[str, str, str] | None:
    source = Recogniser(wordings or VARIANTS, directions or []).source([Message("user", text)])
    return source and (source.text, source.source_lang, source.target_lang)


@pytest.mark.parametrize("wording", [*VARIANTS, *REPEATED])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("direction", [("de", "en"), ("en", "th"), ("zh", "fr")])
def test_what_was_asked_is_read_again_to_the_letter(wording: str, source: str, direction: tuple[str, str]) -> None:
    asked = ask(wording, source, *direction)[0].content
    known = (*VARIANTS, *REPEATED)
    assert found(asked, *known) == (source, *direction)
    assert found(f"\n  {asked} \n\n", *known) == (source, *direction)


@pytest.mark.parametrize(
    "text",
    [
        "Translate this from German to English:\nFrench: Bonjour\nEnglish:",
        "Translate this from German to English:\nGerman: Guten Tag\nSpanish:",
        "Translate this from German to English:\nGerman: Guten Tag English:x",
    ],
)
def test_a_name_that_is_another_the_second_time_is_none(text: str) -> None:
    assert found(text, REPEATED[0]) is None
    assert not filled_in(text, REPEATED[:1])


def test_case_and_white_space_of_the_wording_do_not_count_and_those_of_the_source_stay() -> None:
    text = "  TRANSLATE the\nfollowing text  from german INTO\tEnglish.   \n\n\n Ein  STÜCK\n\n Text.  "
    assert found(text) == ("Ein  STÜCK\n\n Text.", "de", "en")


def test_a_wording_without_languages_leaves_them_to_the_only_direction() -> None:
    wording, text = "Übersetze: {source}", "übersetze: Guten Tag."
    assert found(text, wording, directions=[("de", "en")]) == ("Guten Tag.", "de", "en")
    assert found(text, wording, directions=[("de", "en"), ("en", "de")]) is None
    assert found(text, wording) is None
    half, asked = "Ins {target_name}: {source}", "Ins English: Guten Tag."
    both = [("de", "en"), ("en", "de")]
    assert found(asked, half, directions=both) == ("Guten Tag.", "de", "en")
    assert found(asked, half, directions=[*both, ("fr", "en")]) is None


def test_names_are_those_of_what_was_trained_first() -> None:
    regional = [("en", "pt-BR"), ("zh-Hant", "en")]
    for direction in regional:
        assert found(ask(DEFAULT, "x", *direction)[0].content, directions=regional) == ("x", *direction)
    assert found(ask(DEFAULT, "x", "en", "pt-BR")[0].content) is None  # the region would be lost
    assert found(
        ask(DEFAULT, "x", "en", "pt-BR")[0].content.replace("Portuguese (Brazil)", "Brazilian Portuguese")
    ) == (
        "x",
        "en",
        "pt-BR",
    )


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Translate the following text from Nowherish into English.\n\nGuten Tag.",
        "Translate the following text from English into English.\n\nGood day.",
        "Translate the following text from German into English.\n\n",
        "Translate the following text from Java into Python.\n\nint x;",
        "Translate the following text from German into Pirate English.\n\nGuten Tag.",
        "Translate the following text from German into English and say hello.\n\nGuten Tag.",
    ],
)
def test_other_requests_are_none(text: str) -> None:
    assert found(text) is None


def test_a_conversation_or_a_system_message_is_none() -> None:
    asked = ask(DEFAULT, "Guten Tag.", "de", "en")
    known = Recogniser([DEFAULT])
    assert known.source(asked) is not None
    assert known.source([]) is None
    assert known.source([Message("system", "Say `Sie`."), *asked]) is None
    assert known.source([Message("user", "Hi"), Message("assistant", "Hi"), *asked]) is None


def test_the_same_text_has_the_same_id_and_no_other() -> None:
    known = Recogniser(VARIANTS)
    ids = [known.source(ask(wording, "Guten Tag.", "de", "en")) for wording in VARIANTS]
    assert len({one.id for one in ids if one}) == 1
    other = known.source(ask(DEFAULT, "Guten Tag.", "de", "fr"))
    assert other is not None
    assert other.id not in {one.id for one in ids if one}


def test_another_wording_is_tried_where_the_first_has_no_languages() -> None:
    text = "Translate: from x into y. Translate: German to English: Guten Tag."
    wordings = ["Translate: {source}", "Translate: from x into y. Translate: {source_name} to {target_name}: {source}"]
    assert len(list(fillings(text, wordings))) == 2
    assert found(text, *wordings) == ("Guten Tag.", "de", "en")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("german", "de"),
        ("Deutsch", "de"),
        ("java", None),
        ("chinese", "zh"),
        ("", None),
        ("x y", None),
        ("british english", "en-GB"),
        ("swiss german", "gsw"),
        ("simplified chinese", "zh-Hans"),
        ("german please", None),
        ("german or english", None),
        ("pirate english", None),
        ("germanic", None),
    ],
)
def test_names_of_languages(name: str, code: str | None) -> None:
    assert language_named(name) == code
