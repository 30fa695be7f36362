"""Answers as they are written, token by token: for a conversation with one user, where the first word counts.

Missing markers of the chain are put where they are missed, without computing anything again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing

from lingraft.conversation.answer_language import answer_language
from lingraft.conversation.chain import COMPLETE, OPEN, Caps, Chain, ChainReader, Fallback, Walk, english_history
from lingraft.conversation.writing import (
    Clock,
    Done,
    Event,
    MakeWriter,
    PartStart,
    TextDelta,
    TextPieces,
    Timing,
    TokenWriter,
    Writer,
    Written,
    never,
)
from lingraft.data.records import NATIVE, REPLY, TEXT, Message, Segment, asked_text
from lingraft.language.thinking import Thoughts
from lingraft.models.loading import AskedModel
from lingraft.translation.markers import Markers

THOUGHT = "thought"
"""Role of the part of a direct answer that is thoughts."""
_ASIDE = 8
"""More tokens than stand before the first marker of a chain and between its end and what is outside of it."""


def stream_reply(
    loaded: AskedModel,
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
    enough: Callable[[], bool] = never,
    top: int | None = None,
    writing: MakeWriter = TokenWriter,
) -> Iterator[Event]:
    """Yield the events of one answer through the chain, `Reading` before all others; the last one is `Done`.

    Args:
        loaded: the model, its graft on, with the renderer of the graft's tokenizer.
        messages: earlier turns in English (see `english_history`), then the user's.
        markers: of the graft.
        caps: most tokens of each part; by default those of `Caps`.
        lang: answer in this language; by default that of the user's last message (messages in English do not tell in
            which language a conversation is held: give it for messages without letters).
        fallback: what is shown where the native answer is missing after all.
        repair: put missing markers.
        temperature: 0 for the most probable token.
        top_p: share of the probability that sampled tokens are drawn from; 1 for all.
        seed: of the sampling.
        max_tokens: most tokens of all parts together, their markers included; None for as many as the context holds.
        enough: asked before each token of the part that the user sees; True ends the answer as if its turn had ended.
        top: see `TokenWriter`; of the part that the user sees.
        writing: begins to write behind a prompt.

    Raises:
        ModelError: a marker is not one control token of the tokenizer.
        UsageError: the language has no marker, or the chat template refuses the roles.
        EngineError: the conversation fills the model's context.
    """
    clock = Clock()
    reader = ChainReader(loaded.renderer, markers)
    code = answer_language(messages[-1:], markers, lang)
    final = REPLY if code == "en" else NATIVE
    walk = reader.walk(code, caps or Caps())
    prompt = loaded.renderer.prompt_ids(messages).ids
    most = walk.room + (caps or Caps()).native + _ASIDE
    most = most if max_tokens is None else min(most, max_tokens)
    writer = writing(loaded, prompt, temperature=temperature, top_p=top_p, seed=seed, most=most, top=top)
    with closing(writer):
        yield from writer.read()
        text: TextPieces | None = None
        shown, waiting = False, list[Written]()
        rest: list[int] = []
        while walk.state == OPEN and writer.room > 0:
            if walk.role == final and enough():
                walk.feed(loaded.renderer.end_of_turn_id)
                break
            token = yield from writer.next()
            if token is None:
                break
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
                    yield TextDelta(before, left, False)
                text = writer.text()
                yield PartStart(walk.role, forced, visible)
            elif text is not None:
                waiting += [writer.noted] if visible and writer.noted else []
                if more := text.step(token):
                    shown = shown or visible
                    clock.shown(more if visible else "")
                    yield TextDelta(walk.role, more, visible, tuple(waiting))
                    waiting.clear()
        walk.run_out()
        if text is not None and (left := text.rest()):
            shown = shown or walk.role == final
            clock.shown(left if walk.role == final else "")
            yield TextDelta(walk.role, left, walk.role == final, tuple(waiting))
        if rest and walk.missing is not None:
            yield from _outside(writer, rest, reader, walk, caps or Caps())
    chain = walk.chain(rest if walk.missing is not None else ())
    answer = chain.shown(fallback)
    if not shown:
        clock.shown(answer)
    yield _done(chain, answer, clock.timing(len(prompt)))


def _outside(
    writer: Writer, rest: list[int], reader: ChainReader, walk: Walk, caps: Caps
) -> Generator[Event, None, None]:
    """Let the model write to its end outside of the chain, and add the tokens to `rest`."""
    text = writer.text()
    yield PartStart(TEXT, False, False)
    first = text.step(rest[0])
    if first:
        yield TextDelta(TEXT, first, False)
    writer.accept(rest[0])
    for _ in range(min(writer.room, walk.room, caps.native)):
        token = yield from writer.next()
        if token is None or token in reader.ids.ends:
            break
        writer.accept(token)
        rest.append(token)
        if more := text.step(token):
            yield TextDelta(TEXT, more, False)
    if left := text.rest():
        yield TextDelta(TEXT, left, False)


def _done(chain: Chain, answer: str, timing: Timing) -> Done:
    return Done(
        text=answer, segments=chain.segments, timing=timing, state=chain.state, failure=chain.failure, lang=chain.lang
    )


def stream_direct(
    loaded: AskedModel,
    messages: Sequence[Message],
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    enough: Callable[[], bool] = never,
    top: int | None = None,
    writing: MakeWriter = TokenWriter,
) -> Iterator[Event]:
    """Yield the events of one answer without chain: `Reading`, a visible part of role "text", then `Done`.

    Thoughts that the model writes before it are a part of their own, of role "thought", which is not visible; without
    an answer behind them the failure is "thinking".

    Args:
        loaded: the model, its graft on, with the renderer of the graft's tokenizer.
        messages: the conversation, the user's turn last.
        max_new_tokens: most tokens of the answer, thoughts included.
        temperature: 0 for the most probable token.
        top_p: share of the probability that sampled tokens are drawn from; 1 for all.
        seed: of the sampling.
        enough: asked before each token; True ends the answer as if its turn had ended.
        top: see `TokenWriter`; of the answer, thoughts aside.
        writing: begins to write behind a prompt.

    Raises:
        UsageError: the chat template refuses the roles.
        EngineError: the conversation fills the model's context.
    """
    clock = Clock()
    renderer = loaded.renderer
    prompt = renderer.prompt_ids(messages).ids
    writer = writing(loaded, prompt, temperature=temperature, top_p=top_p, seed=seed, most=max_new_tokens, top=top)
    text, parts, state = writer.text(), _Parts(clock, asked_text(messages)), "unfinished"
    with closing(writer):
        yield from writer.read()
        yield PartStart(TEXT, False, True)
        while writer.room > 0:
            if enough():
                state = COMPLETE
                break
            token = yield from writer.next()
            if token is None:
                break
            clock.token()
            if token in renderer.end_ids:
                state = COMPLETE
                break
            writer.accept(token)
            yield from parts.step(text.step(token), token=writer.noted or token)
        yield from parts.step(text.rest(), last=True)
    answer, segments = parts.texts[TEXT].strip(), parts.segments
    failure = "thinking" if len(segments) > 1 and not answer else "" if state == COMPLETE else state
    yield Done(text=answer, segments=segments, timing=clock.timing(len(prompt)), state=state, failure=failure, lang="")


class _Parts:
    """The parts of a direct answer, as its text comes: thoughts, and what the user sees."""

    def __init__(self, clock: Clock, given: str) -> None:
        self._clock, self._thoughts = clock, Thoughts(given)
        self._waiting = 0  # tokens of which it is not known yet what they are
        self._noted: list[Written] = []  # of the text that comes next
        self._role = TEXT
        self.texts = {THOUGHT: "", TEXT: ""}
        self._tokens = {THOUGHT: 0, TEXT: 0}

    def step(self, text: str, *, token: Written | int | None = None, last: bool = False) -> Iterator[Event]:
        """Yield the events of some more text, and count its token."""
        self._waiting += token is not None
        self._noted += [token] if isinstance(token, Written) else []
        thinking = self._thoughts.thinking
        for thought, piece in self._thoughts.step(text, last=last):
            role = THOUGHT if thought else TEXT
            if role != self._role:
                self._role = role
                yield PartStart(role, False, role == TEXT)
            if piece:
                self.texts[role] += piece
                self._clock.shown(piece if role == TEXT else "")
                yield TextDelta(role, piece, role == TEXT, () if thought else tuple(self._noted))
                self._noted.clear()
        thinking = thinking or self._thoughts.thinking
        if thinking:
            self._noted.clear()
        if last or thinking or self._thoughts.decided:
            self._tokens[THOUGHT if thinking else TEXT] += self._waiting
            self._waiting = 0

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The thoughts, if there are any, and the answer."""
        answer = Segment(TEXT, self.texts[TEXT].strip(), self._tokens[TEXT])
        thought = self.texts[THOUGHT].strip()
        return (Segment(THOUGHT, thought, self._tokens[THOUGHT]), answer) if thought else (answer,)


def stream_turn(
    loaded: AskedModel,
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
    enough: Callable[[], bool] = never,
    top: int | None = None,
    writing: MakeWriter = TokenWriter,
) -> Iterator[Event]:
    """Yield the events of the answer to the last turn of a conversation, through the chain where there are markers.

    Args:
        loaded: the model, its graft on, with the renderer of the graft's tokenizer.
        messages: as the user sees them; earlier turns are passed on in English where `answers` tell how.
        markers: of the graft; None for an answer without chain.
        answers: the segments of each earlier answer, in order.
        caps: most tokens of the parts; `native` also bounds an answer without chain.
        lang: answer in this language; by default that of the last turn that tells one.
        max_tokens: most tokens of all parts together; None for as many as the context holds.
        temperature: as for `stream_reply`.
        top_p: as for `stream_reply`.
        seed: of the sampling.
        enough: as for `stream_reply`.
        top: as for `stream_reply`.
        writing: as for `stream_reply`.

    Raises:
        ModelError, UsageError, EngineError: as `stream_reply`.
    """
    if markers is None:
        most = caps.native if max_tokens is None else min(caps.native, max_tokens)
        return stream_direct(
            loaded,
            messages,
            most,
            temperature=temperature,
            top_p=top_p,
            seed=seed,
            enough=enough,
            top=top,
            writing=writing,
        )
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
        top=top,
        writing=writing,
    )
