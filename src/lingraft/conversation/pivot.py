"""Translate-test: a question is translated into English, answered in English, and the answer translated back.

The comparison to which a model that answers in another language by itself must stand (translate-test of Conneau et al.
2018, arXiv 1809.05053, extended to written answers). Three steps, each of which is asked for all requests together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from lingraft.conversation.answer_language import answer_language
from lingraft.conversation.chain_engine import is_chat
from lingraft.conversation.history import History
from lingraft.data.records import NATIVE, QUERY, REPLY, Generation, Message, Request, Segment
from lingraft.engines.finishing import before_stop
from lingraft.language.characters import is_blank
from lingraft.language.thinking import said
from lingraft.translation.markers import Markers
from lingraft.translation.translators import Translator, Written, bounded


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
        for request, lang in self._native():
            text = request.messages[-1].content
            query = self._translator.written(f"{request.id}:query", text, lang, "en", translations)
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
            native = self._translator.written(f"{request.id}:reply", english, "en", lang, translations)
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
