"""The training loop: a subclass of the transformers Trainer whose unit of work is one whole optimiser step.

One dataset item is one planned step with all its micro-batches, so that the loss is normalised over exactly what the
step holds, however it is cut and however many devices share it. Everything around it (optimiser, schedule, clipping,
distribution, checkpoints, random states) is the Trainer's.
"""

from __future__ import annotations

import contextlib
import math
import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import PeftModel
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments

from lingraft.errors import DataError, ModelError, UsageError, suggestion
from lingraft.models import resolve_dtype
from lingraft.store import content_hash, explained
from lingraft.training.batching import Batch, Step, collate, plan_steps
from lingraft.training.checkpoints import LossLog, TrainPoint, newest_complete
from lingraft.training.losses import LOSSES, OutputHead, find_head, span_loss
from lingraft.training.recorder import Recorder, TrainProgress, not_finite
from lingraft.training.settings import TrainSettings
from lingraft.training.tuners import Tuner

if TYPE_CHECKING:
    from lingraft.chat import Rendered

__all__ = ["SpanTrainer", "StepDataset", "TrainPoint", "TrainProgress", "TrainResult", "TrainSettings", "train"]

MICRO_COST_CPU, MICRO_COST_ACCELERATOR = 48, 1024  # fixed cost of a micro-batch, in padded tokens
SHORT_FOR_CPU = 128  # up to this length, plain attention is faster on a CPU than the flash kernel
CHECKED_TOKENS = 64


@dataclass(frozen=True)
class TrainResult:
    """A trained model and what it cost.

    Attributes:
        log: one point a step.
        tokens, supervised_tokens, padded_tokens: trained on, repeated epochs counted.
        seconds: training time without interruptions.
        peak_memory_mb: of the device; on a CPU, the highest resident size this process has had.
    """

    model: PeftModel
    log: list[TrainPoint]
    steps: int
    tokens: int
    supervised_tokens: int
    padded_tokens: int
    seconds: float
    peak_memory_mb: float


class StepDataset(Dataset[dict[str, Any]]):
    """Planned steps as dataset items: this device's micro-batches and the weight of the whole step.

    Devices take every n-th micro-batch; where one gets fewer than another, it repeats one with weight 0, since
    collective operations need equally many passes everywhere.
    """

    def __init__(self, rows: Sequence[Rendered], steps: Sequence[Step], pad_id: int, rank: int, ranks: int) -> None:
        self.rows, self.steps, self.pad_id, self.rank, self.ranks = rows, steps, pad_id, rank, ranks
        self.roles = tuple(sorted({role for row in rows for role in row.roles}))
        number = {role: i for i, role in enumerate(self.roles)}
        self._weights = np.zeros((len(rows), len(self.roles)))
        for i, row in enumerate(rows):
            for weight, span in zip(row.weights[1:], row.span_of[1:], strict=True):
                if weight > 0:
                    self._weights[i, number[row.roles[span]]] += weight

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        micros = self.steps[index].micros
        mine = [self._batch(micro) for micro in micros[self.rank :: self.ranks]]
        while len(mine) < math.ceil(len(micros) / self.ranks):
            mine.append((mine[0] if mine else self._batch(micros[0])).silent())
        return {"micros": mine, "role_weights": self._weights[[row for micro in micros for row in micro]].sum(axis=0)}

    def _batch(self, micro: Sequence[int]) -> Batch:
        return collate([self.rows[i] for i in micro], self.pad_id, self.roles)


def _only(items: list[dict[str, Any]]) -> dict[str, Any]:
    return items[0]


class SpanTrainer(Trainer):
    """The transformers Trainer with planned steps and span losses.

    Args:
        model: what to train. head: its checked output head. steps: the plan.
        autocast: type of matrix products; None leaves them in the type of the weights.
        recorder: is told of each step.
    """

    def __init__(
        self,
        model: PeftModel,
        args: TrainingArguments,
        *,
        steps: StepDataset,
        head: OutputHead,
        autocast: torch.dtype | None,
        recorder: Recorder,
    ) -> None:
        super().__init__(model=model, args=args, train_dataset=steps, data_collator=_only, callbacks=[recorder])
        self.remove_callback(PrinterCallback)
        self.adapted, self.planned, self.head, self.autocast = model, steps, head, autocast
        recorder.trainer = self
        self.last_loss = math.nan
        self.last_by_role: dict[str, float] = {}

    def get_train_dataloader(self) -> DataLoader:
        """Return the steps in their order; each device makes its own share, so nothing is sharded or moved here."""
        return DataLoader(self.planned, batch_size=1, shuffle=False, collate_fn=_only)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return 0: the Trainer's own count walks over all parameters at each step, and nothing here reads it."""
        return 0

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Run forward and backward over a whole optimiser step.

        Returns:
            The loss of the step: sum(weight x term) / sum(weight) over all its micro-batches on all devices.

        Raises:
            LingraftError: the loss is not finite; nothing has been updated.
        """
        model.train()
        micros, role_weights = inputs["micros"], inputs["role_weights"]
        weight = float(role_weights.sum())
        sums = torch.zeros(len(role_weights), device=self.args.device)
        for i, micro in enumerate(micros):
            batch = micro.to(self.args.device)
            last = i == len(micros) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(model), self._kernels(batch):
                with torch.autocast(self.args.device.type, self.autocast, enabled=self.autocast is not None):
                    result = span_loss(self._hidden(model, batch), batch.targets, self.head)
                # Distributed training averages gradients over devices; the sum is wanted.
                self.accelerator.backward(result.total * (self.accelerator.num_processes / weight))
            sums += result.by_role
        sums = self.accelerator.reduce(sums, "sum")
        by_role = sums.double().tolist()
        self.last_loss = sum(by_role) / weight
        self.last_by_role = {
            role: total / of_role
            for role, total, of_role in zip(self.planned.roles, by_role, role_weights.tolist(), strict=True)
            if of_role
        }
        if not math.isfinite(self.last_loss):
            raise not_finite("loss", self.state.global_step + 1, self.state.max_steps, self.args.learning_rate)
        return sums.sum() / weight

    def _hidden(self, model: torch.nn.Module, batch: Batch) -> torch.Tensor:
        outputs = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=1,
        )
        hidden: torch.Tensor = outputs.hidden_states[-1]
        return hidden

    def _kernels(self, batch: Batch) -> contextlib.AbstractContextManager[None]:
        short = self.args.device.type == "cpu" and batch.input_ids.shape[1] <= SHORT_FOR_CPU
        return sdpa_kernel(SDPBackend.MATH) if short else contextlib.nullcontext()

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        # PEFT would ask the hub whether the base's vocabulary was resized; adapters here never touch embeddings.
        self.adapted.save_pretrained(str(output_dir), state_dict=state_dict, save_embedding_layers=False)


def train(
    model: PreTrainedModel,
    rows: Sequence[Rendered],
    settings: TrainSettings,
    tuner: Tuner,
    *,
    pad_id: int,
    work_dir: Path,
    seed: int,
    progress: Callable[[TrainProgress], None] | None = None,
) -> TrainResult:
    """Train on rendered examples, or continue where an interrupted call with the same arguments stopped.

    Losses and weights of a continued run equal those of an uninterrupted one. The caller's random states, and the
    base's weights and their type, are afterwards as before; when this raises, the base has no adapter either.

    Args:
        model: the base, on the device to train on. It is wrapped in place.
        rows: what to train on.
        settings: how to train. tuner: which parameters learn.
        pad_id: token id that fills short rows.
        work_dir: for checkpoints and `losses.jsonl`; remove it when the result is stored elsewhere.
        seed: of adapter weights, order of rows and dropout.
        progress: called after each step.

    Raises:
        DataError: no rows, or a row without supervised token.
        UsageError: a span has an unknown loss kind.
        ModelError: the model lacks a token of the rows, or is of an architecture whose logits cannot be reproduced.
        StoreError: `work_dir` holds a run with other rows or settings, or cannot be written to.
        LingraftError: the loss or the gradient is no longer finite.
    """
    _check_rows(model, rows)
    dtype = resolve_dtype(settings.precision, model.device)
    with explained(work_dir), _random_states_kept(), _weights_in(model, dtype):
        args = _arguments(model, settings, work_dir / "checkpoints", seed)
        steps = plan_steps(
            [len(row.input_ids) for row in rows],
            [sum(weight > 0 for weight in row.weights[1:]) for row in rows],
            tokens_per_step=settings.tokens_per_step,
            micro_tokens=settings.micro_tokens,
            epochs=settings.epochs,
            seed=seed,
            world_size=args.world_size,
            max_tokens=settings.max_tokens,
            micro_cost=MICRO_COST_CPU if model.device.type == "cpu" else MICRO_COST_ACCELERATOR,
        )
        args.max_steps = len(steps)
        args.warmup_steps = math.ceil(settings.warmup_share * len(steps))
        fingerprint = _fingerprint(model, rows, settings, tuner, steps, seed)
        work_dir.mkdir(parents=True, exist_ok=True)
        with args.main_process_first(local=False):
            newest = newest_complete(work_dir / "checkpoints", fingerprint)
            done = 0 if newest is None else int(newest.name.rpartition("-")[2])
            log = LossLog(work_dir / "losses.jsonl", done, writes=args.process_index == 0)
        if model.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(model.device)
        checkpointed = model.is_gradient_checkpointing
        adapted = tuner.apply(model, seed)
        try:
            trainer = SpanTrainer(
                adapted,
                args,
                steps=StepDataset(rows, steps, pad_id, args.process_index, args.world_size),
                head=find_head(adapted, rows[0].input_ids[:CHECKED_TOKENS]),
                autocast=None if dtype == torch.float32 else dtype,
                recorder=Recorder(log, fingerprint, progress),
            )
            trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
        except BaseException:
            adapted.unload()
            raise
        finally:
            if settings.gradient_checkpointing and not checkpointed:
                model.gradient_checkpointing_disable()
    adapted.zero_grad(set_to_none=True)
    return TrainResult(
        model=adapted.eval(),
        log=log.points,
        steps=len(steps),
        tokens=sum(step.tokens for step in steps),
        supervised_tokens=sum(step.supervised for step in steps),
        padded_tokens=sum(step.padded_tokens for step in steps),
        seconds=log.points[-1].seconds,
        peak_memory_mb=_peak_memory_mb(model.device),
    )


def _check_rows(model: PreTrainedModel, rows: Sequence[Rendered]) -> None:
    if not rows:
        raise DataError("there is no example to train on; check the filters and the size of the training data")
    embeddings: Any = model.get_input_embeddings()
    known = int(embeddings.weight.shape[0])
    for row in rows:
        if not any(weight > 0 for weight in row.weights[1:]):
            raise DataError(f"example {row.id!r} has no supervised token that can be predicted; leave it out")
        for kind in row.losses:
            if kind not in LOSSES:
                raise UsageError(f"example {row.id!r}: unknown loss {kind!r}{suggestion(kind, LOSSES)}")
        if max(row.input_ids) >= known:
            raise ModelError(
                f"example {row.id!r} holds token {max(row.input_ids)}, but the model knows only {known} tokens; "
                f"use the tokenizer that belongs to the model"
            )


def _arguments(model: PreTrainedModel, settings: TrainSettings, folder: Path, seed: int) -> TrainingArguments:
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=1,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch",
        save_strategy="steps",
        save_steps=settings.save_every_steps,
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=[],
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_find_unused_parameters=False,
        use_cpu=model.device.type == "cpu",
        use_cache=bool(getattr(model.config, "use_cache", True)),  # the Trainer writes it into the model's config
        seed=seed,
    )
    if args.n_gpu > 1:
        args._n_gpu = 1  # otherwise the Trainer would wrap the model in DataParallel
    return args


def _fingerprint(
    model: PreTrainedModel,
    rows: Sequence[Rendered],
    settings: TrainSettings,
    tuner: Tuner,
    steps: Sequence[Step],
    seed: int,
) -> str:
    """Return a hash of all that decides the course of training, but the values of the base's weights."""
    return content_hash(
        {
            "parameters": [[name, list(parameter.shape)] for name, parameter in model.named_parameters()],
            "rows": [[row.id, row.input_ids, row.weights, row.span_of, row.losses, row.roles] for row in rows],
            "settings": settings.model_dump(mode="json", exclude={"save_every_steps"}),
            "tuner": [tuner.name, tuner.params.model_dump(mode="json")],
            "steps": [step.micros for step in steps],
            "seed": seed,
        }
    )


@contextlib.contextmanager
def _weights_in(model: PreTrainedModel, dtype: torch.dtype) -> Iterator[None]:
    """Hold the weights in `dtype` for the time of the block; then put back the very tensors that were there.

    Buffers keep their type: rotary frequencies rounded to bfloat16 would blur positions.
    """
    originals = {p: p.data for p in model.parameters() if p.is_floating_point() and p.dtype != dtype}
    try:
        for parameter in originals:
            parameter.data = parameter.data.to(dtype)
        yield
    finally:
        for parameter, data in originals.items():
            parameter.data = data


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Put the global random states back after the block: the Trainer seeds all of them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kibibytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
