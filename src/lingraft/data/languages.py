"""Language codes, names, tokenisers and offline identification, each from a library.

Codes are BCP-47, checked and normalised by `langcodes`; identification is `py3langid` restricted to the languages
expected plus plausible others: restricting it to the expected ones alone would force a third language into them.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import langcodes
import numpy as np

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
    by_label = _candidates(tuple(expected))
    label, probability = _identifier(tuple(sorted(by_label))).classify(text)
    return by_label[str(label)], float(probability)


def identify_among(text: str, candidates: Iterable[str]) -> str:
    """Return the most probable of some languages alone (primary code), however little the text looks like any.

    Args:
        text: a sentence or more; a few words are often misjudged.
        candidates: codes; at least one that the identifier knows (see `identifier_label`).
    """
    by_label = {label: base_language(code) for code in candidates if (label := identifier_label(code)) is not None}
    return by_label[str(_identifier(tuple(sorted(by_label))).classify(text)[0])]


@lru_cache(maxsize=256)
def _candidates(expected: tuple[str, ...]) -> dict[str, str]:
    """Return the identifier's name of each candidate, with the code to return for it."""
    by_label = {code: code for code in COMMON}
    for code in expected:
        label = identifier_label(code)
        if label is not None:
            by_label[label] = base_language(code)
    return by_label


def identify_many(texts: Sequence[str], expected: Iterable[str]) -> list[tuple[str, float]]:
    """Return what `identify` returns for each text, several times as fast; probabilities may differ in the sixth digit.

    The identifier's automaton walks over all texts at once, a byte of each at a time.
    """
    by_label = _candidates(tuple(expected))
    identifier = _identifier(tuple(sorted(by_label)))
    found: list[tuple[str, float]] = [("", 0.0)] * len(texts)
    coded = {number: _bytes_of(text) for number, text in enumerate(texts)}
    together = sorted((n for n in coded if len(coded[n]) <= _WALKED_TOGETHER), key=lambda n: -len(coded[n]))
    for number in coded.keys() - set(together):
        label, probability = identifier.classify(texts[number])
        found[number] = by_label[str(label)], float(probability)
    if together:
        probabilities = _probabilities(identifier, [coded[number] for number in together])
        best = probabilities.argmax(axis=1).tolist()
        for number, row, label in zip(together, probabilities, best, strict=True):
            found[number] = by_label[str(identifier.nb_classes[label])], float(row[label])
    return found


_WALKED_TOGETHER = 2048  # bytes; one long text would have all others wait


def _bytes_of(text: str) -> bytes:
    """Return what the identifier reads of a text (`LanguageIdentifier._encode` of py3langid)."""
    text = text.lower() if text.isupper() else text
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


@cache
def _automaton() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return, of py3langid's automaton: next state by row and byte, row of each state, feature of each state or -1."""
    identifier = _identifier(())
    rows = np.asarray(identifier.tk_row, dtype=np.int64) << 8
    return np.asarray(identifier.tk_nextmove), rows, np.asarray(identifier.tk_output, dtype=np.int64)


def _probabilities(identifier: Any, texts: Sequence[bytes]) -> np.ndarray:
    """Return (texts, classes) probabilities of py3langid's naive Bayes model, the longest text coming first."""
    following, rows, features = _automaton()
    lengths = np.array([len(text) for text in texts])
    begins = np.cumsum(lengths) - lengths
    letters = np.frombuffer(b"".join(texts), np.uint8)
    states = np.zeros(len(texts), np.int64)
    visits = []
    for at in range(int(lengths[0])):
        going = int(np.searchsorted(-lengths, -at, side="left"))
        states = following[rows[states[:going]] + letters[begins[:going] + at]]
        feature = features[states]
        hits = np.flatnonzero(feature >= 0)
        visits.append(hits * len(features) + feature[hits])
    scores = np.zeros((len(texts), len(identifier.nb_classes)), np.float32)  # without any feature: all are alike
    visited, counts = np.unique(np.concatenate(visits or [np.zeros(0, np.int64)]), return_counts=True)
    if len(visited):
        of_text, feature = np.divmod(visited, len(features))
        terms = np.log1p(counts.astype(np.float32))[:, None] * identifier.nb_ptc[feature].astype(np.float32)
        first = np.flatnonzero(np.diff(of_text, prepend=-1))
        scores[of_text[first]] = np.add.reduceat(terms, first, axis=0) + identifier.nb_pc
    scores /= np.sqrt(np.maximum(lengths, 1)).astype(np.float32)[:, None]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    # A label may stand for two classes (Serbian in two scripts): its first has the probability of both.
    for column, label in enumerate(identifier.nb_classes):
        first_of_label = identifier.nb_classes.index(label)
        if first_of_label != column:
            scores[:, first_of_label] += scores[:, column]
            scores[:, column] = 0
    return scores
