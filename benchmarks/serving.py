"""What `lingraft serve` makes of its engine: tokens/s of 1, 8 and 32 clients at once against the engine's own batch.

python benchmarks/serving.py [--quick] [--json] [--clients 1 8 32] [--graft FOLDER]

The server runs in a process of its own and is asked over HTTP, answers streamed; the engine answers the same requests
in this process, in turns with it. Each client sends its next request when the last one is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from common import all_versions, build_result, device_name, load_pairs, parser, positive, run

from lingraft.core.errors import EngineError
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.loading import load_model

FULL = {"rows": 96, "tokens": 96, "repeats": 3}
QUICK = {"rows": 32, "tokens": 48, "repeats": 1}
PATH = "/v1/chat/completions"
AT_ONCE = 32


@dataclass(frozen=True)
class Served:
    """What clients got in one repetition.

    Attributes:
        seconds: of all of it.
        cpu: seconds of processor that the server took.
        tokens: written.
        first: seconds of each answer to its first text.
        whole: seconds of each answer to its end.
    """

    seconds: float
    cpu: float
    tokens: int
    first: list[float]
    whole: list[float]


@contextmanager
def server(model: str, graft: str | None) -> Iterator[tuple[str, psutil.Process]]:
    """Run a server; yield its address and process.

    Raises:
        EngineError: it does not start.
    """
    what = ["--graft", graft] if graft else ["--model", model]
    command = [sys.executable, "-m", "lingraft", "serve", *what, "--port", "0", "--queue", str(AT_ONCE)]
    environment = {name: value for name, value in os.environ.items() if name != "LINGRAFT_API_KEY"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        line = next((line for line in process.stderr if " at http://" in line), "")
        if not line:
            raise EngineError("the server did not start; start `lingraft serve` by hand to see why")
        yield line.split(" at ")[1].split("/v1")[0], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate()


async def ask(http: httpx2.AsyncClient, text: str, most: int) -> tuple[int, float | None, float]:
    """Return tokens of one streamed answer, seconds to its first text (None if it has none), and to its end."""
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": most, "stream": True}
    body["stream_options"] = {"include_usage": True}
    begun, first, tokens = time.perf_counter(), None, 0
    async with http.stream("POST", PATH, json=body) as response:
        if response.status_code != 200:
            raise EngineError(f"the server answered with status {response.status_code}; lower --clients")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if first is None and any(choice["delta"].get("content") for choice in chunk["choices"]):
                first = time.perf_counter() - begun
            tokens = chunk["usage"]["completion_tokens"] if chunk.get("usage") else tokens
    return tokens, first, time.perf_counter() - begun


async def clients(url: str, process: psutil.Process, texts: Sequence[str], most: int, count: int) -> Served:
    """Let clients share some requests."""
    waiting, found = list(reversed(texts)), list[tuple[int, float | None, float]]()

    async def client(http: httpx2.AsyncClient) -> None:
        while waiting:
            found.append(await ask(http, waiting.pop(), most))

    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(base_url=url, timeout=None, limits=limits, trust_env=False) as http:
        before, begun = process.cpu_times(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(client(http))
        seconds, after = time.perf_counter() - begun, process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    first = [one for _, one, _ in found if one is not None]
    return Served(seconds, cpu, sum(tokens for tokens, _, _ in found), first, [whole for _, _, whole in found])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    size = QUICK if options.quick else FULL
    most, repeats = options.tokens or size["tokens"], options.repeats or size["repeats"]
    pairs = load_pairs(options.pairs, options.source, options.target, options.rows or size["rows"])
    texts = [f"Translate into English, and explain each word: {pair.source}" for pair in pairs]
    requests = [
        Request(str(number), (Message("user", text),), Sampling(max_new_tokens=most))
        for number, text in enumerate(texts)
    ]
    counts: list[int] = options.clients
    own: list[float] = []
    own_cpu: list[float] = []
    served: dict[int, list[Served]] = {count: [] for count in counts}
    graft = Path(options.graft) if options.graft else None
    loaded = load_model(find_model(options.model))
    engine = TransformersEngine(loaded, max_batch=AT_ONCE)
    with engine.keeping(graft), server(options.model, options.graft) as (url, process):
        list(engine.generate(requests[:AT_ONCE], graft))
        asyncio.run(clients(url, process, texts[:AT_ONCE], most, max(counts)))  # warm-up
        for repetition in range(repeats):
            begun, cpu = time.perf_counter(), time.process_time()
            written = sum(len(one.token_ids) for one in engine.generate(requests, graft))
            own.append(written / (time.perf_counter() - begun))
            own_cpu.append(written / (time.process_time() - cpu))
            print(f"{repetition + 1}: engine {own[-1]:.1f} tokens/s", file=sys.stderr)
            for count in counts:
                few = texts if count > 1 else texts[: max(2, len(texts) // 8)]
                found = asyncio.run(clients(url, process, few, most, count))
                served[count].append(found)
                rate, first = found.tokens / found.seconds, statistics.median(found.first)
                print(f"{repetition + 1}: {count} clients {rate:.1f} tokens/s, first {first:.2f} s", file=sys.stderr)
    full = served[max(counts)]
    return build_result(
        "serving",
        [one.tokens / one.seconds for one in full],
        {"the engine's own batch": own},
        unit="tokens/s",
        n=len(texts),
        device=device_name(loaded.device),
        package_versions=all_versions("starlette", "uvicorn"),
        details={
            "model": options.model,
            "dtype": loaded.dtype,
            "most_tokens": most,
            "ratio_by_processor_time": round(
                statistics.median(one.tokens / one.cpu for one in full) / statistics.median(own_cpu), 3
            ),
            **{f"{count}_clients": summary(found) for count, found in served.items()},
        },
    )


def summary(found: Sequence[Served]) -> dict[str, float]:
    """Return the medians of some clients' repetitions."""
    return {
        "tokens/s": round(statistics.median(one.tokens / one.seconds for one in found), 1),
        "requests/s": round(statistics.median(len(one.whole) / one.seconds for one in found), 2),
        "median seconds to first text": round(statistics.median(s for one in found for s in one.first), 2),
        "median seconds of an answer": round(statistics.median(s for one in found for s in one.whole), 2),
    }


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("tokens/s of the endpoint's clients against the engine's own batch")
    options.add_argument("--clients", type=positive, nargs="+", default=[1, 8, AT_ONCE], help="at once")
    options.add_argument("--tokens", type=positive, help="most tokens of an answer")
    options.add_argument("--graft", help="folder of a graft")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
