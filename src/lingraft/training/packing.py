"""Attention in training: over packed rows, in which each example sees itself alone, and fast over short rows on a CPU.

Three ways, all through public interfaces of transformers:

- CPU: an attention function of our own, registered as "lingraft". It attends example by example; the linear layers,
  which take most of the time, work on all tokens at once.
- GPU with flash attention: its variable-length kernel, which is told where examples begin.
- else: SDPA with the block-diagonal mask that transformers derives from restarting position ids.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils import is_flash_attn_2_available

from lingraft.errors import UsageError
from lingraft.training.collate import model_inputs

OWN = "lingraft"
FASTER_PACKED = {OWN, "flash_attention_2"}
KNOWN_LAYERS = {"full_attention", "sliding_attention"}
LONGEST_PLAIN = 512  # beyond, the scores of all pairs of tokens cost more memory than they save time
PROBE_TOKENS = 24


def short_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    sliding_window: int | None = None,
    shared_prefix: int = 0,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each example, by plain matrix products where examples are short.

    On a CPU these take about half the time of PyTorch's SDPA kernels up to some hundred tokens. Rounding is that of
    transformers' eager attention: scores in the type of the states, their softmax computed in float32. Longer examples
    go through SDPA.

    Args:
        module: the attention layer.
        query, key, value: (rows, heads, tokens, size); one row if packed.
        attention_mask: not used: transformers makes none for attention functions it does not know, and right padding
            needs none.
        dropout: share of the attention weights that is dropped.
        scaling: factor of the scores; by default 1 / sqrt(size).
        cu_seq_lens_q: (examples + 1,) where packed examples begin, and the number of tokens; None if each row is one.
        sliding_window: tokens that a token sees, itself included.
        shared_prefix: tokens of the first packed example, which all others see before them.

    Returns:
        (rows, tokens, heads, size), as transformers expects.
    """
    if cu_seq_lens_q is None:
        pieces = [(query, key, value)]
    else:
        lengths = cu_seq_lens_q.diff().tolist()
        pieces = list(zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True))
    if shared_prefix:
        (_, first_k, first_v), *others = pieces
        joined = [(q, torch.cat([first_k, k], dim=2), torch.cat([first_v, v], dim=2)) for q, k, v in others]
        pieces = [pieces[0], *joined]
    outputs = []
    for q, k, v in pieces:
        length, seen = q.shape[2], k.shape[2]
        window = sliding_window if sliding_window is not None and sliding_window < seen else None
        if seen <= LONGEST_PLAIN:
            outputs.append(_attend(q, k, v, dropout, scaling, window))
            continue
        mask = None if window is None and length == seen else _mask(length, seen, 1, window, q.dtype)
        outputs.append(sdpa_attention_forward(module, q, k, v, mask, dropout, scaling)[0])
    return torch.cat(outputs, dim=1), None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    rows, heads, length, size = query.shape
    groups, seen = key.shape[1:3]  # the query heads of a group share its keys and values, which are not copied for each
    stacked = query.reshape(rows * groups, heads // groups * length, size)
    keys, values = (states.reshape(rows * groups, seen, -1) for states in (key, value))
    mask = _mask(length, seen, heads // groups, window, query.dtype)
    scores = torch.baddbmm(mask, stacked, keys.transpose(1, 2), alpha=size**-0.5 if scaling is None else scaling)
    weights = F.dropout(scores.softmax(-1), dropout)
    return torch.bmm(weights, values).view(rows, heads, length, -1).transpose(1, 2)


@lru_cache(maxsize=64)
def _mask(length: int, seen: int, repeats: int, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """Return what is added to scores, (repeats x length, seen): 0 where a token is seen, -inf elsewhere.

    The `length` queries are the last of the `seen` tokens.
    """
    before = seen - length
    allowed = torch.ones(length, seen, dtype=torch.bool).tril(before)
    if window is not None:
        allowed = allowed.triu(before + 1 - window)
    return torch.zeros(length, seen, dtype=dtype).masked_fill(~allowed, -torch.inf).repeat(repeats, 1)


AttentionInterface.register(OWN, short_attention)


@contextlib.contextmanager
def attention_for(model: PreTrainedModel, batching: str, input_ids: Sequence[int]) -> Iterator[bool]:
    """Set the model's attention for the time of the block, and yield whether rows are to be packed.

    That examples do not see each other, and that each is computed as the model itself computes it alone, is tried out.
    Where it does not hold, the model keeps its own attention and rows are padded.

    Args:
        model: without adapter, on its device.
        batching: auto, padded or packed. auto packs where that is faster and the model allows it.
        input_ids: some tokens of the data, to try.

    Raises:
        UsageError: packed, and the model does not allow it.
    """
    before = model.config._attn_implementation
    implementation = _implementation(model)
    wanted = batching == "packed" or (batching == "auto" and implementation in FASTER_PACKED)
    sample = list(input_ids[:PROBE_TOKENS])
    obstacle = _obstacle(model)
    alone = None if obstacle else _hidden(model, [sample[::-1]])
    try:
        if alone is not None and (wanted or implementation == OWN):
            model.set_attn_implementation(implementation)
            obstacle = _difference(model, sample, alone, packed=wanted)
        if obstacle and batching == "packed":
            raise UsageError(f"{type(model).__name__} {obstacle}; set train.batching to padded")
        if obstacle and model.config._attn_implementation != before:
            model.set_attn_implementation(before)
        yield wanted and not obstacle
    finally:
        if model.config._attn_implementation != before:
            model.set_attn_implementation(before)


def _implementation(model: PreTrainedModel) -> str:
    """Return the attention implementation for packed rows on the model's device."""
    if model.device.type == "cpu":
        return OWN
    half = model.dtype in (torch.float16, torch.bfloat16)
    if model.device.type == "cuda" and half and is_flash_attn_2_available() and model._supports_flash_attn:
        return "flash_attention_2"
    return "sdpa"


def _obstacle(model: PreTrainedModel) -> str | None:
    """Return why the model's attention cannot be replaced, as the end of a sentence that begins with its name."""
    config = model.config.get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS)
    if others:
        return f"has layers of the kind {others[0]}, which cannot keep packed examples apart"
    if model.config._attn_implementation not in ("sdpa", "flash_attention_2"):
        return f"uses {model.config._attn_implementation} attention, for which packing is not implemented"
    return None


def _difference(model: PreTrainedModel, ids: list[int], alone: torch.Tensor, *, packed: bool) -> str | None:
    """Return what the attention now set does wrong, as `_obstacle` does.

    Args:
        ids: a short example.
        alone: (tokens, hidden) what the model's own attention makes of the ids in reverse.
        packed: try it on packed rows, else on a single one.
    """
    second = ids[::-1]
    first = ids[: len(ids) // 2 + 1] if packed else []
    embeddings: Any = model.get_input_embeddings()
    other = [(token + 1) % embeddings.weight.shape[0] for token in first]
    apart, beside = (_hidden(model, [rows, second] if packed else [second])[len(first) :] for rows in (first, other))
    largest = alone.abs().max()
    if (apart - beside).abs().max() > 1e-5 * largest:
        return "lets packed examples see each other"
    rounding = 1e-3 if model.dtype == torch.float32 else 0.1  # sums of other shapes are rounded otherwise
    if (apart - alone).abs().max() > rounding * largest:
        return "computes a packed example otherwise than the same example alone"
    return None


@torch.no_grad()
def _hidden(model: Any, rows: list[list[int]]) -> torch.Tensor:
    """Return the final hidden states, (tokens, hidden), of packed rows or of a single one."""
    was_training = model.training
    model.eval()
    try:
        lengths = [len(row) for row in rows] if len(rows) > 1 else None
        inputs = model_inputs(torch.tensor([[*chain(*rows)]], device=model.device), lengths)
        output = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=1)
        hidden: torch.Tensor = output.hidden_states[-1][0].float()
        return hidden
    finally:
        model.train(was_training)
