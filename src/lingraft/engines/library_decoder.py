"""Writing with `model.generate`, for models whose state slots cannot hold (recurrent, compressed, narrow windows)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from lingraft.core.hashing import content_hash, seed_of
from lingraft.data.records import Request, Sampling
from lingraft.engines.slot_decoder import SlotRow, top_logprobs
from lingraft.rendering.renderer import PromptIds

_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "num_beams": 1,
}
_NEUTRAL_SAMPLING: dict[str, Any] = {"top_k": 0, "min_p": 0.0, "typical_p": 1.0}
"""What is not set here would be taken from the checkpoint's `generation_config.json` (Qwen's has a penalty on
repetition and a top-k): the requests alone decide how text is written, and log-probabilities are the model's own."""


PADDED, ALIKE, SINGLE = "padded", "alike", "single"
TRIED_TOKENS, TRIED_STEPS = 12, 3
_WAYS: dict[str, str] = {}
"""Kinds of models, by a hash of what they are, with how rows can be written together."""


class _Writing(StoppingCriteria):
    """Notes the tokens of each row until it has ended.

    The library's own criterion for stop strings needs a table over the vocabulary, which takes seconds to build for
    each new set of strings.
    """

    def __init__(self, rows: Sequence[SlotRow], ended: Callable[[SlotRow], bool]) -> None:
        self._rows, self._ended = rows, ended
        self._done = [False] * len(rows)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return, per row of `input_ids` (rows, length), whether it has ended."""
        for index, (row, last) in enumerate(zip(self._rows, input_ids[:, -1].tolist(), strict=True)):
            if not self._done[index]:
                row.tokens.append(last)
                self._done[index] = self._ended(row)
        return torch.tensor(self._done, device=input_ids.device)


class _TopLogprobs(LogitsProcessor):
    """Notes the best log-probabilities of the untouched distribution at each step."""

    def __init__(self, rows: Sequence[SlotRow]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Note those of `scores` (rows, vocabulary) and return them unchanged."""
        for row, best in zip(self._rows, top_logprobs(scores, self._rows[0].request.top_logprobs), strict=True):
            row.logprobs.append(best)
        return scores


@contextmanager
def _head_not_copied(model: Any) -> Iterator[None]:
    """Let the output head's weight require gradients while nothing records them.

    For a frozen weight and the last position of each row, PyTorch multiplies row by row with a copy of the weight
    for each: gigabytes, and half of the prefill's time on a CPU. It folds the rows when the weight requires gradients.
    """
    weight = getattr(model.get_output_embeddings(), "weight", None)
    if not isinstance(weight, torch.Tensor) or not weight.is_floating_point() or weight.requires_grad:
        yield
        return
    weight.requires_grad_(True)
    try:
        yield
    finally:
        weight.requires_grad_(False)


class LibraryDecoder:
    """Lets rows write in batches sorted by length; sampled batches are seeded by their content.

    Padding on the left reaches the state of some models (RWKV, linear attention that knows no mask). Each way of making
    batches is therefore tried first, against whole passes over each row alone: padded, of rows of one length, or
    single rows.

    Args:
        model: a causal language model, with or without an adapter.
        pad_id: token that fills rows.
        end_ids: tokens that end a row.
        max_tokens: rows times their width.
        max_rows: rows at once.
        ended: tells after each token whether a row has ended.
    """

    def __init__(
        self,
        model: Any,
        *,
        pad_id: int,
        end_ids: Sequence[int],
        max_tokens: int,
        max_rows: int,
        ended: Callable[[SlotRow], bool],
    ) -> None:
        self._model = model
        self._pad_id, self._end_ids = pad_id, list(end_ids)
        self._max_tokens, self._max_rows = max_tokens, max_rows
        self._ended = ended
        self._device = next(model.parameters()).device

    def run(self, rows: Sequence[SlotRow]) -> Iterator[SlotRow]:
        """Yield the rows batch by batch, longest first; conditions as in `SlotDecoder.run`."""
        waiting = sorted(rows, key=lambda row: (row.room, row.length, row.request.id), reverse=True)
        way = self._way() if len(waiting) > 1 else SINGLE
        if way != PADDED:  # rows of one length stand together
            waiting.sort(key=lambda row: row.length, reverse=True)
        while waiting:
            count = max(1, min(self._max_rows, self._max_tokens // waiting[0].room))
            if way == SINGLE:
                count = 1
            elif way == ALIKE:
                same = next((i for i, row in enumerate(waiting) if row.length != waiting[0].length), len(waiting))
                widest = max(row.room for row in waiting[:same])
                count = min(same, max(1, min(self._max_rows, self._max_tokens // widest)))
            batch, waiting = waiting[:count], waiting[count:]
            self._write(batch, self._ended)
            yield from batch

    def _way(self) -> str:
        """Return how rows can be written together, as tried once for each kind of model in this process."""
        model, config = self._model, self._model.config
        kind = (type(model).__name__, config.to_json_string(), config._attn_implementation, str(model.dtype))
        key = content_hash([*kind, str(self._device)])
        if key not in _WAYS:
            _WAYS[key] = next((way for way in (PADDED, ALIKE) if self._holds(way)), SINGLE)
        return _WAYS[key]

    def _holds(self, way: str) -> bool:
        """Whether rows written together get the distributions that each has alone, without a cache."""
        size = int(self._model.get_input_embeddings().weight.shape[0])
        lengths = (TRIED_TOKENS, TRIED_TOKENS // 2 if way == PADDED else TRIED_TOKENS)
        sampling = Sampling(max_new_tokens=TRIED_STEPS)
        rows = [
            SlotRow(
                Request(str(k), (), sampling, "", 1), PromptIds(tuple((7 + 5 * i + k) % size for i in range(length)))
            )
            for k, length in enumerate(lengths)
        ]
        try:
            self._write(rows, lambda row: len(row.tokens) >= TRIED_STEPS)
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):  # one row may be all it can
            return False
        tolerance = 0.02 if self._model.dtype == torch.float32 else 0.3
        for row in rows:
            ids = torch.tensor([[*row.prompt.ids, *row.tokens]], device=self._device)
            with torch.inference_mode():
                logits = self._model(input_ids=ids, use_cache=False).logits[0, len(row.prompt.ids) - 1 : -1]
            alone = torch.log_softmax(logits.float(), dim=-1)
            written = torch.tensor(row.tokens, device=self._device)[:, None]
            noted = torch.tensor([best[0][1] for best in row.logprobs], device=self._device)
            own = alone.gather(-1, written)[:, 0]
            if bool(((own - noted).abs() > tolerance).any() or ((alone.amax(-1) - own) > tolerance).any()):
                return False
        return True

    def _write(self, rows: Sequence[SlotRow], ended: Callable[[SlotRow], bool]) -> None:
        width = max(row.length for row in rows)
        ids = torch.tensor([[self._pad_id] * (width - row.length) + list(row.prompt.ids) for row in rows])
        mask = torch.tensor([[0] * (width - row.length) + [1] * row.length for row in rows])
        sampling = rows[0].request.sampling
        sampled = sampling.temperature > 0
        config = GenerationConfig(
            **_NEUTRAL,
            **(_NEUTRAL_SAMPLING if sampled else {}),
            max_new_tokens=max(row.request.sampling.max_new_tokens for row in rows),
            do_sample=sampled,
            temperature=sampling.temperature if sampled else 1.0,
            top_p=sampling.top_p if sampled else 1.0,
            eos_token_id=self._end_ids,
            pad_token_id=self._pad_id,
            use_cache=True,
        )
        processors = [_TopLogprobs(rows)] if rows[0].request.top_logprobs else []
        seed = seed_of([[row.request.sampling.seed, row.request.id] for row in rows])
        with (
            _head_not_copied(self._model),
            torch.inference_mode(),
            torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []),
        ):
            torch.manual_seed(seed)
            self._model.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=config,
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList([_Writing(rows, ended)]),
            )
