"""Translate-test: a question is translated into English, answered in English, and the answer translated back.

The comparison to which a model that answers in another language by itself must stand (translate-test of Conneau et al.
2018, arXiv 1809.05053, extended to written answers). Three steps, each of which is asked for all requests together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lingraft.conversation.answer_language import answer_language
from lingraft.conversation.chain_engine import is_chat
from lingraft.conversation.history import History
from lingraft.data.records import NATIVE, QUERY, REPLY, Generation, Message, Request, Segment
from lingraft.engines.finishing import before_stop
from lingraft.language.characters import is_blank
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
    def written(self, id_: str, text: str, target_lang: str, generations: Mapping[str, Generation]) -> Written:
        """Return the translation, put together from the answers.

        Args:
            id_: of the text, as given to `requests`.
            text: as given to `requests`.
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

    def written(self, id_: str, text: str, target_lang: str, generations: Mapping[str, Generation]) -> Written:
        """Return the sentences' translations in the place of the sentences."""
        pieces, answers = answered_pieces(id_, text, generations)
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

    def written(self, id_: str, text: str, target_lang: str, generations: Mapping[str, Generation]) -> Written:
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


class Round:
    """The three steps for some requests of a run: `inward`, `english` and `outward` say what is asked, `answers` what
    came of it.

    A request in English, or one that is no plain conversation, is answered by the base as it is. In a conversation the
    base sees the earlier turns in English, as they were answered then.

    Args:
        requests: what is asked of all systems.
        translator: how translations are asked for.
        languages: those that are translated.
        history: of earlier answers; new ones are added.
    """

    def __init__(
        self,
        requests: Iterable[Request],
        translator: Translator,
        languages: Sequence[str],
        history: History,
    ) -> None:
        self._translator, self._history = translator, history
        markers = Markers.for_languages(languages)
        self._lang: dict[str, str] = {}
        self._requests = list(requests)
        for request in self._requests:
            lang = answer_language(request.messages, markers) if is_chat(request) else "en"
            if lang != "en" and request.messages[-1].role == "user":
                self._lang[request.id] = lang
        self._queries: dict[str, Written] = {}
        self._replies: Mapping[str, Generation] = {}

    def _native(self) -> Iterator[tuple[Request, str]]:
        return ((request, self._lang[request.id]) for request in self._requests if request.id in self._lang)

    def inward(self) -> Iterator[Request]:
        """Yield what the translator is asked first: the last question of each conversation."""
        for request, lang in self._native():
            yield from self._translator.requests(f"{request.id}:query", request.messages[-1].content, lang, "en")

    def english(self, translations: Mapping[str, Generation]) -> Iterator[Request]:
        """Yield what the base is asked. A question whose translation is empty is asked as it is."""
        for request, _ in self._native():
            text = request.messages[-1].content
            query = self._translator.written(f"{request.id}:query", text, "en", translations)
            self._queries[request.id] = query
            *before, _ = self._history.english(request.messages)
            messages = (*before, Message("user", text if is_blank(query.text) else query.text))
            # Stop strings are of what the user sees.
            yield replace(
                request, id=_english_id(request), messages=messages, sampling=replace(request.sampling, stop=())
            )
        yield from (request for request in self._requests if request.id not in self._lang)

    def outward(self, replies: Mapping[str, Generation]) -> Iterator[Request]:
        """Yield what the translator is asked last: the answers."""
        self._replies = replies
        for request, lang in self._native():
            reply = said(replies[_english_id(request)].text).text
            asked = self._translator.requests(f"{request.id}:reply", reply, "en", lang)
            yield from bounded(asked, request.sampling.max_new_tokens)

    def answers(self, translations: Mapping[str, Generation]) -> Iterator[Generation]:
        """Yield the answer to each request: what the user sees, with its parts as segments."""
        for request in self._requests:
            if request.id not in self._lang:
                yield self._replies[request.id]
                continue
            reply, query = self._replies[_english_id(request)], self._queries[request.id]
            english = said(reply.text).text
            lang = self._lang[request.id]
            native = self._translator.written(f"{request.id}:reply", english, lang, translations)
            text, stop = before_stop(native.text, request.sampling.stop)
            segments = (
                Segment(QUERY, query.text.strip(), len(query.token_ids)),
                Segment(REPLY, english.strip(), len(reply.token_ids)),
                Segment(NATIVE, native.text.strip(), len(native.token_ids)),
            )
            cut = native.cut or reply.finish_reason == "length"
            reason = "stop_string" if stop else "length" if cut else "stop"
            ids = (*query.token_ids, *reply.token_ids, *native.token_ids)
            self._history.learn(request.messages, text, segments)
            yield Generation(request.id, text, ids, reason, segments=segments)


def _english_id(request: Request) -> str:
    return f"{request.id}:english"
