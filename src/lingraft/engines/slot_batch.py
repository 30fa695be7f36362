"""Rows that come and go while others are written: a step computes a token for each row that is there.

Where `SlotDecoder` is given all rows at once, here each belongs to somebody who chooses what it goes on with, such as a
client of an endpoint. Prompts are read in pieces between the steps, so that nobody waits for a long one.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from lingraft.core.errors import LingraftError, NotFiniteError
from lingraft.engines.finishing import TopLogprobs
from lingraft.engines.slot_cache import SlotCache, attending_in_groups
from lingraft.engines.slot_decoder import MIN_SHARED, NOT_FINITE, choose, top_logprobs

PIECE = {"cpu": 512, "cuda": 4096}
"""Tokens of prompts that are read between two steps."""
ENOUGH = 128
"""Tokens of prompts that a CPU reads as fast as more of them; single short prompts cost it nearly as much."""
PATIENCE = 4
"""Steps for which shorter ones wait for others, at most: one for every `CROWD` rows that are written meanwhile."""
CROWD = 8
ALIGNED = 8
"""What prompts have in common with a text is taken over in multiples of so many ids, so that those that are read have
come as far as each other."""


@dataclass(frozen=True)
class Written:
    """A token of an answer.

    Attributes:
        id: its number.
        logprob: its log-probability, in nats.
        top: the most probable tokens in its place with theirs, best first.
    """

    id: int
    logprob: float
    top: TopLogprobs = ()


@dataclass(eq=False, kw_only=True)
class BatchRow:
    """A text that is written.

    Attributes:
        ids: prompt and what is accepted so far; whoever owns the row adds to it.
        room: number of ids when it has all it may.
        temperature: 0 for the most probable token.
        top_p: share of the probability that sampled tokens are drawn from.
        draws: the row's own random numbers.
        top: of how many tokens beside the one chosen log-probabilities are noted; None for none at all.
        token: that comes next, once it is computed; the owner takes it away.
        noted: the same with its log-probability.
        error: why there is none.
        read: of `ids`, how many are in the slot.
        slot: where; -1 for nowhere yet.
        owner: of several rows, which take turns with those of others; None: it is on its own.
    """

    ids: list[int]
    room: int
    temperature: float = 0.0
    top_p: float = 1.0
    draws: random.Random = field(default_factory=lambda: random.Random(0))
    top: int | None = None
    token: int | None = None
    noted: Written | None = None
    error: Exception | None = None
    read: int = 0
    slot: int = -1
    owner: object = None

    @property
    def ready(self) -> bool:
        """Whether the next step may compute a token for it."""
        return self.slot >= 0 and self.token is None and self.error is None and self.read == len(self.ids) - 1

    @property
    def unread(self) -> int:
        """How many ids are to be read before a token can be computed."""
        return max(0, len(self.ids) - 1 - self.read) if self.error is None else 0


class SlotBatch:
    """Writes the rows that are there, as many as the limits allow; it belongs to one thread.

    Args:
        model: a causal language model for which `layers_for_slots` is not 0, without PEFT's wrapper.
        layers: that number.
        max_tokens: slots times their width.
        max_rows: slots.
        longest: sequence that the model can hold, in tokens.
        padding: lengths of pieces are multiples of so many tokens, where there is room for it.
        around: what holds while the model computes, such as that a graft is off.
    """

    def __init__(
        self,
        model: Any,
        layers: int,
        *,
        max_tokens: int,
        max_rows: int,
        longest: int,
        padding: int = 1,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._model, self._layers, self._around = model, layers, around
        self._max_tokens, self._max_rows, self._longest, self._padding = max_tokens, max_rows, longest, padding
        self._device = next(model.parameters()).device
        self._piece = PIECE.get(self._device.type, PIECE["cuda"])
        self._waiting: dict[int, deque[BatchRow]] = {}  # by owner, in the order in which they came
        self._rows: list[BatchRow] = []
        self._cache: SlotCache | None = None
        self._held = 0  # steps for which prompts have waited for others

    def add(self, row: BatchRow) -> None:
        """Let a row be written; it waits until there is a slot for it, behind those that wait already.

        Of owners of several rows the one that has fewest in slots is next: however many somebody adds at once, another
        one waits for no more than one of them.
        """
        self._waiting.setdefault(_owner(row), deque()).append(row)

    def remove(self, row: BatchRow) -> None:
        """Give up a row, wherever it is."""
        if row in (mine := self._waiting.get(_owner(row), deque())):
            mine.remove(row)
            if not mine:
                del self._waiting[_owner(row)]
        if row.slot < 0:
            return
        cache, last = self._cache, self._rows.pop()
        assert cache is not None
        if isinstance(row.error, NotFiniteError):
            cache.clear(row.slot)  # a mask hides numbers, but not what is none
        if last is not row:  # it moves into the slot that became free
            cache.move(last.slot, row.slot, last.read)
            if isinstance(row.error, NotFiniteError):
                cache.clear(last.slot)
            self._rows[row.slot], last.slot = last, row.slot
        row.slot = -1
        if not self._rows and not self._waiting:
            self._cache = None  # memory for a crowd is not kept for nobody

    def step(self) -> bool:
        """Read a piece of the prompts that wait for it, and compute the next token of all rows that want one.

        What fails is the `error` of all rows that it was computed for.

        Returns:
            whether there was anything to do.
        """
        try:
            self._admit()
            reading = self._are_due()
            if not reading and not any(row.ready for row in self._rows):
                return False
            with torch.inference_mode(), self._around(), attending_in_groups(self._model):
                if reading:
                    self._read()
                if any(row.ready for row in self._rows):
                    self._write()
        except (LingraftError, RuntimeError, ValueError, IndexError, TypeError, MemoryError) as error:
            for row in self._rows:
                row.error, row.slot = error, -1
            self._rows, self._cache = [], None
        return True

    def _admit(self) -> None:
        """Give slots to those that wait, in their order, as long as there is room."""
        while self._waiting:
            held = Counter(map(_owner, self._rows))
            row = self._waiting[min(self._waiting, key=lambda owner: held[owner])][0]  # the first of equals
            width = max(one.room for one in (row, *self._rows))
            width = max(width, min(width + -width % 64, self._longest))
            count = len(self._rows) + 1
            if self._rows and (count > self._max_rows or count * width > self._max_tokens):
                return
            if self._cache is None:
                self._cache = SlotCache(self._layers, 1, width)
            if count > self._cache.slots or width > self._cache.width:
                most = max(1, min(self._max_rows, self._max_tokens // width))
                slots = count if count <= self._cache.slots else min(most, 2 * count)
                self._cache.resize(max(count, slots), width, len(self._rows))
            mine = self._waiting.pop(_owner(row))
            mine.popleft()
            if mine:  # what its owner has left waits behind all others
                self._waiting[_owner(row)] = mine
            row.slot = len(self._rows)
            self._rows.append(row)

    def _are_due(self) -> bool:
        """Whether prompts are read before the next step: a CPU reads several at once much faster than one after the
        other, so that short ones wait a little for those that come next while many others are written."""
        unread, self._held = sum(row.unread for row in self._rows), self._held + 1
        ready = sum(row.ready for row in self._rows)
        patience = min(PATIENCE, ready // CROWD) if self._device.type == "cpu" else 0
        if unread and unread < ENOUGH and self._held <= patience:
            return False
        self._held = 0
        return unread > 0

    def _read(self) -> None:
        """Compute keys and values of some more of the prompts: about a piece of tokens, those in neighbouring slots
        that have come as far as each other together."""
        spent = at = 0
        while at < len(self._rows) and spent < self._piece:
            first = self._rows[at]
            if not first.read and first.unread:
                self._share(first)
            if not first.unread:
                at += 1
                continue
            group = [first]
            width = self._width(first.unread, first.read)
            for row in self._rows[at + 1 :]:
                if not row.read and row.unread:
                    self._share(row)
                wider = max(width, self._width(row.unread, row.read))
                padded = wider * (len(group) + 1) > self._piece
                if not row.unread or row.read != first.read or padded:
                    break
                group.append(row)
                width = wider
            self._read_together(group, width)
            spent += width * len(group)
            at += len(group)

    def _share(self, row: BatchRow) -> None:
        """Copy what the prompt of a row has in common with a text that is in a slot already, such as the beginning that
        the chat template gives all."""
        most, best = MIN_SHARED - 1, None
        for other in self._rows:
            if other is not row and other.error is None and other.read > most:
                common = _common(other.ids, row.ids, min(other.read, len(row.ids) - 1))
                if common > most:
                    most, best = common, other
        most -= most % ALIGNED
        if best is not None and self._cache is not None and most:
            self._cache.move(best.slot, row.slot, most)
            row.read = most

    def _width(self, unread: int, begin: int) -> int:
        assert self._cache is not None
        width = min(unread, self._piece)
        return min(width + -width % self._padding, self._cache.width - begin)

    def _read_together(self, rows: Sequence[BatchRow], width: int) -> None:
        """Read up to `width` tokens of rows in neighbouring slots, all as far as the first."""
        cache, begin = self._cache, rows[0].read
        assert cache is not None
        parts = [row.ids[begin : begin + min(row.unread, width)] for row in rows]
        # Padded on the right: what follows a part sees it but is not seen by it, and is overwritten by what comes.
        ids = torch.tensor([[*part, *[part[-1]] * (width - len(part))] for part in parts], device=self._device)
        positions = torch.arange(begin, begin + width, device=self._device)[None].expand(len(rows), -1)
        cache.place(slice(rows[0].slot, rows[0].slot + len(rows)), begin, begin)
        self._model.get_decoder()(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)
        for row, part in zip(rows, parts, strict=True):
            row.read += len(part)

    def _write(self) -> None:
        """Compute the next token of all rows that are ready. The others are computed in vain: what that writes into
        their slots is overwritten."""
        cache, rows, device = self._cache, self._rows, self._device
        assert cache is not None
        at = torch.tensor([min(row.read, len(row.ids) - 1) for row in rows], device=device)
        width = int(at.max()) + 1
        cache.place(slice(0, len(rows)), at, width - 1)
        logits = self._model(
            input_ids=torch.tensor([[row.ids[min(row.read, len(row.ids) - 1)]] for row in rows], device=device),
            attention_mask=(torch.arange(width, device=device) <= at[:, None]).long(),
            position_ids=at[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        finite = torch.isfinite(logits.float().amax(dim=-1)).tolist()
        kinds: dict[tuple[float, float], list[BatchRow]] = {}
        for row in rows:
            if not row.ready:
                continue
            row.read += 1
            if finite[row.slot]:
                kinds.setdefault((row.temperature, row.top_p), []).append(row)
            else:
                row.error = NotFiniteError(NOT_FINITE)
        for (temperature, top_p), group in kinds.items():
            own = logits if len(group) == len(rows) else logits[[row.slot for row in group]]
            draws = [row.draws.random() for row in group] if temperature > 0 else []
            for row, token in zip(group, choose(own, temperature, top_p, draws).tolist(), strict=True):
                row.token = token
                row.noted = None if row.top is None else noted(logits[row.slot], token, row.top)


def _owner(row: BatchRow) -> int:
    """Return whose a row is: that of its owner, or its own."""
    return id(row if row.owner is None else row.owner)


def _common(one: Sequence[int], other: Sequence[int], most: int) -> int:
    """Return how many ids two texts begin with in common, at most so many."""
    return next((place for place in range(most) if one[place] != other[place]), most)


def noted(logits: torch.Tensor, token: int, top: int) -> Written:
    """Return a token with its log-probability.

    Args:
        logits: of its place, (vocabulary,).
        token: that was chosen.
        top: of how many of the most probable ones theirs are returned beside it.
    """
    chosen = torch.log_softmax(logits.float(), dim=-1)[token]
    best = top_logprobs(logits[None], min(top, logits.shape[-1]))[0] if top else ()
    return Written(token, round(float(chosen), 4), best)
