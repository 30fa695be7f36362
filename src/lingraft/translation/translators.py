"""Translators: how a model is asked to translate a plain text, whole or sentence by sentence behind markers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from lingraft.data.records import Generation, Request
from lingraft.language.codes import base_language
from lingraft.language.measures import letter_count
from lingraft.language.thinking import said
from lingraft.translation.by_sentence import (
    answered_pieces,
    engine_requests,
    graft_requests,
    put_together,
    without_rationale,
)
from lingraft.translation.markers import Markers


@dataclass(frozen=True)
class Written:
    """A translation: its text, the tokens that were written for it, whether it was cut, and whether thoughts stand in
    its place."""

    text: str
    token_ids: tuple[int, ...] = ()
    cut: bool = False
    thinking: bool = False


class Translator(ABC):
    """How another model is asked to translate; what it answers is taken as it is."""

    @abstractmethod
    def knows(self, lang: str) -> bool:
        """Whether it translates from and into a language."""

    @abstractmethod
    def requests(self, id_: str, text: str, source_lang: str, target_lang: str) -> Iterator[Request]:
        """Yield what is asked for a text; nothing where there is nothing to translate.

        Args:
            id_: of the text; the ids of the requests begin with it.
            text: to translate.
            source_lang: its language code.
            target_lang: language code of the translation.
        """

    @abstractmethod
    def written(
        self, id_: str, text: str, source_lang: str, target_lang: str, generations: Mapping[str, Generation]
    ) -> Written:
        """Return the translation, put together from the answers.

        Args:
            id_: of the text, as given to `requests`.
            text: as given to `requests`.
            source_lang: as given to `requests`.
            target_lang: as given to `requests`.
            generations: request id -> answer.
        """


@dataclass(frozen=True)
class MarkedTranslator(Translator):
    """A graft that was pre-trained on translations behind markers, asked sentence by sentence."""

    markers: Markers
    seed: int

    def knows(self, lang: str) -> bool:
        """Whether the language has a marker."""
        return base_language(lang) in ("en", *self.markers.languages)

    def requests(self, id_: str, text: str, source_lang: str, target_lang: str) -> Iterator[Request]:
        """Yield a request for each sentence."""
        return graft_requests(id_, text, target_lang, self.markers, seed=self.seed, source_lang=source_lang)

    def written(
        self, id_: str, text: str, source_lang: str, target_lang: str, generations: Mapping[str, Generation]
    ) -> Written:
        """Return the sentences' translations in the place of the sentences."""
        pieces, answers = answered_pieces(id_, text, source_lang, generations)
        tokens = tuple(token for answer in answers for token in answer.token_ids)
        cut = any(answer.finish_reason == "length" for answer in answers)
        return Written(put_together(pieces, [answer.text for answer in answers], target_lang), tokens, cut)


@dataclass(frozen=True)
class AskedTranslator(Translator):
    """A model that translates a whole text when it is told to. `stop`: strings at which a translation ends."""

    wording: str
    seed: int
    stop: tuple[str, ...] = ()

    def knows(self, lang: str) -> bool:
        """Say yes: it can be told any language's name."""
        return True

    def requests(self, id_: str, text: str, source_lang: str, target_lang: str) -> Iterator[Request]:
        """Yield one request."""
        return engine_requests(
            id_, text, target_lang, self.wording, seed=self.seed, source_lang=source_lang, stop=self.stop
        )

    def written(
        self, id_: str, text: str, source_lang: str, target_lang: str, generations: Mapping[str, Generation]
    ) -> Written:
        """Return the answer; a text without a letter stays."""
        if not letter_count(text):
            return Written(text)
        answer = generations[f"{id_}:0"]
        found = said(answer.text, text)
        part, _ = without_rationale(text, found.text, self.stop)
        cut = answer.finish_reason == "length" and len(part) == len(found.text)
        spoken = part.strip()
        return Written(spoken, answer.token_ids, cut, found.thought and not spoken)


def bounded(requests: Iterable[Request], most: int) -> Iterator[Request]:
    """Yield the requests with no more tokens for an answer than other systems have."""
    for request in requests:
        limit = min(most, request.sampling.max_new_tokens)
        yield replace(request, sampling=replace(request.sampling, max_new_tokens=limit))
