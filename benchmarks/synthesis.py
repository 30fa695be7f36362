"""Rationale synthesis: Lingraft's `transformers` engine against plain `model.generate` in arrival order.

python benchmarks/synthesis.py [--quick] [--json] [--pairs FILE --from de --to en]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import all_versions, build_result, device_name, load_pairs, parser, positive, radis_for, run
from transformers import GenerationConfig

from lingraft.data.records import Request
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model

FULL = {"rows": 96, "new_tokens": 96, "repeats": 3}
QUICK = {"rows": 48, "new_tokens": 48, "repeats": 1}
WARM_UP_TOKENS = 4


@dataclass(frozen=True)
class Written:
    """What one pass wrote: token ids by request id (without end token), all tokens (with it), and its cost.

    `seconds` is wall time, `cpu_seconds` the processor time of the process, which other work disturbs less.
    """

    ids: dict[str, tuple[int, ...]]
    tokens: int
    seconds: float
    cpu_seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Tokens a second of processor time."""
        return self.tokens / self.cpu_seconds


def timed(write: Callable[[], tuple[dict[str, tuple[int, ...]], int]]) -> Written:
    """Run what returns ids and number of tokens, and time it."""
    began, cpu = time.perf_counter(), time.process_time()
    ids, tokens = write()
    return Written(ids, tokens, time.perf_counter() - began, time.process_time() - cpu)


def with_engine(engine: TransformersEngine, requests: Sequence[Request]) -> Written:
    """Answer the requests with Lingraft's engine."""

    def write() -> tuple[dict[str, tuple[int, ...]], int]:
        answers = list(engine.generate(requests))
        tokens = sum(len(answer.token_ids) + (answer.finish_reason == "stop") for answer in answers)
        return {answer.id: answer.token_ids for answer in answers}, tokens

    return timed(write)


def with_plain_generate(loaded: LoadedModel, requests: Sequence[Request], batch_rows: int) -> Written:
    """Answer the requests as a short script would: arrival order, left padding, `model.generate`.

    Tokenising and decoding are timed too, as in the engine.
    """
    renderer = loaded.renderer
    model: Any = loaded.model  # its stubs do not know `generate`
    ends = set(renderer.end_ids)

    def write() -> tuple[dict[str, tuple[int, ...]], int]:
        ids: dict[str, tuple[int, ...]] = {}
        tokens = 0
        for start in range(0, len(requests), batch_rows):
            batch = requests[start : start + batch_rows]
            prompts = [renderer.prompt_ids(request.messages, request.prefill).ids for request in batch]
            width = max(map(len, prompts))
            input_ids = torch.tensor([[renderer.pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts])
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
            with torch.inference_mode():
                output = model.generate(
                    input_ids=input_ids.to(loaded.device),
                    attention_mask=mask.to(loaded.device),
                    generation_config=GenerationConfig(
                        do_sample=False,
                        max_new_tokens=batch[0].sampling.max_new_tokens,
                        eos_token_id=list(renderer.end_ids),
                        pad_token_id=renderer.pad_id,
                    ),
                )
            for request, row in zip(batch, output[:, width:].tolist(), strict=True):
                length = next((i for i, token in enumerate(row) if token in ends), len(row))
                ids[request.id] = tuple(row[:length])
                tokens += length + (length < len(row))
                renderer.decode(row[:length])
        return ids, tokens

    return timed(write)


def compare_texts(loaded: LoadedModel, requests: Sequence[Request], ours: Written, peer: Written) -> dict[str, Any]:
    """Return how far two greedy passes agree, and how near the choice was where they part.

    Returns:
        `equal_outputs`: share of requests with the same tokens on both sides. `first_difference`: for the others, the
        position (from 0) of the first token that differs, and the gap between the two tokens there in nats: one pass
        over the text in common, in float32. In bfloat16, logits from 16 to 32 are multiples of 0.125: a gap of a few
        such steps is a tie.
    """
    positions: list[int] = []
    gaps: list[float] = []
    end = loaded.renderer.end_of_turn_id
    exact = load_model(loaded.files, "fp32", loaded.device)
    model: Any = exact.model
    for request in requests:
        one, two = ours.ids[request.id], peer.ids[request.id]
        if one == two:
            continue
        at = next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
        prompt = loaded.renderer.prompt_ids(request.messages, request.prefill).ids
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*prompt, *one[:at]]], device=loaded.device)).logits[0, -1].float()
        first, second = (float(logits[text[at] if at < len(text) else end]) for text in (one, two))
        positions.append(at)
        gaps.append(abs(first - second))
    found: dict[str, Any] = {"equal_outputs": round(1 - len(positions) / len(requests), 3)}
    if positions:
        found["first_difference"] = {
            "earliest": min(positions),
            "median": statistics.median(positions),
            "median_gap_nats": round(statistics.median(gaps), 4),
            "largest_gap_nats": round(max(gaps), 4),
        }
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    size = QUICK if options.quick else FULL
    rows, repeats = options.rows or size["rows"], options.repeats or size["repeats"]
    new_tokens = options.new_tokens or size["new_tokens"]
    pairs = load_pairs(options.pairs, options.source, options.target, rows)
    method, inputs = radis_for(pairs, new_tokens)
    requests = list(method.requests(inputs))
    loaded = load_model(find_model(options.model))
    engine = TransformersEngine(loaded, max_batch=options.batch_rows)
    short = [
        replace(request, sampling=replace(request.sampling, max_new_tokens=min(WARM_UP_TOKENS, new_tokens)))
        for request in requests[: options.batch_rows]
    ]
    with_engine(engine, short)
    with_plain_generate(loaded, short, options.batch_rows)
    ours: list[Written] = []
    peer: list[Written] = []
    for repetition in range(repeats):
        for mine in (True, False) if repetition % 2 == 0 else (False, True):
            if mine:
                ours.append(with_engine(engine, requests))
            else:
                peer.append(with_plain_generate(loaded, requests, options.batch_rows))
            written = (ours if mine else peer)[-1]
            print(f"{'ours' if mine else 'peer'}: {written.rate:.1f} tokens/s", file=sys.stderr)
    prompts = [len(loaded.renderer.prompt_ids(request.messages, request.prefill).ids) for request in requests]
    middle = [statistics.median(written.cpu_rate for written in side) for side in (ours, peer)]
    return build_result(
        "synthesis",
        [written.rate for written in ours],
        {"model.generate": [written.rate for written in peer]},
        unit="tokens/s",
        n=len(requests),
        device=device_name(loaded.device),
        package_versions=all_versions(),
        details={
            "model": options.model,
            "dtype": loaded.dtype,
            "batch_rows": options.batch_rows,
            "max_new_tokens": new_tokens,
            "prompt_tokens": sum(prompts),
            "generated_tokens": {"ours": ours[0].tokens, "model.generate": peer[0].tokens},
            "cpu_time_ratio": round(middle[0] / middle[1], 3),
            **compare_texts(loaded, requests, ours[0], peer[0]),
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("tokens/s of rationale synthesis: Lingraft's engine against plain model.generate")
    options.add_argument("--new-tokens", type=positive, help="longest rationale in tokens")
    options.add_argument("--batch-rows", type=positive, default=16, help="rows decoded at once, both sides")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
