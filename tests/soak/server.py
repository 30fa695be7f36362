"""Soak of `lingraft serve`: clients that come, stall, leave and send garbage; the honest ones must be served.

    python tests/soak/server.py [--minutes 60] [--clients 50] [--seed 1] [--model NAME] [--every 30] [--log FILE]
                                [--engine openai]

The server runs in a process of its own, on a tiny random model unless another is named. With `--engine openai` it
stands before a second one, which has the model; with `--engine vllm` vLLM writes. A fifth of the clients each is
honest, reads nothing of long answers, sends byte by byte, leaves at any moment, or sends garbage. Each honest one comes
from an address of its own, all of another kind from one, and does as `Retry-After` says. Prints service of the honest
ones, and memory and descriptors of the server over time. Exit code 1 if an honest client was refused for good, or
memory or descriptors are not flat.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil

TESTS = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "support")]

PATH = "/v1/chat/completions"
WORDS = [
    "the",
    "weather",
    "today",
    "is",
    "fine",
    "and",
    "we",
    "go",
    "to",
    "see",
    "how",
    "a",
    "river",
    "finds",
    "its",
    "way",
    "through",
    "old",
    "towns",
]
ALLOWED_GROWTH = 1.05
"""Of memory, from the middle third of the time to the last one."""
SPARE = 24
"""Megabytes, and descriptors, that may come and go."""
PATIENCE = 600.0


@dataclass
class Service:
    """What happened.

    Attributes:
        seconds: of each honest answer, from its first request on. refused: honest requests that were told to wait.
        failed: honest requests that came to nothing, by reason. others: what the other clients met.
    """

    port: int
    chance: random.Random
    until: float
    seconds: list[float] = field(default_factory=list)
    refused: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until


def body(chance: random.Random, words: int, tokens: int, *, stream: bool) -> bytes:
    """Return a request whose prompt has a length of its own."""
    text = " ".join(chance.choice(WORDS) for _ in range(chance.randint(1, words)))
    data = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens, "stream": stream}
    sent = json.dumps(data).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(sent)}\r\n"
    )
    return head.encode() + b"\r\n" + sent


@contextlib.asynccontextmanager
async def connected(service: Service, address: str, limit: int = 1 << 16):
    """Yield a reader and a writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port, local_addr=(address, 0), limit=limit)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def response(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    """Read a response with its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" in headers:
        return int(first.split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
    data = b""
    while size := int((await reader.readline()).strip() or b"0", 16):
        data += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return int(first.split()[1]), headers, data


async def honest(service: Service, number: int) -> None:
    """Ask, wait for the answer, and ask again after a pause."""
    address = f"127.0.1.{number % 250 + 1}"
    chance = random.Random(service.chance.random())
    while not service.over:
        begun, stream = time.monotonic(), chance.random() < 0.5
        data = body(chance, 150, 24, stream=stream)
        while True:
            try:
                async with asyncio.timeout(PATIENCE), connected(service, address) as (reader, writer):
                    writer.write(data)
                    status, headers, found = await response(reader)
            except (OSError, EOFError, TimeoutError) as error:
                service.failed[type(error).__name__] += 1
                break
            if status == 503:
                service.refused += 1
                await asyncio.sleep(float(headers["retry-after"]))
                continue
            whole = found.endswith(b"data: [DONE]\n\n") if stream else b'"finish_reason"' in found
            if status == 200 and whole:
                service.seconds.append(time.monotonic() - begun)
            else:
                service.failed[f"status {status}" if status != 200 else "cut off"] += 1
            break
        await asyncio.sleep(chance.uniform(0, 2))


async def staller(service: Service, number: int) -> None:
    """Ask for long answers, one behind the other, and read nothing."""
    chance = random.Random(service.chance.random())
    while not service.over:
        with contextlib.suppress(OSError):
            async with connected(service, "127.0.0.2", limit=1) as (reader, writer):
                reader._transport.pause_reading()  # type: ignore[attr-defined]
                for _ in range(chance.randint(1, 20)):
                    writer.write(body(chance, 50, 256, stream=True))
                await asyncio.sleep(chance.uniform(1, 60))
                service.others["stalled"] += 1


async def slow(service: Service, number: int) -> None:
    """Send a request byte by byte."""
    chance = random.Random(service.chance.random())
    while not service.over:
        with contextlib.suppress(OSError):
            async with connected(service, "127.0.0.3") as (_, writer):
                for byte in body(chance, 100, 8, stream=False):
                    if writer.transport.is_closing():
                        service.others["slow ones closed"] += 1
                        break
                    writer.write(bytes([byte]))
                    await asyncio.sleep(chance.uniform(0, 0.6))


async def leaver(service: Service, number: int) -> None:
    """Leave in the midst of a request, or of its answer."""
    chance = random.Random(service.chance.random())
    while not service.over:
        with contextlib.suppress(OSError):
            async with connected(service, "127.0.0.4") as (_, writer):
                data = body(chance, 1500, 256, stream=chance.random() < 0.5)
                writer.write(data if chance.random() < 0.7 else data[: chance.randrange(len(data))])
                await asyncio.sleep(chance.expovariate(2))
                service.others["left"] += 1


async def vandal(service: Service, number: int) -> None:
    """Send what is no request, or not what it says."""
    chance = random.Random(service.chance.random())
    while not service.over:
        with contextlib.suppress(OSError):
            async with connected(service, "127.0.0.5") as (reader, writer):
                data = bytearray(body(chance, 50, 8, stream=False))
                kind = chance.randrange(5)
                if kind == 0:
                    data = bytearray(chance.randbytes(chance.randint(1, 5000)))
                elif kind == 1:
                    for _ in range(chance.randint(1, 9)):
                        data[chance.randrange(len(data))] = chance.randrange(256)
                elif kind == 2:
                    data = data.replace(b"Content-Length: ", b"Content-Length: 9")
                elif kind == 3:
                    data = bytearray(b"GET / HTTP/1.1\r\nX: " + b"x" * chance.randint(1, 100_000))
                else:
                    data = data.replace(b'"user"', chance.choice([b'"tool"', b"[1]", b"null", b'"\\ud800"']))
                writer.write(bytes(data))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(chance.uniform(0, 5)):
                        await reader.read(4096)
                service.others["garbage"] += 1
        await asyncio.sleep(chance.uniform(0, 0.5))


KINDS = (honest, staller, slow, leaver, vandal)


async def watch(
    process: psutil.Process, service: Service, every: float, samples: list[tuple[float, float, int]]
) -> None:
    """Note memory (MB) and descriptors of the server."""
    begun = time.monotonic()
    while not service.over:
        await asyncio.sleep(every)
        memory, open_ = process.memory_info().rss / 1e6, process.num_fds()
        samples.append((time.monotonic() - begun, memory, open_))
        print(
            f"{samples[-1][0]:7.0f} s {memory:8.0f} MB {open_:5} descriptors {len(service.seconds):7} answers "
            f"{service.refused:6} told to wait failed: {dict(service.failed)}",
            flush=True,
        )


async def soak(process: psutil.Process, port: int, arguments: argparse.Namespace) -> int:
    """Let clients loose; return the exit code."""
    service = Service(port, random.Random(arguments.seed), time.monotonic() + 60 * arguments.minutes)
    before, samples = process.num_fds(), list[tuple[float, float, int]]()
    async with asyncio.TaskGroup() as group:
        group.create_task(watch(process, service, arguments.every, samples))
        for number in range(arguments.clients):
            group.create_task(KINDS[number % len(KINDS)](service, number))
    for _ in range(100):  # until the server has seen that all have left
        if process.num_fds() <= before + 2:
            break
        await asyncio.sleep(1)
    after = process.num_fds()
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    grown = statistics.median(at[1] for at in last) / statistics.median(at[1] for at in middle)
    most = max(at[2] for at in samples)
    print(f"\nhonest: {len(service.seconds)} answers, {service.refused} told to wait, failed: {dict(service.failed)}")
    if len(service.seconds) > 1:
        cuts = statistics.quantiles(service.seconds, n=20)
        print(f"  seconds: median {statistics.median(service.seconds):.2f}, 95th percentile {cuts[-1]:.2f}")
    print(f"others: {dict(service.others)}")
    at_first, then, at_last = (samples[place][1] for place in (0, third, -1))
    print(f"memory: {at_first:.0f} MB at first, {then:.0f} after a third, {at_last:.0f} at the end;")
    print(f"  last third to middle third {grown:.3f}; descriptors: {before} before, at most {most}, {after} after")
    flat = grown <= ALLOWED_GROWTH or statistics.median(at[1] for at in last) - samples[third][1] < SPARE
    tight = most <= before + arguments.clients + SPARE and after <= before + 2
    return 0 if flat and tight and service.seconds and not service.failed else 1


@contextlib.contextmanager
def serving(model: str, log: Path, *options: str):
    """Run a server; yield its process and port."""
    command = [sys.executable, "-m", "lingraft", "serve", "--model", model, "--port", "0", *options]
    with log.open("wb") as stream:
        server = subprocess.Popen(command, stderr=stream, env={**os.environ, "TOKENIZERS_PARALLELISM": "false"})
    try:
        while " at http://" not in (text := log.read_text("utf-8")):
            assert server.poll() is None, text
            time.sleep(0.2)
        yield server, int(text.split(" at http://")[1].split("/v1")[0].rpartition(":")[2])
    finally:
        server.kill()


def main() -> None:
    """Parse the arguments, start the server, and soak it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", help="a base; by default a tiny random one")
    parser.add_argument("--every", type=float, default=30, help="seconds between two lines")
    parser.add_argument("--engine", choices=("transformers", "openai", "vllm"), default="transformers")
    parser.add_argument("--log", type=Path, help="file for the server's own lines")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # which ends the server, too
    from models_support import save_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or str(save_tiny_model(Path(folder) / "tiny"))
        log = arguments.log or Path(folder) / "log"
        with contextlib.ExitStack() as stack:
            engine = [] if arguments.engine == "transformers" else ["--engine", arguments.engine]
            if arguments.engine == "openai":
                _, behind = stack.enter_context(serving(model, Path(folder) / "behind"))
                engine += ["--engine-param", f"base_url=http://127.0.0.1:{behind}/v1"]
            server, port = stack.enter_context(serving(model, log, *engine))
            code = asyncio.run(soak(psutil.Process(server.pid), port, arguments))
            print(f"log: {log.stat().st_size / 1e6:.2f} MB, {log.read_text('utf-8').count('Traceback')} tracebacks")
            server.send_signal(signal.SIGTERM)
            code = server.wait(60) or code
    print("flat, and the honest ones were served" if code == 0 else f"NOT flat, or not served (exit code {code})")
    sys.exit(code)


if __name__ == "__main__":
    main()
