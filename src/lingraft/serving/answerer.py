"""Answers of one model to one question after the other, through the chain where its graft has one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from lingraft.conversation.answer_language import check_language
from lingraft.conversation.chain import Caps, english_history
from lingraft.conversation.history import History
from lingraft.conversation.stream import stream_turn
from lingraft.conversation.text_stream import stream_text
from lingraft.conversation.writing import (
    Done,
    Event,
    MakeWriter,
    PartStart,
    PromptProgress,
    TextDelta,
    Timing,
    TokenWriter,
    Waits,
    Written,
    never,
)
from lingraft.core.errors import DataError, EngineError, ModelError, UsageError
from lingraft.data.records import NATIVE, REPLY, TEXT, Sampling, Segment
from lingraft.models.loading import AskedModel
from lingraft.routing.base import BASE, GRAFT, Route
from lingraft.routing.router import Router
from lingraft.serving.decoder import Decoded, ServedDecoder
from lingraft.serving.rationale import CutTranslation, Rationales
from lingraft.serving.request import ApiError, ChatRequest
from lingraft.serving.size import MOST_WITHOUT_LIMIT, PromptSize
from lingraft.serving.stops import Cut, Shown, StopStrings
from lingraft.translation.markers import Markers

REMEMBERED = 2048
"""Answers whose English is kept: some megabytes."""


@dataclass(frozen=True)
class ByDecoder:
    """Which decoder answered, in how many requests, and what came out, in words that can be counted."""

    name: str
    calls: int
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer, complete.

    Attributes:
        text: all that the user sees: the visible deltas together.
        finish_reason: "stop" or "length".
        segments: the parts of the chain, as in `Done`.
        state: as in `Done`.
        failure: as in `Done`, or of the decoder's translation; "" where nothing went wrong.
        language: of the answer; empty outside of the chain.
        timing: as in `Done`.
        seed: of sampling; None where nothing was drawn.
        turns: earlier answers in the conversation.
        known: those of them that were shown to the model in English.
        route: who answered, "graft" or "base", where the server routes; else "".
        decoder: who answered in several steps; None where the model did at once.
        written: the tokens of the visible text, where their log-probabilities are asked for.
    """

    text: str
    finish_reason: str
    segments: tuple[Segment, ...]
    state: str
    failure: str
    language: str
    timing: Timing
    seed: int | None
    turns: int
    known: int
    route: str = ""
    decoder: ByDecoder | None = None
    written: tuple[Written, ...] = ()

    @property
    def tokens(self) -> dict[str, int]:
        """Written, by role; markers that were put included."""
        return {segment.role: segment.tokens for segment in self.segments}

    @property
    def hidden(self) -> int:
        """Tokens of the parts that the user does not see."""
        wanted = REPLY if self.language == "en" else NATIVE
        filled = {segment.role for segment in self.segments if segment.text}
        shown = next((role for role in (wanted, REPLY, TEXT) if role in filled), "")
        return sum(count for role, count in self.tokens.items() if role != shown)


Said = PromptProgress | PartStart | TextDelta | Answer
Piece = Said | Waits


class Answerer:
    """A model that answers; it belongs to one thread.

    Args:
        loaded: the model, its graft on.
        markers: of a graft with a chain, else None.
        caps: most tokens of each part; `native` also bounds answers without chain.
        temperature: where the client names none.
        remembered: answers whose English is kept.
        most_read: tokens that a conversation may have; by default what the model's context leaves room for.
        router: lets the graft answer some questions and its base the others; None where one model answers all.
        decoder: answers the requests for translations that the graft would answer; None: they are answered as all are.
        put_on: lets the model in memory, which answers as one of several systems, be this one from now on; called
            before each answer begins. Answers of two systems cannot be under way at the same time, but in `writing`.
        rationales: cuts translations at the graft's delimiter; None where its translations end where it ends.
        writing: begin to write in batches, as the graft and, where there is a router, as its base; None: answers are
            written one after the other.
        logprobs: whether what writes gives log-probabilities.
    """

    def __init__(
        self,
        loaded: AskedModel,
        markers: Markers | None,
        caps: Caps | None = None,
        *,
        temperature: float = 0.0,
        remembered: int = REMEMBERED,
        most_read: int | None = None,
        router: Router | None = None,
        decoder: ServedDecoder | None = None,
        put_on: Callable[[], None] = lambda: None,
        rationales: Rationales | None = None,
        writing: Mapping[Route, MakeWriter] | None = None,
        logprobs: bool = True,
    ) -> None:
        self.markers, self.router, self.decoder, self.put_on = markers, router, decoder, put_on
        self._writing, self._logprobs = writing, logprobs
        self._loaded, self._caps, self._temperature = loaded, caps or Caps(), temperature
        self._rationales = rationales if markers is None else None
        self._history = History(remembered, by_turn=True)
        context = (loaded.context or MOST_WITHOUT_LIMIT + 1) - 1
        self._size = PromptSize(loaded.renderer, min(context, most_read or context))

    def check(self, question: ChatRequest) -> None:
        """Check what can be checked without the model.

        Raises:
            ApiError: the language is not one of the graft's, or a prompt has tokens that do not exist.
        """
        if question.route and self.router is None:
            message = "lingraft.route is for servers that route between a graft and its base; leave it out"
            raise ApiError(400, message, param="lingraft.route")
        if question.logprobs is not None and not self._logprobs:
            message = "logprobs: the engine that writes the answers here gives none; leave it out"
            raise ApiError(400, message, param="logprobs", code="unsupported_parameter")
        if question.prompts:
            most = len(self._loaded.renderer.tokenizer)
            if any(not isinstance(one, str) and max(one) >= most for one in question.prompts):
                raise ApiError(400, f"prompt: there are {most:,} tokens, from 0 on", param="prompt")
            return
        if self.markers is None:
            if question.language:
                message = "lingraft.language is for grafts with a translation chain of thought; leave it out"
                raise ApiError(400, message, param="lingraft.language")
            return
        try:
            check_language(question.language, self.markers)
        except UsageError as error:
            raise ApiError(400, str(error), param="lingraft.language") from error

    def size(self, question: ChatRequest) -> int:
        """Return about how many tokens a question may come to, read and written; it may be called in any thread.

        Raises:
            ApiError: it certainly does not fit. Of conversations through the chain only what is certainly read as it is
                counts here: earlier turns may be shorter in English. Or it is for the decoder, and says what would not
                keep its meaning there.
        """
        if question.prompts:
            return self._size_of_prompts(question)
        messages = [one for one in question.messages if one.role == "system"] if self.markers else question.messages
        last = question.messages[-1:] if self.markers else ()
        read = self._size.check(message.content for message in (*messages, *last))
        caps = self._limited(question)
        if self.decoder is not None and question.route != BASE and self.decoder.source(question) is not None:
            if self.router is None:  # else it is not known yet who answers
                self.decoder.refuse(question)
            if question.logprobs is not None and self.router is None:
                raise _no_logprobs(self.decoder.name)
            return question.n * self.decoder.tokens(read, self._sampling(question).max_new_tokens)
        written = caps.native + (caps.query + caps.english if self.markers else 0)
        return question.n * (read + min(written, question.max_completion_tokens or written))

    def _size_of_prompts(self, question: ChatRequest) -> int:
        """As `size`, of a request without messages."""
        written, found = self._limited(question).native, 0
        for prompt in question.prompts:
            try:
                read = self._size.check([prompt]) if isinstance(prompt, str) else self._size.check_length(len(prompt))
            except ApiError as error:
                raise ApiError(400, error.message, param="prompt", code=error.code) from error
            found += question.n * (read + written)
        return found

    def _limited(self, question: ChatRequest) -> Caps:
        """Return the most tokens of each part."""
        caps, most = self._caps, question.max_tokens
        return caps if most is None else Caps(caps.query, min(caps.english, most), min(caps.native, most))

    def _sampling(self, question: ChatRequest, temperature: float = 0.0, seed: int = 0) -> Sampling:
        """Return how the decoder's answers are written."""
        most = self._limited(question).native
        total = question.max_completion_tokens or most  # for one answer, else it is refused
        return Sampling(min(most, total), temperature, question.top_p, seed=seed)

    def answer(self, question: ChatRequest, left: Callable[[], bool] = never) -> Generator[Piece, None, None]:
        """Yield the pieces of the answer that `question.choice` names; the last one is the `Answer`.

        Visible deltas end before the first stop string. Where the native answer is missing after all, what is shown in
        its place comes as one visible delta at the end; so does a translation by the decoder.

        Args:
            question: that is answered.
            left: whether nobody waits for the answer any more, for work that is long and gives no pieces meanwhile.

        Raises:
            ApiError: the model cannot be asked this.
        """
        asked = "prompt" if question.prompts else "messages"
        try:
            yield from self._answer(question, left)
        except EngineError as error:
            raise ApiError(400, str(error), param=asked, code="context_length_exceeded") from error
        except (UsageError, DataError) as error:
            raise ApiError(400, str(error), param=asked, code=f"{asked}_refused") from error
        except ModelError as error:
            raise ApiError(500, str(error), code="model_broken") from error

    def _answer(self, question: ChatRequest, left: Callable[[], bool]) -> Iterator[Piece]:
        if self._writing is None or self.router is not None:
            self.put_on()
        temperature = self._temperature if question.temperature is None else question.temperature
        drawn = secrets.randbelow(1 << 31) if question.seed is None else question.seed + question.choice
        known = self._history.answers(question.messages) if self.markers else []
        if self.markers:
            self._size.check(message.content for message in english_history(question.messages, known))
        shown = Shown(self._cut(question))
        for event in self._events(question, known, shown, temperature, drawn, left):
            if isinstance(event, PartStart | PromptProgress | Waits):
                yield event
            elif isinstance(event, TextDelta):
                more = shown.take(event) if event.visible else event
                if more.text:
                    yield more
            else:
                role = event.segments[-1].role if event.segments else TEXT
                rest = shown.take(TextDelta(role, event.text.removeprefix(shown.raw), True), last=True)
                if rest.text:
                    yield rest
                decoded = event if isinstance(event, Decoded) else None
                english = event.segments if self.markers and decoded is None and not question.prompts else ()
                self._history.learn(question.messages, shown.text, english)
                drawing = temperature > 0 or (decoded is not None and self.decoder is not None and self.decoder.draws)
                reason = "length" if event.state == "unfinished" and not shown.hit else "stop"
                yield Answer(
                    text=shown.text,
                    finish_reason=reason,
                    segments=_shown(event.segments, shown.cut),
                    state=event.state,
                    failure=event.failure,
                    language=event.lang,
                    timing=event.timing,
                    seed=drawn if drawing else None,
                    turns=sum(message.role == "assistant" for message in question.messages),
                    known=sum(1 for segments in known if segments),
                    route=event.route,
                    decoder=ByDecoder(decoded.decoder, decoded.calls, decoded.outcome) if decoded else None,
                    written=tuple(shown.tokens),
                )

    def _cut(self, question: ChatRequest) -> Cut:
        """Return what says how much of an answer is shown."""
        cut: Cut = StopStrings(question.stop)
        return cut if self._rationales is None else self._rationales.cut(question, cut)

    def _events(
        self,
        question: ChatRequest,
        known: Sequence[Sequence[Segment]],
        shown: Shown,
        temperature: float,
        seed: int,
        left: Callable[[], bool],
    ) -> Iterator[Event]:
        """Begin the stream of the model's own events, or of the decoder's."""
        source = None if self.decoder is None or question.prompts else self.decoder.source(question)

        def of(loaded: AskedModel, route: Route = GRAFT) -> Iterator[Event]:
            writing: MakeWriter = TokenWriter if self._writing is None else self._writing[route]
            if question.prompts:
                return stream_text(
                    loaded,
                    self._prompt_ids(question),
                    self._limited(question).native,
                    temperature=temperature,
                    top_p=question.top_p,
                    seed=seed,
                    enough=lambda: bool(shown.hit),
                    top=question.logprobs,
                    writing=writing,
                )
            if self.decoder is not None and source is not None and route == GRAFT:
                self.decoder.refuse(question)
                if question.logprobs is not None:
                    raise _no_logprobs(self.decoder.name)
                return self.decoder.events(source, self._sampling(question, temperature, seed), left)
            return stream_turn(
                loaded,
                question.messages,
                self.markers,
                known,
                self._limited(question),
                lang=question.language,
                max_tokens=question.max_completion_tokens,
                temperature=temperature,
                top_p=question.top_p,
                seed=seed,
                enough=lambda: bool(shown.hit),
                top=question.logprobs,
                writing=writing,
            )

        if self.router is None:
            yield from of(self._loaded)
            return
        if question.prompts or (source is not None and self.decoder is not None and self.decoder.task != "translation"):
            route = question.route or GRAFT  # a decider knows requests for translations, and there is none here
        else:
            route = self.router.route(question.messages, question.route)
        if route != GRAFT and isinstance(shown.cut, CutTranslation):
            shown.cut.keep_all()
        with nullcontext(self._loaded) if self._writing else self.router.answering(route) as loaded:
            for event in of(loaded, route):
                yield replace(event, route=route) if isinstance(event, Done) else event

    def _prompt_ids(self, question: ChatRequest) -> tuple[int, ...]:
        """Return the tokens of a prompt; control tokens in a text are read as such.

        Raises:
            UsageError: there are none.
        """
        prompt = question.prompt
        if isinstance(prompt, str):
            prompt = tuple(self._loaded.renderer.tokenizer.encode(prompt, add_special_tokens=question.specials))
        if not prompt:
            raise UsageError("prompt: it has no token; give some text to go on with")
        return prompt

    def spelling(self, token: int) -> tuple[str, bytes | None]:
        """Return the text of a token and its bytes; of one that is a part of a character its name, and None."""
        renderer = self._loaded.renderer
        text = renderer.decode([token]) or renderer.decode_all([token])
        if "\ufffd" in text:
            return str(renderer.tokenizer.convert_ids_to_tokens(token)), None
        return text, text.encode("utf-8")


def _no_logprobs(decoder: str) -> ApiError:
    message = f"logprobs: translations are answered here by the decoder {decoder!r}, which has none; leave it out"
    return ApiError(400, message, param="logprobs", code="unsupported_parameter")


def _shown(segments: Sequence[Segment], cut: Cut) -> tuple[Segment, ...]:
    """Return the parts of an answer, a translation without what was written behind it."""
    if not isinstance(cut, CutTranslation):
        return tuple(segments)
    return tuple(replace(one, text=cut.given.strip()) if one.role == TEXT else one for one in segments)
