"""Languages: tags, names, scripts, which tag stands for which, tokenisers, and offline identification.

Every decision by language is made here, by what CLDR and ISO 639 say of a tag (`langcodes`), never by how it is
written: "cmn_Hans", "zho" and "zh" are Chinese, "arb_Arab" is Arabic, "iw" Hebrew. Identification is `py3langid`
restricted to the languages expected plus plausible others: restricting it to the expected ones alone would force a
third language into them.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

import langcodes
import numpy as np
from langcodes.data_dicts import LIKELY_SUBTAGS, MACROLANGUAGES

from lingraft.errors import UsageError

# fmt: off
COMMON = [
    "ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "hi", "hu", "id", "it",
    "ja", "ko", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh",
]
# fmt: on
"""What an off-target output is usually written in; always among the candidates of `identify`."""

MAX_TAG = 35
"""Characters of the longest language tag that RFC 5646 asks to support."""

_NOT_LANGUAGES = ("mis", "mul", "zxx")
"""ISO 639 codes for uncoded, multiple and no language: valid tags, but nothing to translate."""

_SAME_SCRIPTS = {"Aran": "Arab", "Hang": "Kore", "Hani": "", "Latf": "Latn", "Latg": "Latn"}
"""ISO 15924 codes of the styles and parts of another script; Hani is Chinese characters, of which kind is not said."""

_USUAL_SCRIPTS = {"azb": "Arab", "mvf": "Mong", "uzs": "Arab"}
"""Scripts that `langcodes` does not know yet, of languages not written as their macrolanguage is."""

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
        tag = langcodes.Language.get(code)
        valid = tag.is_valid() and re.fullmatch("[a-z]{2,3}", tag.language or "") is not None
    except (langcodes.LanguageTagError, ValueError, AttributeError):
        return None
    # "i-default" becomes English with a private part; a private code ("qaa") has no name to be asked for by.
    if not valid or tag.language in _NOT_LANGUAGES or (tag.private or "").startswith("x-i-"):
        return None
    if tag.language_name("en").startswith("Unknown language"):
        return None
    tag = tag.prefer_macrolanguage()
    of_script = _SAME_SCRIPTS.get(tag.script or "", tag.script)
    bare = _without_script(tag)
    own = of_script == _usual_script(bare) and of_script not in ("Hans", "Hant")
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
    """Return the English name ("de" -> "German", "arb_Arab" -> "Arabic"), as used in translation prompts."""
    tag = _tag(code)
    unremarkable = tag.script == "Latn" and not _usual_script(_without_script(tag))
    return (_without_script(tag) if unremarkable else tag).display_name("en")


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
    """Return which column ("instruction_th") is that of a language, by what stands behind the prefix; see
    `match_language`."""
    columns = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
    key = match_language(columns, code)
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


def joins_sentences(code: str) -> bool:
    """Say whether no space is written between sentences: in Chinese and Japanese."""
    return script(code) in ("Hans", "Hant", "Jpan", "Hrkt")


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
    classes = [str(label) for label in _identifier(()).nb_classes if label not in _NOT_LANGUAGES]
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
