"""Answers as they are written, token by token: for a conversation with one user, where the first word counts.

Missing markers of the chain are put where they are missed, without computing anything again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lingraft.chat import Renderer
from lingraft.data.records import Message, Segment
from lingraft.decoding.routing import answer_language
from lingraft.decoding.tcot import (
    COMPLETE,
    NATIVE,
    OPEN,
    REPLY,
    TEXT,
    Caps,
    Chain,
    ChainReader,
    Fallback,
    Walk,
    english_history,
)
from lingraft.engines.decode import choose
from lingraft.errors import EngineError
from lingraft.markers import Markers
from lingraft.models import LoadedModel
from lingraft.store import content_hash


@dataclass(frozen=True)
class Started:
    """A part of the answer begins. `forced`: its marker was put. `visible`: the user is to see its text."""

    role: str
    forced: bool
    visible: bool


@dataclass(frozen=True)
class Delta:
    """More text of the part; all of them together are the segment's text."""

    role: str
    text: str
    visible: bool


@dataclass(frozen=True)
class Timing:
    """Seconds from the question on.

    Attributes:
        first_token: to the first token, the computation of the prompt included. first_visible: to the first text that
            the user sees; None where there is none. total: to the end. prompt_tokens: read.
    """

    first_token: float
    first_visible: float | None
    total: float
    prompt_tokens: int


@dataclass(frozen=True)
class Done:
    """The answer is complete.

    Attributes:
        text: what the user sees; begins with the visible deltas, if there were any.
        segments: its parts with their tokens. state, failure: as in `Chain` ("unfinished" where it was cut).
        lang: language of the answer; empty outside of the chain.
    """

    text: str
    segments: tuple[Segment, ...]
    timing: Timing
    state: str
    failure: str
    lang: str


Event = Started | Delta | Done


class TextStream:
    """Text from tokens of one part, in whole characters, without white space at its ends."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._ids: list[int] = []
        self._from = self._to = 0  # a character may be several tokens: those before `to` are given, `from` is context
        self._given = self._waiting = ""

    def step(self, token: int) -> str:
        """Return the text that a token completes; white space waits for what follows it."""
        self._ids.append(token)
        known = self._renderer.decode(self._ids[self._from : self._to])
        text = self._renderer.decode(self._ids[self._from :])
        if text.endswith("\ufffd") or len(text) <= len(known):
            return ""
        self._waiting += text[len(known) :]
        self._from, self._to = self._to, len(self._ids)
        if not self._given:
            self._waiting = self._waiting.lstrip()
        ready = self._waiting.rstrip()
        self._waiting = self._waiting[len(ready) :]
        self._given += ready
        return ready

    def rest(self) -> str:
        """Return what is left when the part has ended: a character that never became whole."""
        text = self._renderer.decode(self._ids).strip()
        return text.removeprefix(self._given) if text.startswith(self._given) else ""


@dataclass
class TokenWriter:
    """A model that writes a token at a time behind a prompt, keeping keys and values.

    Args:
        loaded: the model, its graft on. prompt: ids; not empty.
        temperature: 0 for the most probable token. top_p, seed: of sampling.
        most: tokens that may be written; None for as many as the context holds.

    Attributes:
        room: tokens that may still be written.

    Raises:
        EngineError: the prompt fills the context.
    """

    loaded: LoadedModel
    prompt: Sequence[int]
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    most: int | None = None
    _cache: Any = None
    _waiting: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._waiting = list(self.prompt)
        self._draws = random.Random(int(content_hash([self.seed, list(self.prompt)])[:15], 16))
        limit = getattr(self.loaded.model.config.get_text_config(), "max_position_embeddings", None)
        self.room = (int(limit) if limit else 1 << 30) - len(self.prompt)
        if self.room < 1:
            raise EngineError(
                f"the conversation has {len(self.prompt)} tokens, which leaves no room for an answer in the model's "
                f"context of {limit}; shorten it, or begin a new one"
            )
        if self.most is not None:
            self.room = min(self.room, self.most)

    @torch.inference_mode()
    def propose(self) -> int:
        """Return the token that comes next; it counts once it is accepted."""
        model: Any = self.loaded.model
        ids = torch.tensor([self._waiting], device=self.loaded.device)
        out = model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache, self._waiting = out.past_key_values, []
        draws = [self._draws.random()] if self.temperature > 0 else []
        return int(choose(out.logits[:, -1], self.temperature, self.top_p, draws)[0])

    def accept(self, token: int) -> None:
        """Go on behind a token, be it the proposed one or another."""
        self._waiting.append(token)
        self.room -= 1


def _never() -> bool:
    return False


class _Clock:
    """Takes the times of one answer."""

    def __init__(self) -> None:
        self._begin = time.perf_counter()
        self._first: float | None = None
        self._visible: float | None = None

    def token(self) -> None:
        """A token was written."""
        self._first = self._first or time.perf_counter() - self._begin

    def shown(self, text: str) -> None:
        """Text was shown."""
        if text and self._visible is None:
            self._visible = time.perf_counter() - self._begin

    def timing(self, prompt_tokens: int) -> Timing:
        """Return the times so far."""
        total = time.perf_counter() - self._begin
        return Timing(total if self._first is None else self._first, self._visible, total, prompt_tokens)


def stream_reply(
    loaded: LoadedModel,
    messages: Sequence[Message],
    markers: Markers,
    caps: Caps | None = None,
    *,
    lang: str = "",
    fallback: Fallback = "english",
    repair: bool = True,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    max_tokens: int | None = None,
    enough: Callable[[], bool] = _never,
) -> Iterator[Event]:
    """Yield the events of one answer through the chain; the last one is `Done`.

    Args:
        loaded: the model, its graft on, with the renderer of the graft's tokenizer.
        messages: earlier turns in English (see `tcot.english_history`), then the user's.
        markers: of the graft. caps: most tokens of each part.
        lang: answer in this language; by default that of the user's last message (messages in English do not tell in
            which language a conversation is held: give it for messages without letters).
        fallback: what is shown where the native answer is missing after all. repair: put missing markers.
        max_tokens: most tokens of all parts together, their markers included.
        enough: asked before each token of the part that the user sees; True ends the answer as if its turn had ended.

    Raises:
        ModelError: a marker is not one control token of the tokenizer.
        UsageError: the language has no marker, or the chat template refuses the roles.
        EngineError: the conversation fills the model's context.
    """
    clock = _Clock()
    reader = ChainReader(loaded.renderer, markers)
    code = answer_language(messages[-1:], markers, lang)
    final = REPLY if code == "en" else NATIVE
    walk = reader.walk(code, caps or Caps())
    prompt = loaded.renderer.prompt_ids(messages).ids
    writer = TokenWriter(loaded, prompt, temperature, top_p, seed, max_tokens)
    text: TextStream | None = None
    shown = False
    rest: list[int] = []
    while walk.state == OPEN and writer.room > 0:
        if walk.role == final and enough():
            walk.feed(loaded.renderer.end_of_turn_id)
            break
        token = writer.propose()
        clock.token()
        before, forced = walk.role, False
        if not walk.feed(token):
            if not repair or walk.missing is None or walk.state == COMPLETE:
                rest = [token] if walk.state != COMPLETE and token not in reader.ids.ends else []
                break
            token, forced = walk.force(), True
        writer.accept(token)
        visible = walk.role == final
        if walk.role != before:
            if text is not None and (left := text.rest()):
                yield Delta(before, left, False)
            text = TextStream(loaded.renderer)
            yield Started(walk.role, forced, visible)
        elif text is not None and (more := text.step(token)):
            shown = shown or visible
            clock.shown(more if visible else "")
            yield Delta(walk.role, more, visible)
    walk.run_out()
    if text is not None and (left := text.rest()):
        shown = shown or walk.role == final
        clock.shown(left if walk.role == final else "")
        yield Delta(walk.role, left, walk.role == final)
    if rest and walk.missing is not None:
        yield from _outside(writer, rest, reader, walk, caps or Caps(), loaded.renderer)
    chain = walk.chain(rest if walk.missing is not None else ())
    answer = chain.shown(fallback)
    if not shown:
        clock.shown(answer)
    yield _done(chain, answer, clock.timing(len(prompt)))


def _outside(
    writer: TokenWriter, rest: list[int], reader: ChainReader, walk: Walk, caps: Caps, renderer: Renderer
) -> Iterator[Event]:
    """Let the model write to its end outside of the chain, and add the tokens to `rest`."""
    text = TextStream(renderer)
    yield Started(TEXT, False, False)
    first = text.step(rest[0])
    if first:
        yield Delta(TEXT, first, False)
    writer.accept(rest[0])
    for _ in range(min(writer.room, walk.room, caps.native)):
        token = writer.propose()
        if token in reader.ids.ends:
            break
        writer.accept(token)
        rest.append(token)
        if more := text.step(token):
            yield Delta(TEXT, more, False)
    if left := text.rest():
        yield Delta(TEXT, left, False)


def _done(chain: Chain, answer: str, timing: Timing) -> Done:
    return Done(answer, chain.segments, timing, chain.state, chain.failure, chain.lang)


def stream_direct(
    loaded: LoadedModel,
    messages: Sequence[Message],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    enough: Callable[[], bool] = _never,
) -> Iterator[Event]:
    """Yield the events of one answer without chain: a single visible part of role "text", then `Done`.

    Args:
        enough: asked before each token; True ends the answer as if its turn had ended.

    Raises:
        UsageError: the chat template refuses the roles.
        EngineError: the conversation fills the model's context.
    """
    clock = _Clock()
    renderer = loaded.renderer
    prompt = renderer.prompt_ids(messages).ids
    writer = TokenWriter(loaded, prompt, temperature, top_p, seed)
    text, ids, state = TextStream(renderer), list[int](), "unfinished"
    yield Started(TEXT, False, True)
    while len(ids) < max_new_tokens and writer.room > 0:
        if enough():
            state = COMPLETE
            break
        token = writer.propose()
        clock.token()
        if token in renderer.end_ids:
            state = COMPLETE
            break
        writer.accept(token)
        ids.append(token)
        if more := text.step(token):
            clock.shown(more)
            yield Delta(TEXT, more, True)
    if left := text.rest():
        clock.shown(left)
        yield Delta(TEXT, left, True)
    answer = renderer.decode(ids).strip()
    failure = "" if state == COMPLETE else state
    yield Done(answer, (Segment(TEXT, answer, len(ids)),), clock.timing(len(prompt)), state, failure, "")


def stream_turn(
    loaded: LoadedModel,
    messages: Sequence[Message],
    markers: Markers | None,
    answers: Sequence[Sequence[Segment]],
    caps: Caps,
    *,
    lang: str = "",
    max_tokens: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    enough: Callable[[], bool] = _never,
) -> Iterator[Event]:
    """Yield the events of the answer to the last turn of a conversation, through the chain where there are markers.

    Args:
        messages: as the user sees them; earlier turns are passed on in English where `answers`, the segments of each
            earlier answer, tell how. The language is that of the last turn that tells one, unless `lang` is given.
        caps: of the parts; `native` also bounds an answer without chain. Others: as in `stream_reply`.

    Raises:
        ModelError, UsageError, EngineError: as `stream_reply`.
    """
    if markers is None:
        most = caps.native if max_tokens is None else min(caps.native, max_tokens)
        return stream_direct(loaded, messages, most, temperature=temperature, top_p=top_p, seed=seed, enough=enough)
    return stream_reply(
        loaded,
        english_history(messages, answers),
        markers,
        caps,
        lang=answer_language(messages, markers, lang),
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_tokens=max_tokens,
        enough=enough,
    )
