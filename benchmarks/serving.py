"""What `lingraft serve` makes of its engine: tokens/s of 1, 8 and 32 clients at once against the engine alone.

python benchmarks/serving.py [--quick] [--json] [--clients 1 8 32] [--graft FOLDER] [--engine vllm]

The server runs in a process of its own and is asked over HTTP, answers streamed, in turns with the engine alone. That
is of `transformers` its own batch, in this process; of `vllm` and `openai` vLLM's own server, asked by as many clients.
Each client sends its next request when the last one is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from common import all_versions, build_result, device_name, load_pairs, parser, positive, run

from lingraft.core.errors import EngineError
from lingraft.data.records import Message, Request, Sampling
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.devices import best_device
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
def server(model: str, graft: str | None, engine: Sequence[str] = ()) -> Iterator[tuple[str, psutil.Process]]:
    """Run a server; yield its address and process.

    Raises:
        EngineError: it does not start.
    """
    what = ["--graft", graft, "--model", model] if graft else ["--model", model]
    command = [sys.executable, "-m", "lingraft", "serve", *what, "--port", "0", "--queue", str(AT_ONCE), *engine]
    environment = {name: value for name, value in os.environ.items() if name != "LINGRAFT_API_KEY"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    try:
        line = next((line for line in process.stderr if " at http://" in line), "")
        if not line:
            raise EngineError("the server did not start; start `lingraft serve` by hand to see why")
        # What it says from now on is read, so that it never waits for that.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield line.split(" at ")[1].split("/v1")[0], psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextmanager
def vllm_server(model: str, graft: str | None) -> Iterator[tuple[str, psutil.Process]]:
    """Run vLLM's own server, the graft called `mine` there; yield its address and process.

    Raises:
        EngineError: it does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--model", str(find_model(model).folder), "--served-model-name", "base", "--max-num-seqs", str(AT_ONCE)]
    command += ["--generation-config", "vllm", "--disable-log-stats"]
    if graft:
        command += ["--enable-lora", "--lora-modules", f"mine={graft}"]
    environment = {"VLLM_CPU_KVCACHE_SPACE": "1", **os.environ}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        while not _answers(url):
            if process.poll() is not None:
                raise EngineError("vLLM's server did not start; start `vllm serve` by hand to see why")
            time.sleep(1)
        yield url, psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _answers(url: str) -> bool:
    try:
        return bool(httpx2.get(f"{url}/health", trust_env=False, timeout=5).status_code == 200)
    except httpx2.TransportError:
        return False


def seconds_of(process: psutil.Process) -> float:
    """Return the seconds of processor that a process and those that it started have taken."""
    family = [process, *process.children(recursive=True)]
    return sum(times.user + times.system for times in (one.cpu_times() for one in family))


async def ask(http: httpx2.AsyncClient, model: str, text: str, most: int) -> tuple[int, float | None, float]:
    """Return tokens of one streamed answer, seconds to its first text (None if it has none), and to its end."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": most, "temperature": 0}
    body |= {"stream": True, "stream_options": {"include_usage": True}}
    begun, first, tokens = time.perf_counter(), None, 0
    async with http.stream("POST", PATH, json=body) as response:
        if response.status_code != 200:
            raise EngineError(f"the server answered with status {response.status_code}; lower --clients")
        async for line in response.aiter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if first is None and any(choice["delta"].get("content") for choice in chunk.get("choices", ())):
                first = time.perf_counter() - begun
            tokens = chunk["usage"]["completion_tokens"] if chunk.get("usage") else tokens
    return tokens, first, time.perf_counter() - begun


async def clients(
    url: str, process: psutil.Process, texts: Sequence[str], most: int, count: int, model: str = ""
) -> Served:
    """Let clients share some requests."""
    waiting, found = list(reversed(texts)), list[tuple[int, float | None, float]]()

    async def client(http: httpx2.AsyncClient, name: str) -> None:
        while waiting:
            found.append(await ask(http, name, waiting.pop(), most))

    limits = httpx2.Limits(max_connections=count)
    async with httpx2.AsyncClient(base_url=url, timeout=None, limits=limits, trust_env=False) as http:
        name = model or (await http.get("/v1/models")).json()["data"][0]["id"]
        before, begun = seconds_of(process), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(client(http, name))
        seconds, cpu = time.perf_counter() - begun, seconds_of(process) - before
    first = [one for _, one, _ in found if one is not None]
    return Served(seconds, cpu, sum(tokens for tokens, _, _ in found), first, [whole for _, _, whole in found])


Turn = Callable[[Sequence[str], int], Served]
"""Has some texts answered for so many clients."""


@contextmanager
def own_batch(options: argparse.Namespace, most: int) -> Iterator[tuple[Turn, str, str]]:
    """Yield the engine `transformers` in this process, which answers all in one batch, whatever the clients; the device
    and the type of the weights."""
    graft = Path(options.graft) if options.graft else None
    loaded = load_model(find_model(options.model))
    engine = TransformersEngine(loaded, max_batch=AT_ONCE)

    def turn(texts: Sequence[str], count: int) -> Served:
        sampling = Sampling(max_new_tokens=most)
        requests = [Request(str(i), (Message("user", text),), sampling) for i, text in enumerate(texts)]
        begun, cpu = time.perf_counter(), time.process_time()
        written = sum(len(one.token_ids) for one in engine.generate(requests, graft))
        return Served(time.perf_counter() - begun, time.process_time() - cpu, written, [], [])

    with engine.keeping(graft):
        yield turn, device_name(loaded.device), loaded.dtype


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    size = QUICK if options.quick else FULL
    most, repeats = options.tokens or size["tokens"], options.repeats or size["repeats"]
    pairs = load_pairs(options.pairs, options.source, options.target, options.rows or size["rows"])
    texts = [f"Translate into English, and explain each word: {pair.source}" for pair in pairs]
    counts: list[int] = options.clients
    alone: dict[int, list[Served]] = {count: [] for count in counts}
    served: dict[int, list[Served]] = {count: [] for count in counts}
    batch = options.engine == "transformers"
    with ExitStack() as stack:
        device, dtype = device_name(best_device()), "bfloat16 or float32, as vLLM chooses"
        behind: list[str] = []
        if batch:
            peer, device, dtype = stack.enter_context(own_batch(options, most))
        else:
            address, theirs = stack.enter_context(vllm_server(options.model, options.graft))
            peer = turn_of(address, theirs, most, "mine" if options.graft else "base")
            behind = ["--engine", options.engine]
            if options.engine == "openai":
                known = ["model=base", f"base_url={address}/v1", *(["grafts={'*': mine}"] if options.graft else [])]
                behind += [word for one in known for word in ("--engine-param", one)]
            else:
                behind += ["--engine-param", f"max_num_seqs={AT_ONCE}"]
        url, process = stack.enter_context(server(options.model, options.graft, behind))
        ours = turn_of(url, process, most)
        for turn in (peer, ours):
            turn(texts[:AT_ONCE], max(counts))  # warm-up
        for repetition in range(repeats):
            for count in counts:
                few = texts if count > 1 else texts[: max(2, len(texts) // 8)]
                if not batch or count == max(counts):
                    alone[count].append(peer(few, count))
                    _say(repetition, f"{count} clients, engine alone", alone[count][-1])
                served[count].append(ours(few, count))
                _say(repetition, f"{count} clients, lingraft serve", served[count][-1])
    full, own = served[max(counts)], alone[max(counts)]
    return build_result(
        "serving",
        [one.tokens / one.seconds for one in full],
        {PEERS[options.engine]: [one.tokens / one.seconds for one in own]},
        unit="tokens/s",
        n=len(texts),
        device=device,
        package_versions=all_versions("starlette", "uvicorn", *([] if batch else ["vllm"])),
        details={
            "model": options.model,
            "engine": options.engine,
            "dtype": dtype,
            "most_tokens": most,
            "ratio_by_processor_time": round(_median_of_cpu(full) / _median_of_cpu(own), 3),
            **{f"{count}_clients": summary(found) for count, found in served.items()},
            **({} if batch else {f"{count}_clients_alone": summary(found) for count, found in alone.items()}),
        },
    )


PEERS = {"transformers": "the engine's own batch", "vllm": "vllm serve", "openai": "vllm serve, asked directly"}


def turn_of(url: str, process: psutil.Process, most: int, model: str = "") -> Turn:
    """Return what lets clients ask a server."""
    return lambda texts, count: asyncio.run(clients(url, process, texts, most, count, model))


def _median_of_cpu(found: Sequence[Served]) -> float:
    return statistics.median(one.tokens / one.cpu for one in found)


def _say(repetition: int, what: str, found: Served) -> None:
    first = f", first text after {statistics.median(found.first):.2f} s" if found.first else ""
    print(f"{repetition + 1}: {what}: {found.tokens / found.seconds:.1f} tokens/s{first}", file=sys.stderr)


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
    options = parser("tokens/s of the endpoint's clients against the engine alone")
    options.add_argument("--clients", type=positive, nargs="+", default=[1, 8, AT_ONCE], help="at once")
    options.add_argument("--tokens", type=positive, help="most tokens of an answer")
    options.add_argument("--graft", help="folder of a graft")
    options.add_argument("--engine", choices=list(PEERS), default="transformers", help="that writes for the server")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
