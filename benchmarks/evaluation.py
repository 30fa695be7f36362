"""Evaluating a base and three grafts: the suite `harness` against lm-eval's own `hf` back end.

python benchmarks/evaluation.py [--quick] [--json] [--task hellaswag=FILE --task gsm8k=FILE ...]

Both answer the same items with the same weights in memory, system after system; no loading of a model is timed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import SEED, all_versions, build_result, device_name, load_pairs, parser, positive, run
from lm_eval import evaluate
from lm_eval.models.huggingface import HFLM
from peft import LoraConfig, get_peft_model

from lingraft.core.errors import UsageError
from lingraft.engines.likelihood import log_likelihoods
from lingraft.engines.transformers import TransformersEngine
from lingraft.models.files import find_model
from lingraft.models.graft import grafted
from lingraft.models.loading import LoadedModel, load_model
from lingraft.pipeline.suites import OpenSuite
from lingraft.suites.base import Answers, SuiteInputs
from lingraft.suites.harness import HarnessSuite
from lingraft.suites.harness_bridge import FEWSHOT_SEED, is_mean
from lingraft.suites.harness_loading import quietly

FULL = {"rows": 100, "written": 24, "repeats": 1, "new_tokens": 96}
QUICK = {"rows": 12, "written": 4, "repeats": 1, "new_tokens": 32}
GRAFTS = 3
Values = dict[tuple[str, str, str, str], float]
"""System, task, metric, item -> value."""


@dataclass(frozen=True)
class Evaluated:
    """One evaluation of all systems: seconds by the clock and of the processor, and every item's values."""

    seconds: float
    cpu: float
    values: Values


def timed(work: Callable[[], Values]) -> Evaluated:
    """Do the work once."""
    cpu, start = time.process_time(), time.perf_counter()
    values = work()
    return Evaluated(time.perf_counter() - start, time.process_time() - cpu, values)


def make_grafts(loaded: LoadedModel, folder: Path) -> list[Path]:
    """Write random LoRA adapters (rank 16, all linear layers) that move the model a little, each another way."""
    paths = []
    for number in range(GRAFTS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED + number)
            model = get_peft_model(loaded.model, LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"))
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.data.normal_(std=2e-3)
        paths.append(folder / f"graft{number}")
        model.save_pretrained(str(paths[-1]))
        model.unload()
    return paths


def made_files(folder: Path) -> dict[str, str]:
    """Write task files made of the shipped sentence pairs: which is the translation, and questions to write about."""
    pairs = load_pairs(None, None, None, 100)
    draw = random.Random(SEED)
    rows: dict[str, list[dict[str, Any]]] = {"arc_easy": [], "piqa": [], "gsm8k": []}
    for pair in pairs:
        wrong = [other.target for other in draw.sample(pairs, 4) if other.id != pair.id][:3]
        choices = [pair.target, *wrong]
        draw.shuffle(choices)
        gold = choices.index(pair.target)
        question = f"Question: What does this German sentence mean in English? {pair.source}"
        rows["arc_easy"].append({"query": question, "choices": choices, "gold": gold})
        rows["piqa"].append({"query": question, "choices": [pair.target, wrong[0]], "gold": 0})
        rows["gsm8k"].append({"question": f"How many words does it have? {pair.target}", "answer": "Count.\n#### 5"})
    for name, listed in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed), "utf-8")
    return {name: str(folder / f"{name}.jsonl") for name in rows}


def open_suites(
    files: dict[str, str], loaded: LoadedModel, rows: int, written: int, new_tokens: int
) -> list[OpenSuite]:
    """Return a suite for each task; their tasks are loaded here, which is timed on neither side."""
    longest = loaded.model.config.max_position_embeddings
    inputs = SuiteInputs((), (), SEED, loaded.renderer, (), longest)
    suites = []
    for name, path in files.items():
        writes = name.startswith(("gsm8k", "mgsm", "ifeval"))
        params = HarnessSuite.Params(
            tasks=[f"local:{name}"], path=path, limit=written if writes else rows, max_new_tokens=new_tokens
        )
        suites.append(OpenSuite(name, HarnessSuite(params), inputs))
        suites[-1].requests()
    return suites


def ours(loaded: LoadedModel, grafts: Sequence[Path | None], suites: Sequence[OpenSuite]) -> Values:
    """Evaluate as a run does: one pass of the engine and one of log-likelihoods for each system."""
    values: Values = {}
    engine = TransformersEngine(loaded)
    requests = [request for suite in suites for request in suite.requests()]
    continuations = [one for suite in suites for one in suite.continuations()]
    for number, graft in enumerate(grafts):
        generations = {one.id: one for one in engine.generate(requests, graft)}
        with grafted(loaded, graft) if graft else nullcontext(loaded) as system:
            likelihoods = {one.id: one for one in log_likelihoods(system, continuations)}
        answers = Answers(generations, {}, likelihoods)
        for suite in suites:
            own = answers.of(suite.name)
            for row in suite.suite.score(suite.inputs, own, own):
                if row.weights is None:
                    values |= {(str(number), suite.name, row.metric, item): v for item, v in row.values.items()}
    return values


def by_lm_eval(loaded: LoadedModel, grafts: Sequence[Path | None], suites: Sequence[OpenSuite], rows: int) -> Values:
    """Evaluate with lm-eval's `hf` back end, once for each system."""
    values: Values = {}
    for number, graft in enumerate(grafts):
        with grafted(loaded, graft) if graft else nullcontext(loaded) as system, quietly():
            model = HFLM(
                pretrained=system.model, tokenizer=loaded.renderer.tokenizer, backend="causal", batch_size=rows
            )
            for suite in suites:
                (entry,) = suite.suite._harness(suite.inputs).entries  # type: ignore[attr-defined]
                for task in entry.tasks.values():
                    task.set_fewshot_seed(seed=FEWSHOT_SEED)
                results = evaluate(
                    lm=model,
                    task_dict={"tasks": entry.tasks, "groups": {}},
                    limit=suite.suite.params.limit,  # type: ignore[attr-defined]
                    bootstrap_iters=0,
                    apply_chat_template=entry.templated,
                    fewshot_as_multiturn=entry.templated,
                )
                values |= _values(str(number), suite.name, entry, results)
    return values


def _values(system: str, suite: str, entry: Any, results: Any) -> Values:
    found: Values = {}
    for name, samples in results["samples"].items():
        for sample in samples:
            item = f"{name}/{sample['doc_id']}" if len(entry.tasks) > 1 else str(sample["doc_id"])
            for metric in sample["metrics"]:
                if is_mean(entry.tasks[name].aggregation()[metric]):
                    key = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
                    found[system, suite, key, item] = float(sample[metric])
    return found


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    size = QUICK if options.quick else FULL
    rows, repeats = options.rows or size["rows"], options.repeats or size["repeats"]
    loaded = load_model(find_model(options.model), options.precision)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = dict(given.split("=", 1) for given in options.task) if options.task else made_files(folder)
        suites = open_suites(files, loaded, rows, options.written or size["written"], size["new_tokens"])
        systems = [None, *make_grafts(loaded, folder)]
        mine: list[Evaluated] = []
        peer: list[Evaluated] = []
        for repetition in range(repeats):
            for first in (True, False) if repetition % 2 == 0 else (False, True):
                if first:
                    mine.append(timed(lambda: ours(loaded, systems, suites)))
                else:
                    peer.append(timed(lambda: by_lm_eval(loaded, systems, suites, options.batch_rows)))
                done = (mine if first else peer)[-1]
                print(f"{'ours' if first else 'peer'}: {done.seconds:.1f} s, {done.cpu:.1f} s of CPU", file=sys.stderr)
    items = len({(task, item) for _, task, _, item in mine[0].values})
    if mine[0].values.keys() != peer[0].values.keys():
        raise UsageError("the two sides scored different items; this is an error in the benchmark")
    equal = sum(abs(value - peer[0].values[key]) < 1e-6 for key, value in mine[0].values.items())
    count = len(systems) * items
    return build_result(
        "evaluation",
        [count / one.seconds for one in mine],
        {"lm-eval hf": [count / one.seconds for one in peer]},
        unit="items/s",
        n=count,
        device=device_name(loaded.device),
        package_versions=all_versions("lm_eval"),
        details={
            "model": options.model,
            "dtype": loaded.dtype,
            "tasks": ", ".join(files),
            "items_each_system": items,
            "systems": f"base + {GRAFTS} LoRA grafts",
            "peer_batch_rows": options.batch_rows,
            "cpu_time_ratio": round(peer[0].cpu / mine[0].cpu, 3),
            "equal_item_values": f"{equal} of {len(mine[0].values)}",
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("items/s of evaluating a base and three grafts: Lingraft against lm-eval's hf back end")
    options.add_argument("--task", action="append", help="NAME=FILE of a local task; repeatable; default: made items")
    options.add_argument("--written", type=positive, help="items of tasks in which the model writes")
    options.add_argument("--batch-rows", type=positive, default=16, help="lm-eval's batch size")
    options.add_argument("--precision", default="fp32", choices=("auto", "bf16", "fp32"), help="of the weights")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
