"""Offline identification of the language of texts.

`py3langid`, restricted to the languages expected plus plausible others: restricting it to the expected ones alone would
force a third language into them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np
from langcodes.data_dicts import MACROLANGUAGES

from lingraft.language.codes import COMMON, NOT_LANGUAGES, base_language, script


@cache
def _identifier(candidates: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if candidates:
        identifier.set_languages(list(candidates))
    return identifier


@cache
def _labels() -> dict[str, tuple[str, frozenset[str]]]:
    """Return the identifier's label of each language it knows, and the scripts it knows it in."""
    classes = [str(label) for label in _identifier(()).nb_classes if label not in NOT_LANGUAGES]
    # A label of two classes has been trained on two alphabets (Serbian, Uzbek).
    return {
        base_language(label): (label, frozenset({"Latn", "Cyrl"} if classes.count(label) > 1 else {script(label)}))
        for label in classes
    }


@cache
def identifiable() -> frozenset[str]:
    """Return the languages that the identifier knows."""
    return frozenset(_labels())


@cache
def identifier_label(code: str) -> str | None:
    """Return the identifier's own name for a language ("fil" -> "tl", "cmn" -> "zh"), or None if it knows none.

    It knows a language in the script it was trained on ("hi", not "hi-Latn"), and one that it was not trained on by its
    macrolanguage ("quy" -> "qu").
    """
    base = base_language(code)
    for name in (base, MACROLANGUAGES.get(base, "")):
        label, scripts = _labels().get(name, ("", frozenset()))
        if label and (script(code) in scripts or {script(code), *scripts} <= {"Hans", "Hant"}):
            return label
    return None


@cache
def identifier_scripts(code: str) -> frozenset[str]:
    """Return the ISO 15924 codes of the scripts in which the identifier knows a language by itself."""
    return _labels().get(base_language(code), ("", frozenset[str]()))[1]


def may_be(found: str, code: str) -> bool:
    """Say whether a text that was identified as `found` may be in language `code`.

    A language that the identifier knows only by its macrolanguage is not told from the others of it.
    """
    base = base_language(code)
    if found == base:
        return True
    return base not in _labels() and MACROLANGUAGES.get(base, base) == MACROLANGUAGES.get(found, found)


def identify(text: str, expected: Iterable[str]) -> tuple[str, float]:
    """Return the most probable language of `text` (as `base_language` names it) and its probability.

    One that the identifier does not know (`identifier_label` is None) can never be returned: ask before judging a text
    by the answer, and compare with `may_be`.

    Args:
        text: a sentence or more; a few words are often misjudged.
        expected: codes that may be right; common other languages are always added as candidates.
    """
    by_label = _candidates(tuple(expected))
    label, probability = _identifier(tuple(sorted(by_label))).classify(text)
    return by_label[str(label)], float(probability)


def identify_among(text: str, candidates: Iterable[str]) -> str:
    """Return the most probable of some languages alone (as `base_language` names it), however little it looks like any.

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
    # Known by its macrolanguage alone comes first: it gives way to one that is known by itself.
    for code in sorted(expected, key=lambda code: base_language(code) in _labels()):
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


def log_odds(texts: Sequence[str], one: str, other: str) -> list[float]:
    """Return, for each text, the natural logarithm of how much likelier it is in language `one` than in `other`.

    Judged between these two alone, so that a few words tell something; 0 where the identifier does not know one of
    them, or takes both for the same.
    """
    labels = identifier_label(one), identifier_label(other)
    if labels[0] is None or labels[1] is None or labels[0] == labels[1]:
        return [0.0] * len(texts)
    identifier = _identifier(tuple(sorted(map(str, labels))))
    first, second = (identifier.nb_classes.index(label) for label in labels)
    coded = [_bytes_of(text)[:_WALKED_TOGETHER] for text in texts]
    order = sorted((number for number, code in enumerate(coded) if code), key=lambda number: -len(coded[number]))
    found = np.zeros(len(texts))
    if order:
        scores = _probabilities(identifier, [coded[number] for number in order]).astype(float)
        found[order] = np.log(scores[:, first] + 1e-9) - np.log(scores[:, second] + 1e-9)
    return [float(odds) for odds in found]
