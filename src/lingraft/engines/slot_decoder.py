"""Writing token by token in slots: rows that end are replaced by waiting ones, so that no step computes a row in vain.

Prompts go through the model once, without logits; their last token is the first that the loop feeds, so that every
token is chosen in one place.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lingraft.core.errors import NotFiniteError
from lingraft.core.hashing import seed_of
from lingraft.data.records import Request
from lingraft.engines.finishing import TopLogprobs
from lingraft.engines.slot_cache import SlotCache, attending_in_groups, shared_prefix
from lingraft.rendering.renderer import PromptIds

MIN_TEMPERATURE = 1e-4
"""Below it, sampling is the choice of the best: the second best of nearly equal ones is next to impossible."""
MIN_SHARED = 8
"""Shorter prefixes are not worth a forward pass of their own."""
REFILL_SHARE = 8
"""Waiting rows are taken in when one slot in this many is free: prompts are computed together, few slots lie idle."""

NOT_FINITE = (
    "the model computes numbers that are none (NaN or infinite), so that no token can be chosen; its weights, or those "
    "of its graft, are damaged or overflow: copy them anew, or compute in float32"
)

PREFILL_TOKENS = {"cpu": 256, "cuda": 4096}
"""Prompts computed together have at least so many tokens, if there are so many: fewer leave the device idle."""
PREFILL_PADDING = 0.1
"""Beyond that, prompts are computed together only with those at most this share shorter, which are padded."""


@dataclass
class SlotRow:
    """A request on its way: its prompt and what it has written so far.

    Attributes:
        tokens: written, with the one that ended it.
        logprobs: of each, the best ids with log-probabilities, if asked.
    """

    request: Request
    prompt: PromptIds
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TopLogprobs] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draws = random.Random(seed_of([self.request.sampling.seed, self.request.id]))

    @property
    def length(self) -> int:
        """Number of tokens so far, the prompt's included."""
        return len(self.prompt.ids) + len(self.tokens)

    @property
    def last(self) -> int:
        """The last token so far."""
        return self.tokens[-1] if self.tokens else self.prompt.ids[-1]

    @property
    def room(self) -> int:
        """Number of tokens when it has written all it may."""
        return len(self.prompt.ids) + self.request.sampling.max_new_tokens

    def draw(self) -> float:
        """Return the next of the row's own random numbers in [0, 1): they depend on its id and seed alone."""
        return self.draws.random()


def choose(logits: torch.Tensor, temperature: float, top_p: float, draws: Sequence[float]) -> torch.Tensor:
    """Return a token for each row: the best, or one drawn from the smallest set of tokens that holds `top_p`.

    Args:
        logits: (rows, vocabulary).
        temperature: 0 for the best; so is what is hardly more, where quotients would overflow.
        top_p: share of the probability that the tokens drawn from hold, from 0 (the best alone) to 1 (all).
        draws: a number in [0, 1) for each row: where the token lies in the cumulative distribution.

    Raises:
        NotFiniteError: a row's best number is none (NaN), or infinite.
    """
    logits = logits.float()  # in bfloat16 the search itself is four times slower on a CPU
    best, at = logits.max(dim=-1)  # NaN where there is one
    if not torch.isfinite(best).all():
        raise NotFiniteError(NOT_FINITE)
    if temperature < MIN_TEMPERATURE:
        return at
    share = torch.softmax((logits - best[:, None]) / temperature, dim=-1).double()
    order = None
    if top_p < 1:
        share, order = share.sort(dim=-1, descending=True, stable=True)
        share = share.masked_fill(share.cumsum(dim=-1) - share >= top_p, 0.0)
        share[:, 0] += 1e-300  # a top_p of 0 keeps the best
    total = share.cumsum(dim=-1)
    wanted = torch.tensor(draws, dtype=total.dtype, device=total.device)[:, None] * total[:, -1:]
    found = torch.searchsorted(total, wanted, right=True).clamp(max=total.shape[-1] - 1)
    return (found if order is None else order.gather(-1, found))[:, 0]


def top_logprobs(logits: torch.Tensor, count: int) -> list[TopLogprobs]:
    """Return per row of `logits` (rows, vocabulary) the best ids with their log-probabilities, best first."""
    best = torch.log_softmax(logits.float(), dim=-1).topk(count, dim=-1)
    return [
        tuple((id_, round(value, 4)) for id_, value in zip(ids, values, strict=True))
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def alike(rows: Sequence[SlotRow], enough: int) -> Iterator[list[SlotRow]]:
    """Split rows into batches of prompts of like length, longest first.

    Args:
        rows: with their prompts.
        enough: tokens, padding included, up to which a batch grows whatever the lengths.
    """
    batch: list[SlotRow] = []
    for row in sorted(rows, key=lambda row: -len(row.prompt.ids)):
        longest = len(batch[0].prompt.ids) if batch else 0
        if batch and len(batch) * longest >= enough and len(row.prompt.ids) < (1 - PREFILL_PADDING) * longest:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


class SlotDecoder:
    """Lets rows write until they end, as many at once as the limits allow.

    Args:
        model: a causal language model for which `layers_for_slots` is not 0, with or without a PEFT adapter.
        layers: that number.
        max_tokens: slots times their width.
        max_rows: slots.
        ended: tells after each token whether a row has ended.
        padding: lengths of prompts are multiples of so many tokens, as far as that does not pass `longest`.
        longest: sequence that the model can hold, in tokens.
    """

    def __init__(
        self,
        model: Any,
        layers: int,
        *,
        max_tokens: int,
        max_rows: int,
        ended: Callable[[SlotRow], bool],
        padding: int = 1,
        longest: int = 1 << 30,
    ) -> None:
        self._model = model
        self._layers = layers
        self._max_tokens, self._max_rows = max_tokens, max_rows
        self._ended, self._padding, self._longest = ended, padding, longest
        self._device = next(model.parameters()).device

    def run(self, rows: Sequence[SlotRow]) -> Iterator[SlotRow]:
        """Yield the rows as they end, longest first taken in.

        They must agree in temperature, top-p and number of recorded log-probabilities.
        """
        waiting = sorted(rows, key=lambda row: (row.room, row.length, row.request.id))  # the longest are popped first
        active: list[SlotRow] = []
        with attending_in_groups(self._model):
            cache = SlotCache(self._layers, *self._shape([], waiting))
            prefix = shared_prefix([row.prompt.ids for row in rows]) if len(rows) > 1 else 0
            if prefix >= MIN_SHARED:
                self._prefill(cache, waiting[-1:], 0, slice(0, prefix))
                cache.share(prefix)
            while waiting or active:
                slots, width = self._shape(active, waiting)
                if slots >= 2 * cache.slots:  # the rows left are so much shorter that more of them fit
                    cache.resize(slots, width, len(active))
                free = cache.slots - len(active)
                if waiting and free >= max(1, cache.slots // REFILL_SHARE):
                    fresh = [waiting.pop() for _ in range(min(free, len(waiting)))]
                    for batch in alike(fresh, PREFILL_TOKENS.get(self._device.type, PREFILL_TOKENS["cuda"])):
                        self._prefill(cache, batch, len(active), slice(cache.shared, -1))
                        active += batch
                self._step(cache, active)
                for index in reversed(range(len(active))):
                    row = active[index]
                    if self._ended(row):
                        last = active.pop()
                        if last is not row:  # it moves into the slot that became free
                            cache.move(len(active), index, last.length - 1)
                            active[index] = last
                        yield row

    def _shape(self, active: Sequence[SlotRow], waiting: Sequence[SlotRow]) -> tuple[int, int]:
        """Return number and width of the slots that the rows at hand and the next one need."""
        width = max(row.room for row in [*active, *waiting[-1:]])
        width = max(width, min(width + self._padding - 1, self._longest))
        fit = max(1, min(self._max_rows, self._max_tokens // width))
        return min(fit, len(active) + len(waiting)), width

    @torch.inference_mode()
    def _prefill(self, cache: SlotCache, rows: Sequence[SlotRow], first: int, part: slice) -> None:
        """Compute keys and values of a part of the rows' prompts, into slots from `first` on."""
        parts = [row.prompt.ids[part] for row in rows]
        begin, width = part.start, max(map(len, parts))
        if width == 0:
            return
        width = min(width + -width % self._padding, cache.width - begin)
        # Padded on the right: what follows a prompt sees it but is not seen by it, and is overwritten by the answer.
        ids = torch.tensor([[*ids, *[0] * (width - len(ids))] for ids in parts], device=self._device)
        positions = torch.arange(begin, begin + width, device=self._device)[None].expand(len(rows), -1)
        cache.place(slice(first, first + len(rows)), begin, begin)
        self._model.get_decoder()(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True)

    @torch.inference_mode()
    def _step(self, cache: SlotCache, rows: Sequence[SlotRow]) -> None:
        """Add a token to each row; slot i is that of row i."""
        sampling, top = rows[0].request.sampling, rows[0].request.top_logprobs
        device = self._device
        at = torch.tensor([row.length - 1 for row in rows], device=device)
        width = max(row.length for row in rows)
        cache.place(slice(0, len(rows)), at, width - 1)
        logits = self._model(
            input_ids=torch.tensor([[row.last] for row in rows], device=device),
            attention_mask=(torch.arange(width, device=device) <= at[:, None]).long(),
            position_ids=at[:, None],
            past_key_values=cache,
            use_cache=True,
        ).logits[:, -1]
        draws = [row.draw() for row in rows] if sampling.temperature > 0 else []
        tokens = choose(logits, sampling.temperature, sampling.top_p, draws).tolist()
        for row, token in zip(rows, tokens, strict=True):
            row.tokens.append(token)
        if top:
            for row, best in zip(rows, top_logprobs(logits, top), strict=True):
                row.logprobs.append(best)
