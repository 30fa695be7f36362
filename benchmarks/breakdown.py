"""Where the time of a training step goes: shares of kinds of work, by the profiler of PyTorch.

python benchmarks/breakdown.py [--json] [--kernels plain|fused] [--method vanilla|radis]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import SEED, all_versions, device_name, load_pairs, parser, run
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from lingraft.models.files import find_model
from lingraft.models.loading import load_model
from lingraft.training.settings import TrainSettings
from lingraft.training.step_callback import TrainProgress
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from training import ROWS_PER_STEP, radis_rows, vanilla_rows

ROWS = 48  # three steps, of which the first is left out
PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm")
# The first rule whose word occurs in the name of an operation, or of what called it, decides.
RULES = (
    ("Optimizer", "optimiser"),
    ("clip_grad", "optimiser"),
    ("ChunkedSum", "output head and loss"),
    ("RmsNorm", "norms"),
    ("random_", "dropout"),
    ("bernoulli", "dropout"),
    ("bitwise", "dropout"),
    ("dropout", "dropout"),
    ("bmm", "attention"),
    ("Bmm", "attention"),
    ("oftmax", "attention"),
    ("scaled_dot_product", "attention"),
    ("silu", "SwiGLU, rotary positions, residuals"),
    ("Silu", "SwiGLU, rotary positions, residuals"),
    ("pow", "norms"),
    ("Pow", "norms"),
    ("rsqrt", "norms"),
    ("LoraLinear", "adapters: casts, sums"),
    ("copy_", "copies and casts"),
    ("aten::cat", "copies and casts"),
    ("aten::mul", "SwiGLU, rotary positions, residuals"),
    ("aten::add", "SwiGLU, rotary positions, residuals"),
    ("aten::neg", "SwiGLU, rotary positions, residuals"),
)
OTHER = "Python, the graph, the rest"


def kind(event: FunctionEvent, rank: int, vocabulary: int) -> str:
    """Return the kind of work that an operation does itself, by its name, its shapes and its callers."""
    names: list[str] = []
    node: FunctionEvent | None = event
    while node is not None:
        names.append(node.name)
        node = node.cpu_parent
    if event.name in PRODUCTS[:3] and not any("Optimizer" in name for name in names):
        shapes: Any = event.input_shapes  # of each input, whatever the profiler annotates
        sizes = {size for shape in shapes for size in shape}
        if vocabulary in sizes:
            return "output head and loss"
        return "matrix products of adapters" if rank in sizes else "matrix products of the base"
    for word, group in RULES:
        if any(word in name for name in names):
            return group
    return OTHER


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the shares."""
    loaded = load_model(find_model(options.model))
    pairs = load_pairs(options.pairs, options.source, options.target, options.rows or ROWS)
    rows = (vanilla_rows if options.method == "vanilla" else radis_rows)(pairs, loaded.renderer)
    tokens = sum(len(row.input_ids) for row in rows)
    changes: dict[str, Any] = {"kernels": options.kernels}
    if options.kernels == "plain":
        changes["share_prefix"] = False
    settings = TrainSettings(tokens_per_step=max(1, round(tokens / len(rows) * ROWS_PER_STEP)), **changes)
    profiled = profile(activities=[ProfilerActivity.CPU], record_shapes=True)

    def after_step(progress: TrainProgress) -> None:
        if progress.step == 1:  # the first step sets up much that later ones find
            profiled.start()
        if progress.step == progress.steps:
            profiled.stop()

    with tempfile.TemporaryDirectory() as scratch:
        result = train(
            loaded.model,
            rows,
            settings,
            LoraTuner(LoraTuner.Params()),
            pad_id=loaded.renderer.pad_id,
            work_dir=Path(scratch) / "work",
            seed=SEED,
            progress=after_step,
        )
    vocabulary = int(loaded.model.get_output_embeddings().weight.shape[0])
    spent: Counter[str] = Counter()
    for event in profiled.events():
        spent[kind(event, LoraTuner.Params().rank, vocabulary)] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {
        "name": "breakdown",
        "unit": "share of the time of the operations",
        "n": len(rows),
        "device": device_name(loaded.device),
        "versions": all_versions(),
        "kernels": options.kernels,
        "method": options.method,
        "real_tokens": tokens,
        "computed_tokens": result.computed_tokens,
        "shares": {group: round(time / whole, 3) for group, time in spent.most_common()},
    }


def shown(result: Mapping[str, Any]) -> str:
    """Return the shares, a line each."""
    return "\n".join(f"{100 * share:5.1f} %  {group}" for group, share in result["shares"].items())


def main() -> int:
    """Print the shares."""
    made = parser("where the time of a training step goes")
    made.add_argument("--method", choices=("vanilla", "radis"), default="vanilla", help="what the rows hold")
    made.add_argument("--kernels", choices=("fused", "plain"), default="fused", help="plain also shares no prefix")
    options = made.parse_args()
    return run(measure, options, shown)


if __name__ == "__main__":
    sys.exit(main())
