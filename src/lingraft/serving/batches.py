"""Answers that one model in memory writes side by side: a batch for each of the systems that it answers as."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from peft import PeftModel

from lingraft.conversation.text_pieces import TextStream
from lingraft.conversation.writing import PADDING, PromptProgress, Waits, room_behind
from lingraft.core.hashing import seed_of
from lingraft.engines.slot_batch import BatchRow, SlotBatch, Written
from lingraft.engines.slot_cache import layers_for_slots
from lingraft.models.architectures import context_length
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer
from lingraft.serving.size import MOST_WITHOUT_LIMIT

ROWS, TOKENS = 32, 24_576
"""Answers that are written at once, and the tokens of all of them, padding and what is still to be written included."""


class SlotWriter:
    """Writes an answer in a batch; see `lingraft.conversation.writing.Writer`.

    Args:
        batch: computes.
        row: of the answer.
        room: tokens that may be written.
        renderer: of the tokens.
    """

    def __init__(self, batch: SlotBatch, row: BatchRow, room: int, renderer: Renderer) -> None:
        self._batch, self._row, self._renderer = batch, row, renderer
        self.room = room
        self.noted: Written | None = None
        batch.add(row)

    def read(self) -> Iterator[PromptProgress | Waits]:
        """Wait for a slot, and until the prompt is read."""
        while self._row.error is None and (self._row.slot < 0 or self._row.unread):
            yield Waits()

    def next(self) -> Generator[Waits, None, int]:
        """Return the token that comes next, and wait for it.

        Raises:
            NotFiniteError: the model computes what is no number.
        """
        row = self._row
        while row.token is None:
            if row.error is not None:
                raise row.error
            yield Waits()
        token, row.token = row.token, None
        self.noted = row.noted
        return token

    def accept(self, token: int) -> None:
        """Go on behind a token."""
        self._row.ids.append(token)
        self.room -= 1

    def text(self, behind: Sequence[int] | None = None) -> TextStream:
        """Return what makes text of the tokens."""
        return TextStream(self._renderer, behind)

    def close(self) -> None:
        """Give up the slot."""
        self._batch.remove(self._row)


class SlotWriting:
    """Begins to write in a batch; see `lingraft.conversation.writing.MakeWriter`.

    Attributes:
        batch: computes.
    """

    def __init__(self, batch: SlotBatch) -> None:
        self.batch = batch

    def __call__(
        self,
        loaded: LoadedModel,
        prompt: Sequence[int],
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        seed: int = 0,
        most: int | None = None,
        top: int | None = None,
    ) -> SlotWriter:
        """Return the writer.

        Raises:
            EngineError: the prompt fills the context.
        """
        room = room_behind(loaded, prompt, most)
        row = BatchRow(
            ids=list(prompt),
            room=len(prompt) + room,
            temperature=temperature,
            top_p=top_p,
            draws=random.Random(seed_of([seed, list(prompt)])),
            top=top,
        )
        return SlotWriter(self.batch, row, room, loaded.renderer)


class Batches:
    """All batches of a model, which takes a step of each in turn; it belongs to one thread.

    Args:
        rows: answers written at once, in each.
        tokens: of all of them.
    """

    def __init__(self, rows: int = ROWS, tokens: int = TOKENS) -> None:
        self._rows, self._tokens = rows, tokens
        self._batches: list[SlotBatch] = []

    def step(self) -> bool:
        """Compute for all that wait; return whether there was anything to do."""
        return sum(batch.step() for batch in self._batches) > 0

    def writing(
        self, loaded: LoadedModel, around: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> SlotWriting:
        """Return what begins to write in a batch of its own.

        Args:
            loaded: the model, for which `can_batch` holds.
            around: what holds while it computes for this batch.
        """
        inner, longest = inner_model(loaded), _longest(loaded)
        batch = SlotBatch(
            inner,
            layers_for_slots(inner, longest),
            max_tokens=self._tokens,
            max_rows=self._rows,
            longest=longest,
            padding=PADDING if next(inner.parameters()).device.type == "cuda" else PADDING // 4,
            around=around,
        )
        self._batches.append(batch)
        return SlotWriting(batch)


def can_batch(loaded: LoadedModel) -> bool:
    """Whether slots can hold what a model keeps of its texts; those with a state, a narrow window, or prompts learnt as
    vectors answer one after the other."""
    model: Any = loaded.model
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        return False
    return layers_for_slots(inner_model(loaded), _longest(loaded)) > 0


def inner_model(loaded: LoadedModel) -> Any:
    """Return the model without its adapter's wrapping; adapters sit inside the layers."""
    model: Any = loaded.model
    return model.get_base_model() if isinstance(model, PeftModel) else model


def _longest(loaded: LoadedModel) -> int:
    return context_length(loaded.model.config) or MOST_WITHOUT_LIMIT
