"""Languages: tags, names, scripts, which tag stands for which, and tokenisers.

Every decision by language is made here, by what CLDR and ISO 639 say of a tag (`langcodes`), never by how it is
written: "cmn_Hans", "zho" and "zh" are Chinese, "arb_Arab" is Arabic, "iw" Hebrew.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from functools import cache, lru_cache

import langcodes
from langcodes.data_dicts import LIKELY_SUBTAGS, MACROLANGUAGES

from lingraft.core.code_languages import NAMES
from lingraft.core.errors import UsageError

# fmt: off
COMMON = [
    "ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "hi", "hu", "id", "it",
    "ja", "ko", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh",
]
# fmt: on
"""What an off-target output is usually written in; always among the candidates of identification."""

MAX_TAG = 35
"""Characters of the longest language tag that RFC 5646 asks to support."""

NOT_LANGUAGES = ("mis", "mul", "zxx")
"""ISO 639 codes for uncoded, multiple and no language: valid tags, but nothing to translate."""

_SAME_SCRIPTS = {"Aran": "Arab", "Hang": "Kore", "Hani": "", "Latf": "Latn", "Latg": "Latn"}
"""ISO 15924 codes of the styles and parts of another script; Hani is Chinese characters, of which kind is not said."""

_USUAL_SCRIPTS = {"azb": "Arab", "mvf": "Mong", "uzs": "Arab"}
"""Scripts that `langcodes` does not know yet, of languages not written as their macrolanguage is."""

_OLD_NAMES = {"zh-chs": "zh-Hans", "zh-cht": "zh-Hant"}
"""What Windows calls Chinese, in translation memories above all: no tags of BCP-47."""

_TOKENIZERS = {"Hans": "zh", "Hant": "zh", "Jpan": "ja-mecab", "Hrkt": "ja-mecab", "Kore": "ko-mecab"} | dict.fromkeys(
    ("Thai", "Laoo", "Khmr", "Mymr", "Tibt"), "char"
)


def language(code: str) -> str:
    """Return `code` as a normalised BCP-47 tag ("deu" -> "de", "zh_cn" -> "zh-CN", "arb_Arab" -> "ar").

    A deprecated code and a language that CLDR encompasses in another are replaced ("iw" -> "he", "cmn" -> "zh"), and
    a script is left out that is the language's own, but for Chinese, which has two.

    Raises:
        UsageError: not a known language, with the nearest code or the code of a language of that name.
    """
    tag = language_tag(code)
    if tag is not None:
        return tag
    names = {language_name(known).lower(): known for known in COMMON}
    near = difflib.get_close_matches(code.lower(), names, n=1, cutoff=0.7)
    hint = f"; did you mean {names[near[0]]!r}?" if near else "; use a BCP-47 code such as 'de' or 'zh-CN'"
    raise UsageError(f"unknown language code {code!r}{hint}")


@lru_cache(maxsize=8192)
def language_tag(code: str) -> str | None:
    """Return the normalised tag that a code or a key is, or None for what names no language."""
    if len(code) > MAX_TAG:
        return None
    try:
        tag = langcodes.Language.get(_OLD_NAMES.get(code.lower().replace("_", "-"), code))
        for within in (tag.extlangs or ())[:1]:  # "ar-arz" is "arz" (RFC 5646, 4.5)
            if tag.language and MACROLANGUAGES.get(within) == tag.language:
                tag = langcodes.Language.make(**{**tag.to_dict(), "language": within, "extlangs": None})
        valid = tag.is_valid() and not tag.extlangs and re.fullmatch("[a-z]{2,3}", tag.language or "") is not None
    except (langcodes.LanguageTagError, ValueError, AttributeError):
        return None
    # "i-default" becomes English with a private part; a private code ("qaa") has no name to be asked for by.
    if not valid or tag.language in NOT_LANGUAGES or (tag.private or "").startswith("x-i-"):
        return None
    if tag.language_name("en").startswith("Unknown language"):
        return None
    tag = tag.prefer_macrolanguage()
    of_script = _SAME_SCRIPTS.get(tag.script or "", tag.script)
    bare = _without_script(tag)
    own = of_script == _usual_script(bare) and (tag.language != "zh" or of_script not in ("Hans", "Hant"))
    return str(bare.to_tag() if own or not of_script else tag.update_dict({"script": of_script}).to_tag())


@lru_cache(maxsize=8192)
def _tag(code: str) -> langcodes.Language:
    """Return the parsed tag of a code, normalised where it is a language."""
    try:
        return langcodes.Language.get(language_tag(code) or code)
    except (langcodes.LanguageTagError, ValueError, AttributeError):
        return langcodes.Language.make(language=code.split("-")[0].lower())


def _without_script(tag: langcodes.Language) -> langcodes.Language:
    return langcodes.Language.make(**{**tag.to_dict(), "script": None})


def _usual_script(tag: langcodes.Language) -> str:
    """Return the script that a tag without one is mostly written in, "" where nobody has said so."""
    own = tag.language or ""
    name = own if own in LIKELY_SUBTAGS else MACROLANGUAGES.get(own)
    if own in _USUAL_SCRIPTS or name not in LIKELY_SUBTAGS:
        return _USUAL_SCRIPTS.get(own, "")
    found = tag.update_dict({"language": name}).maximize().script or ""
    return _SAME_SCRIPTS.get(found, found)


@lru_cache(maxsize=8192)
def script(code: str) -> str:
    """Return the ISO 15924 code of the script of a tag ("zh-TW" -> "Hant", "sr" -> "Cyrl"), "" if it is not known."""
    tag = _tag(code)
    return _SAME_SCRIPTS.get(tag.script, tag.script) if tag.script else _usual_script(tag)


@cache
def language_name(code: str) -> str:
    """Return the English name ("de" -> "German", "arb_Arab" -> "Arabic"), as used in translation prompts.

    Names of programming languages are those of `lingraft.core.code_languages` ("cpp" -> "C++").
    """
    if code in NAMES:
        return NAMES[code]
    tag = _tag(code)
    unremarkable = tag.script == "Latn" and not _usual_script(_without_script(tag))
    return (_without_script(tag) if unremarkable else tag).display_name("en")


@lru_cache(maxsize=8192)
def language_named(name: str) -> str | None:
    """Return the tag of a language by its English name or its own ("german", "Deutsch" -> "de"); None if it has none.

    It is the name as a whole, since what else stands there would be lost: "german please" and "pirate English" have no
    tag, and one with a region or script in brackets has one only where `language_name` calls a language so.
    """
    from language_data.names import TRIES, normalize_name

    try:
        tag = language_tag(langcodes.find(name, language="en").to_tag())
    except LookupError:
        return None
    whole = normalize_name(name) in TRIES["en/name_to_language"]  # which was loaded for it; else it begins with one
    if tag is None or not whole or ("(" in name and language_name(tag).casefold() != name.casefold()):
        return None
    return tag


@lru_cache(maxsize=8192)
def base_language(code: str) -> str:
    """Return the language alone, without script and region ("zh-CN", "cmn_Hans" -> "zh", "nb" -> "no").

    A language of an ISO 639 macrolanguage is that where CLDR takes one for the other (at a distance of at most 1):
    Standard Arabic is Arabic and Bokmål Norwegian; Egyptian Arabic and Nynorsk are languages of their own.
    """
    own = _tag(code).language or code.split("-")[0].lower()
    macrolanguage = MACROLANGUAGES.get(own)
    near = macrolanguage is not None and langcodes.tag_distance(macrolanguage, own) <= 1
    return str(macrolanguage if near else own)


def match_language(keys: Iterable[str], code: str) -> str | None:
    """Return which of some keys (of a row, a table, a translation memory) stands for a language, or None.

    It must be the language in the same script: "zh-TW" does not stand for "zh" (which is Simplified), "sr" not for
    "sr-Latn". Of several the one written as `code` is taken, then the same tag, one that names no other region, and the
    nearest region by CLDR.

    Raises:
        UsageError: several are equally near.
    """
    near: dict[tuple[int, int], list[str]] = {}
    for key in keys:
        if language_tag(key) is not None and same_language(key, code):
            near.setdefault(_nearness(key, code), []).append(key)
    if not near:
        return None
    best = near[min(near)]
    if len(best) > 1 and code not in best:
        raise UsageError(f"{' and '.join(map(repr, best))} are equally near to {code!r}; declare which is meant")
    return code if code in best else best[0]


def match_column(names: Iterable[str], prefix: str, code: str) -> str | None:
    """Return which column ("instruction_th") is that of a language, by what stands behind the prefix, or None.

    Args:
        names: of the columns.
        prefix: what stands before the language in their names ("instruction_").
        code: BCP-47 code of the language.

    Raises:
        UsageError: several are equally near, or there is one in another script alone (see `match_language`).
    """
    columns = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    key = match_language(columns, code)
    if key is None and (remark := other_script(columns, code)):
        raise UsageError(f"the column {remark}")
    return None if key is None else columns[key]


def other_script(keys: Iterable[str], code: str) -> str:
    """Return a remark on the keys that stand for a language in another script than declared, "" if none does."""
    others = [
        key
        for key in keys
        if language_tag(key) is not None and base_language(key) == base_language(code)
        if not same_language(key, code)
    ]
    if not others:
        return ""
    scripts = ", ".join(f"{key!r} is in the script {script(key)}" for key in others[:3])
    return f"{scripts}, {code!r} in {script(code)}: declare the one that is meant"


def same_language(one: str, other: str) -> bool:
    """Say whether two codes are the same language in the same script, in whatever regions."""
    scripts = {script(one), script(other)} - {""}
    return base_language(one) == base_language(other) and len(scripts) < 2


def other_region(key: str, code: str) -> bool:
    """Say whether both name a region, and not the same."""
    regions = {_tag(key).territory, _tag(code).territory}
    return len(regions) == 2 and None not in regions


def _nearness(key: str, code: str) -> tuple[int, int]:
    if language_tag(key) == language_tag(code):
        return 0, 0
    return 1 + other_region(key, code), langcodes.tag_distance(_tag(code), _tag(key))


def bleu_tokenizer(code: str) -> str:
    """Return the sacreBLEU tokenizer for a target language, by its script.

    Chinese, Japanese and Korean have their own, as sacreBLEU chooses them. Scripts written without spaces (Thai, Lao,
    Khmer, Burmese, Tibetan) use characters, because the default (13a) splits at spaces only and would count a whole
    sentence as one word.
    """
    return _TOKENIZERS.get(script(code), "13a")


def is_spaceless(code: str) -> bool:
    """Say whether no spaces are written between words: a text is measured by its characters."""
    return script(code) in _TOKENIZERS and script(code) != "Kore"


def joins_sentences(code: str) -> bool:
    """Say whether no space is written between sentences: in Chinese and Japanese."""
    return script(code) in ("Hans", "Hant", "Jpan", "Hrkt")
