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
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch.nn import functional as F
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.utils import is_flash_attn_2_available

from lingraft.core.errors import ModelError, UsageError
from lingraft.models.architectures import has_softcap, make_attention_exact
from lingraft.models.output_head import final_states
from lingraft.training.collate import model_inputs

OWN = "lingraft"
FASTER_PACKED = {OWN, "flash_attention_2"}
KNOWN_LAYERS = {"full_attention", "sliding_attention"}
LONGEST_PLAIN = 512  # beyond, the scores of all pairs of tokens cost more memory than they save time
PROBE_TOKENS = 24


WITHOUT_EFFECT = {
    "cache_position",
    "cu_seq_lens_k",
    "is_causal",
    "logits_to_keep",
    "max_length_k",
    "max_length_q",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "position_ids",
    "return_dict",
    "use_cache",
}
"""What models pass to their attention that changes nothing in it; whether it is causal is tried."""


class UnknownArgument(Exception):
    """A model gives its attention something that `short_attention` does not know; carries its name."""


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
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attend causally within each example, by plain matrix products where examples are short.

    On a CPU these take about half the time of PyTorch's SDPA kernels up to some hundred tokens. Rounding is that of
    transformers' eager attention: scores in the type of the states, their softmax computed in float32. Longer examples
    go through SDPA.

    Args:
        module: the attention layer.
        query: (rows, heads, tokens, size); one row if packed.
        key: (rows, key/value heads, tokens, size).
        value: (rows, key/value heads, tokens, size).
        attention_mask: not used: transformers makes none for attention functions it does not know, and right padding
            needs none.
        dropout: share of the attention weights that is dropped.
        scaling: factor of the scores; by default 1 / sqrt(size).
        cu_seq_lens_q: (examples + 1,) where packed examples begin, and the number of tokens; None if each row is one.
        sliding_window: tokens that a token sees, itself included.
        shared_prefix: tokens of the first packed example, which all others see before them.
        softcap: scores are bounded to this by tanh (Gemma 2), which no SDPA kernel does.
        **kwargs: what else the model gives its attention; those of `WITHOUT_EFFECT` do not matter.

    Returns:
        (rows, tokens, heads, size), as transformers expects.

    Raises:
        UnknownArgument: the model gives its attention something else, such as sinks or a bias, that may matter.
    """
    for name, given in kwargs.items():
        if given is not None and name not in WITHOUT_EFFECT:
            raise UnknownArgument(name)
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
        if seen <= LONGEST_PLAIN or softcap is not None:
            outputs.append(_attend(q, k, v, dropout, scaling, window, softcap))
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
    softcap: float | None,
) -> torch.Tensor:
    rows, heads, length, size = query.shape
    groups, seen = key.shape[1:3]  # the query heads of a group share its keys and values, which are not copied for each
    stacked = query.reshape(rows * groups, heads // groups * length, size)
    keys, values = (states.reshape(rows * groups, seen, -1) for states in (key, value))
    mask = _mask(length, seen, heads // groups, window, query.dtype)
    scale = size**-0.5 if scaling is None else scaling
    if softcap is None:
        scores = torch.baddbmm(mask, stacked, keys.transpose(1, 2), alpha=scale)
    else:
        scores = torch.tanh(torch.bmm(stacked, keys.transpose(1, 2)) * (scale / softcap)) * softcap + mask
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


@dataclass(frozen=True)
class BatchLayout:
    """How rows share a forward pass: packed end to end, or padded; `singly`: one row at a time."""

    packed: bool
    singly: bool = False


@contextlib.contextmanager
def attention_for(
    model: PreTrainedModel, batching: str, input_ids: Sequence[int], *, from_decoder: bool = False
) -> Iterator[BatchLayout]:
    """Set the model's attention for the time of the block, and yield how rows are to share a pass.

    That examples do not see each other, and that each is computed as the model itself computes it alone, is tried out
    for packed rows; where it does not hold, the model keeps its own attention and rows are padded. Padded rows are
    tried as well; where these do not hold, each row goes alone. Soft caps, which transformers' SDPA leaves out, count.

    Args:
        model: without adapter, on its device.
        batching: auto, padded or packed. auto packs where that is faster and the model allows it.
        input_ids: some tokens of the data, to try.
        from_decoder: see `OutputHead`.

    Raises:
        UsageError: packed, and the model does not allow it.
        ModelError: the model looks at tokens that follow.
    """
    before = model.config._attn_implementation
    tried = _Tried(model, list(input_ids[:PROBE_TOKENS]), from_decoder)
    try:
        make_attention_exact(model)
        own = model.config._attn_implementation
        implementation = _implementation(model)
        wanted = batching == "packed" or (batching == "auto" and implementation in FASTER_PACKED)
        obstacle = _obstacle(model)
        tried.refuse_foresight()
        alone = None if obstacle else tried.hidden([tried.sample[::-1]])
        if alone is not None and (wanted or implementation == OWN):
            model.set_attn_implementation(implementation)
            obstacle = tried.difference(alone, packed=wanted)
        if obstacle and batching == "packed":
            raise UsageError(f"{type(model).__name__} {obstacle}; set train.batching to padded")
        if obstacle and model.config._attn_implementation != own:
            model.set_attn_implementation(own)
        packed = wanted and not obstacle
        yield BatchLayout(packed, singly=not packed and not tried.padding_holds())
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
    return "eager" if has_softcap(model.config) else "sdpa"


def _obstacle(model: PreTrainedModel) -> str | None:
    """Return why the model's attention cannot be replaced, as the end of a sentence that begins with its name."""
    config = model.config.get_text_config()
    others = sorted(set(getattr(config, "layer_types", None) or ()) - KNOWN_LAYERS)
    if others:
        return f"has layers of the kind {others[0]}, which cannot keep packed examples apart"
    own = model.config._attn_implementation
    if own not in ("sdpa", "flash_attention_2") and not (own == "eager" and has_softcap(model.config)):
        return f"uses {own} attention, for which packing is not implemented"
    return None


class _Tried:
    """What a model makes of a few tokens laid out in one way or another.

    Args:
        model: without adapter.
        sample: the tokens.
        from_decoder: see `OutputHead`.
    """

    def __init__(self, model: PreTrainedModel, sample: list[int], from_decoder: bool) -> None:
        self.sample = sample
        self._model: Any = model
        self._from_decoder = from_decoder
        self._rounding = 1e-3 if model.dtype == torch.float32 else 0.1  # sums of other shapes are rounded otherwise

    def difference(self, alone: torch.Tensor, *, packed: bool) -> str | None:
        """Return what the attention now set does wrong, as `_obstacle` does.

        Args:
            alone: (tokens, hidden) what the model's own attention makes of the sample in reverse.
            packed: try it on packed rows, else on a single one.
        """
        second = self.sample[::-1]
        first = self.sample[: len(second) // 2 + 1] if packed else []
        other = self._others(first)
        try:
            apart, beside = (
                self.hidden([rows, second] if packed else [second])[len(first) :] for rows in (first, other)
            )
        except UnknownArgument as error:
            return f"gives its attention {error}, which packing does not know"
        largest = alone.abs().max()
        if (apart - beside).abs().max() > 1e-5 * largest:
            return "lets packed examples see each other"
        if (apart - alone).abs().max() > self._rounding * largest:
            return "computes a packed example otherwise than the same example alone"
        return None

    def refuse_foresight(self) -> None:
        """Raise a ModelError if a token's states depend on those that follow: a causal model's do not."""
        first = self.sample[: len(self.sample) // 2 + 1]
        rest = self.sample[len(first) :] or self.sample
        one, other = (self.hidden([first + ids])[: len(first)] for ids in (rest, self._others(rest)))
        if (one - other).abs().max() > 0.3 * self._rounding * one.abs().max():
            raise ModelError(
                f"{type(self._model).__name__} looks at the tokens that follow, as a causal language model never does; "
                f"choose a model that writes from left to right"
            )

    def padding_holds(self) -> bool:
        """Whether padded rows get the states that each of them has alone."""
        long = self.sample
        short = long[::-1][: len(long) // 2 + 1]
        padded = self._states(torch.tensor([long, short + [long[0]] * (len(long) - len(short))]))
        for row, ids in zip(padded, (long, short), strict=True):
            alone = self.hidden([ids])
            if (row[: len(ids)] - alone).abs().max() > self._rounding * alone.abs().max():
                return False
        return True

    def _others(self, ids: list[int]) -> list[int]:
        embeddings = self._model.get_input_embeddings()
        return [(token + 1) % embeddings.weight.shape[0] for token in ids]

    def hidden(self, rows: list[list[int]]) -> torch.Tensor:
        """Return the final hidden states, (tokens, hidden), of packed rows or of a single one."""
        lengths = [len(row) for row in rows] if len(rows) > 1 else None
        return self._states(torch.tensor([[*chain(*rows)]]), lengths)[0]

    @torch.no_grad()
    def _states(self, ids: torch.Tensor, lengths: list[int] | None = None) -> torch.Tensor:
        model = self._model
        was_training = model.training
        model.eval()
        try:
            inputs = model_inputs(ids.to(model.device), lengths)
            return final_states(model, inputs, from_decoder=self._from_decoder).float()
        finally:
            model.train(was_training)
