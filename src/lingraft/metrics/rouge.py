"""ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum of summaries, with a tokenizer that fits the language.

F1 in percent of each document against the reference that suits it best, averaged over documents, as the package
`rouge-score` and the papers on cross-lingual summaries have it. Source: Lin 2004.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import ClassVar, Literal

import regex
from pydantic import Field

from lingraft.core.tasks import Task
from lingraft.data.records import Pair
from lingraft.language.codes import base_language, is_spaceless
from lingraft.language.measures import words
from lingraft.language.sentences import split_text
from lingraft.metrics.base import CorpusMetric, MeanMetric, Metric

Tokens = Sequence[str]
Tokenizer = Literal["rouge-score", "words", "characters"]

_ASCII = regex.compile(r"[a-z0-9]+")
_RUN = regex.compile(r"[\p{L}\p{M}\p{N}]+")
_UNIT = regex.compile(r"[\p{L}\p{N}]\p{M}*")


def tokenizer_of(lang: str) -> Tokenizer:
    """Return the tokenizer of a language: that of `rouge-score` for English, characters where no spaces are written
    between words (Thai, Lao, Khmer, Burmese, Tibetan, Chinese, Japanese), else words."""
    if base_language(lang) == "en":
        return "rouge-score"
    return "characters" if is_spaceless(lang) else "words"


def tokens(text: str, tokenizer: Tokenizer) -> list[str]:
    """Return the tokens of a text, without punctuation and case.

    Args:
        text: of any language.
        tokenizer: `rouge-score`: runs of a-z and 0-9, which is what the package of that name counts without its
            stemmer; `words`: runs of letters and digits of any script, and one token a character (with its combining
            marks) in scripts without spaces; `characters`: one token a character in any script.
    """
    if tokenizer == "rouge-score":
        return _ASCII.findall(text.lower())
    if tokenizer == "characters":
        return _UNIT.findall(text.casefold())
    return [token for run in _RUN.findall(text.casefold()) for token in words(run)]


def rouge_n(hypothesis: Tokens, reference: Tokens, order: int) -> float:
    """Return the F1 of n-grams, each counted as often as both have it."""
    one, other = (_grams(tokens, order) for tokens in (hypothesis, reference))
    return _f1((one & other).total(), one.total(), other.total())


def rouge_l(hypothesis: Tokens, reference: Tokens) -> float:
    """Return the F1 of the longest common subsequence."""
    row = [0] * (len(reference) + 1)
    for token in hypothesis:
        before = row
        row = [0]
        for place, expected in enumerate(reference):
            row.append(before[place] + 1 if token == expected else max(before[place + 1], row[-1]))
    return _f1(row[-1], len(hypothesis), len(reference))


def rouge_lsum(hypothesis: Sequence[Tokens], reference: Sequence[Tokens]) -> float:
    """Return the F1 of the union of longest common subsequences of each sentence of the reference with all of the
    hypothesis, each token counted at most as often as both texts have it (Lin 2004, section 3.2)."""
    counts = [Counter(token for sentence in text for token in sentence) for text in (hypothesis, reference)]
    written, expected = (count.total() for count in counts)
    hits = 0
    for sentence in reference:
        union = {place for other in hypothesis for place in _common(sentence, other)}
        for token in (sentence[place] for place in sorted(union)):
            if all(count[token] > 0 for count in counts):
                hits += 1
                for count in counts:
                    count[token] -= 1
    return _f1(hits, written, expected)


def sentence_tokens(text: str, tokenizer: Tokenizer, lang: str) -> list[list[str]]:
    """Return the tokens of each sentence of a text; Thai and Lao mark no sentences, so that there a line is one."""
    return [tokens(piece.text, tokenizer) for piece in split_text(text, lang=lang) if piece.text.strip()]


def _grams(tokens: Tokens, order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[place : place + order]) for place in range(len(tokens) - order + 1))


def _common(one: Tokens, other: Tokens) -> list[int]:
    """Return the places in `one` of a longest common subsequence; of several, the one found from the ends by going
    back in `one` first, as `rouge-score` does."""
    table = [[0] * (len(other) + 1)]
    for token in one:
        before, row = table[-1], [0]
        for place, expected in enumerate(other):
            row.append(before[place] + 1 if token == expected else max(before[place + 1], row[-1]))
        table.append(row)
    found, i, j = list[int](), len(one), len(other)
    while i and j:
        if one[i - 1] == other[j - 1]:
            i, j = i - 1, j - 1
            found.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return found


def _f1(shared: float, written: int, expected: int) -> float:
    return 2 * shared / (written + expected) if shared else 0.0


class _Rouge(Metric):
    """What the variants of ROUGE have in common."""

    paper: ClassVar[str] = "Lin 2004, ROUGE: A Package for Automatic Evaluation of Summaries (W04-1013)"
    tasks: ClassVar[frozenset[Task]] = frozenset({"summary"})
    decimals: int | None = 1
    cite: tuple[str, ...] = ("lin-2004-rouge",)
    lines: ClassVar[bool] = False

    class Params(Metric.Params):
        """Of ROUGE."""

        tokenizer: Literal["auto", "rouge-score", "words", "characters"] = Field(
            "auto",
            description="auto: that of the package rouge-score (a-z, 0-9, no stemmer) for English, characters for "
            "languages without spaces between words, else words of any letters",
        )

    @staticmethod
    @abstractmethod
    def value(hypothesis: str, reference: str, tokenizer: Tokenizer, lang: str) -> float:
        """Return the F1 of a text against one reference."""

    def build(self, source_lang: str, target_lang: str, languages: Sequence[str]) -> CorpusMetric:
        given = self.params.tokenizer
        tokenizer: Tokenizer = tokenizer_of(target_lang) if given == "auto" else given
        value: Callable[[str, str, Tokenizer, str], float] = self.value

        def best(texts: Sequence[str], pairs: Sequence[Pair]) -> list[tuple[float, float]]:
            found = (
                max(value(text, reference, tokenizer, target_lang) for reference in (pair.target, *pair.references))
                for text, pair in zip(texts, pairs, strict=True)
            )
            return [(100.0 * one, 1.0) for one in found]

        unit = f"|sentences:sentencex-{version('sentencex')}" if self.lines else ""
        return MeanMetric(
            best, f"{self.name}|f1|mean:documents|refs:best|tok:{tokenizer}|stem:no{unit}", keeps_lines=self.lines
        )


class Rouge1(_Rouge):
    """ROUGE-1: single tokens."""

    name: ClassVar[str] = "rouge1"
    summary: ClassVar[str] = "ROUGE-1 F1 of summaries: tokens (characters in Thai, Chinese and their like)"
    label: str = "ROUGE-1"

    @staticmethod
    def value(hypothesis: str, reference: str, tokenizer: Tokenizer, lang: str) -> float:
        """Return the F1 of tokens."""
        return rouge_n(tokens(hypothesis, tokenizer), tokens(reference, tokenizer), 1)


class Rouge2(_Rouge):
    """ROUGE-2: pairs of tokens."""

    name: ClassVar[str] = "rouge2"
    summary: ClassVar[str] = "ROUGE-2 F1 of summaries: pairs of tokens"
    label: str = "ROUGE-2"

    @staticmethod
    def value(hypothesis: str, reference: str, tokenizer: Tokenizer, lang: str) -> float:
        """Return the F1 of pairs of tokens."""
        return rouge_n(tokens(hypothesis, tokenizer), tokens(reference, tokenizer), 2)


class RougeL(_Rouge):
    """ROUGE-L: the longest common subsequence of the whole texts."""

    name: ClassVar[str] = "rougeL"
    summary: ClassVar[str] = "ROUGE-L F1 of summaries: longest common subsequence; the headline of summaries"
    label: str = "ROUGE-L"
    role: str = "headline"

    @staticmethod
    def value(hypothesis: str, reference: str, tokenizer: Tokenizer, lang: str) -> float:
        """Return the F1 of the longest common subsequence."""
        return rouge_l(tokens(hypothesis, tokenizer), tokens(reference, tokenizer))


class RougeLsum(_Rouge):
    """ROUGE-Lsum: the union of longest common subsequences, sentence by sentence.

    Sentences are those of `lingraft.language.sentences`, and lines; `rouge-score` takes lines alone, and gives the same
    where each sentence has a line.
    """

    name: ClassVar[str] = "rougeLsum"
    summary: ClassVar[str] = "ROUGE-Lsum F1 of summaries: common subsequences sentence by sentence"
    label: str = "ROUGE-Lsum"
    lines: ClassVar[bool] = True

    @staticmethod
    def value(hypothesis: str, reference: str, tokenizer: Tokenizer, lang: str) -> float:
        """Return the F1 over sentences."""
        return rouge_lsum(sentence_tokens(hypothesis, tokenizer, lang), sentence_tokens(reference, tokenizer, lang))
