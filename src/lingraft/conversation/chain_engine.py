"""Batches of chat requests answered through the translation chain of thought, with any engine that takes token ids."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from lingraft.conversation.answer_language import answer_language, check_language
from lingraft.conversation.chain import Caps, Chain, ChainReader, Fallback, Walk
from lingraft.conversation.history import History
from lingraft.core.errors import EngineError
from lingraft.data.records import Generation, Request
from lingraft.engines.base import Engine, EngineModel
from lingraft.engines.finishing import before_stop
from lingraft.rendering.renderer import Renderer
from lingraft.translation.markers import Markers

_STREAMED_TOGETHER = 4096  # requests in a round of an engine that wants all at once
_QUERY_ROOM = 32
"""The English query has at most this many tokens and twice the message's: a graft that does not end it is stopped."""


@dataclass
class _Job:
    """A request on its way through the chain."""

    request: Request
    prompt: tuple[int, ...]
    walk: Walk
    rest: tuple[int, ...] = ()

    def asked(self, number: int, context: int) -> Request:
        """Return the request of a round.

        Args:
            number: of the round, from 0.
            context: tokens that the model can hold; 0: no limit is known.
        """
        ids = (*self.prompt, *self.walk.ids)
        room = min(self.walk.room, context - len(ids)) if context else self.walk.room
        sampling = replace(self.request.sampling, max_new_tokens=room, stop=())
        id_ = f"{self.request.id} (continued {number})" if number else self.request.id
        return Request(id_, self.request.messages, sampling, prompt_ids=ids)


class ChainEngine(Engine):
    """Answers conversations through the chain: a generation's `text` is what the user sees, `segments` the chain.

    All requests are asked together; those whose chain lacks a marker are then asked together to go on behind it, until
    none is left (at most once for each marker). Requests that are `direct`, such as those for a translation, and those
    with token ids of their own, a prefill or a turn, or without messages go to the inner engine as they are. Stop
    strings cut what the user sees, not the English parts.

    In a conversation, earlier answers of this engine are shown to the model in English. It knows them again by what
    was asked and answered; those of an earlier process are made known with `learn`. A conversation that it does not
    know stays in the user's language (see `english_history`).

    Args:
        inner: gets requests with `prompt_ids`.
        renderer: of the tokenizer that the graft was trained with.
        markers: the graft's.
        caps: most tokens of each part; a request's `max_new_tokens` bounds English and native answer as well, and alone
            by default. A query may never have more than `_QUERY_ROOM` tokens and twice those of the message that it
            translates, the last one.
        lang: answer in this language, whatever is asked in; by default that of the last user message.
        fallback: what is shown where the native answer is missing after all.
        repair: put missing markers.
        context: tokens that the model can hold: answers are cut to what is left, instead of being refused.

    Raises:
        ModelError: a marker is not one control token of the tokenizer.
        UsageError: the language has no marker.
    """

    name: ClassVar[str] = "chain"
    summary: ClassVar[str] = "any engine, through the translation chain of thought"

    def __init__(
        self,
        inner: Engine,
        renderer: Renderer,
        markers: Markers,
        caps: Caps | None = None,
        *,
        lang: str = "",
        fallback: Fallback = "english",
        repair: bool = True,
        context: int = 0,
    ) -> None:
        self._inner, self._renderer, self._markers = inner, renderer, markers
        self._reader = ChainReader(renderer, markers)
        self._caps = caps or Caps(english=sys.maxsize, native=sys.maxsize)
        self._lang = check_language(lang, markers)
        self._fallback, self._repair, self._context = fallback, repair, context
        self._history = History()
        self.part_size = max(inner.part_size, _STREAMED_TOGETHER) if inner.streams else inner.part_size
        self.failures: Counter[str] = Counter()
        """What went wrong first, over all chains so far; "" counts those without failure."""

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> ChainEngine:
        """Refuse: it wraps an engine, and is made by its constructor.

        Raises:
            EngineError: always.
        """
        raise EngineError("the engine 'chain' wraps another one; name that engine, and a graft whose chat is tcot")

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield generations; see `Engine.generate`.

        `token_ids` are all tokens of the answer in context, markers that were put there included; `finish_reason` is
        "stop" only where the last part ended with the turn. Log-probabilities are not recorded.

        Raises:
            EngineError: a prompt leaves no room in the context.
            UsageError: the chat template refuses the roles.
        """
        waiting = iter(requests)
        while part := list(islice(waiting, self.part_size)):
            with self._inner.keeping(graft):
                yield from self._part(part, graft)

    def _part(self, part: Sequence[Request], graft: Path | None) -> Iterator[Generation]:
        plain = [request for request in part if not is_chat(request)]
        if plain:
            yield from self._inner.generate(plain, graft)
        jobs = [self._job(request) for request in part if is_chat(request)]
        number = 0
        while jobs:
            self._round(jobs, number, graft)
            for job in jobs:
                if not self._goes_on(job):
                    yield self._answer(job)
            jobs = [job for job in jobs if self._goes_on(job)]
            for job in jobs:
                job.walk.force()
            number += 1

    def learn(self, request: Request, generation: Generation) -> None:
        """Make an earlier answer known, so that the conversation can go on in English."""
        self._history.learn(request.messages, generation.text, generation.segments)

    @property
    def under_way(self) -> int:  # type: ignore[override]  # the others keep a count of their own
        """Tokens that the inner engine has written of answers not given yet, of this round alone."""
        return self._inner.under_way

    def usage(self) -> dict[str, Any]:
        """Return what the inner engine says; see `Engine.usage`."""
        return self._inner.usage()

    def close(self) -> None:
        """Close the inner engine."""
        self._inner.close()

    def _job(self, request: Request) -> _Job:
        messages = request.messages
        lang = answer_language(messages, self._markers, self._lang)
        prompt = self._renderer.prompt_ids(self._history.english(messages)).ids
        most = max(1, request.sampling.max_new_tokens)
        query = min(self._caps.query, _QUERY_ROOM + 2 * self._renderer.count(messages[-1].content))
        caps = Caps(query, min(self._caps.english, most), min(self._caps.native, most))
        if self._context and len(prompt) >= self._context:
            raise EngineError(
                f"request {request.id!r}: {len(prompt)} prompt tokens leave no room in the model's context of "
                f"{self._context}; shorten the conversation"
            )
        return _Job(request, prompt, self._reader.walk(lang, caps))

    def _round(self, jobs: Sequence[_Job], number: int, graft: Path | None) -> None:
        """Let all jobs write on."""
        asked = {one.id: (job, one) for job in jobs for one in [job.asked(number, self._context)]}
        for generation in self._inner.generate((one for _, one in asked.values()), graft):
            job, _ = asked.pop(generation.id)
            walk, tokens = job.walk, generation.token_ids
            taken = next((place for place, token in enumerate(tokens) if not walk.feed(token)), len(tokens))
            job.rest = tokens[taken:]
            if taken == len(tokens) and generation.finish_reason == "stop":
                walk.feed(self._renderer.end_of_turn_id)
            walk.run_out()
        if asked:
            raise EngineError(f"request {next(iter(asked))!r} was not answered; see the messages of the engine")

    def _goes_on(self, job: _Job) -> bool:
        """Whether a marker is to be put, and there is room to go on behind it."""
        walk = job.walk
        if not self._repair or walk.missing is None or walk.state == "unfinished":
            return False
        return not self._context or len(job.prompt) + len(walk.ids) + 1 < self._context

    def _answer(self, job: _Job) -> Generation:
        chain = job.walk.chain(() if job.walk.missing is None else job.rest)
        self.failures[chain.failure] += 1
        text, stop = before_stop(chain.shown(self._fallback), job.request.sampling.stop)
        reason = "stop_string" if stop else _reason(chain)
        generation = Generation(job.request.id, text, chain.ids, reason, segments=chain.segments)
        self.learn(job.request, generation)
        return generation


def is_chat(request: Request) -> bool:
    """Whether a request is a conversation to answer, with nothing of the answer given, and not to be taken as it is."""
    return bool(request.messages) and not (request.direct or request.prompt_ids or request.prefill or request.turn)


def is_carried(request: Request, markers: Markers, lang: str = "") -> bool:
    """Whether a request is answered in another language than English, by a chain of all three parts.

    Args:
        request: one that is no plain conversation is not.
        markers: of the graft.
        lang: of the answer, by default that of the last user message.
    """
    return is_chat(request) and answer_language(request.messages, markers, lang) != "en"


def _reason(chain: Chain) -> str:
    return "length" if chain.state == "unfinished" else "stop"
