"""Language codes, names, tokenisers and offline identification, each from a library.

Codes are BCP-47, checked and normalised by `langcodes`; identification is `py3langid` restricted to the languages
expected plus plausible others: restricting it to the expected ones alone would force a third language into them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from typing import Any

import langcodes

from lingraft.errors import UsageError

# fmt: off
COMMON = [
    "ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "hi", "hu", "id", "it",
    "ja", "ko", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh",
]
# fmt: on
"""What an off-target output is usually written in; always among the candidates of `identify`."""

_NOT_LANGUAGES = (None, "und", "mis", "mul", "zxx")
"""ISO 639 codes for undetermined, uncoded, multiple and no language: valid tags, but nothing to translate."""

_LABELS = {"fil": "tl", "nb": "no"}
"""Primary codes that the identifier knows by another name and that are not part of a macrolanguage it knows."""


def language(code: str) -> str:
    """Return `code` as a normalised BCP-47 tag ("deu" -> "de", "zh_cn" -> "zh-CN").

    Raises:
        UsageError: not a known language, with the nearest code or the code of a language of that name.
    """
    try:
        tag = langcodes.Language.get(code)
        if tag.is_valid() and tag.language not in _NOT_LANGUAGES:
            return str(tag.simplify_script().to_tag())
    except (langcodes.LanguageTagError, ValueError, AttributeError):
        pass
    names = {language_name(known).lower(): known for known in COMMON}
    near = difflib.get_close_matches(code.lower(), names, n=1, cutoff=0.7)
    hint = f"; did you mean {names[near[0]]!r}?" if near else "; use a BCP-47 code such as 'de' or 'zh-CN'"
    raise UsageError(f"unknown language code {code!r}{hint}")


@cache
def language_name(code: str) -> str:
    """Return the English name ("de" -> "German"), as used in translation prompts."""
    return langcodes.Language.get(code).display_name("en")


def base_language(code: str) -> str:
    """Return the primary subtag ("zh-CN" -> "zh")."""
    return code.split("-")[0].lower()


def bleu_tokenizer(code: str) -> str:
    """Return the sacreBLEU tokenizer for a target language, as in the WMT and FLORES practice.

    Chinese and Japanese have their own; languages written without spaces, and Korean, use characters, because
    the default (13a) splits at spaces only and would count a whole sentence as one word.
    """
    base = base_language(code)
    if base == "zh":
        return "zh"
    if base == "ja":
        return "ja-mecab"
    if base in {"ko", "th", "lo", "km", "my", "bo", "dz"}:
        return "char"
    return "13a"


@cache
def _identifier(candidates: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if candidates:
        known = set(identifier.labels)
        identifier.set_languages([code for code in candidates if code in known])
    return identifier


@cache
def identifiable() -> frozenset[str]:
    """Return the primary codes that the identifier knows."""
    return frozenset(str(code) for code in _identifier(()).labels)


@cache
def identifier_label(code: str) -> str | None:
    """Return the identifier's own name for a language ("nb" -> "no", "cmn" -> "zh"), or None if it knows none."""
    base = base_language(code)
    macrolanguage = langcodes.Language.get(base).prefer_macrolanguage().language
    for label in (base, _LABELS.get(base), macrolanguage):
        if label in identifiable():
            return label
    return None


def identify(text: str, expected: Iterable[str]) -> tuple[str, float]:
    """Return the most probable language of `text` (primary code) and its probability.

    A language that the identifier knows by another name is returned as it was expected ("nb", not "no"). One that
    it does not know (`identifier_label` is None) can never be returned: ask before judging a text by the answer.

    Args:
        text: a sentence or more; a few words are often misjudged.
        expected: codes that may be right; common other languages are always added as candidates.
    """
    by_label = {code: code for code in COMMON}
    for code in expected:
        label = identifier_label(code)
        if label is not None:
            by_label[label] = base_language(code)
    label, probability = _identifier(tuple(sorted(by_label))).classify(text)
    return by_label[str(label)], float(probability)
