"""Rationale synthesis: Lingraft's `transformers` engine against plain `model.generate` in arrival order.

python benchmarks/synthesis.py [--quick] [--json] [--pairs FILE --from de --to en]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import all_versions, build_result, device_name, load_pairs, parser, positive, radis_for, run
from transformers import GenerationConfig

from lingraft.data.records import Request
from lingraft.engines.transformers import TransformersEngine
from lingraft.models import LoadedModel, find_model, load_model

FULL = {"rows": 96, "new_tokens": 96, "repeats": 3}
QUICK = {"rows": 24, "new_tokens": 32, "repeats": 1}
WARM_UP_TOKENS = 4


@dataclass(frozen=True)
class Written:
    """What one pass wrote: token ids by request id (without end token), all tokens (with it), and its duration."""

    ids: dict[str, tuple[int, ...]]
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


def with_engine(engine: TransformersEngine, requests: Sequence[Request]) -> Written:
    """Answer the requests with Lingraft's engine."""
    began = time.perf_counter()
    answers = list(engine.generate(requests))
    seconds = time.perf_counter() - began
    tokens = sum(len(answer.token_ids) + (answer.finish_reason == "stop") for answer in answers)
    return Written({answer.id: answer.token_ids for answer in answers}, tokens, seconds)


def with_plain_generate(loaded: LoadedModel, requests: Sequence[Request], batch_rows: int) -> Written:
    """Answer the requests as a short script would: arrival order, left padding, `model.generate`.

    Tokenising and decoding are timed too, as in the engine.
    """
    renderer = loaded.renderer
    model: Any = loaded.model  # its stubs do not know `generate`
    ends = set(renderer.end_ids)
    ids: dict[str, tuple[int, ...]] = {}
    tokens = 0
    began = time.perf_counter()
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
    return Written(ids, tokens, time.perf_counter() - began)


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
    equal = sum(ours[0].ids[request.id] == peer[0].ids[request.id] for request in requests) / len(requests)
    prompts = [len(loaded.renderer.prompt_ids(request.messages, request.prefill).ids) for request in requests]
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
            "equal_outputs": round(equal, 3),
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
