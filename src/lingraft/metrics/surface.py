"""What the texts alone tell of a translation: its language, length, copies of the source, missing sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.metadata import version
from typing import ClassVar

from pydantic import Field

from lingraft.core.tasks import Task
from lingraft.data.records import Pair
from lingraft.language.characters import is_blank
from lingraft.language.identification import identifier_label
from lingraft.language.measures import is_echo, letter_count, normalise, translated_into, words
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric
from lingraft.statistics.metric_facts import Better

_ANY_TEXT: frozenset[Task] = frozenset({"translation", "summary"})


class OffTarget(Metric):
    """Share of hypotheses, in %, that are not in the target language.

    A hypothesis that shows nothing, or has no letter where the references have one, is off-target; any other is judged
    beside the references by `lingraft.language.measures.translated_into`: below 10 letters by its script alone.
    """

    name: ClassVar[str] = "off_target"
    summary: ClassVar[str] = "% of translations in another language than asked for, or empty"
    tasks: ClassVar[frozenset[Task]] = _ANY_TEXT
    label: str = "Off-target"
    better: Better = "lower"
    decimals: int | None = 1
    unit: str = "%"
    role: str = "off_target"
    min_letters: ClassVar[int] = 10
    min_probability: ClassVar[float] = 0.5

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        among = (source_lang, *languages)

        def is_off(text: str, references: Sequence[str]) -> bool:
            if is_blank(text):
                return True
            if not letter_count(text):
                return all(map(letter_count, references))
            return not translated_into(text, references, target_lang, among, self.min_letters, self.min_probability)

        if identifier_label(target_lang) is not None:
            rule = (
                f"lid:py3langid-{version('py3langid')}|min_letters:{self.min_letters}"
                f"|min_probability:{self.min_probability}|shorter:script"
            )
        else:
            rule = "lid:none|by:script"
        return MeanMetric(
            lambda texts, pairs: (
                (float(is_off(text, (pair.target, *pair.references))), 1.0)
                for text, pair in zip(texts, pairs, strict=True)
            ),
            f"off_target|{rule}|empty:off|reference:on",
            aggregation="percent",
        )


class LengthRatio(Metric):
    """Words of all hypotheses over words of all first references (characters in scripts without spaces)."""

    name: ClassVar[str] = "length_ratio"
    summary: ClassVar[str] = "words of the translations over words of the references"
    tasks: ClassVar[frozenset[Task]] = _ANY_TEXT
    label: str = "Length ratio"
    better: Better = None
    decimals: int | None = 3
    role: str = "length"

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        return MeanMetric(_length_ratios, "length_ratio|unit:words|reference:first")


def _length_ratios(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    counts = ((len(words(text)), len(words(pair.target))) for text, pair in zip(texts, pairs, strict=True))
    return [(written / expected if expected else 0.0, float(expected)) for written, expected in counts]


class CopiedSource(Metric):
    """Share of hypotheses, in %, that are the source (nearly) as it was.

    Copied: F1 of character 4-grams at least `threshold`, or one contains the other and is nearly as long
    (`lingraft.language.measures.is_echo`). Sources that a reference copies too (names, numbers, code) are not measured.
    """

    name: ClassVar[str] = "copied_source"
    summary: ClassVar[str] = "% of translations that copy the source, where no reference does"
    tasks: ClassVar[frozenset[Task]] = _ANY_TEXT
    label: str = "Copied source"
    better: Better = "lower"
    decimals: int | None = 1
    unit: str = "%"
    role: str = "copied_source"

    class Params(Metric.Params):
        """Of the share of copies."""

        threshold: float = Field(0.9, gt=0, le=1, description="similarity from which a text is a copy")

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        threshold = self.params.threshold
        return MeanMetric(
            lambda texts, pairs: (
                (float(is_echo(text, pair.source, threshold)), 1.0) for text, pair in zip(texts, pairs, strict=True)
            ),
            f"copied_source|threshold:{threshold:g}|chars:4|unless:reference",
            lambda pair: not any(is_echo(text, pair.source, threshold) for text in (pair.target, *pair.references)),
            aggregation="percent",
        )


_CLOSERS = "\"'»”’›)\\]」』）"
_SENTENCE = re.compile(rf"(?<=[.!?…])[{_CLOSERS}]*\s+|(?<=[。！？｡؟।॥။።։།])[{_CLOSERS}]*\s*|\n+")


def sentences(text: str) -> list[str]:
    """Return the sentences of `text`: cut at line breaks and after final punctuation, each with a letter or digit.

    Abbreviations ("Dr. Brown") are cut too. Thai and Lao have no final punctuation and are cut at line breaks only.
    """
    return [part for part in _SENTENCE.split(text) if any(character.isalnum() for character in part)]


class Completeness(Metric):
    """Share of the expected sentences, in %, of texts of several sentences.

    Expected are as many sentences or lines as the source has, or as the reference with the fewest has, if those are
    fewer; of the hypothesis each counts once, however often it is repeated. Only segments in which at least two are
    expected are measured. It sees what was left out, and neither order nor meaning: a sentence that is invented stands
    in for one that is missing, and two that are joined count as one.
    """

    name: ClassVar[str] = "completeness"
    summary: ClassVar[str] = "% of sentences or lines that have a counterpart, in texts of several"
    label: str = "Sentences kept"
    decimals: int | None = 1
    unit: str = "%"

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        return MeanMetric(
            _completeness,
            "completeness|unit:sentences,lines|expected:min(source,references)|repeated:once",
            lambda pair: _expected(pair) >= 2,
            keeps_lines=True,
        )


def _expected(pair: Pair) -> int:
    return min(len(sentences(text)) for text in (pair.source, pair.target, *pair.references))


def _completeness(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
    rows = []
    for text, pair in zip(texts, pairs, strict=True):
        expected = _expected(pair)
        # A sentence may stand twice in the reference as well: its copies are allowed there.
        allowed = [normalise(sentence) for sentence in sentences(pair.target)]
        found = 0
        seen: dict[str, int] = {}
        for sentence in map(normalise, sentences(text)):
            seen[sentence] = seen.get(sentence, 0) + 1
            found += seen[sentence] <= max(1, allowed.count(sentence))
        rows.append((100.0 * min(found, expected) / expected, float(expected)))
    return rows
