"""How far a graft has moved from its base: KL divergence per token on the base's own sampled answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from lingraft.data.records import KL, Generation, Request
from lingraft.engines.slot_cache import layers_for_slots, shared_prefix
from lingraft.engines.slot_decoder import MIN_SHARED
from lingraft.models.loading import LoadedModel
from lingraft.rendering.renderer import Renderer

DIVERGENCE = "divergence:1"
"""Names how the KL divergence is measured; the number grows when the same answers get other values."""


def end_written(generation: Generation) -> int:
    """Return how many end-of-turn tokens a model wrote: 1 or 0. They count, also where nothing else was written."""
    return int(generation.finish_reason == "stop")


def kl_from_base(
    grafted: LoadedModel,
    requests: Sequence[Request],
    answers: Mapping[str, Generation],
    *,
    renderer: Renderer | None = None,
    base_tokens: int | None = None,
    opening: Sequence[int] = (),
    batch_tokens: int = 2048,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, KL]:
    """Return KL(base || graft) of each answer, in nats, summed over its tokens.

    The answers are sampled from the base at temperature 1, and at each position the divergence of the two full
    next-token distributions is taken: the expectation over the next token is exact, only the prefixes are sampled.
    The end-of-turn token counts where the base wrote one.

    Args:
        grafted: a PEFT model on the base (its adapter is switched off for the base's distribution).
        requests: what the base was asked.
        answers: what it wrote, by request id.
        renderer: of the base's tokenizer, by default the graft's.
        base_tokens: size of the base's vocabulary, where that of the graft is larger: what the graft gives to other
            tokens is lost to those of the base.
        opening: ids with which the graft's answers begin and the base's do not, such as the marker of an English one;
            those to requests that are `direct`, such as translations, begin as the base's.
        batch_tokens: padded tokens computed at once.
        progress: called after each batch with the answers and the tokens of answers done so far.
    """
    renderer, device = renderer or grafted.renderer, grafted.device
    rows = []
    for request in requests:
        generation = answers[request.id]
        end = (renderer.end_of_turn_id,) * end_written(generation)
        written = (*generation.token_ids, *end)
        if written:
            prompt = renderer.prompt_ids(request.messages, request.prefill).ids
            rows.append((request.id, prompt, (*prompt, *(() if request.direct else opening)), written))
    if not rows:
        return {}
    rows.sort(key=lambda row: len(row[2]) + len(row[3]))
    widest = len(rows[-1][2]) + len(rows[-1][3])
    model: Any = grafted.model
    prefix: tuple[int, ...] = ()
    if layers_for_slots(model.get_base_model(), widest) and not model.active_peft_config.is_prompt_learning:
        shared = shared_prefix([prompt for _, prompt, _, _ in rows])
        prefix = tuple(rows[0][1][:shared]) if shared >= MIN_SHARED else ()
    tuned = _Reader(model, prefix, renderer.pad_id, device)
    with model.disable_adapter():
        plain = _Reader(model, prefix, renderer.pad_id, device)
    out: dict[str, KL] = {}
    start = 0
    while start < len(rows):
        stop = start + 1
        while stop < len(rows) and (stop + 1 - start) * (len(rows[stop][2]) + len(rows[stop][3])) <= batch_tokens:
            stop += 1
        batch = rows[start:stop]
        with torch.inference_mode():
            of_graft = tuned.next_tokens([(begun, written) for _, _, begun, written in batch])
            with model.disable_adapter():
                of_base = plain.next_tokens([(prompt, written) for _, prompt, _, written in batch])
            for (id_, _, _, written), base, graft in zip(batch, of_base, of_graft, strict=True):
                p = torch.log_softmax(base[:, :base_tokens].float(), dim=-1)
                q = torch.log_softmax(graft.float(), dim=-1)[:, :base_tokens]
                nats = torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True).item()
                out[id_] = KL(max(nats, 0.0), len(written))
        start = stop
        if progress:
            progress(len(out), sum(kl.tokens for kl in out.values()))
    return out


class _Reader:
    """A model that reads prompts with their answers; what all prompts begin with goes through it once.

    Args:
        model: with its adapter on or off, as it is when asked.
        prefix: what all prompts begin with, at least one token less than the shortest; () if nothing is to be shared.
        pad: id that fills rows.
        device: of the model.
    """

    def __init__(self, model: Any, prefix: Sequence[int], pad: int, device: torch.device) -> None:
        self._model, self._pad, self._device = model, pad, device
        self._prefix = len(prefix)
        self._states: list[tuple[torch.Tensor, torch.Tensor]] = []
        if prefix:
            cache: Any = DynamicCache(config=model.config)
            with torch.inference_mode():
                ids = torch.tensor([list(prefix)], device=device)
                model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._states = [(layer.keys, layer.values) for layer in cache.layers]

    def next_tokens(self, batch: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[torch.Tensor]:
        """Return for each (prompt, answer) the logits (answer, vocabulary) that predict the answer's tokens."""
        width = max(len(prompt) + len(written) for prompt, written in batch) - self._prefix
        # Right padding: answers keep their true positions and causal attention never sees the padding.
        ids = torch.full((len(batch), width), self._pad)
        for i, (prompt, written) in enumerate(batch):
            row = [*prompt, *written][self._prefix :]
            ids[i, : len(row)] = torch.tensor(row)
        begins = [len(prompt) - 1 - self._prefix for prompt, _ in batch]
        first = min(begins)
        kept: dict[str, Any] = {"logits_to_keep": torch.arange(first, width - 1, device=self._device)}
        if self._states:
            cache = DynamicCache(config=self._model.config)
            for layer, (keys, values) in enumerate(self._states):
                cache.update(keys.expand(len(batch), -1, -1, -1), values.expand(len(batch), -1, -1, -1), layer)
            kept["past_key_values"] = cache
        logits = self._model(input_ids=ids.to(self._device), use_cache=bool(self._states), **kept).logits
        return [logits[i, begin - first : begin - first + len(batch[i][1])] for i, begin in enumerate(begins)]
