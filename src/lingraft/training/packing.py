"""Attention over packed rows: several examples end to end, each of which sees itself alone.

Three ways, all through public interfaces of transformers:

- CPU: an attention function of our own, registered as "lingraft_packed", that attends example by example. The linear
  layers, which take most of the time, work on all tokens at once.
- GPU with flash attention: its variable-length kernel, which is told where examples begin.
- else: SDPA with the block-diagonal mask that transformers derives from restarting position ids.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils import is_flash_attn_2_available

from lingraft.errors import UsageError
from lingraft.training.collate import Batch, model_inputs

PACKED = "lingraft_packed"
KNOWN_LAYERS = {"full_attention", "sliding_attention"}
PROBE_TOKENS = 24
FASTER_PACKED = {PACKED, "flash_attention_2"}
SHORT_FOR_CPU = 128  # up to this length, plain attention is faster on a CPU than the flash kernel


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    cu_seq_lens_q: torch.Tensor | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each example of a packed row, with transformers' SDPA function.

    Args:
        module: the attention layer.
        query, key, value: (1, heads, tokens, size); several rows where `cu_seq_lens_q` is not given.
        attention_mask: not used: transformers makes none for attention functions it does not know.
        cu_seq_lens_q: (examples + 1,) where examples begin, and the number of tokens; without it, rows are examples.
        sliding_window: tokens that a token sees, itself included.

    Returns:
        (1, tokens, heads, size), as transformers expects.
    """
    if cu_seq_lens_q is None:
        pieces = [(query, key, value)]
    else:
        lengths = cu_seq_lens_q.diff().tolist()
        pieces = list(zip(*(states.split(lengths, dim=2) for states in (query, key, value)), strict=True))
    outputs = []
    for q, k, v in pieces:
        mask = None
        if sliding_window is not None and q.shape[2] > sliding_window:
            distance = torch.arange(q.shape[2], device=q.device)
            distance = distance.unsqueeze(1) - distance
            mask = ((distance >= 0) & (distance < sliding_window))[None, None]
        outputs.append(sdpa_attention_forward(module, q, k, v, mask, **kwargs)[0])
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(PACKED, packed_attention)


@contextlib.contextmanager
def attention_for(model: PreTrainedModel, batching: str, input_ids: Sequence[int]) -> Iterator[bool]:
    """Prepare the model's attention for a layout for the time of the block, and yield whether rows are to be packed.

    That examples do not see each other, and that each is computed as if it were alone, is tried on the model itself.

    Args:
        model: without adapter, on its device.
        batching: auto, padded or packed. auto packs where that is faster and the model allows it.
        input_ids: some tokens of the data, to try.

    Raises:
        UsageError: packed, and the model does not allow it.
    """
    implementation = _implementation(model)
    if batching == "padded" or (batching == "auto" and implementation not in FASTER_PACKED):
        yield False
        return
    before = model.config._attn_implementation
    obstacle = _obstacle(model)
    if obstacle is None and implementation != before:
        model.set_attn_implementation(implementation)
    try:
        obstacle = obstacle or _difference(model, list(input_ids[:PROBE_TOKENS]))
        if obstacle and batching == "packed":
            raise UsageError(f"{type(model).__name__} {obstacle}; set train.batching to padded")
        if obstacle and implementation != before:
            model.set_attn_implementation(before)
        yield not obstacle
    finally:
        if model.config._attn_implementation != before:
            model.set_attn_implementation(before)


def _implementation(model: PreTrainedModel) -> str:
    """Return the attention implementation for packed rows on the model's device."""
    if model.device.type == "cpu":
        return PACKED
    half = model.dtype in (torch.float16, torch.bfloat16)
    if model.device.type == "cuda" and half and is_flash_attn_2_available() and model._supports_flash_attn:
        return "flash_attention_2"
    return "sdpa"


def _obstacle(model: PreTrainedModel) -> str | None:
    """Return why the architecture cannot be packed, as the end of a sentence that begins with its name."""
    config = model.config.get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS)
    if others:
        return f"has layers of the kind {others[0]}, which cannot keep packed examples apart"
    if model.config._attn_implementation not in ("sdpa", PACKED, "flash_attention_2"):
        return f"uses {model.config._attn_implementation} attention, for which packing is not implemented"
    return None


@torch.no_grad()
def _difference(model: PreTrainedModel, ids: list[int]) -> str | None:
    """Return what goes wrong with two packed examples, as `_obstacle` does."""
    was_training = model.training
    model.eval()
    try:
        first, second = ids[: len(ids) // 2 + 1], ids[::-1]
        embeddings: Any = model.get_input_embeddings()
        other = [(token + 1) % embeddings.weight.shape[0] for token in first]
        begin = len(first)
        apart, beside, alone = (_hidden(model, rows) for rows in ([first, second], [other, second], [second]))
    finally:
        model.train(was_training)
    largest = alone.abs().max()
    if (apart[begin:] - beside[begin:]).abs().max() > 1e-5 * largest:
        return "lets packed examples see each other"
    rounding = 1e-3 if model.dtype == torch.float32 else 0.1  # sums over other shapes are rounded otherwise
    if (apart[begin:] - alone).abs().max() > rounding * largest:
        return "computes a packed example otherwise than the same example alone"
    return None


def _hidden(model: Any, rows: list[list[int]]) -> torch.Tensor:
    """Return the final hidden states, (tokens, hidden), of packed rows."""
    inputs = model_inputs(torch.tensor([[*chain(*rows)]], device=model.device), [len(row) for row in rows])
    output = model(**inputs, use_cache=False, output_hidden_states=True, logits_to_keep=1)
    hidden: torch.Tensor = output.hidden_states[-1][0].float()
    return hidden


def kernels(batch: Batch) -> contextlib.AbstractContextManager[None]:
    """Return the context in which a micro-batch is computed: on a CPU, plain attention for short padded rows."""
    short = batch.lengths is None and batch.input_ids.shape[1] <= SHORT_FOR_CPU
    if batch.input_ids.device.type == "cpu" and short:
        return sdpa_kernel(SDPBackend.MATH)
    return contextlib.nullcontext()
