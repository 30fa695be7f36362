"""The `transformers` engine: `model.generate` in length-sorted batches, in this process, on CPU or GPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from lingraft.chat import PromptIds, Renderer
from lingraft.data.records import Generation, Request, Sampling
from lingraft.engines.base import Engine, EngineParams
from lingraft.errors import EngineError
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


class _StopStrings(StoppingCriteria):
    """Ends a row when its generated text holds a stop string.

    Decodes the last tokens of each row: unlike the library's own criterion this needs no table over the vocabulary,
    which takes seconds to build for each new set of strings.
    """

    def __init__(self, renderer: Renderer, stop: Sequence[str], prompt_length: int) -> None:
        self._renderer = renderer
        self._stop = stop
        self._prompt_length = prompt_length
        # A token is at least one byte of text or part of a character; 4 more cover characters split over tokens.
        self._window = max(len(text.encode("utf-8")) for text in stop) + 4

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        """Return, per row of `input_ids` (rows, length), whether a stop string was written."""
        tail = input_ids[:, max(self._prompt_length, input_ids.shape[1] - self._window) :].tolist()
        found = [any(stop in text for stop in self._stop) for text in map(self._renderer.decode, tail)]
        return torch.tensor(found, device=input_ids.device)


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
        loaded: model and renderer; a PEFT model is used with its adapter on.
        batch_tokens: tokens (prompt and answer, padding included) computed at once.
    """

    name: ClassVar[str] = "transformers"
    summary: ClassVar[str] = "model.generate in this process, length-sorted batches, CPU or GPU"

    class Params(EngineParams):
        """Parameters of the transformers engine."""

        batch_tokens: int = Field(24_576, ge=256, description="tokens held at once, padding and answers included")
        max_batch: int = Field(128, ge=1, description="requests decoded at once")

    def __init__(self, loaded: LoadedModel, batch_tokens: int = 24_576, max_batch: int = 128) -> None:
        self._loaded = loaded
        self._renderer = loaded.renderer
        self._batch_tokens = batch_tokens
        self._max_batch = max_batch
        self.part_size = 1024 if loaded.device.type == "cuda" else 64  # on a CPU, about half a minute of work
        limit = getattr(loaded.model.config, "max_position_embeddings", None)
        self._context = int(limit) if limit else 1 << 30

    @classmethod
    def create(cls, loaded: LoadedModel, params: Any) -> TransformersEngine:
        """Make the engine from its parameters."""
        return cls(loaded, params.batch_tokens, params.max_batch)

    def identity(self) -> dict[str, Any]:
        """Return engine, type of the weights and batch limits (they decide ties between near-equal logits)."""
        return {
            "engine": self.name,
            "dtype": self._loaded.dtype,
            "batch_tokens": self._batch_tokens,
            "max_batch": self._max_batch,
        }

    def generate(self, requests: Sequence[Request]) -> Iterator[Generation]:
        """Yield generations batch by batch, longest prompts first; see `Engine.generate`."""
        groups: dict[tuple[Sampling, int], list[tuple[Request, PromptIds]]] = defaultdict(list)
        for request in requests:
            prompt = self._renderer.prompt_ids(request.messages, request.prefill)
            room = self._context - len(prompt.ids)
            if room < request.sampling.max_new_tokens:
                raise EngineError(
                    f"request {request.id!r}: {len(prompt.ids)} prompt tokens leave no room for "
                    f"{request.sampling.max_new_tokens} more in the model's context of {self._context}; "
                    f"shorten the text or lower the limit of new tokens"
                )
            groups[request.sampling, request.top_logprobs].append((request, prompt))
        for (sampling, top), members in groups.items():
            members.sort(key=lambda item: (-len(item[1].ids), item[0].id))
            start = 0
            while start < len(members):
                width = len(members[start][1].ids) + sampling.max_new_tokens
                rows = max(1, min(self._max_batch, self._batch_tokens // width))
                yield from self._batch(members[start : start + rows], sampling, top)
                start += rows

    def _batch(
        self, members: Sequence[tuple[Request, PromptIds]], sampling: Sampling, top: int
    ) -> Iterator[Generation]:
        pad, device = self._renderer.pad_id, self._loaded.device
        width = max(len(prompt.ids) for _, prompt in members)
        ids = torch.full((len(members), width), pad)
        mask = torch.zeros((len(members), width), dtype=torch.long)
        for row, (_, prompt) in enumerate(members):
            ids[row, width - len(prompt.ids) :] = torch.tensor(prompt.ids)
            mask[row, width - len(prompt.ids) :] = 1
        sampled = sampling.temperature > 0
        config = GenerationConfig(
            **_NEUTRAL,
            **(_NEUTRAL_SAMPLING if sampled else {}),
            max_new_tokens=sampling.max_new_tokens,
            do_sample=sampled,
            temperature=sampling.temperature if sampled else 1.0,
            top_p=sampling.top_p if sampled else 1.0,
            eos_token_id=list(self._renderer.end_ids),
            pad_token_id=pad,
            use_cache=True,
        )
        recorder = _TopLogprobs(top) if top else None
        criteria = StoppingCriteriaList([_StopStrings(self._renderer, sampling.stop, width)] if sampling.stop else [])
        model: Any = self._loaded.model
        with (
            _head_not_copied(model),
            torch.inference_mode(),
            torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        ):
            torch.manual_seed(int(content_hash([sampling.seed, [request.id for request, _ in members]])[:15], 16))
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                generation_config=config,
                logits_processor=LogitsProcessorList([recorder] if recorder else []),
                stopping_criteria=criteria,
            )
        ends = set(self._renderer.end_ids)
        for row, ((request, prompt), written) in enumerate(zip(members, output[:, width:].tolist(), strict=True)):
            yield self._generation(request, prompt, written, ends, recorder, row)

    def _generation(
        self,
        request: Request,
        prompt: PromptIds,
        written: list[int],
        ends: set[int],
        recorder: _TopLogprobs | None,
        row: int,
    ) -> Generation:
        length = next((i for i, token in enumerate(written) if token in ends), len(written))
        tokens, reason = written[:length], "stop" if length < len(written) else "length"
        text = self._text(request, prompt, tokens)
        hits = [(text.find(stop), stop) for stop in request.sampling.stop if stop in text]
        if hits:
            position, stop = min(hits)
            text, reason = text[:position], "stop_string"
            # Tokens after the stop string are padding of a row that waited for its batch.
            while stop in self._text(request, prompt, tokens[:-1]):
                tokens = tokens[:-1]
        logprobs = None
        if recorder is not None:
            logprobs = tuple(
                tuple(zip(ids[row].tolist(), [round(value, 4) for value in values[row].tolist()], strict=True))
                for ids, values in recorder.steps[: len(tokens)]
            )
        return Generation(request.id, text, tuple(tokens), reason, logprobs)

    def _text(self, request: Request, prompt: PromptIds, tokens: Sequence[int]) -> str:
        """Decode; after a prefill with a little context, because some tokenizers drop the space before a first word."""
        if not request.prefill:  # nor is the space part of the answer that SentencePiece puts before its first word
            return self._renderer.decode(tokens).removeprefix(prompt.dropped or " ")
        for length in (4, 32, len(prompt.ids)):
            context = prompt.ids[-length:]
            before = self._renderer.decode(context)
            if "\ufffd" not in before:  # else it begins within a character, which can spoil the ones after it
                break
        return self._renderer.decode([*context, *tokens])[len(before) :].removeprefix(prompt.dropped)
