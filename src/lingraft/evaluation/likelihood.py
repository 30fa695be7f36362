"""Log-likelihoods of continuations, for multiple choice and perplexity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from lingraft.errors import DataError
from lingraft.evaluation.suite import Continuation, Likelihood
from lingraft.models import LoadedModel


def log_likelihoods(
    loaded: LoadedModel,
    wanted: Sequence[Continuation],
    *,
    batch_tokens: int = 4096,
    progress: Callable[[int], None] | None = None,
) -> list[Likelihood]:
    """Return the log-likelihood of each continuation after its context, in the order given.

    Args:
        loaded: the base, or a PEFT model on it.
        wanted: contexts and continuations as token ids.
        batch_tokens: padded tokens computed at once.
        progress: is told how many are done.

    Raises:
        DataError: a continuation or its context is empty.
    """
    for one in wanted:
        if not one.context or not one.continuation:
            raise DataError(f"continuation {one.id!r} needs at least one token, and one before it; check the task")
    order = sorted(range(len(wanted)), key=lambda i: -len(wanted[i].context) - len(wanted[i].continuation))
    out: dict[int, Likelihood] = {}
    start = 0
    while start < len(order):
        width = len(wanted[order[start]].context) + len(wanted[order[start]].continuation)
        batch = order[start : start + max(1, batch_tokens // width)]
        for i, likelihood in zip(batch, _batch(loaded, [wanted[i] for i in batch], width), strict=True):
            out[i] = likelihood
        start += len(batch)
        if progress:
            progress(start)
    return [out[i] for i in range(len(wanted))]


@torch.inference_mode()
def _batch(loaded: LoadedModel, rows: Sequence[Continuation], width: int) -> list[Likelihood]:
    ids = torch.full((len(rows), width), loaded.renderer.pad_id)
    # Right padding: no token looks at what comes after it.
    for i, row in enumerate(rows):
        ids[i, : len(row.context) + len(row.continuation)] = torch.tensor([*row.context, *row.continuation])
    first = min(len(row.context) for row in rows) - 1
    keep = torch.arange(first, width - 1, device=loaded.device)
    logits = loaded.model(input_ids=ids.to(loaded.device), logits_to_keep=keep, use_cache=False).logits
    out = []
    for i, row in enumerate(rows):
        begin = len(row.context) - 1 - first
        own = torch.log_softmax(logits[i, begin : begin + len(row.continuation)].float(), dim=-1)
        target = torch.tensor(row.continuation, device=loaded.device)
        chosen = own.gather(1, target[:, None]).sum()
        out.append(Likelihood(row.id, float(chosen), bool((own.argmax(dim=-1) == target).all())))
    return out
