"""Data: pairs from a file to planned training steps, at growing sizes: rate, memory, and whether a pair's cost stays.

python benchmarks/data.py [--quick] [--json] [--model MODEL]

Each size runs the stages of a recipe (read, check, find duplicates and overlap with the test set, mix, make examples,
render, plan) in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import SEED, STARTER, all_versions, build_result, device_name, run

from lingraft.core.environment import peak_memory_mb
from lingraft.core.errors import LingraftError
from lingraft.core.progress import Reporter
from lingraft.data.readers import PairSource, read_pairs
from lingraft.data.records import Rejected
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.render import render_system
from lingraft.pipeline.synthesise import synthesise
from lingraft.recipe.load import parse_recipe
from lingraft.training.batching import plan_steps

SIZES = (10_000, 100_000, 1_000_000)
WARM_UP = 1_000
TEST_SEGMENTS = 2_000
WORDS_IN_A_SENTENCE = (6, 30)
DUPLICATES, OVERLAPS, BAD = 0.01, 0.005, 0.01


def sentences(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield German and English sentences of about equal length, made of the starter pairs' words in random order."""
    rows = read_pairs(PairSource(path=STARTER, source="de", target="en"))
    known = [row.record for row in rows if not isinstance(row, Rejected)]
    german = [word for pair in known for word in pair.source.split()]
    english = [word for pair in known for word in pair.target.split()]
    rng = np.random.default_rng(seed)
    for _ in range(count):
        length = int(rng.integers(*WORDS_IN_A_SENTENCE))
        source = [german[i] for i in rng.integers(0, len(german), length)]
        target = [english[i] for i in rng.integers(0, len(english), length + int(rng.integers(0, 4)))]
        yield " ".join(source), " ".join(target)


def write_pairs(folder: Path, count: int) -> None:
    """Write `train.jsonl` and `test.jsonl`; shares of the training rows are duplicates, in the test set, or bad."""
    tests = list(sentences(TEST_SEGMENTS, SEED))
    with (folder / "test.jsonl").open("w", encoding="utf-8") as stream:
        for source, target in tests:
            stream.write(json.dumps({"source": source, "target": target}, ensure_ascii=False) + "\n")
    rng = np.random.default_rng(SEED)
    earlier = tests[:1]
    with (folder / "train.jsonl").open("w", encoding="utf-8") as stream:
        for number, (source, target) in enumerate(sentences(count, SEED + 1)):
            draw = rng.random()
            if draw < DUPLICATES:
                source, target = earlier[int(rng.integers(len(earlier)))]
            elif draw < DUPLICATES + OVERLAPS:
                source, target = tests[int(rng.integers(len(tests)))]
            elif draw < DUPLICATES + OVERLAPS + BAD:
                bad = (source, ""), (source, source), (source, "a\x07" + target), (target, target)
                source, target = bad[number % 4]
            elif len(earlier) < 1_000:
                earlier.append((source, target))
            stream.write(json.dumps({"source": source, "target": target}, ensure_ascii=False) + "\n")


def high_water_mb() -> float:
    """Return the largest resident memory of this process; where the system says it, without what came before `exec`."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_memory_mb()
    line = next(line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def work(folder: Path, model: str, limit: int | None = None) -> dict[str, Any]:
    """Run the stages on the files of a folder; return seconds (of the processor and of the clock) and counts.

    Starting up (imports, the tokenizer) is not timed.
    """
    languages = {"source": "de", "target": "en"}
    recipe = parse_recipe(
        {
            "name": "data",
            "model": model,
            "pairs": {
                "train": {"path": str(folder / "train.jsonl"), "limit": limit, **languages},
                "test": {"path": str(folder / "test.jsonl"), **languages},
            },
            "stages": [{"method": "vanilla"}],
            "evaluate": {"retention": {"suites": []}},
        },
        "benchmark",
        folder,
    )
    context = Context(recipe, folder / f"run-{limit}", Reporter(quiet=True))
    context.renderer.count("")  # loads the tokenizer
    seconds: dict[str, tuple[float, float]] = {}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        begun = time.process_time(), time.perf_counter()
        found = call()
        seconds[name] = time.process_time() - begun[0], time.perf_counter() - begun[1]
        return found

    data = timed("check", lambda: prepare(context))
    (system,) = recipe.systems()
    rendered = timed("render", lambda: render_system(context, data, synthesise(context, data, system)))
    rows, settings = rendered.rows, system.stage.train
    plan = timed(
        "plan",
        lambda: plan_steps(
            rows.lengths,
            rows.supervised,
            tokens_per_step=settings.tokens_per_step,
            micro_tokens=settings.micro_tokens,
            epochs=1,
            seed=SEED,
        ),
    )
    return {
        "cpu": {name: cpu for name, (cpu, _) in seconds.items()},
        "wall": {name: wall for name, (_, wall) in seconds.items()},
        "rows": len(rows),
        "tokens": plan.tokens,
        "steps": len(plan),
        "rejected": next(iter(data.counts.values())),
    }


def worker(folder: Path, model: str) -> None:
    """Run once on a few pairs, so that everything is loaded, then on all; print the result."""
    work(folder, model, limit=WARM_UP)
    before = high_water_mb()
    result = work(folder, model)
    print(json.dumps(result | {"memory_before_mb": before, "memory_peak_mb": high_water_mb()}))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    found: dict[int, dict[str, Any]] = {}
    for size in SIZES[:2] if options.quick else SIZES:
        with tempfile.TemporaryDirectory() as scratch:
            write_pairs(Path(scratch), size)
            command = [sys.executable, __file__, "--worker", scratch, "--model", options.model]
            # One thread, so that the time is that of one core.
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            raise LingraftError(f"the run on {size:,} pairs ended with exit code {done.returncode}; see above")
        found[size] = json.loads(done.stdout)
        print(f"{size:,} pairs: {size / sum(found[size]['cpu'].values()):,.0f} pairs/s", file=sys.stderr)
    rate = {size: size / sum(result["cpu"].values()) for size, result in found.items()}
    smallest, largest = min(rate), max(rate)
    by_size = {
        f"{size:,}": {
            "pairs_per_second": round(rate[size]),
            "pairs_per_second_by_the_clock": round(size / sum(result["wall"].values())),
            **{f"{name}_per_second": round(size / cpu) for name, cpu in result["cpu"].items()},
            "memory_before_mb": round(result["memory_before_mb"]),
            "memory_peak_mb": round(result["memory_peak_mb"]),
            "rows": result["rows"],
            "tokens": result["tokens"],
            "steps": result["steps"],
            "rejected": result["rejected"],
        }
        for size, result in found.items()
    }
    grown = found[largest]["memory_peak_mb"] - found[smallest]["memory_peak_mb"]
    return build_result(
        "data",
        [rate[largest]],
        {f"{smallest:,} pairs": [rate[smallest]]},
        unit="pairs/s of one core",
        n=largest,
        device=device_name(torch.device("cpu")),
        package_versions=all_versions("tokenizers"),
        details={
            "model": options.model,
            "cost_per_pair_ratio": round(rate[smallest] / rate[largest], 3),
            "bytes_per_pair": round(grown * 2**20 / (largest - smallest)),
            "sizes": by_size,
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = argparse.ArgumentParser(description="pairs/s and memory from a file to planned steps, at growing sizes")
    options.add_argument("--quick", action="store_true", help="up to 100,000 pairs: under 3 minutes")
    options.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    options.add_argument("--model", default="smollm2-135m-instruct", help="alias, folder or hub id of the tokenizer")
    options.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.worker:
        worker(chosen.worker, chosen.model)
        return 0
    return run(measure, chosen)


if __name__ == "__main__":
    sys.exit(main())
