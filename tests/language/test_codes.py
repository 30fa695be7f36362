"""Language facts against ISO 639, BCP-47, CLDR, the languages of FLORES-200, and sacreBLEU."""

from __future__ import annotations

import langcodes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as FLORES_200

from lingraft.core.errors import UsageError
from lingraft.language.codes import (
    base_language,
    bleu_tokenizer,
    is_spaceless,
    joins_sentences,
    language,
    language_name,
    language_tag,
    match_language,
    other_region,
    script,
)
from lingraft.language.identification import identifier_label


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
        ("in", "id"),
        ("ji", "yi"),
        ("mo", "ro"),
        ("sh", "sr-Latn"),
        ("tl", "fil"),
        ("nb", "nb"),
        ("sr_Cyrl", "sr"),
        ("sr-Latn-RS", "sr-Latn-RS"),
        ("cmn_Hani", "zh"),
        ("cmn_Hans", "zh-Hans"),
        ("yue_Hant", "yue"),
        ("zh-yue", "yue"),
        ("ar-arz", "arz"),
        ("ms-zsm", "ms"),
        ("ZH-CHS", "zh-Hans"),
        ("zh_CHT", "zh-Hant"),
        ("yue_Hans", "yue-Hans"),
        ("zh-Hant-TW", "zh-Hant-TW"),
        ("urd_Aran", "ur"),
        ("kor_Hang", "ko"),
        ("i-klingon", "tlh"),
        ("tlh", "tlh"),
    ],
)
def test_codes_are_normalised(code: str, tag: str) -> None:
    assert language(code) == tag
    assert language(tag) == tag


@pytest.mark.parametrize(
    "code",
    [
        *("", "xx", "x", "123", "de ", "german", "root", "日本", "a" * 5000),
        *("und", "und-Latn", "mul", "zxx", "mis", "qaa", "zh-abc", "x-klingon", "i-default"),
    ],
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
    codes = ("de", "zh-CN", "sr-Latn-RS", "cmn_Hans", "arb", "nb", "no", "nn", "arz", "yue", "xx-YY")
    bases = ["de", "zh", "sr", "zh", "ar", "no", "no", "nn", "arz", "yue", "xx"]
    assert [base_language(code) for code in codes] == bases


ENCOMPASSED = {
    "zsm_Latn": "ms", "arb_Arab": "ar", "lvs_Latn": "lv", "kor_Hang": "ko", "pes_Arab": "fa", "ekk_Latn": "et",
    "swh_Latn": "sw", "npi_Deva": "ne", "als_Latn": "sq", "azj_Latn": "az", "uzn_Latn": "uz", "khk_Cyrl": "mn",
    "gaz_Latn": "om", "plt_Latn": "mg", "ydd_Hebr": "yi", "ory_Orya": "or", "kmr_Latn": "ku", "ayr_Latn": "ay",
    "knc_Latn": "kr", "twi_Latn": "ak", "tgl_Latn": "fil", "eng_Latn": "en", "zho": "zh", "cmn": "zh",
}  # fmt: skip


@pytest.mark.parametrize(("code", "plain"), ENCOMPASSED.items())
def test_a_redundant_script_and_a_language_within_another_are_the_plain_language(code: str, plain: str) -> None:
    assert language(code) == language(code.replace("_", "-").lower()) == plain
    assert language_name(code) == langcodes.Language.get(plain).display_name("en")
    assert (base_language(code), script(code)) == (plain, script(plain))
    assert identifier_label(code) == identifier_label(plain)


SCRIPTS_NAMED = {
    "ace_Arab", "bjn_Arab", "crh_Latn", "kas_Deva", "knc_Arab", "sat_Beng", "taq_Tfng", "tzm_Tfng",
    "zho_Hans", "zho_Hant",
}  # fmt: skip
"""FLORES languages that CLDR says are mostly written in another script, and Chinese, which has two."""

TOKENIZERS = {
    "zho_Hans": "zh", "zho_Hant": "zh", "yue_Hant": "zh", "jpn_Jpan": "ja-mecab", "kor_Hang": "ko-mecab",
    "tha_Thai": "char", "lao_Laoo": "char", "khm_Khmr": "char", "mya_Mymr": "char", "shn_Mymr": "char",
    "bod_Tibt": "char", "dzo_Tibt": "char",
}  # fmt: skip


@pytest.mark.parametrize("code", FLORES_200)
def test_every_language_of_flores(code: str) -> None:
    plain, written = code.split("_")
    tag = language(code)
    assert tag == language(tag)
    assert base_language(tag) == base_language(plain)
    assert script(tag) == script(code) == {"Hang": "Kore"}.get(written, written)
    named = langcodes.Language.make(script=written).script_name().removesuffix(" Han")
    assert (f"({named})" in language_name(code)) == (code in SCRIPTS_NAMED)
    assert "individual language" not in language_name(code)
    assert bleu_tokenizer(code) == TOKENIZERS.get(code, "13a")
    if code not in SCRIPTS_NAMED:
        assert identifier_label(code) == identifier_label(plain)
    assert match_language([code], tag) == match_language([code], code) == code


@pytest.mark.parametrize(
    ("keys", "code", "found"),
    [
        (["en", "zh-TW", "zh-Hans"], "zh-CN", "zh-Hans"),
        (["en", "zh-TW", "zh-Hans"], "zh", "zh-Hans"),
        (["en", "zh-TW", "zh-Hans"], "zh-HK", "zh-TW"),
        (["en", "zh-TW"], "zh", None),
        (["en", "cmn-Hans"], "zh", "cmn-Hans"),
        (["yue", "wuu"], "zh", None),  # languages of their own
        (["sr_Cyrl"], "sr-Latn", None),
        (["sr_Cyrl", "sr"], "sr", "sr"),
        (["sh"], "sr-Latn", "sh"),
        (["en", "pt_BR"], "pt-PT", "pt_BR"),
        (["pt_BR", "pt"], "pt-PT", "pt"),
        (["pt_BR", "pt_PT"], "pt", "pt_BR"),  # by CLDR Portuguese without a region is Brazil's
        (["es-MX", "es-ES"], "es-AR", "es-MX"),
        (["iw"], "he", "iw"),
        (["in"], "id", "in"),
        (["nb"], "no", "nb"),
        (["nn"], "no", None),
        (["tl"], "fil", "tl"),
        (["arb"], "ar", "arb"),
        (["eng", "deu"], "de", "deu"),
        (["de", "deu"], "de", "de"),
        (["x-klingon", "i-default", "", "und", "e" * 40], "en", None),
    ],
)
def test_which_key_stands_for_a_language(keys: list[str], code: str, found: str | None) -> None:
    assert match_language(keys, language(code)) == found
    assert match_language(reversed(keys), language(code)) == found


@pytest.mark.parametrize(
    ("keys", "code"), [(["es-MX", "es-AR"], "es"), (["deu", "ger"], "de"), (["en-GB", "en", "en-IE", "EN"], "en-US")]
)
def test_several_equally_near_keys_are_named(keys: list[str], code: str) -> None:
    with pytest.raises(UsageError, match=r" and .* are equally near to") as caught:
        match_language(keys, code)
    assert repr(keys[1]) in str(caught.value)


def test_other_regions() -> None:
    pairs = [("pt-BR", "pt-PT"), ("pt", "pt-PT"), ("zh-TW", "zh-HK"), ("en-GB", "en-GB"), ("en-US", "en")]
    assert [other_region(*pair) for pair in pairs] == [True, False, True, False, False]


@pytest.mark.parametrize("code", ["zh", "ja", "ko", "de"])
def test_the_tokenizer_is_the_one_that_sacrebleu_chooses(code: str) -> None:
    metric = BLEU(trg_lang=code)
    metric.corpus_score(["a"], [["a"]])
    assert f"tok:{bleu_tokenizer(code)}" in metric.get_signature().format()


@pytest.mark.parametrize(
    "code", ["zh", "zho", "cmn_Hans", "yue", "yue_Hant", "wuu", "lzh", "nan", "hak", "gan", "hsn", "cdo"]
)
def test_chinese_under_any_code_is_split_as_chinese(code: str) -> None:
    assert bleu_tokenizer(code) == "zh"


def test_chinese_and_japanese_in_latin_letters_have_spaces() -> None:
    assert [bleu_tokenizer(code) for code in ("nan-Latn", "zh-Latn", "ja-Latn")] == ["13a"] * 3


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


@pytest.mark.parametrize(
    ("code", "spaceless", "joined"),
    [
        *(("zh-TW", True, True), ("wuu", True, True), ("ja", True, True), ("th", True, False), ("shn", True, False)),
        *(("ko", False, False), ("vi", False, False), ("ja-Latn", False, False)),
    ],
)
def test_scripts_without_spaces(code: str, spaceless: bool, joined: bool) -> None:
    assert (is_spaceless(code), joins_sentences(code)) == (spaceless, joined)


SUBTAGS = [
    "zh",
    "en",
    "sr",
    "nb",
    "sgn",
    "cmn",
    "arz",
    "und",
    "x",
    "i",
    "u",
    "co",
    "Hans",
    "Latn",
    "Cyrl",
    "Zyyy",
    "Hanb",
]
SUBTAGS += ["419", "US", "TW", "1996", "rozaj", "phonebk", "default", "klingon", "qaa", "abc", "", "中"]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(SUBTAGS), min_size=1, max_size=5), st.sampled_from("-_"))
def test_what_is_taken_for_a_language_is_one_and_stays_the_same(subtags: list[str], between: str) -> None:
    code = between.join(subtags)
    tag = language_tag(code)
    if tag is None:
        with pytest.raises(UsageError, match="unknown language code"):
            language(code)
        return
    assert language_tag(tag) == tag
    assert langcodes.tag_is_valid(tag)
    assert "Unknown" not in language_name(tag)
    assert match_language([code], tag) == code
