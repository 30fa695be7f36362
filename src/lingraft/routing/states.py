"""What a base is about to do with a prompt: its states at the prompt's last token, in the upper layers.

There, where the answer begins, a chat model has gathered what it is asked for (task vectors: Hendel et al. 2023, arXiv
2310.15916; Todd et al. 2024, arXiv 2310.15213); a mean over the text rather says what it is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from lingraft.data.records import Request
from lingraft.engines.slot_cache import layers_for_slots, shared_prefix
from lingraft.engines.slot_decoder import MIN_SHARED
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer

STATES = "states:2"
"""Names how prompts become vectors; the number grows when the same prompts get others."""
DEPTHS = (0.6, 0.75, 0.9)
"""Shares of the layers behind which the states are taken."""
MOST_READ = 1024
"""Tokens of a prompt that are read: of longer ones the first and the last half of as many."""
BATCH_TOKENS = 2048


def read_ids(renderer: Renderer, request: Request) -> list[int]:
    """Return the ids of a prompt, at most `MOST_READ`.

    Args:
        renderer: of the base's prompts.
        request: with messages, or `prompt_ids`.
    """
    ids = list(request.prompt_ids or renderer.prompt_ids(request.messages).ids)
    half = MOST_READ // 2
    return ids if len(ids) <= MOST_READ else [*ids[:half], *ids[-half:]]


def layers_read(layers: int) -> list[int]:
    """Return behind which of a model's layers states are taken."""
    return [max(1, min(layers, round(depth * layers))) for depth in DEPTHS]


def prompt_states(loaded: LoadedModel, requests: Sequence[Request]) -> np.ndarray:
    """Return the states at each prompt's last token, float32 (n, depths times hidden size).

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
    prompts = [read_ids(loaded.renderer, request) for request in requests]
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), i))
    found = list[np.ndarray](np.zeros(0, np.float32) for _ in prompts)
    with torch.inference_mode(), model.disable_adapter() if wrapped else nullcontext():
        reader = _Reader(inner, prompts, loaded.renderer.pad_id, loaded.device)
        while order:
            longest = len(prompts[order[-1]])
            batch = order[-max(1, BATCH_TOKENS // longest) :]
            del order[-len(batch) :]
            states = reader.states([prompts[i] for i in batch]).float().cpu().numpy()
            for i, own in zip(batch, states, strict=True):
                found[i] = own
    width = len(DEPTHS) * int(loaded.model.config.get_text_config().hidden_size)
    return np.stack(found) if found else np.zeros((0, width), np.float32)


class _Reader:
    """A base that reads prompts; what all of them begin with goes through it once, where its layers allow that.

    Args:
        model: the base, without an adapter or with it switched off.
        prompts: ids of all that will be read.
        pad: id that fills rows.
        device: of the model.

    Attributes:
        shared: ids that all prompts begin with; at least one of each is left.
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
        """Return the states at the last ids (rows, depths times hidden size)."""
        width = max(map(len, batch)) - self.shared
        # Padding on the right: what comes later is not seen.
        ids = torch.full((len(batch), width), self._pad)
        for number, own in enumerate(batch):
            ids[number, : len(own) - self.shared] = torch.tensor(own[self.shared :])
        kept: dict[str, Any] = {}
        if self.shared:
            cache = DynamicCache(config=self._config)
            for layer, (keys, values) in enumerate(self._kept):
                cache.update(keys.expand(len(batch), -1, -1, -1), values.expand(len(batch), -1, -1, -1), layer)
            kept["past_key_values"] = cache
        layers = self._decoder(
            input_ids=ids.to(self._device), use_cache=bool(self.shared), output_hidden_states=True, **kept
        ).hidden_states
        row = torch.arange(len(batch), device=self._device)
        last = torch.tensor([len(own) - 1 - self.shared for own in batch], device=self._device)
        read = [layers[place] for place in layers_read(len(layers) - 1)]
        # Of several streams (AltUp of Gemma 3n) the first is the one that predicts.
        return torch.cat([(states if states.dim() == 3 else states[0])[row, last] for states in read], -1)
