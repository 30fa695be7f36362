"""Writing with `model.generate`, for models whose state slots cannot hold (recurrent, compressed, narrow windows)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from lingraft.engines.decode import Row, top_logprobs
from lingraft.store import content_hash

_NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "num_beams": 1,
}
_NEUTRAL_SAMPLING: dict[str, Any] = {"top_k": 0, "min_p": 0.0, "typical_p": 1.0}
"""What is not set here would be taken from the checkpoint's `generation_config.json` (Qwen's has a penalty on
repetition and a top-k): the requests alone decide how text is written, and log-probabilities are the model's own."""


class _Writing(StoppingCriteria):
    """Notes the tokens of each row until it has ended.

    The library's own criterion for stop strings needs a table over the vocabulary, which takes seconds to build for
    each new set of strings.
    """

    def __init__(self, rows: Sequence[Row], ended: Callable[[Row], bool]) -> None:
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

    def __init__(self, rows: Sequence[Row]) -> None:
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

    Args:
        model: a causal language model, with or without an adapter. pad_id, end_ids: of its tokens.
        max_tokens: rows times their width. max_rows: rows at once.
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
        ended: Callable[[Row], bool],
    ) -> None:
        self._model = model
        self._pad_id, self._end_ids = pad_id, list(end_ids)
        self._max_tokens, self._max_rows = max_tokens, max_rows
        self._ended = ended
        self._device = next(model.parameters()).device

    def run(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Yield the rows batch by batch, longest first; conditions as in `SlotDecoder.run`."""
        waiting = sorted(rows, key=lambda row: (row.room, row.length, row.request.id), reverse=True)
        while waiting:
            count = max(1, min(self._max_rows, self._max_tokens // waiting[0].room))
            batch, waiting = waiting[:count], waiting[count:]
            self._write(batch)
            yield from batch

    def _write(self, rows: Sequence[Row]) -> None:
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
        seed = content_hash([[row.request.sampling.seed, row.request.id] for row in rows])
        with (
            _head_not_copied(self._model),
            torch.inference_mode(),
            torch.random.fork_rng(devices=[self._device] if self._device.type == "cuda" else []),
        ):
            torch.manual_seed(int(seed[:15], 16))
            self._model.generate(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                generation_config=config,
                logits_processor=LogitsProcessorList(processors),
                stopping_criteria=StoppingCriteriaList([_Writing(rows, self._ended)]),
            )
