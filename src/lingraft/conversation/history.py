"""What is remembered of answers through the chain, so that a conversation sent as text alone goes on in English."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from lingraft.conversation.chain import english_history
from lingraft.core.hashing import content_hash
from lingraft.data.records import Message, Segment


class History:
    """Knows answers again by what was asked and answered. It belongs to one thread.

    Args:
        limit: answers remembered, the ones longest unused forgotten first; 0 for all.
        by_turn: where the conversation is not known, the turn alone counts (the user's message and the answer to it).
            Programs shorten long conversations and change system messages. The same answer to the same message may
            have come from another conversation, whose English differs in words.
    """

    def __init__(self, limit: int = 0, *, by_turn: bool = False) -> None:
        self._limit, self._by_turn = limit * (1 + by_turn), by_turn
        self._known: OrderedDict[str, tuple[Segment, ...]] = OrderedDict()

    def learn(self, messages: Sequence[Message], answer: str, segments: Sequence[Segment]) -> None:
        """Remember an answer, as the user sees it, to messages; one without segments leaves nothing to remember.

        Args:
            messages: all before the answer, as the user sees them.
            answer: as the user sees it.
            segments: its parts; () where there is nothing to remember.
        """
        if not segments:
            return
        for key in self._keys([*messages, Message("assistant", answer)])[-1]:
            self._known[key] = tuple(segments)
            self._known.move_to_end(key)
        while self._limit and len(self._known) > self._limit:
            self._known.popitem(last=False)

    def answers(self, messages: Sequence[Message]) -> list[tuple[Segment, ...]]:
        """Return the segments of each assistant message, in order; empty where it is not known."""
        found = []
        for keys in self._keys(messages):
            key = next((key for key in keys if key in self._known), None)
            if key is not None:
                self._known.move_to_end(key)
            found.append(() if key is None else self._known[key])
        return found

    def english(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return a conversation with its known turns in English; see `english_history`."""
        return english_history(messages, self.answers(messages))

    def _keys(self, messages: Sequence[Message]) -> list[list[str]]:
        """Return under which keys each assistant message is remembered, the best first."""
        out, so_far, user = [], "", ""
        for message in messages:
            text = message.content.strip()
            so_far = content_hash([so_far, message.role, text])
            if message.role == "user":
                user = text
            elif message.role == "assistant":
                out.append([so_far, content_hash([user, text])] if self._by_turn else [so_far])
        return out
