"""What a base makes of a prompt: the mean of its final layer's states over the last turn."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from lingraft.data.records import Message, Request
from lingraft.engines.slot_cache import layers_for_slots, shared_prefix
from lingraft.engines.slot_decoder import MIN_SHARED
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer

STATES = "states:1"
"""Names how prompts become vectors; the number grows when the same prompts get others."""
MOST_READ = 1024
"""Tokens of a prompt that are read: of longer ones the first and the last half of as many."""
BATCH_TOKENS = 4096
_OTHER = "\u2026"


def last_turn(renderer: Renderer, request: Request) -> tuple[list[int], int]:
    """Return the ids of a prompt, at most `MOST_READ`, and where its last turn begins: what comes before is the context
    in which that is read. Where the turns cannot be told apart, all of it counts.

    Args:
        renderer: of the base's prompts.
        request: with messages, or `prompt_ids`.
    """
    if request.prompt_ids:
        return _cut(list(request.prompt_ids), 0)
    ids = list(renderer.prompt_ids(request.messages).ids)
    other = renderer.prompt_ids((*request.messages[:-1], Message("user", _OTHER))).ids
    alike = next((i for i, (one, two) in enumerate(zip(ids, other, strict=False)) if one != two), 0)
    return _cut(ids, min(alike, len(ids) - 1))


def _cut(ids: list[int], begin: int) -> tuple[list[int], int]:
    if len(ids) <= MOST_READ:
        return ids, begin
    half = MOST_READ // 2
    gone = len(ids) - MOST_READ
    return [*ids[:half], *ids[-half:]], begin if begin < half else max(half, begin - gone)


def prompt_states(loaded: LoadedModel, requests: Sequence[Request]) -> np.ndarray:
    """Return the mean state of each prompt's last turn, float32 (n, hidden size).

    Args:
        loaded: the base, or a graft on it, which is switched off meanwhile.
        requests: with messages or `prompt_ids`.

    Raises:
        UsageError: the chat template refuses the roles.
        DataError: a message that cannot be told from control tokens.
    """
    from peft import PeftModel

    model: Any = loaded.model
    wrapped = isinstance(model, PeftModel)
    inner = model.get_base_model() if wrapped else model
    prompts = [last_turn(loaded.renderer, request) for request in requests]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i][0]), i))
    found = np.zeros((len(prompts), int(loaded.model.config.get_text_config().hidden_size)), np.float32)
    with torch.inference_mode(), model.disable_adapter() if wrapped else nullcontext():
        reader = _Reader(inner, [ids for ids, _ in prompts], loaded.renderer.pad_id, loaded.device)
        while order:
            longest = len(prompts[order[-1]][0])
            batch = order[-max(1, BATCH_TOKENS // longest) :]
            del order[-len(batch) :]
            states = reader.states([prompts[i][0] for i in batch])
            for row, i in enumerate(batch):
                ids, begin = prompts[i]
                own = states[row, max(0, begin - reader.shared) : len(ids) - reader.shared]
                found[i] = own.float().mean(0).cpu().numpy()
    return found


class _Reader:
    """A base that reads prompts; what all of them begin with goes through it once, where its layers allow that.

    Args:
        model: the base, without an adapter or with it switched off.
        prompts: ids of all that will be read.
        pad: id that fills rows.
        device: of the model.

    Attributes:
        shared: ids that all prompts begin with, and of which no state is given.
    """

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad: int, device: torch.device) -> None:
        self._decoder, self._config, self._pad, self._device = model.get_decoder(), model.config, pad, device
        self.shared, self._kept = 0, list[tuple[torch.Tensor, torch.Tensor]]()
        shared = shared_prefix([tuple(ids) for ids in prompts]) if len(prompts) > 1 else 0
        if shared >= MIN_SHARED and layers_for_slots(model, max(map(len, prompts))):
            cache: Any = DynamicCache(config=self._config)
            ids = torch.tensor([list(prompts[0][:shared])], device=device)
            self._decoder(input_ids=ids, past_key_values=cache, use_cache=True)
            self.shared, self._kept = shared, [(layer.keys, layer.values) for layer in cache.layers]

    def states(self, batch: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return the states (rows, longest - shared, hidden size) behind what is shared."""
        width = max(map(len, batch)) - self.shared
        # Padding on the right: what comes later is not seen.
        ids = torch.full((len(batch), width), self._pad)
        for row, own in enumerate(batch):
            ids[row, : len(own) - self.shared] = torch.tensor(own[self.shared :])
        kept: dict[str, Any] = {}
        if self.shared:
            cache = DynamicCache(config=self._config)
            for layer, (keys, values) in enumerate(self._kept):
                cache.update(keys.expand(len(batch), -1, -1, -1), values.expand(len(batch), -1, -1, -1), layer)
            kept["past_key_values"] = cache
        found: torch.Tensor = self._decoder(
            input_ids=ids.to(self._device), use_cache=bool(self.shared), **kept
        ).last_hidden_state
        return found
