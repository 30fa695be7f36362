"""A key/value cache of slots: rows of different length decode together, rows that end make room for new ones.

Every row begins at position 0 of its slot, so that no row is padded on the left and a prefix that all rows share is
computed once and copied. Buffers are allocated once and written in place; `DynamicCache` copies all keys and values
at every token.

The same buffers serve whoever continues one prefix many times, such as log-likelihoods of several answers.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer, DynamicSlidingWindowLayer
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

GROUPED = "lingraft_grouped"


def grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend as the library's "sdpa" does; for one new token a row, without repeating keys and values for each head.

    The query heads that share a key/value head are laid side by side as if they were positions: one product each with
    keys and values as they are in the cache. The library copies both for every query head, layer and token.

    Args:
        module: the attention layer.
        query: (rows, heads, new tokens, width).
        key: (rows, key/value heads, tokens, width).
        value: (rows, key/value heads, tokens, width).
        attention_mask: None, or (rows, 1, new tokens, tokens), True where a token is seen.
        **kwargs: of the library's function, such as `dropout`, `scaling` and `position_bias`.

    Returns:
        (rows, new tokens, heads, width), and None for the weights.
    """
    rows, heads, new, width = query.shape
    shared_mask = attention_mask is None or attention_mask.shape[1] == 1
    if new > 1 or heads == key.shape[1] or not shared_mask or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    found = scaled_dot_product_attention(
        query.reshape(rows, key.shape[1], -1, width),
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=kwargs.get("dropout", 0.0),
        scale=kwargs.get("scaling"),
    )
    return found.reshape(rows, 1, heads, -1), None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, sdpa_mask)


@contextmanager
def attending_in_groups(model: Any) -> Iterator[None]:
    """Let a model attend with `grouped_attention` where it would use "sdpa"."""
    before = model.config._attn_implementation
    if before != "sdpa" or not model._supports_attention_backend:
        yield
        return
    model.set_attn_implementation(GROUPED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer: (slots, heads, width, head width), written in place.

    Args:
        slots: rows of the buffers, which are allocated at the first update.
        width: tokens that a slot has room for.
    """

    is_sliding = False
    is_croppable = False

    def __init__(self, slots: int, width: int) -> None:
        super().__init__()
        self._slots, self._width = slots, width
        self.rows = slice(0, 0)
        self.start: int | torch.Tensor = 0
        self.seen = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers. Zeros, because what a mask hides must still be finite."""
        self.keys, self.values = self._buffer(key_states), self._buffer(value_states)
        self.is_initialized = True

    def _buffer(self, like: torch.Tensor) -> torch.Tensor:
        shape = (self._slots, like.shape[1], self._width, like.shape[3])
        with torch.inference_mode(False):  # a tensor born in inference mode could not be written outside of it
            return torch.zeros(shape, dtype=like.dtype, device=like.device)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values (rows, heads, new tokens, head width); return those of the rows, old and new."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.seen + key_states.shape[2]
        found = []
        for buffer, new in ((self.keys, key_states), (self.values, value_states)):
            assert buffer is not None
            rows = buffer[self.rows]
            if isinstance(self.start, int):
                rows[:, :, self.start : end] = new
            else:
                rows[torch.arange(len(rows), device=rows.device), :, self.start] = new[:, :, 0]
            found.append(rows[:, :, :end])
        return found[0], found[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return number and offset of the positions that `update` will return."""
        return self.seen + query_length, 0

    def get_seq_length(self) -> int:
        """Return the number of positions before the new tokens: that of the longest row."""
        return self.seen

    def get_max_length(self) -> int:
        """Return the width of the buffers."""
        return self._width

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of a slot to another."""
        for buffer in (self.keys, self.values):
            if buffer is not None:
                buffer[target, :, :length] = buffer[source, :, :length]

    def clear(self, slot: int) -> None:
        """Write zeros into a slot."""
        for buffer in (self.keys, self.values):
            if buffer is not None:
                buffer[slot] = 0

    def share(self, length: int) -> None:
        """Copy the first positions of slot 0 to all others."""
        for buffer in (self.keys, self.values):
            if buffer is not None:
                buffer[1:, :, :length] = buffer[:1, :, :length]

    def resize(self, slots: int, width: int, used: int) -> None:
        """Allocate other buffers and keep the first `used` slots."""
        self._slots, self._width = slots, width
        if self.is_initialized:
            assert self.keys is not None
            assert self.values is not None
            old = (self.keys, self.values)
            self.lazy_initialization(*old)
            for before, after in zip(old, (self.keys, self.values), strict=True):
                kept = min(width, before.shape[2])
                after[:used, :, :kept] = before[:used, :, :kept]


class SlotCache(Cache):
    """Keys and values of all layers; `place` says where the tokens of the next forward pass go.

    Args:
        layers: number of layers.
        slots: rows it has room for.
        width: longest row, in tokens.
    """

    def __init__(self, layers: int, slots: int, width: int) -> None:
        self._slot_layers = [SlotLayer(slots, width) for _ in range(layers)]
        super().__init__(layers=list(self._slot_layers))
        self.slots, self.width = slots, width
        self.shared = 0

    def place(self, rows: slice, start: int | torch.Tensor, seen: int) -> None:
        """Say where the next tokens go.

        Args:
            rows: slots of the batch.
            start: position of the new tokens: the first one's, the same for all rows, or (rows,), of one token each.
            seen: positions before the new tokens that may be seen; of rows that differ, those of the longest.
        """
        for layer in self._slot_layers:
            layer.rows, layer.start, layer.seen = rows, start, seen

    def move(self, source: int, target: int, length: int) -> None:
        """Copy the first positions of a slot to another."""
        for layer in self._slot_layers:
            layer.move(source, target, length)

    def clear(self, slot: int) -> None:
        """Write zeros into a slot."""
        for layer in self._slot_layers:
            layer.clear(slot)

    def share(self, length: int) -> None:
        """Give all slots the first positions of slot 0."""
        self.shared = length
        for layer in self._slot_layers:
            layer.share(length)

    def resize(self, slots: int, width: int, used: int) -> None:
        """Change number and width of the slots, layer by layer; the first `used` ones, and what is shared, are kept.

        Args:
            slots: rows to have room for.
            width: longest row, in tokens.
            used: slots that hold something.
        """
        self.slots, self.width = slots, width
        for layer in self._slot_layers:
            layer.resize(slots, width, max(used, 1))
            layer.share(self.shared)


def shared_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Return how many ids all sequences begin with in common, at least one less than the shortest has."""
    first, last = min(map(tuple, sequences)), max(map(tuple, sequences))  # all others lie between, in lexical order
    limit = min(map(len, sequences)) - 1
    return next((i for i in range(limit) if first[i] != last[i]), max(limit, 0))


def layers_for_slots(model: Any, width: int) -> int:
    """Return the number of layers if slots can hold the model's cache for rows up to `width`, else 0.

    Left out are models with recurrent or compressed states, with keys that layers share, with a sliding window
    narrower than the rows, and those that are not told the positions of tokens.
    """
    accepted = inspect.signature(model.forward).parameters
    # Newer versions of the library call it `cache`, and take the old name as well.
    if "position_ids" not in accepted or not {"past_key_values", "cache"} & set(accepted):
        return 0
    config = model.config.get_text_config(decoder=True)
    if model.config._attn_implementation not in ("sdpa", "eager") or getattr(model, "_is_stateful", False):
        return 0
    layers = DynamicCache(config=model.config).layers
    for layer in layers:
        if type(layer) is DynamicSlidingWindowLayer and layer.sliding_window >= width:
            continue
        if type(layer) is not DynamicLayer:
            return 0
    return len(layers) if len(layers) == config.num_hidden_layers else 0
