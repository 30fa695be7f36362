"""What the translation chain of thought costs: a graft's answers through English against native ones of equal length.

python benchmarks/chain_latency.py --graft runs/transllm-th/graft [--direct GRAFT] [--questions FILE --language th]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import all_versions, build_result, device_name, positive, run
from pydantic import ValidationError
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from lingraft.conversation.chain import Caps
from lingraft.conversation.opening import open_model
from lingraft.conversation.stream import stream_reply
from lingraft.conversation.writing import Done, TokenWriter
from lingraft.core.errors import DataError, UsageError
from lingraft.data.readers import PromptSource, read_prompts
from lingraft.data.records import NATIVE, QUERY, REPLY, Message, Prompt, Rejected
from lingraft.models.loading import LoadedModel
from lingraft.translation.markers import Markers

FULL = {"rows": 16, "repeats": 3}
QUICK = {"rows": 4, "repeats": 1}
STARTER = "starter:prompts.en-th.jsonl"
GENERATE, SAME_LOOP = "model.generate", "same loop"
"""The peers: plain transformers, and the loop that writes the chain, asked for the native part alone."""


@dataclass(frozen=True)
class Answered:
    """One answer: seconds to the first visible token and to the end, processor time, and tokens by role."""

    first: float
    seconds: float
    cpu: float
    tokens: dict[str, int]


class FirstToken(BaseStreamer):
    """Notes when the first token was written; the prompt comes first."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: torch.Tensor) -> None:
        """A token, or the prompt."""
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Nothing more comes."""


def questions(path: str, language: str, rows: int) -> list[Prompt]:
    """Return the first questions of a file: its column of the language, where it has one (`instruction_th`).

    Raises:
        UsageError: an unknown language. DataError: fewer questions than asked for.
    """
    given = {"lang": language, "limit": rows}
    try:
        described = PromptSource(path=path, **given)
        if path == STARTER:
            described = PromptSource(path=path, fields={"prompt": f"instruction_{language}"}, **given)
    except ValidationError as error:
        raise UsageError(f"--questions or --language: {error.errors()[0]['msg']}") from error
    found = [row.record for row in read_prompts(described) if not isinstance(row, Rejected)][:rows]
    if len(found) < rows:
        raise DataError(f"{path} holds {len(found)} questions, not {rows}; lower --rows")
    return found


def through_chain(
    loaded: LoadedModel, messages: Sequence[Message], markers: Markers, caps: Caps, language: str
) -> Answered:
    """Answer as `lingraft chat` and `serve` do."""
    cpu = time.process_time()
    *_, done = stream_reply(loaded, messages, markers, caps, lang=language)
    cpu = time.process_time() - cpu
    if not isinstance(done, Done):
        raise UsageError("the stream did not end with its answer; this is an error in the benchmark")
    timing = done.timing
    return Answered(
        timing.first_visible or timing.total, timing.total, cpu, {part.role: part.tokens for part in done.segments}
    )


def by_generate(loaded: LoadedModel, messages: Sequence[Message], tokens: int) -> Answered:
    """Write a number of tokens with plain `model.generate`; an end of the turn is not taken for one."""
    model: Any = loaded.model  # its stubs do not know `generate`
    began, cpu, stamps = time.perf_counter(), time.process_time(), FirstToken()
    ids = torch.tensor([loaded.renderer.prompt_ids(messages).ids], device=loaded.device)
    with torch.inference_mode():
        settings = GenerationConfig(do_sample=False, max_new_tokens=tokens, eos_token_id=None, pad_token_id=0)
        output = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings, streamer=stamps
        )
    loaded.renderer.decode(output[0, ids.shape[1] :].tolist())
    seconds = time.perf_counter() - began
    return Answered(stamps.times[1] - began, seconds, time.process_time() - cpu, {NATIVE: tokens})


def by_same_loop(loaded: LoadedModel, messages: Sequence[Message], tokens: int) -> Answered:
    """Write a number of tokens with the loop that writes the chain."""
    began, cpu = time.perf_counter(), time.process_time()
    writer = TokenWriter(loaded, loaded.renderer.prompt_ids(messages).ids)
    first, written = 0.0, list[int]()
    while len(written) < tokens:
        written.append(writer.propose())
        first = first or time.perf_counter() - began
        writer.accept(written[-1])
    loaded.renderer.decode(written)
    return Answered(first, time.perf_counter() - began, time.process_time() - cpu, {NATIVE: tokens})


def ratios(chain: Sequence[Answered], direct: Sequence[Answered]) -> dict[str, Any]:
    """Return what a chain costs in multiples of the direct answers to the same questions; above 1 is dearer."""
    return {
        "first_visible": round(statistics.median(a.first / b.first for a, b in zip(chain, direct, strict=True)), 2),
        "seconds": round(sum(a.seconds for a in chain) / sum(b.seconds for b in direct), 2),
        "cpu_seconds": round(sum(a.cpu for a in chain) / sum(b.cpu for b in direct), 2),
        "tokens": round(sum(sum(a.tokens.values()) for a in chain) / sum(b.tokens[NATIVE] for b in direct), 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    size = QUICK if options.quick else FULL
    repeats = options.repeats or size["repeats"]
    caps = Caps(options.query_tokens, options.english_tokens, options.native_tokens)
    asked = questions(options.questions, options.language, options.rows or size["rows"])
    with ExitStack() as stack:
        loaded, markers = stack.enter_context(open_model(options.graft, options.model))
        if markers is None:
            raise UsageError(f"{options.graft} answers directly; give a graft whose chat is tcot")
        peer = stack.enter_context(open_model(options.direct, options.model))[0] if options.direct else loaded
        # Greedy chains are the same each time: the first pass warms up, and says how long the native parts are.
        lengths = {}
        for prompt in asked:
            made = through_chain(loaded, prompt.messages, markers, caps, options.language)
            if made.tokens.get(NATIVE, 0) > 1:
                lengths[prompt.id] = made.tokens[NATIVE]
        kept = [prompt for prompt in asked if prompt.id in lengths]
        if not kept:
            raise DataError("no answer of the graft has a native part; raise the limits, or take another graft")
        sides: dict[str, Callable[[Prompt], Answered]] = {
            "chain": lambda one: through_chain(loaded, one.messages, markers, caps, options.language),
            GENERATE: lambda one: by_generate(peer, one.messages, lengths[one.id]),
            SAME_LOOP: lambda one: by_same_loop(peer, one.messages, lengths[one.id]),
        }
        for side in (GENERATE, SAME_LOOP):
            sides[side](kept[0])
        passes: dict[str, list[list[Answered]]] = {side: [] for side in sides}
        for repetition in range(repeats):
            rows: dict[str, list[Answered]] = {side: [] for side in sides}
            for number, prompt in enumerate(kept):  # side by side, so that other work disturbs all alike
                for side in sorted(sides, reverse=bool((repetition + number) % 2)):
                    rows[side].append(sides[side](prompt))
            for side, answers in rows.items():
                passes[side].append(answers)
            spent = ", ".join(f"{side} {sum(one.seconds for one in rows[side]):.1f} s" for side in sides)
            print(f"{repetition + 1} of {repeats}: {spent}", file=sys.stderr)
        flat = {side: [one for answers in passes[side] for one in answers] for side in sides}
        tokens = {
            role: round(statistics.mean(one.tokens.get(role, 0) for one in flat["chain"]), 1)
            for role in (QUERY, REPLY, NATIVE)
        }

        def rates(side: str) -> list[float]:
            return [60 * len(answers) / sum(one.seconds for one in answers) for answers in passes[side]]

        return build_result(
            "chain_latency",
            rates("chain"),
            {side: rates(side) for side in (GENERATE, SAME_LOOP)},
            unit="answers/min",
            n=len(kept),
            device=device_name(loaded.device),
            package_versions=all_versions(),
            details={
                "dtype": loaded.dtype,
                "direct": "the same graft" if peer is loaded else str(options.direct.name),
                "without_native_part": len(asked) - len(kept),
                "tokens_per_segment": tokens,
                "seconds_to_first_visible": {
                    side: round(statistics.median(one.first for one in flat[side]), 2) for side in sides
                },
                "seconds_per_answer": {
                    side: round(statistics.mean(one.seconds for one in flat[side]), 2) for side in sides
                },
                "chain_costs": {f"{side}, times": ratios(flat["chain"], flat[side]) for side in (GENERATE, SAME_LOOP)},
            },
        )


def main() -> int:
    """Run the benchmark from the command line."""
    options = argparse.ArgumentParser(description="what answers through English cost against direct ones of one length")
    options.add_argument("--graft", type=Path, required=True, help="folder of a graft whose chat is tcot")
    options.add_argument("--model", help="the base, if it is not where the graft says")
    options.add_argument("--direct", type=Path, help="graft that answers directly, such as native_sft's")
    options.add_argument("--questions", default=STARTER, help="file of questions in the language")
    options.add_argument("--language", default="th", help="code of the language")
    options.add_argument("--rows", type=positive, help="number of questions")
    options.add_argument("--repeats", type=positive, help="repetitions; medians are reported")
    options.add_argument("--query-tokens", type=positive, default=64, help="longest English query")
    options.add_argument("--english-tokens", type=positive, default=64, help="longest English answer")
    options.add_argument("--native-tokens", type=positive, default=64, help="longest native answer")
    options.add_argument("--quick", action="store_true", help="fewer questions, once")
    options.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
