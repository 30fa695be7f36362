"""Training: Lingraft's trainer against TRL's SFTTrainer on the same rows, and against the machine.

python benchmarks/training.py [--quick] [--json] [--method vanilla|radis] [--pairs FILE --from de --to en]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from common import SEED, all_versions, build_result, device_name, load_pairs, parser, radis_for, run
from peft import LoraConfig
from transformers import PreTrainedModel, TrainerCallback

from lingraft.core.errors import DataError, UsageError
from lingraft.data.records import Generation, Pair
from lingraft.methods.base import Tally
from lingraft.methods.vanilla import translation_example
from lingraft.models.files import ModelFiles, find_model
from lingraft.models.loading import LoadedModel, load_model
from lingraft.rendering.renderer import Renderer
from lingraft.rendering.rows import Rendered
from lingraft.training.settings import TrainSettings
from lingraft.training.train import train
from lingraft.training.tuners.lora import LoraTuner
from lingraft.translation.wording import DEFAULT

FULL = {"rows": 80, "repeats": 2}
QUICK = {"rows": 32, "repeats": 1}
ROWS_PER_STEP = 16
WARM_UP_ROWS = 2
RATIONALE_TOKENS = (16, 80)  # as the 135M model writes them: about 50 tokens on average
TRL_ROWS_PER_PASS = 8  # TRL's default
TRL_LENGTH = 1024  # TRL's default, also the length it packs to
FLOPS_PER_PARAMETER = 4.5


@dataclass(frozen=True)
class Trained:
    """One training run: optimiser steps, tokens computed (padding included), seconds of the loop on the clock.

    `cpu_seconds` are those of the processor, over all threads, for the whole call: other work on the machine does not
    enter them.
    """

    steps: int
    computed_tokens: int
    seconds: float
    cpu_seconds: float


class Clock(TrainerCallback):
    """Times the loop from its beginning to the end of its last step: what Lingraft's own log times."""

    def __init__(self) -> None:
        self._began = 0.0
        self.seconds = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time so far."""
        self.seconds = time.perf_counter() - self._began


def trl_classes() -> tuple[Any, Any]:
    """Return TRL's configuration and trainer classes.

    Raises:
        UsageError: TRL is not installed.
    """
    try:
        from trl import SFTConfig, SFTTrainer
    except ImportError as error:
        raise UsageError(
            f"this benchmark compares with TRL, which cannot be imported ({error}); run `pip install 'lingraft[bench]'`"
        ) from error
    return SFTConfig, SFTTrainer


def vanilla_rows(pairs: Sequence[Pair], renderer: Renderer) -> list[Rendered]:
    """Return plain examples, request and reference, as tokens."""
    return [renderer.render(translation_example(pair, [DEFAULT], SEED)) for pair in pairs]


def radis_rows(pairs: Sequence[Pair], renderer: Renderer) -> list[Rendered]:
    """Return RaDis examples as tokens; the rationales' lengths are drawn, their text is the pairs' own target side.

    Writing real rationales would take longer than the benchmark, and speed depends on lengths only.
    """
    generator = np.random.default_rng(SEED)
    words = " ".join(pair.target.strip() for pair in pairs).split()
    generations = {}
    for pair in pairs:
        begin = int(generator.integers(len(words)))
        wanted = int(generator.integers(RATIONALE_TOKENS[0], RATIONALE_TOKENS[1] + 1))
        text = words[begin]
        while renderer.count(text) < wanted:
            begin = (begin + 1) % len(words)
            text += " " + words[begin]
        generations[pair.id] = Generation(pair.id, text, (), "stop")
    method, inputs = radis_for(pairs, RATIONALE_TOKENS[1])
    return [renderer.render(example) for example in method.examples(inputs, generations, Tally())]


def with_lingraft(load: Callable[[], LoadedModel], rows: Sequence[Rendered], folder: Path) -> Trained:
    """Train with Lingraft: its defaults, with as many tokens a step as 16 rows have on average."""
    loaded = load()
    tokens = sum(len(row.input_ids) for row in rows)
    settings = TrainSettings(tokens_per_step=max(1, round(tokens / len(rows) * ROWS_PER_STEP)))
    tuner = LoraTuner(LoraTuner.Params())
    began = time.process_time()
    result = train(loaded.model, rows, settings, tuner, pad_id=loaded.renderer.pad_id, work_dir=folder, seed=SEED)
    if result.tokens != tokens:
        raise DataError(f"{result.tokens} of {tokens} tokens were trained on; the rates cannot be compared")
    return Trained(result.steps, result.computed_tokens, result.seconds, time.process_time() - began)


def with_trl(
    load: Callable[[], LoadedModel],
    rows: Sequence[Rendered],
    folder: Path,
    *,
    packing: bool = False,
    checkpointing: bool = True,
) -> Trained:
    """Train with TRL: its defaults, but for Lingraft's learning rate, schedule and LoRA, and for 16 rows a step."""
    config_class, trainer_class = trl_classes()
    loaded = load()
    lengths = [len(row.input_ids) for row in rows]
    longest = max(TRL_LENGTH, *lengths)  # so that no row is cut
    if packing:
        rows_in_pack = max(1.0, longest / (sum(lengths) / len(lengths)))
        per_pass, passes = 1, max(1, round(ROWS_PER_STEP / rows_in_pack))
    else:
        per_pass, passes = TRL_ROWS_PER_PASS, ROWS_PER_STEP // TRL_ROWS_PER_PASS
    settings, lora = TrainSettings(), LoraTuner.Params()
    config = config_class(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        per_device_train_batch_size=per_pass,
        gradient_accumulation_steps=passes,
        gradient_checkpointing=checkpointing,
        packing=packing,
        max_length=longest,
        bf16=loaded.model.dtype == torch.bfloat16,
        use_cpu=loaded.device.type == "cpu",
        include_num_input_tokens_seen="all",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        seed=SEED,
    )
    clock = Clock()
    trainer = trainer_class(
        model=loaded.model,
        args=config,
        train_dataset=datasets.Dataset.from_dict(
            {
                "input_ids": [list(row.input_ids) for row in rows],
                "labels": [
                    [token if weight > 0 else -100 for token, weight in zip(row.input_ids, row.weights, strict=True)]
                    for row in rows
                ],
            }
        ),
        processing_class=loaded.renderer.tokenizer,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=lora.rank,
            lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT only multiplies by it
            lora_dropout=lora.dropout,
            target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        ),
        callbacks=[clock],
    )
    began = time.process_time()
    trainer.train()
    spent = time.process_time() - began
    return Trained(trainer.state.global_step, int(trainer.state.num_input_tokens_seen), clock.seconds, spent)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Return the floating-point operations a second of a square matrix product, the best of 6."""
    size = 8192 if device.type == "cuda" else 2048
    left, right = (torch.full((size, size), 0.5, dtype=dtype, device=device) for _ in range(2))
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        torch.matmul(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        # The first product, which sets up the kernel, is never the fastest.
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def matmul_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """Return the weights of the blocks' linear layers, and of the output head; an embedding is only looked up."""
    head = model.get_output_embeddings()
    blocks = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    return blocks, int(head.weight.numel())


def useful_flops(blocks: int, head: int, tokens: int, supervised: int) -> float:
    """Return the operations that LoRA training needs for `tokens`, of which `supervised` go through the head.

    2 a parameter and token forward, 2 backward (towards the activations; frozen weights need no gradient), and about
    0.5 for attention and adapters. The head is needed only where a token is supervised. Padding, recomputation and
    logits nobody reads are not useful and lower the share.
    """
    return FLOPS_PER_PARAMETER * (blocks * tokens + head * supervised)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Return the result of the benchmark."""
    size = QUICK if options.quick else FULL
    trl_classes()  # before any work
    datasets.disable_progress_bars()
    files: ModelFiles = find_model(options.model)
    pairs = load_pairs(options.pairs, options.source, options.target, options.rows or size["rows"])
    load = partial(load_model, files)  # each run gets fresh weights: trainers change the model they are given
    loaded = load()
    device, dtype = loaded.device, loaded.model.dtype
    blocks, head = matmul_parameters(loaded.model)
    rows = (vanilla_rows if options.method == "vanilla" else radis_rows)(pairs, loaded.renderer)
    del loaded
    runs: dict[str, Callable[..., Trained]] = {
        "ours": with_lingraft,
        "trl": with_trl,
        "trl, packing": partial(with_trl, packing=True),
    }
    if not options.quick:
        runs["trl, no recomputation"] = partial(with_trl, checkpointing=False)
    done: dict[str, list[Trained]] = {name: [] for name in runs}
    rates: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for repetition in range(-1, options.repeats or size["repeats"]):  # -1: warm-up
            chosen = rows if repetition >= 0 else rows[:WARM_UP_ROWS]
            for name in list(runs) if repetition % 2 == 0 else reversed(list(runs)):
                if repetition >= 0:
                    rates.append(matmul_rate(device, dtype))
                # The Trainer prints its logs; stdout is for the result alone.
                with contextlib.redirect_stdout(sys.stderr):
                    trained = runs[name](load, chosen, Path(scratch) / f"{len(rates)}-{repetition}-{name}")
                if repetition >= 0:
                    done[name].append(trained)
                    print(f"{name}: {trained.seconds:.1f} s, {trained.cpu_seconds:.1f} s of processor", file=sys.stderr)
    tokens = sum(len(row.input_ids) for row in rows)
    supervised = sum(row.supervised for row in rows)
    per_second = {name: [tokens / trained.seconds for trained in trials] for name, trials in done.items()}
    machine = float(np.median(rates))
    seconds = {name: statistics.median(trained.seconds for trained in trials) for name, trials in done.items()}
    spent = {name: statistics.median(trained.cpu_seconds for trained in trials) for name, trials in done.items()}
    # What we compute once and others many times is counted once for us: only work that is done can be done fast.
    needed = {name: useful_flops(blocks, head, min(tokens, done[name][0].computed_tokens), supervised) for name in done}
    return build_result(
        "training",
        per_second["ours"],
        {name: values for name, values in per_second.items() if name != "ours"},
        unit="real tokens/s",
        n=len(rows),
        device=device_name(device),
        package_versions=all_versions("trl"),
        details={
            "model": options.model,
            "method": options.method,
            "dtype": str(dtype).removeprefix("torch."),
            "rows_per_step": ROWS_PER_STEP,
            "steps": {name: trials[0].steps for name, trials in done.items()},
            "real_tokens": tokens,
            "supervised_tokens": supervised,
            "computed_tokens": {name: trials[0].computed_tokens for name, trials in done.items()},
            "cpu_seconds": {name: round(value, 2) for name, value in spent.items()},
            "ratio_of_cpu_seconds": {
                name: round(value / spent["ours"], 3) for name, value in spent.items() if name != "ours"
            },
            "matmul_gflops": round(machine / 1e9, 1),
            "share_of_matmul_rate": {name: round(needed[name] / seconds[name] / machine, 3) for name in done},
        },
    )


def main() -> int:
    """Run the benchmark from the command line."""
    options = parser("real tokens/s of LoRA training: Lingraft against TRL's SFTTrainer")
    options.add_argument("--method", choices=("vanilla", "radis"), default="vanilla", help="what the rows hold")
    return run(measure, options.parse_args())


if __name__ == "__main__":
    sys.exit(main())
