"""A whole RaDis run: `lingraft run` up to the graft against a script of `model.generate` and TRL's SFTTrainer.

python benchmarks/whole_run.py [--quick] [--json] [--pairs FILE --from de --to en]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
from common import SEED, STARTER, all_versions, build_result, device_name, load_pairs, parser, positive, radis_for, run
from synthesis import with_plain_generate

from lingraft.core.progress import Reporter
from lingraft.data.records import Generation
from lingraft.methods.base import Tally
from lingraft.models.files import find_model
from lingraft.models.loading import load_model
from lingraft.pipeline.context import Context
from lingraft.pipeline.prepare import prepare
from lingraft.pipeline.synthesise import synthesise
from lingraft.pipeline.train import train_system
from lingraft.recipe.load import parse_recipe
from lingraft.recipe.schema import Recipe
from lingraft.store.artefacts import facts
from training import ROWS_PER_STEP, trl_classes, with_trl

FULL = {"rows": 1500, "new_tokens": 96}
QUICK = {"rows": 32, "new_tokens": 32}
STARTER_PAIRS = 400
BATCH_ROWS = 16  # of the script: what one would write for a CPU


@dataclass
class Cost:
    """What one side took: seconds on the clock and of the processor, those of its parts, and what it did."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    parts: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    tokens: int = 0
    supervised_tokens: int = 0

    @contextlib.contextmanager
    def part(self, name: str) -> Any:
        """Time a part."""
        began, cpu = time.perf_counter(), time.process_time()
        yield
        self.parts[name] = round(time.perf_counter() - began, 1)
        self.seconds += time.perf_counter() - began
        self.cpu_seconds += time.process_time() - cpu


def recipe_for(options: argparse.Namespace, rows: int, new_tokens: int, tokens_per_step: int) -> Recipe:
    """Return the recipe of our side; `tokens_per_step` gives as many steps as 16 rows a step."""
    source, target = options.source or "de", options.target or "en"
    train = {"path": options.pairs or STARTER, "source": source, "target": target, "limit": rows}
    return parse_recipe(
        {
            "name": "whole-run",
            "model": options.model,
            "pairs": {
                "train": [{**train, "both_directions": False}],
                "test": [{"path": "starter:test.de-en.jsonl", "source": "de", "target": "en", "limit": 2}],
            },
            "engine": {"kind": "transformers"},
            "stages": [
                {
                    "method": "radis",
                    "params": {"max_rationale_tokens": new_tokens, "filters": []},
                    "train": {"tokens_per_step": tokens_per_step},
                }
            ],
            "evaluate": {"retention": {"suites": []}},
            "seed": SEED,
        },
        "whole_run",
        Path.cwd(),
    )


def ours(recipe: Recipe, folder: Path) -> Cost:
    """Run the stages of `lingraft run` up to the graft, artefacts written to disk and hashed."""
    cost = Cost()
    with Context(recipe, folder, Reporter(quiet=True)) as context:
        with cost.part("read, check, load"):
            data = prepare(context)
            _ = context.loaded
        (system,) = recipe.systems()
        with cost.part("rationales"):
            written = synthesise(context, data, system)
        with cost.part("render and train"):
            trained = train_system(context, data, written)
        record = facts(trained.folder)
        cost.steps, cost.tokens = len(trained.losses), int(record["tokens"])
        cost.supervised_tokens = int(record["supervised_tokens"])
    return cost


def script(options: argparse.Namespace, rows: int, new_tokens: int, folder: Path) -> Cost:
    """Do the same as a short script would: read, `model.generate` in batches in arrival order, TRL's defaults."""
    cost = Cost()
    files = find_model(options.model)
    with cost.part("read, load"):
        pairs = load_pairs(options.pairs, options.source, options.target, rows)
        method, inputs = radis_for(pairs, new_tokens)
        requests = list(method.requests(inputs))
        loaded = load_model(files)
    with cost.part("rationales"):
        written = with_plain_generate(loaded, requests, BATCH_ROWS)
    with cost.part("render and train"):
        texts = {id_: loaded.renderer.decode(list(ids)) for id_, ids in written.ids.items()}
        generations = {id_: Generation(id_, text, (), "stop") for id_, text in texts.items()}
        examples = [loaded.renderer.render(row) for row in method.examples(inputs, generations, Tally())]
        cost.steps = with_trl(lambda: loaded, examples, folder).steps
    cost.tokens = sum(len(row.input_ids) for row in examples)
    cost.supervised_tokens = sum(row.supervised for row in examples)
    return cost


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result: pairs a minute of either side."""
    size = QUICK if options.quick else FULL
    rows = options.rows or (size["rows"] if options.pairs else min(size["rows"], STARTER_PAIRS))
    new_tokens = options.new_tokens or size["new_tokens"]
    trl_classes()  # before any work
    datasets.disable_progress_bars()
    find_model(options.model)  # converted, if it has to be, before anything is timed
    recipe_for(options, rows, new_tokens, 1)  # a wrong option is told before the work, not after half of it
    costs: dict[str, list[Cost]] = {"ours": [], "script": []}
    for _ in range(options.repeats or 1):
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
            folder = Path(scratch)
            # The script comes first: its tokens tell how many make 16 rows.
            peer = script(options, rows, new_tokens, folder / "script")
            print(f"script: {peer.seconds:.0f} s, {peer.parts}", file=sys.stderr)
            recipe = recipe_for(options, rows, new_tokens, max(1, round(peer.tokens / rows * ROWS_PER_STEP)))
            mine = ours(recipe, folder / "ours")
            print(f"ours: {mine.seconds:.0f} s, {mine.parts}", file=sys.stderr)
        costs["ours"].append(mine)
        costs["script"].append(peer)
    last = {name: listed[-1] for name, listed in costs.items()}

    def each(key: str) -> dict[str, Any]:
        return {name: getattr(cost, key) for name, cost in last.items()}

    return build_result(
        "whole_run",
        [60 * rows / cost.seconds for cost in costs["ours"]],
        {"model.generate, TRL": [60 * rows / cost.seconds for cost in costs["script"]]},
        unit="pairs/min",
        n=rows,
        device=device_name(load_model(find_model(options.model)).device),
        package_versions=all_versions("trl"),
        details={
            "model": options.model,
            "max_new_tokens": new_tokens,
            "wall_time_ratio": round(last["ours"].seconds / last["script"].seconds, 3),
            "cpu_time_ratio": round(last["ours"].cpu_seconds / last["script"].cpu_seconds, 3),
            "seconds": {name: round(seconds, 1) for name, seconds in each("seconds").items()},
            "parts_seconds": each("parts"),
            "steps": each("steps"),
            "real_tokens": each("tokens"),
            "supervised_tokens": each("supervised_tokens"),
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("pairs a minute of a RaDis run up to the graft: Lingraft against model.generate and TRL")
    options.add_argument("--new-tokens", type=positive, help="longest rationale in tokens")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
