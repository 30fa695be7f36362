"""Language facts against ISO 639, BCP-47 and sacreBLEU."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from lingraft.data.languages import (
    COMMON,
    base_language,
    bleu_tokenizer,
    identifiable,
    identifier_label,
    identify,
    identify_many,
    language,
    language_name,
)
from lingraft.errors import UsageError


@pytest.mark.parametrize(
    ("code", "tag"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("deu", "de"),
        ("ger", "de"),
        ("zh_cn", "zh-CN"),
        ("zh-Hant", "zh-Hant"),
        ("de-Latn", "de"),
        ("pt_BR", "pt-BR"),
        ("iw", "he"),
        ("tlh", "tlh"),
    ],
)
def test_codes_are_normalised(code: str, tag: str) -> None:
    assert language(code) == tag
    assert language(tag) == tag


@pytest.mark.parametrize(
    "code", ["", "xx", "x", "123", "de ", "german", "und", "mul", "zxx", "mis", "a" * 5000, "日本"]
)
def test_what_is_no_language_is_refused_in_one_sentence(code: str) -> None:
    with pytest.raises(UsageError, match="unknown language code") as caught:
        language(code)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "code"), [("German", "de"), ("chinese", "zh"), ("Czeck", "cs")])
def test_names_lead_to_codes(name: str, code: str) -> None:
    with pytest.raises(UsageError, match=f"did you mean '{code}'"):
        language(name)


@pytest.mark.parametrize(
    ("code", "name"), [("de", "German"), ("zh", "Chinese"), ("cs", "Czech"), ("is", "Icelandic"), ("th", "Thai")]
)
def test_english_names(code: str, name: str) -> None:
    assert language_name(code) == name


def test_base_language() -> None:
    assert [base_language(code) for code in ("de", "zh-CN", "sr-Latn-RS")] == ["de", "zh", "sr"]


@pytest.mark.parametrize("code", ["de", "zh", "zh-TW", "ja", "ko", "th", "km", "en-US", "xh"])
def test_sacrebleu_knows_the_tokenizer(code: str) -> None:
    name = bleu_tokenizer(code)
    metric = BLEU(tokenize=name)
    assert metric.corpus_score(["a b c d"], [["a b c d"]]).score == pytest.approx(100)
    assert f"tok:{name}" in str(metric.get_signature())


@pytest.mark.parametrize(
    ("code", "sentence"),
    [("zh", "今天天气很好"), ("ja", "今日はいい天気です"), ("ko", "오늘은 날씨가 좋다"), ("th", "วันนี้อากาศดีมาก")],
)
def test_tokenizers_split_scripts_without_spaces(code: str, sentence: str) -> None:
    tokens = BLEU(tokenize=bleu_tokenizer(code)).tokenizer(sentence).split()
    assert len(tokens) > len(sentence.split()) + 2


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
def test_identify_returns_the_code_that_was_expected(code: str) -> None:
    found, probability = identify(SENTENCES[code], (code, "en"))
    assert found == code
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
