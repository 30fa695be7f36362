"""Memory and processor time of each objective of tokens: loss and gradient, against plain cross-entropy.

python benchmarks/objectives.py [--quick] [--json]

Both sides are Lingraft's chunked loss. The pass of the base that some objectives need is not in it: its states are
given.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from common import SEED, all_versions, build_result, device_name, run
from loss_memory import HIDDEN, forget_peak, resident_mb
from torch import nn

from lingraft.core.errors import LingraftError
from lingraft.models.devices import resolve_dtype
from lingraft.models.output_head import OutputHead
from lingraft.training.losses import Targets, span_loss
from lingraft.training.objectives import OBJECTIVES, TokenObjective

PLAIN = "cross-entropy"
CASES = {"49 k": (49_152, 2048), "256 k": (256_000, 512)}  # vocabulary, positions
QUICK_POSITIONS = {"49 k": 1024, "256 k": 256}
FULL_REPEATS = 3


def measured() -> list[str]:
    """Return the names of the objectives of tokens."""
    return [name for name in OBJECTIVES if issubclass(OBJECTIVES.get(name), TokenObjective)]


def trial(side: str, vocabulary: int, positions: int) -> dict[str, float]:
    """Return the memory, in MiB, that loss and gradient take beyond what was there before, and their seconds."""
    torch.manual_seed(SEED)
    dtype = resolve_dtype("auto", torch.device("cpu"))
    module = nn.Linear(HIDDEN, vocabulary, bias=False, dtype=dtype).requires_grad_(False)
    hidden = torch.randn(1, positions, HIDDEN, dtype=dtype).requires_grad_()
    base = torch.randn(1, positions, HIDDEN, dtype=dtype)
    labels = torch.randint(vocabulary, (positions,))
    made: list[Any] = [] if side == PLAIN else [OBJECTIVES.create({"kind": side, "on": "both"})]

    def once(count: int) -> None:
        targets = Targets(
            positions=torch.arange(count),
            labels=labels[:count],
            weights=torch.ones(count),
            roles=torch.zeros(count, dtype=torch.long),
            role_names=("translation",),
            segments=(("ce", 0, count),),
        )
        head = OutputHead(module)
        span_loss(hidden[:, :count], targets, head, base_hidden=base[:, :count], objectives=made).total.backward()

    once(8)  # what kernels allocate once is no part of it
    before = resident_mb()
    forget_peak()
    began = time.process_time()
    once(positions)
    return {"peak_mb": resident_mb(peak=True) - before, "seconds": time.process_time() - began}


def in_new_process(side: str, vocabulary: int, positions: int) -> dict[str, float]:
    """Return the result of a trial in a process of its own, whose memory holds nothing else."""
    command = [sys.executable, __file__, "--trial", side, str(vocabulary), str(positions)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed, probably for lack of memory"])[-1]
        raise LingraftError(f"the trial of {side} with {vocabulary} tokens failed: {reason}")
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark; its headline is the objective that needs most."""
    sides = [PLAIN, *measured()]
    sizes = QUICK_POSITIONS if options.quick else {case: positions for case, (_, positions) in CASES.items()}
    found: dict[str, dict[str, list[dict[str, float]]]] = {case: {side: [] for side in sides} for case in CASES}
    for _ in range(1 if options.quick else FULL_REPEATS):
        for case, (vocabulary, _) in CASES.items():
            for side in sides:
                found[case][side].append(in_new_process(side, vocabulary, sizes[case]))

    def middle(case: str, side: str, what: str) -> float:
        return statistics.median(one[what] for one in found[case][side])

    def ratios(what: str) -> dict[str, dict[str, float]]:
        return {
            case: {side: round(middle(case, side, what) / middle(case, PLAIN, what), 3) for side in sides[1:]}
            for case in CASES
        }

    headline = next(iter(CASES))
    largest = max(sides[1:], key=lambda side: middle(headline, side, "peak_mb"))
    return build_result(
        "objectives",
        [one["peak_mb"] for one in found[headline][largest]],
        {PLAIN: [one["peak_mb"] for one in found[headline][PLAIN]]},
        unit="MiB",
        n=sizes[headline],
        device=device_name(torch.device("cpu")),
        package_versions=all_versions(),
        details={
            "dtype": str(resolve_dtype("auto", torch.device("cpu"))).removeprefix("torch."),
            "largest": largest,
            "memory_ratios": ratios("peak_mb"),
            "processor_time_ratios": ratios("seconds"),
        },
    )


def main() -> int:
    """Run the benchmark, or one trial of it, from the command line."""
    made = argparse.ArgumentParser(description="memory and time of objectives: against plain cross-entropy")
    made.add_argument("--quick", action="store_true", help="half the positions, once: some minutes")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    made.add_argument("--trial", nargs=3, metavar=("SIDE", "VOCABULARY", "POSITIONS"), help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.trial:
        print(json.dumps(trial(options.trial[0], int(options.trial[1]), int(options.trial[2]))))
        return 0
    return run(measure, options)


if __name__ == "__main__":
    sys.exit(main())
