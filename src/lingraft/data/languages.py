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

from lingraft.errors import UsageError, suggestion

COMMON = ("ar cs da de el en es fi fr hi hu id it ja ko nl pl pt ro ru sv th tr uk vi zh").split()
"""What an off-target output is usually written in; always among the candidates of `identify`."""


def language(code: str) -> str:
    """Return `code` as a normalised BCP-47 tag ("deu" -> "de", "zh_cn" -> "zh-CN").

    Raises:
        UsageError: not a known language, with the nearest code or the code of a language of that name.
    """
    try:
        tag = langcodes.Language.get(code)
        if tag.is_valid() and tag.language not in (None, "und"):
            return str(tag.simplify_script().to_tag())
    except (langcodes.LanguageTagError, ValueError, AttributeError):
        pass
    names = {language_name(known).lower(): known for known in COMMON}
    near = difflib.get_close_matches(code.lower(), names, n=1, cutoff=0.7)
    hint = f"; did you mean {names[near[0]]!r}?" if near else suggestion(code.lower(), COMMON)
    raise UsageError(f"unknown language code {code!r}{hint}; use BCP-47 codes such as 'de' or 'zh'")


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


def identify(text: str, expected: Iterable[str]) -> tuple[str, float]:
    """Return the most probable language of `text` (primary code) and its probability.

    Args:
        text: a sentence or more; a few words are often misjudged.
        expected: codes that may be right; common other languages are always added as candidates.
    """
    candidates = tuple(sorted({base_language(code) for code in expected} | set(COMMON)))
    code, probability = _identifier(candidates).classify(text)
    return str(code), float(probability)
