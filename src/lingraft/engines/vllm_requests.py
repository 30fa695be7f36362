"""What vLLM is asked with, and how its log-probabilities are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lingraft.core.hashing import seed_of
from lingraft.data.records import Request, Sampling
from lingraft.engines.finishing import TopLogprobs

if TYPE_CHECKING:
    from vllm import SamplingParams

    from lingraft.engines.token_streams import StreamRequest


def sampling_params(request: Request, end_ids: Iterable[int]) -> SamplingParams:
    """Return vLLM's parameters of a request: greedy or sampled as asked, ending at `end_ids` and its own ends alone.

    Those of the checkpoint's `generation_config.json` are among `end_ids`. `ignore_eos` leaves it at that: vLLM would
    add the end of the tokenizer that it loads itself.
    """
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampling: Sampling = request.sampling
    sampled = sampling.temperature > 0
    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p if sampled else 1.0,
        seed=seed_of([sampling.seed, request.id]) if sampled else None,
        max_tokens=sampling.max_new_tokens,
        stop=list(sampling.stop),
        stop_token_ids=[*end_ids, *request.ends],
        ignore_eos=True,
        logprobs=request.top_logprobs or None,
        flat_logprobs=True,
        detokenize=bool(sampling.stop),  # only to find stop strings: the text is decoded once, at the end
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def streamed_params(request: StreamRequest) -> SamplingParams:
    """Return vLLM's parameters of a text whose tokens are given as they come."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    sampled = request.temperature > 0
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p if sampled else 1.0,
        seed=seed_of([request.seed, list(request.ids)]) if sampled else None,
        max_tokens=request.most,
        stop_token_ids=list(request.ends),
        ignore_eos=True,
        logprobs=request.top,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )


def top_logprobs(flat: Any, k: int) -> list[TopLogprobs]:
    """Return per token the `k` best from vLLM's `FlatLogprobs`, where the token written stands before them."""
    starts = [start + 1 for start in flat.start_indices]
    return [
        tuple(zip(flat.token_ids[at : at + k], (round(value, 4) for value in flat.logprobs[at : at + k]), strict=True))
        for at in starts
    ]
