"""Identification against sentences of known languages, and of many texts against that of each."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lingraft.language.codes import COMMON, base_language
from lingraft.language.identification import identifiable, identifier_label, identify, identify_many, may_be

SENTENCES = {
    "de": "Der Bus fährt am Sonntag erst um neun Uhr ab.",
    "en": "On Sundays the bus does not leave before nine o'clock.",
    "cs": "Autobus v neděli odjíždí až v devět hodin.",
    "ru": "По воскресеньям автобус отправляется только в девять часов.",
    "zh": "星期天公共汽车九点才出发。",
    "th": "วันอาทิตย์รถบัสจะออกตอนเก้าโมงเช้า",
    "nb": "På søndager går ikke bussen før klokken ni om morgenen.",
    "cmn": "星期天公共汽车九点才出发。",
    "is": "Á sunnudögum fer strætisvagninn ekki fyrr en klukkan níu.",
}


@pytest.mark.parametrize("code", SENTENCES)
def test_identify_returns_the_language_that_was_expected(code: str) -> None:
    found, probability = identify(SENTENCES[code], (code, "en"))
    assert found == base_language(code)
    assert 0.5 < probability <= 1


def test_a_third_language_is_not_forced_into_the_expected_ones() -> None:
    assert identify(SENTENCES["cs"], ("de", "en"))[0] == "cs"
    assert identify(SENTENCES["is"], ("is", "en"))[0] == "is"


def test_identifier_labels() -> None:
    assert set(COMMON) <= identifiable()
    assert [identifier_label(code) for code in ("de", "zh-CN", "cmn", "fil", "nb", "tlh")] == [
        "de",
        "zh",
        "zh",
        "tl",
        "no",
        None,
    ]


def test_a_language_is_identified_in_the_scripts_that_the_identifier_knows() -> None:
    codes = ("sr", "sr-Latn", "uz", "hi", "hi-Latn", "zh-Hant", "ckb", "azb", "ur", "quy", "min", "acm", "crh-Latn")
    labels = ["sr", "sr", "uz", "hi", None, "zh", None, None, "ur", "qu", "ms", "ar", None]
    assert [identifier_label(code) for code in codes] == labels
    latin = "Gradsko veće je juče odlučilo da na proleće obnovi stari most preko reke."
    assert identify(latin, ("sr-Latn", "en"))[0] == "sr"


def test_a_language_known_by_its_macrolanguage_is_not_told_from_the_others_of_it() -> None:
    assert may_be("id", "min")
    assert may_be("ar", "acm")
    assert not may_be("en", "min")
    assert not may_be("id", "ms")
    assert not may_be("acm", "ar")


MIXED = [
    "Die Gemeinde hat gestern beschlossen, die alte Brücke zu erneuern.",
    "THE COUNCIL DECIDED YESTERDAY TO RENEW THE OLD BRIDGE.",
    "市议会昨天决定在春天翻修河上的那座旧桥。",
    "Градско веће је јуче одлучило да на пролеће обнови стари мост.",
    "Gradsko veće je juče odlučilo da na proleće obnovi stari most.",
    "Kommunen vedtok i går å pusse opp den gamle broen.",
    "Le conseil a de\u0301cide\u0301 hier de re\u0301nover le vieux pont. " * 40,  # longer than is walked together
    "สภาเทศบาลมีมติเมื่อวานนี้",
    "\ud800 half a pair",
    "1234",
    "",
]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(MIXED) | st.text(max_size=40), max_size=8))
@pytest.mark.parametrize("expected", [("de", "en"), ("sr", "nb"), ("tlh",), ()])
def test_many_texts_are_identified_as_each_alone(expected: tuple[str, ...], texts: list[str]) -> None:
    alone = [identify(text, expected) for text in texts]
    together = identify_many(texts, expected)
    assert [probability for _, probability in together] == pytest.approx([p for _, p in alone], abs=1e-5)
    # Where the identifier sees nothing it knows, all languages are alike and rounding chooses.
    assert all(mine == theirs for (mine, p), (theirs, _) in zip(together, alone, strict=True) if p > 0.05)
