"""Batching: Lingraft's trainer with rows packed end to end against rows padded to buckets of similar length.

python benchmarks/batching.py [--quick] [--json] [--method vanilla|radis] [--pairs FILE --from de --to en]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import SEED, all_versions, build_result, device_name, load_pairs, parser, run

from lingraft.core.errors import DataError
from lingraft.models.files import find_model
from lingraft.models.loading import LoadedModel, load_model
from lingraft.rendering.rows import Rendered
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from training import ROWS_PER_STEP, WARM_UP_ROWS, radis_rows, vanilla_rows

FULL = {"rows": 64, "repeats": 3}
QUICK = {"rows": 16, "repeats": 1}
LAYOUTS = ("packed", "padded")


@dataclass(frozen=True)
class Trial:
    """One training run: seconds on the clock and of the processor, tokens computed, and the losses of its steps."""

    seconds: float
    cpu_seconds: float
    computed: int
    losses: tuple[float, ...]


def trained(load: Callable[[], LoadedModel], rows: Sequence[Rendered], batching: str, folder: Path) -> Trial:
    """Train in one layout: Lingraft's defaults, with as many tokens a step as 16 rows have on average."""
    loaded = load()
    tokens = sum(len(row.input_ids) for row in rows)
    settings = TrainSettings.model_validate(
        {"batching": batching, "tokens_per_step": max(1, round(tokens / len(rows) * ROWS_PER_STEP))}
    )
    tuner = LoraTuner(LoraTuner.Params())
    began = time.process_time()
    result = train(loaded.model, rows, settings, tuner, pad_id=loaded.renderer.pad_id, work_dir=folder, seed=SEED)
    spent = time.process_time() - began
    if result.packed != (batching == "packed"):
        raise DataError(f"rows were not {batching}; the rates cannot be compared")
    return Trial(result.seconds, spent, result.computed_tokens, tuple(point.loss for point in result.log))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    size = QUICK if options.quick else FULL
    files = find_model(options.model)
    load = partial(load_model, files)  # each run gets fresh weights
    loaded = load()
    pairs = load_pairs(options.pairs, options.source, options.target, options.rows or size["rows"])
    rows = (vanilla_rows if options.method == "vanilla" else radis_rows)(pairs, loaded.renderer)
    device, dtype = loaded.device, loaded.dtype
    del loaded
    done: dict[str, list[Trial]] = {layout: [] for layout in LAYOUTS}
    with tempfile.TemporaryDirectory() as scratch:
        for repetition in range(-1, options.repeats or size["repeats"]):  # -1: warm-up
            for layout in LAYOUTS if repetition % 2 == 0 else LAYOUTS[::-1]:
                chosen = rows if repetition >= 0 else rows[:WARM_UP_ROWS]
                trial = trained(load, chosen, layout, Path(scratch) / f"{repetition}-{layout}")
                if repetition >= 0:
                    done[layout].append(trial)
                    print(f"{layout}: {trial.seconds:.1f} s, {trial.cpu_seconds:.1f} s of processor", file=sys.stderr)
    lengths = [len(row.input_ids) for row in rows]
    rates = {layout: [sum(lengths) / trial.seconds for trial in trials] for layout, trials in done.items()}
    spent = {layout: statistics.median(trial.cpu_seconds for trial in trials) for layout, trials in done.items()}
    gaps = [abs(a - b) for a, b in zip(done["packed"][0].losses, done["padded"][0].losses, strict=True)]
    return build_result(
        "batching",
        rates["packed"],
        {"padded": rates["padded"]},
        unit="real tokens/s",
        n=len(rows),
        device=device_name(device),
        package_versions=all_versions(),
        details={
            "model": options.model,
            "dtype": dtype,
            "method": options.method,
            "row_tokens": dict(
                zip(("min", "median", "max"), np.percentile(lengths, (0, 50, 100)).tolist(), strict=True)
            ),
            "real_tokens": sum(lengths),
            "computed_tokens": {layout: trials[0].computed for layout, trials in done.items()},
            "cpu_seconds": {layout: round(seconds, 2) for layout, seconds in spent.items()},
            "ratio_of_cpu_seconds": round(spent["padded"] / spent["packed"], 3),
            "largest_gap_between_losses": round(max(gaps), 5),
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("real tokens/s of LoRA training: packed rows against padded rows")
    options.add_argument("--method", choices=("vanilla", "radis"), default="radis", help="what the rows hold")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
