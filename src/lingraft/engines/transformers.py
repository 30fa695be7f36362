"""The `transformers` engine: `model.generate` in length-sorted batches, in this process, on CPU or GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from lingraft.chat import PromptIds, Renderer
from lingraft.data.records import Generation, Request, Sampling
from lingraft.engines.answers import TopLogprobs, finished, prompt_within
from lingraft.engines.base import Engine, EngineModel, EngineParams
from lingraft.graft import grafted
from lingraft.models import LoadedModel
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


MIN_REGROUPED_ROWS = 8
MIN_REGROUPED_TOKENS = 16
"""Smaller batches, or less left to write, are not worth computing the prompts again."""


@dataclass
class _Row:
    """A request on its way: what it has written so far."""

    request: Request
    prompt: PromptIds
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TopLogprobs] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """Prompt and answer so far."""
        return [*self.prompt.ids, *self.tokens]


class _Progress(StoppingCriteria):
    """Ends a row at a stop string or its token limit, and the whole batch once half its rows have ended.

    The rows left are then batched anew, because rows that have ended are computed with the others to no purpose.
    Stop strings are looked for in the last tokens of each row: unlike the library's own criterion this needs no table
    over the vocabulary, which takes seconds to build for each new set of strings.

    Args:
        rows: of the batch. width: length of their padded prompts, answers so far included.
    """

    def __init__(self, renderer: Renderer, rows: Sequence[_Row], width: int) -> None:
        self._renderer = renderer
        self._rows = rows
        self._width = width
        self._ends = set(renderer.end_ids)
        stop = rows[0].request.sampling.stop
        # A token is at least one byte of text or part of a character; 4 more cover characters split over tokens.
        self._window = max((len(text.encode("utf-8")) for text in stop), default=0) + 4
        self._done = [False] * len(rows)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return, per row of `input_ids` (rows, length), whether it has ended."""
        length = input_ids.shape[1]
        remaining = 0
        for index, (row, last) in enumerate(zip(self._rows, input_ids[:, -1].tolist(), strict=True)):
            sampling = row.request.sampling
            room = sampling.max_new_tokens - len(row.tokens) - (length - self._width)
            if self._done[index]:
                continue
            self._done[index] = last in self._ends or room <= 0
            if sampling.stop and not self._done[index]:
                begin = max(self._width - len(row.tokens), length - self._window)
                text = self._renderer.decode(input_ids[index, begin:].tolist())
                self._done[index] = any(stop in text for stop in sampling.stop)
            if not self._done[index]:
                remaining = max(remaining, room)
        rows = len(self._rows)
        regroup = rows >= MIN_REGROUPED_ROWS and 2 * sum(self._done) >= rows and remaining >= MIN_REGROUPED_TOKENS
        return torch.tensor([regroup or done for done in self._done], device=input_ids.device)


class _TopLogprobs(LogitsProcessor):
    """Records the best log-probabilities of the untouched distribution at each step: (rows, k) ids and values."""

    def __init__(self, k: int) -> None:
        self._k = k
        self.steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Record and return `scores` (rows, vocabulary) unchanged."""
        best = torch.log_softmax(scores.float(), dim=-1).topk(self._k, dim=-1)
        self.steps.append((best.indices.cpu(), best.values.cpu()))
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


class TransformersEngine(Engine):
    """Batches requests of one kind by length; sampled batches are seeded by their content.

    Args:
        loaded: model and renderer.
        batch_tokens: tokens (prompt and answer, padding included) computed at once.
    """

    name: ClassVar[str] = "transformers"
    summary: ClassVar[str] = "model.generate in this process, length-sorted batches, CPU or GPU"

    class Params(EngineParams):
        """Parameters of the transformers engine."""

        batch_tokens: int = Field(24_576, ge=256, description="tokens held at once, padding and answers included")
        max_batch: int = Field(128, ge=1, description="requests decoded at once")

    def __init__(self, loaded: LoadedModel, batch_tokens: int = 24_576, max_batch: int = 128) -> None:
        self._base = self._loaded = loaded
        self._renderer = loaded.renderer
        self._batch_tokens = batch_tokens
        self._max_batch = max_batch
        self.part_size = 1024 if loaded.device.type == "cuda" else 64  # on a CPU, about half a minute of work
        limit = getattr(loaded.model.config, "max_position_embeddings", None)
        self._context = int(limit) if limit else 1 << 30

    @classmethod
    def create(cls, model: EngineModel, params: Any) -> TransformersEngine:
        """Make the engine from its parameters (batch limits are part of its identity: they decide near-ties)."""
        return cls(model.load(), params.batch_tokens, params.max_batch)

    def generate(self, requests: Iterable[Request], graft: Path | None = None) -> Iterator[Generation]:
        """Yield generations batch by batch, longest prompts first; see `Engine.generate`."""
        with grafted(self._base, graft) if graft else nullcontext(self._base) as loaded:
            self._loaded = loaded
            yield from self._answers(requests)

    def _answers(self, requests: Iterable[Request]) -> Iterator[Generation]:
        groups: dict[tuple[Sampling, int], list[tuple[Request, PromptIds]]] = defaultdict(list)
        for request in requests:
            prompt = prompt_within(self._renderer, request, self._context)
            groups[request.sampling, request.top_logprobs].append((request, prompt))
        for (sampling, top), members in groups.items():
            pending = [_Row(request, prompt) for request, prompt in members]
            while pending:
                pending.sort(key=lambda row: (-len(row.ids), row.request.id))
                left: list[_Row] = []
                start = 0
                while start < len(pending):
                    width = len(pending[start].prompt.ids) + sampling.max_new_tokens
                    count = max(1, min(self._max_batch, self._batch_tokens // width))
                    batch = pending[start : start + count]
                    self._continue(batch, sampling, top)
                    for row in batch:
                        generation = finished(self._renderer, row.request, row.prompt, row.tokens, row.logprobs)
                        if generation is None:
                            left.append(row)
                        else:
                            yield generation
                    start += count
                pending = left

    def _continue(self, rows: Sequence[_Row], sampling: Sampling, top: int) -> None:
        """Let the rows write on, until all have ended or it pays to batch the rest anew."""
        pad, device = self._renderer.pad_id, self._loaded.device
        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            ids[index, width - len(row.ids) :] = torch.tensor(row.ids)
            mask[index, width - len(row.ids) :] = 1
        sampled = sampling.temperature > 0
        config = GenerationConfig(
            **_NEUTRAL,
            **(_NEUTRAL_SAMPLING if sampled else {}),
            max_new_tokens=sampling.max_new_tokens - min(len(row.tokens) for row in rows),
            do_sample=sampled,
            temperature=sampling.temperature if sampled else 1.0,
            top_p=sampling.top_p if sampled else 1.0,
            eos_token_id=list(self._renderer.end_ids),
            pad_token_id=pad,
            use_cache=True,
        )
        recorder = _TopLogprobs(top) if top else None
        model: Any = self._loaded.model
        seed = content_hash([sampling.seed, [[row.request.id, len(row.tokens)] for row in rows]])
        with (
            _head_not_copied(model),
            torch.inference_mode(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(int(seed[:15], 16))
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                logits_processor=LogitsProcessorList([recorder] if recorder else []),
                stopping_criteria=StoppingCriteriaList([_Progress(self._renderer, rows, width)]),
            )
        for index, (row, written) in enumerate(zip(rows, output[:, width:].tolist(), strict=True)):
            kept = written[: sampling.max_new_tokens - len(row.tokens)]
            row.tokens.extend(kept)
            if recorder is not None:
                for best_ids, values in recorder.steps[: len(kept)]:
                    best = zip(best_ids[index].tolist(), values[index].tolist(), strict=True)
                    row.logprobs.append(tuple((token, round(value, 4)) for token, value in best))
