"""A conversation with a model that others use as well, each in its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from lingraft.conversation.session import ChatOptions, Conversation, StreamedAnswer
from lingraft.conversation.writing import Event
from lingraft.data.records import Message
from lingraft.models.loading import LoadedModel
from lingraft.routing.base import Route
from lingraft.routing.router import Router
from lingraft.translation.markers import Markers


@dataclass(frozen=True)
class Held:
    """What a conversation goes on with.

    Attributes:
        loaded: the model, its graft on.
        markers: of the graft, where it is asked through the chain.
        router: lets the graft answer some turns and its base the others; None where one model answers all.
    """

    loaded: LoadedModel
    markers: Markers | None
    router: Router | None


class Chat:
    """A conversation with an open graft.

    Args:
        hold: waits for the model, which nobody else has while the block runs.
        options: language, limits and sampling, and the system message.

    Raises:
        UsageError: see `OpenGraft.chat`.
    """

    def __init__(self, hold: Callable[[], AbstractContextManager[Held]], options: ChatOptions) -> None:
        self._hold = hold
        with hold() as held:
            self.conversation = Conversation(held.loaded, held.markers, options, router=held.router)

    @property
    def messages(self) -> Sequence[Message]:
        """All turns so far, as the user sees them."""
        return tuple(self.conversation.messages)

    @property
    def languages(self) -> Sequence[str]:
        """Languages it answers in through the translation chain of thought, beside English; none without."""
        return self.conversation.markers.languages if self.conversation.markers else ()

    def ask(self, text: str, to: Route | None = None) -> StreamedAnswer:
        """Return the answer to a turn: its events as it is written; `.text` waits for its end.

        Both are remembered once the answer is complete. `.done.route` says who answered, where a decider chose.

        Args:
            text: of the turn.
            to: "graft" or "base", where the graft was opened with a route; by default the decider chooses.

        Raises:
            UsageError: the chat template refuses the roles, or `to` is given without a route.
            EngineError: the conversation fills the model's context.
        """
        return StreamedAnswer(self._events(text, to))

    def reset(self) -> None:
        """Forget all turns."""
        self.conversation.reset()

    def _events(self, text: str, to: Route | None) -> Iterator[Event]:
        with self._hold() as held:
            self.conversation.loaded, self.conversation.router = held.loaded, held.router
            yield from self.conversation.ask(text, to)
