"""Language-aware tuning: a translation is unlearnt where another language is asked for."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, ClassVar

from pydantic import Field, field_validator

from lingraft.core.errors import UsageError
from lingraft.core.hashing import stable_fraction
from lingraft.core.validation import as_value_error
from lingraft.data.records import Example, Generation, Pair, Span
from lingraft.language.codes import base_language, language
from lingraft.language.measures import without_spaces, words
from lingraft.methods.base import Available, Method, MethodInputs, MethodParams, Tally
from lingraft.methods.vanilla import translation_example
from lingraft.translation.wording import ask_for

UNWANTED = "unwanted"
"""Role of text in a language that was not asked for."""


class LanguageAwareParams(MethodParams):
    """Parameters of language-aware tuning."""

    alpha: float = Field(0.05, ge=0, le=1, description="weight of the unlikelihood; 0: vanilla")
    languages: list[str] = Field(
        default_factory=list,
        description="languages that a conflicting request may name; empty: all of the training pairs. Of a pair's own "
        "two none is named",
    )
    mask_copied: bool = Field(True, description="leave out words that the source has, too: names, figures, punctuation")

    @field_validator("languages")
    @classmethod
    def _known(cls, value: list[str]) -> list[str]:
        with as_value_error():
            return [language(code) for code in value]


class LanguageAware(Method):
    """Language-aware instruction tuning (Zan et al. 2024, arXiv 2403.14399), its second stage: about a hundred steps
    at a tenth of the learning rate, after a stage that taught to translate.

    L = MLE(x, y) + alpha UL(x-, y): the reference y is learnt after its request x by cross-entropy, and unlearnt by
    -log(1 - p(y_t)) after x-, a request that names another target language for the same source.

    The loss of a step is sum(weight x term) / sum(weight). With N tokens of references (and ends of turn) and M tokens
    that are unlearnt, each of weight alpha, it is (N MLE + alpha M UL) / (N + alpha M), MLE and UL being means over
    tokens: with M = N the formula over 1 + alpha, a constant that Adam's steps do not depend on, and with M < N, since
    copied words and ends of turn are left out, a smaller share of UL. A pair's two rows are a group, and so always in
    the same step: in one of conflicting rows alone the weight would cancel out.

    Departures: the paper draws any other instruction of the data, which may ask for the same language; here another
    language is asked for by construction, in the wording of the pair's own request. Words that the source has, too,
    weigh nothing: they may be right in any language. They are told by words, or characters where a script has no
    spaces, not by tokens. The end of the turn is not unlearnt. As a first stage it runs, too, being `vanilla` with the
    unlikelihood beside it; the paper gives no numbers for that.
    """

    name: ClassVar[str] = "language_aware"
    summary: ClassVar[str] = "second stage: references, and unlikelihood where another language was asked for"
    paper: ClassVar[str] = "arXiv 2403.14399"
    cite: ClassVar[tuple[str, ...]] = ("zan-2024-language-aware", "welleck-2020-unlikelihood")
    Params: ClassVar[type[MethodParams]] = LanguageAwareParams
    rows_each: ClassVar[int] = 2
    params: LanguageAwareParams

    def lacks(self, available: Available) -> str:
        """Say so where there is no further language to name."""
        return self._without_choice(available.directions, self._languages(available.directions))

    def _languages(self, directions: Collection[tuple[str, str]]) -> list[str]:
        return list(self.params.languages) or sorted({code for direction in directions for code in direction})

    def _without_choice(self, directions: Collection[tuple[str, str]], languages: Sequence[str]) -> str:
        for direction in directions if self.params.alpha else ():
            if not _others(direction, languages):
                source, target = direction
                return (
                    f"no language beside those of {source}-{target} that a conflicting request could name; give some "
                    f"as the parameter `languages`"
                )
        return ""

    def prepare(self, inputs: MethodInputs) -> dict[str, Any]:
        """Return the languages that requests may name.

        Raises:
            UsageError: there is none beside a pair's own.
        """
        directions = {(pair.source_lang, pair.target_lang) for pair in inputs.pairs}
        languages = self._languages(directions)
        if lacking := self._without_choice(sorted(directions), languages):
            raise UsageError(f"method {self.name}: {lacking}")
        return {"languages": languages}

    def examples(self, inputs: MethodInputs, generations: Mapping[str, Generation], tally: Tally) -> Iterator[Example]:
        """Yield each pair's example, and the same translation after a request for another language."""
        for pair in inputs.pairs:
            own = translation_example(pair, self.params.instructions, inputs.seed)
            spans = self._unwanted(pair) if self.params.alpha else ()
            yield replace(own, group=pair.id) if spans else own
            if self.params.alpha:
                tally.filters["kept" if spans else "left_out_copied"] += 1
            if spans:
                others = _others((pair.source_lang, pair.target_lang), inputs.prepared["languages"])
                other = others[int(stable_fraction("other language", inputs.seed, pair.id) * len(others))]
                messages = _asked_for(pair, other, self.params.instructions, inputs.seed)
                yield Example(f"{pair.id}:{UNWANTED}", messages, spans, end_turn=False, group=pair.id)

    def _unwanted(self, pair: Pair) -> tuple[Span, ...]:
        """Return the target in runs that are unlearnt or, being copied, only stand there; none if all is copied."""
        source = pair.source if self.params.mask_copied else ""
        runs = copied_runs(pair.target, source)
        if all(copied for _, copied in runs):
            return ()
        return tuple(
            Span(text, UNWANTED, "unlikelihood", 0.0 if copied else self.params.alpha) for text, copied in runs
        )


def _others(direction: tuple[str, str], languages: Sequence[str]) -> list[str]:
    """Return the languages that are none of a direction's."""
    own = set(map(base_language, direction))
    return [code for code in languages if base_language(code) not in own]


def _asked_for(pair: Pair, lang: str, wordings: list[str], seed: int) -> Any:
    """Return a pair's own request with another target language; the wording is drawn by the pair's id, as its own."""
    return ask_for(Pair(pair.id, pair.source, pair.target, pair.source_lang, lang), wordings, seed)


def copied_runs(text: str, source: str) -> list[tuple[str, bool]]:
    """Return a text in runs, each with whether its words stand in a source; white space goes with the word behind it.

    Words are runs of letters, or of digits, or single other signs; in scripts without spaces, single letters.

    Example:
        >>> copied_runs("In Kiel, 12 ships.", "In Kiel 12 Schiffe.")
        [('In Kiel', True), (',', False), (' 12', True), (' ships', False), ('.', True)]
    """
    known, runs, at = set(_units(source)), list[tuple[str, bool]](), 0
    for unit in _units(text):
        end = text.index(unit, at) + len(unit)
        runs.append((text[at:end], unit in known))
        at = end
    joined = [("".join(part for part, _ in group), copied) for copied, group in groupby(runs, key=lambda run: run[1])]
    return [*joined[:-1], (joined[-1][0] + text[at:], joined[-1][1])] if joined else []


def _units(text: str) -> Iterator[str]:
    for word in words(text):
        if without_spaces(word):
            yield word
            continue
        for kind, characters in groupby(word, key=_kind):
            run = "".join(characters)
            yield from [run] if kind else run


def _kind(character: str) -> str:
    category = unicodedata.category(character)[0]
    return {"L": "letters", "M": "letters", "N": "digits"}.get(category, "")
