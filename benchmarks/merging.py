"""Merging models weight by weight: peak memory, and how far the numbers are from mergekit's.

python benchmarks/merging.py --mergekit /path/to/its/venv/bin/python

Two models are made from the base by moving all of its numbers at random. Memory is that of the process beyond what it
has once its libraries are imported, without pages of files, as the system counts it. mergekit (LGPL-3.0) has an
environment of its own; without --mergekit only whole state dicts are compared with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from common import SEED, all_versions, build_result, device_name, parser, run
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lingraft.core.errors import UsageError
from lingraft.merging.base import MERGERS
from lingraft.merging.dare import Dare
from lingraft.models.files import find_model

METHODS: Mapping[str, tuple[Mapping[str, Any], str, Mapping[str, Any]]] = {
    "linear": ({"kind": "linear", "weights": [0.25, 0.75]}, "linear", {"weight": [0.25, 0.75]}),
    "slerp": ({"kind": "slerp", "t": 0.3}, "slerp", {"t": 0.3}),
    "task_arithmetic": (
        {"kind": "task_arithmetic", "weights": [0.5, 0.75], "scale": 0.8},
        "task_arithmetic",
        {"weight": [0.5, 0.75], "lambda": 0.8},
    ),
    "ties": (
        {"kind": "ties", "density": 0.3, "weights": [1.0, 0.5]},
        "ties",
        {"weight": [1.0, 0.5], "density": [0.3, 0.3]},
    ),
    "dare": ({"kind": "dare", "density": 0.4, "rescale": False, "seed": 3}, "dare", {}),
}
"""Merger -> its parameters here, mergekit's name of it, and its parameters there: of the whole, or one a model."""

OURS = """
import json, sys
import torch
from pathlib import Path
from lingraft.merging.base import MERGERS
from lingraft.merging.plan import given, planned
from lingraft.merging.results import write_checkpoint
from lingraft.merging.stream import merged
from lingraft.models.files import find_model
import transformers.models.llama.modeling_llama
torch.set_num_threads(1)
merger, base, models, out, checked = json.loads(sys.argv[1])
print("ready", flush=True)
made, base, models = MERGERS.create(merger), find_model(base), [given(one) for one in models]
if checked:
    merged(made, base, models, Path(out), "checkpoint")
else:
    Path(out).mkdir()
    write_checkpoint(planned(made, base, models), Path(out), Path(out) / "note.json", lambda done, total: None)
"""
WHOLE = """
import json, sys
import torch
from pathlib import Path
from safetensors.torch import load_file, save_file
torch.set_num_threads(1)
base, models, out = json.loads(sys.argv[1])
print("ready", flush=True)
first, *others = ({name: one.clone() for name, one in load_file(Path(folder) / "model.safetensors").items()}
                  for folder in (base, *models))
total = {name: one + sum(other[name] - one for other in others) for name, one in first.items()}
Path(out).mkdir()
save_file(total, Path(out) / "model.safetensors", {"format": "pt"})
"""
MERGEKIT = """
import json, sys
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
torch.set_num_threads(1)
config, out = json.loads(sys.argv[1])
print("ready", flush=True)
run_merge(MergeConfiguration.model_validate(config), out, options=MergeOptions(quiet=True, lazy_unpickle=True))
"""
SAME_DRAWS = """
import json, sys
import torch
from safetensors.torch import load_file, save_file
from mergekit.sparsify import bernoulli
base, models, out, density, seeds = json.loads(sys.argv[1])
print("ready", flush=True)
total = load_file(base)
start = {name: one.clone() for name, one in total.items()}
for path, own in zip(models, seeds):
    for name, one in load_file(path).items():
        torch.manual_seed(own[name])
        total[name] += bernoulli(one - start[name], density)
save_file(total, out)
"""


def moved(base: Path, folder: Path, seed: int, limit: int) -> Path:
    """Write a copy of a model whose numbers were all moved at random, and return its folder.

    Args:
        base: folder of the model, with one file of weights.
        folder: to write.
        seed: of the numbers; 0 moves nothing.
        limit: weights that are kept, 0 for all; with fewer the folder holds no model, but weights alone.
    """
    folder.mkdir(parents=True)
    for path in base.iterdir():
        if path.suffix in (".json", ".jinja") and path.name != "manifest.json":
            (folder / path.name).write_bytes(path.read_bytes())
    generator = torch.Generator().manual_seed(seed)
    found = {name: one.float() for name, one in load_file(base / "model.safetensors").items()}
    for name in sorted(found)[:limit] if seed and limit else sorted(found) if seed else ():
        found[name] = found[name] + 0.02 * torch.randn(found[name].shape, generator=generator)
    save_file(found, folder / "model.safetensors", {"format": "pt"})
    return folder


def peak(python: str, program: str, given: Sequence[Any]) -> tuple[float, float]:
    """Run a program and return the most memory that it took (MiB) beyond what it had when it was ready, and seconds.

    Raises:
        UsageError: it failed.
    """
    started = [python, "-c", program, json.dumps(given)]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ready = process.stdout.readline()
        begun, first, most = time.monotonic(), anonymous(process.pid), 0.0
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(0.005)
        seconds = time.monotonic() - begun
        if ready.strip() != "ready" or process.returncode:
            raise UsageError(f"{python} failed: {process.stderr.read().strip().splitlines()[-1:]}")
    return most - first, seconds


def anonymous(process: int) -> float:
    """Return the memory of a process that no file stands behind, in MiB; 0 where it has ended."""
    try:
        text = Path(f"/proc/{process}/status").read_text("utf-8")
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in text.splitlines() if line.startswith("RssAnon")), 0.0)


def config_of(method: str, base: Path, models: Sequence[Path]) -> dict[str, Any]:
    """Return mergekit's configuration of a method."""
    _, name, parameters = METHODS[method]
    each = {key: value for key, value in parameters.items() if isinstance(value, list)}
    listed = [
        {"model": str(model), "parameters": {key: value[n] for key, value in each.items()}}
        for n, model in enumerate(models)
    ]
    found = {
        "merge_method": name,
        "models": listed,
        "dtype": "float32",
        "parameters": {key: value for key, value in parameters.items() if not isinstance(value, list)},
    }
    if name == "slerp":
        return found | {"base_model": str(models[0])}
    return found if name == "linear" else found | {"base_model": str(base)}


def differences(one: Path, other: Path) -> float:
    """Return the largest difference between the numbers of two files of weights."""
    with safe_open(one, "pt") as first, safe_open(other, "pt") as second:
        names = {*first.keys(), *second.keys()} - {"lm_head.weight"}  # written by some where it is the embeddings
        return max(float((first.get_tensor(name) - second.get_tensor(name)).abs().max()) for name in names)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Merge with ours and with the others, and compare."""
    files = find_model(options.model)
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        root = Path(folder)
        base, one, other = (moved(files.folder, root / name, n, 0) for n, name in enumerate(("base", "one", "other")))
        models, python = [one, other], options.mergekit
        weights = base / "model.safetensors"
        with safe_open(weights, "pt") as opened:
            sizes = [opened.get_slice(name).get_shape() for name in opened.keys()]  # noqa: SIM118
        largest = max(torch.Size(size).numel() for size in sizes) * 4 / 2**20
        agreement, ours, checked, whole, theirs, seconds = {}, [], [], [], [], {}
        for method, (params, _, _) in METHODS.items():
            mine = root / f"ours-{method}"
            used, seconds[method] = peak(
                sys.executable, OURS, [params, str(base), [str(model) for model in models], str(mine), False]
            )
            if method == "task_arithmetic":
                ours.append(used)
                out = str(root / "checked")
                given = [params, str(base), [str(model) for model in models], out, True]
                checked.append(peak(sys.executable, OURS, given)[0])
                whole.append(peak(sys.executable, WHOLE, [str(base), [str(m) for m in models], str(root / "whole")])[0])
            if not python:
                continue
            their = root / f"mergekit-{method}"
            if method == "dare":
                merger = MERGERS.create(params)
                assert isinstance(merger, Dare)
                with safe_open(weights, "pt") as opened:
                    seeds = [{name: merger.drawn(name, n) for name in opened.keys()} for n in range(2)]  # noqa: SIM118
                their.mkdir()
                paths = [str(model / "model.safetensors") for model in models]
                target = str(their / "model.safetensors")
                peak(python, SAME_DRAWS, [str(weights), paths, target, merger.params.density, seeds])
            else:
                used, seconds[f"mergekit {method}"] = peak(
                    python, MERGEKIT, [config_of(method, base, models), str(their)]
                )
                if method == "task_arithmetic":
                    theirs.append(used)
            found = sorted(their.glob("*.safetensors"))
            if len(found) != 1:
                raise UsageError(f"mergekit has written {len(found)} files of weights; take a smaller --model")
            agreement[method] = differences(mine / "model.safetensors", found[0])
    peers = {**({"mergekit": theirs} if theirs else {}), "whole state dicts": whole}
    return build_result(
        "merging",
        ours,
        peers,
        unit="MiB",
        n=len(sizes),
        device=device_name(torch.device("cpu")),
        package_versions=all_versions("safetensors"),
        details={
            "peak_mib": {
                "weights alone": round(ours[0]),
                "with the comparison of logits": round(checked[0]),
            },
            "largest_weight_mib": round(largest),
            "peak_in_largest_weights": round(ours[0] / largest, 2),
            "largest_difference_from_mergekit": {name: f"{value:.1e}" for name, value in agreement.items()},
            "seconds": {name: round(value, 1) for name, value in seconds.items()},
        },
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and return its exit code."""
    made = parser(__doc__.splitlines()[0])
    made.add_argument("--mergekit", help="Python of the environment that mergekit is installed in")
    made.add_argument("--scratch", help="folder for the models that are made; some 5 times the base")
    return run(measure, made.parse_args(arguments))


if __name__ == "__main__":
    torch.manual_seed(SEED)
    sys.exit(main())
