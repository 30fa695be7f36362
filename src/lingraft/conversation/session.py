"""A chat with one user: its turns, options and language."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lingraft.conversation.answer_language import check_language
from lingraft.conversation.chain import Caps
from lingraft.conversation.stream import stream_turn
from lingraft.conversation.writing import Done, Event
from lingraft.core.errors import UsageError
from lingraft.data.records import Message, Segment
from lingraft.models.loading import LoadedModel
from lingraft.routing.base import Route
from lingraft.routing.router import Router
from lingraft.translation.markers import Markers


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """How to answer (`language` to `system`) and how to show it."""

    language: str = ""
    show_chain: bool = False
    caps: Caps = field(default_factory=Caps)
    temperature: float = 0.0
    seed: int = 0
    system: str = ""
    as_json: bool = False
    stats: bool = False


@dataclass
class Conversation:
    """A conversation with a model, through the chain where it has markers.

    Args:
        loaded: the model, its graft on.
        markers: of the graft; None for a conversation without chain.
        options: language, limits and sampling, and the system message.
        router: lets the graft answer some turns and its base the others; None where one model answers all.

    Raises:
        UsageError: a language is asked for that the graft does not answer in, or a system message is given that the
            chat template does not take.

    Attributes:
        messages: so far, as the user sees them.
        answers: segments of the model's.
    """

    loaded: LoadedModel
    markers: Markers | None
    options: ChatOptions
    messages: list[Message] = field(default_factory=list)
    answers: list[tuple[Segment, ...]] = field(default_factory=list)
    router: Router | None = None

    def __post_init__(self) -> None:
        if self.markers is not None:
            check_language(self.options.language, self.markers)
        elif self.options.language:
            raise UsageError("--language is for grafts with a translation chain of thought; leave it out")
        self.reset()
        self.loaded.renderer.template.check([*self.messages, Message("user", "?")])

    def reset(self) -> None:
        """Forget all turns."""
        self.messages = [Message("system", self.options.system)] if self.options.system else []
        self.answers = []

    def ask(self, text: str, to: Route | None = None) -> Iterator[Event]:
        """Yield the events of the answer to a turn; both are remembered once it is complete.

        Args:
            text: of the turn.
            to: who is to answer it; by default the decider's choice, where there is one.

        Raises:
            UsageError: the chat template refuses the roles, or `to` is given and one model answers all.
            EngineError: the conversation fills the model's context.
        """
        asked = [*self.messages, Message("user", text)]
        for event in self._events(asked, to):
            if isinstance(event, Done):
                self.messages = [*asked, Message("assistant", event.text)]
                self.answers.append(event.segments)
            yield event

    def _events(self, asked: list[Message], to: Route | None) -> Iterator[Event]:
        if self.router is None:
            if to is not None:
                raise UsageError("who answers can be chosen where a graft is routed to; open it with a route")
            yield from self._turn(self.loaded, asked)
            return
        route = self.router.route(asked, to)
        with self.router.answering(route) as loaded:
            for event in self._turn(loaded, asked):
                yield replace(event, route=route) if isinstance(event, Done) else event

    def _turn(self, loaded: LoadedModel, asked: list[Message]) -> Iterator[Event]:
        options = self.options
        return stream_turn(
            loaded,
            asked,
            self.markers,
            self.answers,
            options.caps,
            lang=options.language,
            temperature=options.temperature,
            seed=options.seed,
        )


class StreamedAnswer(Iterator[Event]):
    """The events of one answer. An answer that is left before its end is forgotten."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._done: Done | None = None

    def __iter__(self) -> StreamedAnswer:
        return self

    def __next__(self) -> Event:
        event = next(self._events)
        if isinstance(event, Done):
            self._done = event
        return event

    @property
    def done(self) -> Done:
        """The last event, with text, segments, times and what failed; what is not written yet is waited for."""
        for _ in self:
            pass
        assert self._done is not None, "the last event of an answer"
        return self._done

    @property
    def text(self) -> str:
        """The whole answer, as the user is to see it."""
        return self.done.text

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Its parts: one, or those of the translation chain of thought."""
        return self.done.segments
