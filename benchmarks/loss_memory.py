"""Memory of the loss: Lingraft's chunks of supervised positions against the logits of a whole batch.

python benchmarks/loss_memory.py [--quick] [--json]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from common import SEED, all_versions, build_result, device_name, run
from torch import nn
from torch.nn import functional as F

from lingraft.core.errors import LingraftError
from lingraft.models.devices import resolve_dtype
from lingraft.models.output_head import OutputHead
from lingraft.training.losses import Targets, span_loss

HIDDEN = 576
CASES = {"49 k": (49_152, 4096), "256 k": (256_000, 1024)}  # vocabulary, positions: about as many logits
QUICK_POSITIONS = {"49 k": 2048, "256 k": 512}
SIDES = ("ours", "full logits")
FULL_REPEATS = 3


def resident_mb(peak: bool = False) -> float:
    """Return the resident memory of this process in MiB, or its highest value since `forget_peak`."""
    field = "VmHWM" if peak else "VmRSS"
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    if found is None:
        raise LingraftError(f"/proc/self/status does not tell {field}; run this benchmark on Linux")
    return int(found[1]) / 1024


def forget_peak() -> None:
    """Let the highest resident size begin at the present one (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", "utf-8")


def loss_of(side: str, hidden: torch.Tensor, labels: torch.Tensor, module: nn.Linear) -> torch.Tensor:
    """Return the summed cross-entropy of all positions, by Lingraft or from float32 logits as transformers does."""
    if side == "full logits":
        return F.cross_entropy(module(hidden)[0].float(), labels, reduction="sum")
    count = len(labels)
    targets = Targets(
        positions=torch.arange(count),
        labels=labels,
        weights=torch.ones(count),
        roles=torch.zeros(count, dtype=torch.long),
        role_names=("translation",),
        segments=(("ce", 0, count),),
    )
    return span_loss(hidden, targets, OutputHead(module)).total


def trial(side: str, vocabulary: int, positions: int) -> dict[str, float]:
    """Return the memory that forward and backward take beyond what was there before, in MiB, and the loss."""
    torch.manual_seed(SEED)
    dtype = resolve_dtype("auto", torch.device("cpu"))
    module = nn.Linear(HIDDEN, vocabulary, bias=False, dtype=dtype).requires_grad_(False)
    hidden = torch.randn(1, positions, HIDDEN, dtype=dtype).requires_grad_()
    labels = torch.randint(vocabulary, (positions,))
    loss_of(side, hidden[:, :8], labels[:8], module).backward()  # what kernels allocate once is no part of it
    before = resident_mb()
    forget_peak()
    total = loss_of(side, hidden, labels, module)
    total.backward()
    return {"peak_mb": resident_mb(peak=True) - before, "loss": total.item() / positions}


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
    """Return the result of the benchmark."""
    peaks: dict[str, dict[str, list[float]]] = {case: {side: [] for side in SIDES} for case in CASES}
    sizes = QUICK_POSITIONS if options.quick else {case: positions for case, (_, positions) in CASES.items()}
    gaps = []
    for _ in range(1 if options.quick else FULL_REPEATS):
        for case, (vocabulary, _) in CASES.items():
            losses = []
            for side in SIDES:
                found = in_new_process(side, vocabulary, sizes[case])
                peaks[case][side].append(found["peak_mb"])
                losses.append(found["loss"])
            gaps.append(abs(losses[0] - losses[1]) / losses[1])
    headline, *others = CASES
    middle = {case: {side: statistics.median(peaks[case][side]) for side in SIDES} for case in CASES}
    return build_result(
        "loss_memory",
        peaks[headline]["ours"],
        {"full logits": peaks[headline]["full logits"]},
        unit="MiB",
        n=sizes[headline],
        device=device_name(torch.device("cpu")),
        package_versions=all_versions(),
        details={
            "dtype": str(resolve_dtype("auto", torch.device("cpu"))).removeprefix("torch."),
            "vocabulary": CASES[headline][0],
            "supervised_share": 1.0,
            "larger_vocabularies": {
                case: {
                    "n": sizes[case],
                    **{side: round(middle[case][side], 2) for side in SIDES},
                    "ratio": round(middle[case]["ours"] / middle[case]["full logits"], 3),
                }
                for case in others
            },
            "largest_relative_gap_between_losses": max(gaps),
        },
    )


def main() -> int:
    """Run the benchmark, or one trial of it, from the command line."""
    made = argparse.ArgumentParser(description="peak memory of loss and gradient: Lingraft against full logits")
    made.add_argument("--quick", action="store_true", help="half the positions, once: under a minute")
    made.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    made.add_argument("--trial", nargs=3, metavar=("SIDE", "VOCABULARY", "POSITIONS"), help=argparse.SUPPRESS)
    options = made.parse_args()
    if options.trial:
        print(json.dumps(trial(options.trial[0], int(options.trial[1]), int(options.trial[2]))))
        return 0
    return run(measure, options)


if __name__ == "__main__":
    sys.exit(main())
