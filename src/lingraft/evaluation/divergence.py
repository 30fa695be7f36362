"""How far a graft has moved from its base: KL divergence per token on the base's own sampled answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from lingraft.chat import Renderer
from lingraft.data.records import Generation, Request
from lingraft.evaluation.suite import KL
from lingraft.models import LoadedModel


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
        requests: what the base was asked. answers: what it wrote, by request id.
        renderer: of the base's tokenizer, by default the graft's.
        base_tokens: size of the base's vocabulary, where that of the graft is larger: what the graft gives to other
            tokens is lost to those of the base.
        opening: ids with which the graft's answers begin and the base's do not, such as the marker of an English one.
        batch_tokens: padded tokens computed at once.
    """
    renderer, device = renderer or grafted.renderer, grafted.device
    rows = []
    for request in requests:
        generation = answers[request.id]
        end = (renderer.end_of_turn_id,) if generation.finish_reason == "stop" else ()
        written = (*generation.token_ids, *end)
        if written:
            rows.append((request.id, renderer.prompt_ids(request.messages, request.prefill).ids, written))
    rows.sort(key=lambda row: len(row[1]) + len(row[2]))
    model: Any = grafted.model
    out: dict[str, KL] = {}
    start = 0
    while start < len(rows):
        stop = start + 1
        while stop < len(rows) and (stop + 1 - start) * (len(rows[stop][1]) + len(rows[stop][2])) <= batch_tokens:
            stop += 1
        batch = rows[start:stop]
        opened = [((*prompt, *opening), written) for _, prompt, written in batch]
        with torch.inference_mode():
            of_graft = _next_tokens(model, opened, renderer.pad_id, device)
            with model.disable_adapter():
                of_base = _next_tokens(model, [row[1:] for row in batch], renderer.pad_id, device)
            for (id_, _, written), base, tuned in zip(batch, of_base, of_graft, strict=True):
                p = torch.log_softmax(base[:, :base_tokens].float(), dim=-1)
                q = torch.log_softmax(tuned.float(), dim=-1)[:, :base_tokens]
                nats = torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True).item()
                out[id_] = KL(max(nats, 0.0), len(written))
        start = stop
        if progress:
            progress(len(out), sum(kl.tokens for kl in out.values()))
    return out


def _next_tokens(
    model: Any, batch: Sequence[tuple[Sequence[int], Sequence[int]]], pad: int, device: torch.device
) -> list[torch.Tensor]:
    """Return for each (prompt, answer) the logits (answer, vocabulary) that predict the answer's tokens."""
    width = max(len(prompt) + len(written) for prompt, written in batch)
    # Right padding: answers keep their true positions and causal attention never sees the padding.
    ids = torch.full((len(batch), width), pad)
    for i, (prompt, written) in enumerate(batch):
        ids[i, : len(prompt) + len(written)] = torch.tensor([*prompt, *written])
    first = min(len(prompt) for prompt, _ in batch) - 1
    positions = torch.arange(first, width - 1, device=device)
    logits = model(input_ids=ids.to(device), logits_to_keep=positions, use_cache=False).logits
    begins = [len(prompt) - 1 - first for prompt, _ in batch]
    return [logits[i, begin : begin + len(batch[i][1])] for i, begin in enumerate(begins)]
